/**
 * UTF-8, which the runtime of handlers does not bring. Knows nothing of events.
 *
 * A loop over bytes costs QuickJS half a microsecond for each of them. So the language's own functions do the work,
 * for a chunk at a time: `escape` and `unescape` turn a string of bytes to percent signs and back, and
 * `decodeURIComponent` and `encodeURIComponent` know UTF-8, strictly.
 */

// So many bytes become a string at once: as many arguments as every engine takes.
const CHUNK = 4096;
// The longest character has four bytes: those before its last begin no other.
const LONGEST = 4;

const continues = (byte) => (byte & 0xc0) === 0x80;

/** UTF-8 bytes as a string; throws if they are not UTF-8. */
export function decode(data) {
    const parts = [];
    for (let start = 0, end; start < data.length; start = end) {
        end = Math.min(start + CHUNK, data.length);
        // Not within a character; where there is none so long, the chunk is no UTF-8 anyway.
        for (let back = 1; back < LONGEST && end < data.length && continues(data[end]); back++) end--;
        const binary = String.fromCharCode.apply(null, data.subarray(start, end));
        try {
            parts.push(/[\x80-\xff]/.test(binary) ? decodeURIComponent(escape(binary)) : binary);
        } catch {
            throw new Error(`no UTF-8 from byte ${start + firstWrong(binary)} on`);
        }
    }
    return parts.join("");
}

/** A string as UTF-8 bytes. Half a surrogate pair becomes U+FFFD. */
export function encode(text) {
    const binary = unescape(encodeURIComponent(wellFormed(text)));
    const data = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at++) data[at] = binary.charCodeAt(at);
    return data;
}

/** The string, with U+FFFD for each half of a surrogate pair: JSON can hold one, UTF-8 cannot. */
export function wellFormed(text) {
    return text.replace(/[\ud800-\udfff]/gu, "\ufffd");
}

/** Where a string of bytes stops to be UTF-8. */
function firstWrong(binary) {
    let at = 0;
    while (at < binary.length) {
        const byte = binary.charCodeAt(at);
        const length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
        try {
            decodeURIComponent(escape(binary.slice(at, at + length)));
        } catch {
            return at;
        }
        at += length;
    }
    return at;
}
