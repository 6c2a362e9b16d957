/** UTF-8, which the runtime of handlers does not bring. */

/** UTF-8 bytes as a string; throws if they are not UTF-8. */
export function decode(data) {
    let text = "";
    for (let at = 0; at < data.length; ) {
        const first = data[at++];
        if (first < 0x80) {
            text += String.fromCharCode(first);
            continue;
        }
        const more = first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : 0;
        let point = first & (0x3f >> more);
        let good = more > 0;
        for (let n = 0; n < more; n++) {
            const next = data[at++];
            good &&= (next & 0xc0) === 0x80;
            point = (point << 6) | (next & 0x3f);
        }
        const least = [0, 0x80, 0x800, 0x10000][more];
        if (!good || point < least || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) {
            throw new Error(`no UTF-8 at byte ${at - 1}`);
        }
        text += String.fromCodePoint(point);
    }
    return text;
}

/** A string as UTF-8 bytes. Half a surrogate pair becomes U+FFFD. */
export function encode(text) {
    const data = [];
    for (const character of text) {
        let point = character.codePointAt(0);
        if (point >= 0xd800 && point < 0xe000) point = 0xfffd;
        if (point < 0x80) data.push(point);
        else if (point < 0x800) data.push(0xc0 | (point >> 6), 0x80 | (point & 0x3f));
        else if (point < 0x10000) data.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f));
        else data.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 0x3f), 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f));
    }
    return Uint8Array.from(data);
}
