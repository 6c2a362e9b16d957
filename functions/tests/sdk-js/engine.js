/**
 * The SDK on an engine of these tests: its imports read `calls`, which refuse as the real ones do (an error with a
 * `payload`). It shows what the SDK makes of an answer; that real answers are so, the tests of the engine show.
 */

import { register } from "node:module";

/** The calls of the engine, by the interface's name without package and version. */
export const calls = (globalThis.engine = {
    batch: {},
    bucket: {},
    emit: {},
    log: {},
    config: {},
    keyvalue: {},
    atomics: {},
    random: {},
});

const names = {
    "tidemill:function/batch@0.1.0": "batch",
    "tidemill:function/bucket@0.1.0": "bucket",
    "tidemill:function/emit@0.1.0": "emit",
    "tidemill:function/log@0.1.0": "log",
    "wasi:config/store@0.2.0-rc.1": "config",
    "wasi:keyvalue/store@0.2.0-draft2": "keyvalue",
    "wasi:keyvalue/atomics@0.2.0-draft2": "atomics",
    "wasi:random/random@0.2.12": "random",
};

const hooks = `
    const names = ${JSON.stringify(names)};
    export function resolve(specifier, context, next) {
        const name = names[specifier];
        if (!name) return next(specifier, context);
        const url = "data:text/javascript,export default globalThis.engine." + name;
        return { url, shortCircuit: true };
    }
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

/** A call that the engine refuses. */
export const refuses = (tag, val) => () => {
    throw Object.assign(new Error("[object Object] (see error.payload)"), { payload: { tag, val } });
};

/** An event as the engine gives it. */
export const event = (data = "", more = {}) => ({
    id: "1",
    source: "tests",
    type: "test",
    subject: null,
    timeMs: 0,
    datacontenttype: null,
    traceparent: null,
    headers: [],
    data: new TextEncoder().encode(data),
    delivery: { id: "d", trigger: "t", attempt: 1 },
    ...more,
});

/** The SDK. */
export const sdk = await import("../../sdk-js/tidemill.js");
/** Its part for batches. */
export const batches = await import("../../sdk-js/batch.js");

/** What a handler answers: a reply with its body as text, null, or the failure that it throws. */
export function answer(run, given = event()) {
    let reply;
    try {
        reply = sdk.define(run).handle(given);
    } catch (failure) {
        return failure;
    }
    return reply && { ...reply, body: new TextDecoder().decode(reply.body) };
}
