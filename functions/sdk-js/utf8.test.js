import assert from "node:assert/strict";
import { test } from "node:test";

import { decode, encode } from "./utf8.js";

test("does what the platform does", () => {
    for (const text of ["", "plain", "für Elise", "水車", "🌊 tide", "\u0000\u007f\u0080\u07ff\u0800\uffff\u{10ffff}", "half \ud800"]) {
        const bytes = new TextEncoder().encode(text);
        assert.deepEqual(encode(text), bytes, text);
        assert.equal(decode(bytes), new TextDecoder().decode(bytes), text);
    }
});

test("refuses what is no UTF-8", () => {
    const wrong = [[0x80], [0xc0, 0x80], [0xc3], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xff], [0xe0, 0x80, 0x80]];
    for (const bytes of wrong) {
        assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes)), `${bytes}`);
        assert.throws(() => decode(Uint8Array.from(bytes)), `${bytes}`);
    }
});
