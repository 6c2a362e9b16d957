import assert from "node:assert/strict";
import { test } from "node:test";

import { decode, encode, wellFormed } from "../../sdk-js/utf8.js";

const texts = ["", "plain", "für Elise", "水車", "🌊 tide", "\u0000\u007f\u0080\u07ff\u0800\uffff\u{10000}\u{10ffff}"];
const halves = ["half \ud800", "\udc00 half", "\ud800\ud800\udc00", "\udc00\ud800"];

test("does what the platform does", () => {
    // Long enough that pairs fall on every side of a chunk's end.
    const long = [4093, 4094, 4095, 4096, 4097, 9000].map((length) => "x".repeat(length) + "🌊水ü");
    for (const text of [...texts, ...halves, ...long]) {
        const bytes = new TextEncoder().encode(text);
        assert.deepEqual(encode(text), bytes, text);
        assert.equal(decode(bytes), new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes), text);
    }
});

test("refuses what is no UTF-8", () => {
    const wrong = [[0x80], [0xc0, 0x80], [0xc3], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xff], [0xe0, 0x80, 0x80]];
    for (const bytes of wrong) {
        assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes)), `${bytes}`);
        assert.throws(() => decode(Uint8Array.from([0x61, ...bytes])), { message: "no UTF-8 from byte 1 on" }, `${bytes}`);
        // At the end of a chunk, and with more behind it, which it must not swallow.
        for (const before of [4093, 4094, 4095, 4096]) {
            const data = Uint8Array.from([...Array(before).fill(0x61), ...bytes, ...Array(9).fill(0x62)]);
            assert.throws(() => decode(data), { message: `no UTF-8 from byte ${before} on` }, `${bytes}`);
        }
    }
    assert.throws(() => decode(new Uint8Array(10_000).fill(0x80)), { message: "no UTF-8 from byte 0 on" });
});

test("mends halves of pairs, and nothing else", () => {
    for (const text of texts) assert.equal(wellFormed(text), text);
    for (const text of halves) assert.equal(wellFormed(text), new TextDecoder().decode(new TextEncoder().encode(text)));
});
