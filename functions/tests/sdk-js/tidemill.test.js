import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";

import { answer, calls, event, refuses, sdk } from "./engine.js";

const { EngineError, Reject, Retry, bucket, config, emit, kv, log, random, reply } = sdk;

beforeEach(() => {
    for (const name of Object.keys(calls)) for (const call of Object.keys(calls[name])) delete calls[name][call];
});

/** A store in memory. */
function store() {
    const values = new Map();
    calls.keyvalue.open = () => ({
        get: (key) => values.get(key) ?? null,
        set: (key, value) => void values.set(key, value),
    });
    return values;
}

test("what a handler returns becomes its reply", () => {
    const json = ["content-type", "application/json"];
    const text = ["content-type", "text/plain; charset=utf-8"];
    assert.equal(answer(() => undefined), null);
    assert.deepEqual(answer(() => "hü"), { status: null, headers: [text], body: "hü" });
    assert.deepEqual(answer(() => ({ a: 1 })), { status: null, headers: [json], body: '{"a":1}' });
    assert.deepEqual(answer(() => 0), { status: null, headers: [json], body: "0" });
    assert.deepEqual(answer(() => Uint8Array.of(104)), { status: null, headers: [], body: "h" });
    const own = { status: 201, headers: { "Content-Type": "text/html", "Set-Cookie": ["a=1", "b=2"] } };
    assert.deepEqual(answer(() => reply("<p>", own)), {
        status: 201,
        headers: [["Content-Type", "text/html"], ["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]],
        body: "<p>",
    });
});

test("what a handler throws says whether another attempt has a chance", () => {
    const failure = (error) =>
        answer(() => {
            throw error;
        });
    assert.deepEqual(failure(new Reject("no such order")), { tag: "reject", val: "no such order" });
    assert.deepEqual(failure(new Retry("busy")), { tag: "retry", val: { afterMs: null, reason: "busy" } });
    const soon = failure(new Retry("busy", { afterMs: 0.2 }));
    assert.deepEqual(soon, { tag: "retry", val: { afterMs: 1, reason: "busy" } });
    assert.deepEqual(failure("text"), { tag: "retry", val: { afterMs: null, reason: "text" } });
    const unforeseen = failure(new TypeError("x is no function"));
    assert.equal(unforeseen.tag, "retry");
    assert.match(unforeseen.val.reason, /^x is no function\n.*tidemill\.test\.js/s, "says where");
    assert.deepEqual(
        answer(async () => {}),
        { tag: "reject", val: "the handler returns a promise: handlers are not async" },
    );
});

test("data of another kind reject the event", () => {
    assert.deepEqual(answer((event) => event.json().a, event('{"a": "b"}')).body, "b");
    assert.match(answer((event) => event.json(), event("{")).val, /^the data are no JSON: /);
    const binary = event("", { data: Uint8Array.of(0xff) });
    assert.equal(answer((event) => event.json(), binary).val, "the data are no text: no UTF-8 from byte 0 on");
});

test("headers are found in whatever case", () => {
    const given = event("", { headers: [["x-a", "1"], ["x-a", "2"], ["tidemill-path-id", "7"]] });
    assert.equal(answer((event) => event.header("X-A"), given).body, "1");
    assert.equal(answer((event) => event.pathParameter("id"), given).body, "7");
    assert.equal(answer((event) => event.header("absent"), given), null);
});

test("what the engine refuses is said in words", () => {
    calls.keyvalue.open = refuses("access-denied");
    calls.bucket.read = refuses("not-found");
    calls.emit.emit = refuses("denied", "add it");
    calls.config.get = refuses("io", "no file");
    const says = (run, code, message) => assert.throws(run, { name: "EngineError", code, message });
    says(() => kv.open("s"), "access-denied", "the store `s` may not be used: add it to the function's allow.store");
    says(() => bucket.open("b").text("k"), "not-found", "no object `b/k`");
    says(() => emit("e"), "denied", "the event may not be emitted: add it");
    says(() => config("KEY"), "io", "cannot read the function's configuration: no file");
});

test("a handler can go on after a refusal, and what it does not catch is retried or rejected", () => {
    const failure = (tag) => {
        calls.bucket.read = refuses(tag, "so");
        return answer(() => bucket.open("b").read("k")).tag;
    };
    assert.deepEqual(
        ["not-found", "denied", "failed", "changed", "too-large"].map(failure),
        ["retry", "retry", "retry", "reject", "reject"],
    );
    calls.bucket.read = refuses("not-found");
    const caught = () => {
        try {
            return bucket.open("b").read("k");
        } catch (error) {
            return `${error instanceof EngineError} ${error.code}`;
        }
    };
    assert.equal(answer(caught).body, "true not-found");
    // A handler's own error is not the engine's, whatever it carries.
    const own = Object.assign(new Error("mine"), { code: "changed" });
    assert.equal(answer(() => { throw own; }).tag, "retry");
});

test("values of the wrong type never reach the engine", () => {
    store();
    const open = () => kv.open("s");
    assert.throws(() => open().get(undefined), { message: "the key is not a string: undefined" });
    assert.throws(() => open().increment("k", 0.5), RangeError);
    assert.throws(() => open().set("k", undefined), { message: "JSON cannot hold undefined" });
    assert.throws(() => bucket.open("b").read("k", { offset: -1, length: 1 }), RangeError);
    assert.throws(() => emit(5), { message: "the type is not a string: 5" });
    assert.throws(() => reply("", { status: "200" }), RangeError);
    for (const afterMs of [-1, NaN, Infinity, 1e300, "x"]) assert.throws(() => new Retry("", { afterMs }), RangeError);
});

test("half a surrogate pair, which JSON can hold, harms nobody", () => {
    const got = [];
    calls.log.log = (...line) => got.push(line);
    log.info("half \ud800", { at: "\udc00" });
    assert.deepEqual(got, [["info", "half \ufffd", [["at", "\ufffd"]]]]);
    calls.emit.emit = (event) => event.subject;
    assert.equal(emit("e", {}, { subject: "\ud83d" }), "\ufffd");
    const rejected = answer(() => {
        throw new Reject("no \ud800");
    });
    assert.equal(rejected.val, "no \ufffd");
});

test("events are emitted with the media type of their data", () => {
    const emitted = [];
    calls.emit.emit = (event) => `${emitted.push(event)}`;
    assert.equal(emit("e"), "1");
    emit("e", null);
    emit("e", "t", { subject: "s", headers: { a: 1 } });
    emit("e", [1]);
    const text = (event) => [event.datacontenttype, new TextDecoder().decode(event.data)];
    assert.deepEqual(emitted.map(text), [[null, ""], [null, ""], ["text/plain; charset=utf-8", "t"], ["application/json", "[1]"]]);
    assert.deepEqual([emitted[2].subject, emitted[2].headers], ["s", [["a", "1"]]]);
});

test("stores keep text, bytes and JSON", () => {
    const values = store();
    const s = kv.open("s");
    assert.equal(s.json("k"), null);
    assert.equal(s.update("k", (value) => (value ?? 0) + 1), 1);
    assert.equal(s.update("k", (value) => value + 1), 2);
    assert.equal(s.update("t", () => "text"), "text");
    assert.equal(s.update("t", (value) => value + "!"), "text!", "text stays JSON");
    s.set("plain", "as it is");
    assert.deepEqual([s.text("plain"), s.get("absent"), s.json("k")], ["as it is", null, 2]);
    assert.equal(values.size, 3);
});

test("sums that a number cannot hold are an error, not a wrong number", () => {
    store();
    calls.atomics.increment = (handle, key, delta) => 2 ** 53 + delta;
    assert.throws(() => kv.open("s").increment("k"), RangeError);
});

test("all pages of a listing are read", () => {
    const pages = { null: [{ key: "a" }, { key: "b" }], b: [{ key: "c" }], c: [] };
    calls.bucket.list = (name, prefix, after) => pages[after];
    assert.deepEqual([...bucket.open("b").list()].map((object) => object.key), ["a", "b", "c"]);
    calls.keyvalue.open = () => ({
        listKeys: (cursor) => (cursor ? { keys: ["z"], cursor: null } : { keys: ["x", "y"], cursor: "1" }),
    });
    assert.deepEqual(kv.open("s").keys(), ["x", "y", "z"]);
});

test("chance is the engine's, and spans its whole range", () => {
    calls.random.getRandomBytes = (length) => new Uint8Array(length).fill(0);
    assert.equal(random.number(), 0);
    calls.random.getRandomBytes = (length) => new Uint8Array(length).fill(0xff);
    assert.equal(random.number(), 1 - 2 ** -53);
    assert.equal(answer(() => Math.random()).body, String(1 - 2 ** -53));
});

test("what the SDK exports has types, and its classes' members too", () => {
    const types = readFileSync(new URL("../../sdk-js/tidemill.d.ts", import.meta.url), "utf8");
    const exported = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name);
    assert.deepEqual(exported.sort(), Object.keys(sdk).sort());

    calls.keyvalue.open = () => ({});
    const members = { Event: sdk.Event.prototype, Store: kv.open("s"), Bucket: bucket.open("b") };
    for (const [name, object] of Object.entries(members)) {
        const body = types.match(new RegExp(`^export (?:class|interface) ${name} \\{\\n(.*?)^\\}`, "ms"))[1];
        const typed = [...body.matchAll(/^    (?!private)(\w+)[<(]/gm)].map(([, member]) => member);
        const prototype = name === "Event" ? object : Object.getPrototypeOf(object);
        const own = Object.getOwnPropertyNames(prototype).filter((member) => !["constructor", "call"].includes(member));
        assert.deepEqual(typed.sort(), own.sort(), name);
    }
});
