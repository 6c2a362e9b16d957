/** UTF-8, which the runtime of handlers does not bring. Knows nothing of events. */

// So many code units become a string at once: as many arguments as every engine takes.
const CHUNK = 4096;

/** UTF-8 bytes as a string; throws if they are not UTF-8. */
export function decode(data) {
    const parts = [];
    const units = new Uint16Array(CHUNK);
    let length = 0;
    for (let at = 0; at < data.length; ) {
        if (length > CHUNK - 2) {
            parts.push(String.fromCharCode.apply(null, units.subarray(0, length)));
            length = 0;
        }
        const first = data[at++];
        if (first < 0x80) {
            units[length++] = first;
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
            throw new Error(`no UTF-8 at byte ${at - 1 - more}`);
        }
        if (point < 0x10000) {
            units[length++] = point;
        } else {
            units[length++] = 0xd7c0 + (point >> 10);
            units[length++] = 0xdc00 | (point & 0x3ff);
        }
    }
    parts.push(String.fromCharCode.apply(null, units.subarray(0, length)));
    return parts.join("");
}

/** A string as UTF-8 bytes. Half a surrogate pair becomes U+FFFD. */
export function encode(text) {
    // No code unit needs more than three bytes: those that come in pairs need four for both.
    const data = new Uint8Array(text.length * 3);
    let length = 0;
    for (let at = 0; at < text.length; at++) {
        let point = text.charCodeAt(at);
        if (point < 0x80) {
            data[length++] = point;
            continue;
        }
        if (point >= 0xd800 && point < 0xe000) {
            const pair = text.codePointAt(at);
            if (pair > 0xffff) at++;
            point = pair > 0xffff ? pair : 0xfffd;
        }
        if (point < 0x800) {
            data[length++] = 0xc0 | (point >> 6);
        } else {
            if (point < 0x10000) {
                data[length++] = 0xe0 | (point >> 12);
            } else {
                data[length++] = 0xf0 | (point >> 18);
                data[length++] = 0x80 | ((point >> 12) & 0x3f);
            }
            data[length++] = 0x80 | ((point >> 6) & 0x3f);
        }
        data[length++] = 0x80 | (point & 0x3f);
    }
    return data.slice(0, length);
}

/** The string, with U+FFFD for each half of a surrogate pair: JSON can hold one, UTF-8 cannot. */
export function wellFormed(text) {
    return text.replace(/[\ud800-\udfff]/gu, "\ufffd");
}
