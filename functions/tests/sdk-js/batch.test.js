import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";

import { batches, calls, event, refuses, sdk } from "./engine.js";

const { Batch, defineBatch, defineWholeBatch } = batches;
const { Reject, Retry, bucket, emit } = sdk;

/** What was asked of the engine, in its order. */
let acts;

beforeEach(() => {
    acts = [];
    calls.batch.begin = (index) => void acts.push(`begin ${index}`);
    calls.batch.discard = (index) => void acts.push(`discard ${index}`);
    calls.emit.emit = ({ type }) => `${acts.push(`emit ${type}`)}`;
});

/** What a batch handler answers to events with these data: the text of a reply, null, or a failure. */
function answers(handler, data) {
    const events = data.map((one, index) => event(one, { id: `event-${index}` }));
    return handler.handle(events).map(({ tag, val }) => {
        assert.equal(tag, val?.tag ? "err" : "ok");
        return val?.body ? new TextDecoder().decode(val.body) : val;
    });
}

const rejected = (val) => ({ tag: "reject", val });
const retried = (reason, afterMs = null) => ({ tag: "retry", val: { afterMs, reason } });

test("each event has an answer of its own, and effects of its own", () => {
    const handler = defineBatch((event, index) => {
        emit(event.text());
        if (event.text() === "b") throw new Reject("no b");
        if (event.text() === "c") throw new Retry("later", { afterMs: 5 });
        if (event.text() === "d") return `${event.id} ${index}`;
    });
    assert.deepEqual(answers(handler, ["a", "b", "c", "d"]), [null, rejected("no b"), retried("later", 5), "event-3 3"]);
    assert.deepEqual(acts, [
        "begin 0", "emit a", "begin 1", "emit b", "discard 1", "begin 2", "emit c", "discard 2", "begin 3", "emit d",
    ]);
});

test("an error that nobody foresaw fails its event alone", () => {
    calls.bucket.read = refuses("changed");
    const handler = defineBatch((event) => {
        if (event.text() === "object") bucket.open("b").read("k");
        if (event.text() === "bug") undefined.x;
        if (event.text() === "promise") return Promise.resolve();
    });
    const [changed, bug, fine, promise] = answers(handler, ["object", "bug", "", "promise"]);
    assert.deepEqual(changed, rejected("the object `b/k` has changed since the event"));
    assert.equal(bug.tag, "retry");
    assert.match(bug.val.reason, /batch\.test\.js/, "says where");
    assert.equal(fine, null);
    assert.deepEqual(promise, rejected("the handler returns a promise: handlers are not async"));
});

test("the whole batch may be handled at once", () => {
    const handler = defineWholeBatch((batch) => {
        const all = batch.events.map((event) => event.text()).join();
        batch.fail(1, new Reject("not this one"));
        batch.each((event, index) => `${index} of ${all}`);
        assert.equal(batch.begin(0).id, "event-0");
        emit("more");
        batch.reply(2, "another");
    });
    assert.deepEqual(answers(handler, ["x", "y", "z"]), ["0 of x,y,z", rejected("not this one"), "another"]);
    assert.deepEqual(acts, ["discard 1", "begin 0", "begin 2", "begin 0", "emit more"]);
});

test("what the whole throws is the failure of all but those that have their own", () => {
    const handler = defineWholeBatch((batch) => {
        batch.reply(0, "fine");
        batch.fail(1, new Reject("no"));
        throw new Retry("the server is away");
    });
    const away = retried("the server is away");
    assert.deepEqual(answers(handler, ["", "", ""]), [away, rejected("no"), away]);
    const late = answers(defineWholeBatch(async () => {}), [""]);
    assert.deepEqual(late, [rejected("the handler returns a promise: handlers are not async")]);
    assert.deepEqual(answers(defineWholeBatch(() => "nothing is meant by this"), [""]), [null]);
});

test("an event that is not there never reaches the engine", () => {
    const uses = [(batch, index) => batch.begin(index), (batch, index) => batch.reply(index), (batch, index) => batch.fail(index, "x")];
    for (const use of uses) {
        for (const index of [1, -1, 0.5, "length", undefined]) {
            const batch = new Batch([event()]);
            assert.throws(() => use(batch, index), { name: "RangeError", message: `the batch has 1 events, and none at ${index}` });
        }
    }
    assert.deepEqual(acts, []);
    assert.deepEqual(answers(defineBatch(() => {}), []), []);
});

test("what the SDK exports for batches has types, and its classes' members too", () => {
    const types = readFileSync(new URL("../../sdk-js/batch.d.ts", import.meta.url), "utf8");
    const exported = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name);
    assert.deepEqual(exported.sort(), Object.keys(batches).sort());
    const body = types.match(/^export class Batch \{\n(.*?)^\}/ms)[1];
    const typed = [...body.matchAll(/^    (?!private)(\w+)\(/gm)].map(([, member]) => member);
    const own = Object.getOwnPropertyNames(Batch.prototype);
    const hidden = ["constructor", "at", "settle"];
    assert.deepEqual(typed.sort(), own.filter((member) => !hidden.includes(member)).sort());
});
