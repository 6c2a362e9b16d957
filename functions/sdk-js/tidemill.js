/**
 * Handlers in JavaScript.
 *
 *     import { define, emit } from "./tidemill.js";
 *
 *     export const handler = define((event) => {
 *         emit("order.paid", { order: event.json().order });
 *     });
 *
 * What a handler may ask for is in this file; types are in tidemill.d.ts. It runs in QuickJS, without
 * the web's APIs: there is no fetch, no timer and no Buffer. Handlers are not async.
 */

import bucketCalls from "tidemill:function/bucket@0.1.0";
import emitCalls from "tidemill:function/emit@0.1.0";
import logCalls from "tidemill:function/log@0.1.0";
import configCalls from "wasi:config/store@0.2.0-rc.1";
import storeCalls from "wasi:keyvalue/store@0.2.0-draft2";
import atomics from "wasi:keyvalue/atomics@0.2.0-draft2";

import { decode, encode } from "./utf8.js";

export { decode, encode };

/** Thrown by a handler: try again later, by the trigger's policy. */
export class Retry extends Error {
    /**
     * @param {string} reason for the person who reads the dead letters
     * @param {{ afterMs?: number }} [options] not before so many milliseconds
     */
    constructor(reason, options = {}) {
        super(reason);
        this.name = "Retry";
        this.afterMs = options.afterMs ?? null;
    }
}

/** Thrown by a handler: never try again, the event itself is wrong. */
export class Reject extends Error {
    /** @param {string} reason for the person who reads the dead letters */
    constructor(reason) {
        super(reason);
        this.name = "Reject";
    }
}

/**
 * Makes a handler of a function. It returns nothing, a string, bytes, a `reply(...)`, or anything else
 * that becomes JSON. It throws `Reject` or `Retry`; any other error is retried.
 * @param {(event: Event) => unknown} run
 */
export function define(run) {
    return {
        handle(raw) {
            try {
                return toReply(run(new Event(raw)));
            } catch (error) {
                throw toFailure(error);
            }
        },
    };
}

/** An event, as a handler sees it. */
export class Event {
    constructor(raw) {
        this.id = raw.id;
        this.source = raw.source;
        this.type = raw.type;
        this.subject = raw.subject ?? null;
        this.timeMs = Number(raw.timeMs);
        this.datacontenttype = raw.datacontenttype ?? null;
        this.traceparent = raw.traceparent ?? null;
        this.headers = raw.headers;
        this.data = Uint8Array.from(raw.data);
        this.delivery = raw.delivery;
    }

    /** The first header of this name, or null. Names are lower-case. */
    header(name) {
        const found = this.headers.find(([key]) => key === name.toLowerCase());
        return found ? found[1] : null;
    }

    /** The parameter of the path of an HTTP request, or null. */
    pathParameter(name) {
        return this.header(`tidemill-path-${name}`);
    }

    /** The data as text. Rejects the event if it is not UTF-8. */
    text() {
        try {
            return decode(this.data);
        } catch (error) {
            throw new Reject(`the data are no text: ${error.message}`);
        }
    }

    /** The data as JSON. Rejects the event if it is none. */
    json() {
        try {
            return JSON.parse(this.text());
        } catch (error) {
            throw error instanceof Reject ? error : new Reject(`the data are no JSON: ${error.message}`);
        }
    }
}

/**
 * An answer to a client that waits, or to `on_success`.
 * @param {unknown} body a string, bytes, or anything that becomes JSON
 * @param {{ status?: number, headers?: Record<string, string> }} [options]
 */
export function reply(body, options = {}) {
    return new Reply(body, options);
}

class Reply {
    constructor(body, { status = null, headers = {} }) {
        this.status = status;
        this.headers = Object.entries(headers).map(([name, value]) => [name, String(value)]);
        this.body = bytes(body ?? "");
        const typed = this.headers.some(([name]) => name.toLowerCase() === "content-type");
        const kind = mediaType(body);
        if (!typed && kind) this.headers.push(["content-type", kind]);
    }
}

/**
 * Emits an event. It becomes real, once, when the handler has ended well. Returns its id.
 * @param {string} type one that the function was granted (`allow.emit`)
 * @param {unknown} [data] a string, bytes, or anything that becomes JSON
 * @param {{ subject?: string, headers?: Record<string, string> }} [options]
 */
export function emit(type, data = "", options = {}) {
    return emitCalls.emit({
        type,
        subject: options.subject ?? null,
        datacontenttype: mediaType(data),
        headers: Object.entries(options.headers ?? {}).map(([name, value]) => [name, String(value)]),
        data: bytes(data),
    });
}

/** The key-value stores that the function was granted (`allow.store`). */
export const kv = {
    open(name) {
        const store = storeCalls.open(name);
        return {
            /** The bytes of a key, or null. */
            get: (key) => store.get(key) ?? null,
            /** The text of a key, or null. */
            text(key) {
                const value = store.get(key);
                return value == null ? null : decode(Uint8Array.from(value));
            },
            /** The JSON of a key, or null. */
            json(key) {
                const text = this.text(key);
                return text === null ? null : JSON.parse(text);
            },
            set: (key, value) => store.set(key, bytes(value)),
            delete: (key) => store.delete(key),
            exists: (key) => store.exists(key),
            /** Adds to the number of a key, 0 if there is none; returns the sum. */
            increment: (key, delta = 1) => Number(atomics.increment(store, key, delta)),
            /** All keys. */
            keys() {
                const keys = [];
                let cursor = null;
                do {
                    const page = store.listKeys(cursor);
                    keys.push(...page.keys);
                    cursor = page.cursor ?? null;
                } while (cursor !== null);
                return keys;
            },
        };
    },
};

/** The buckets that the function was granted (`allow.read`, `allow.write`). */
export const bucket = {
    open: (name) => ({
        /** The bytes of an object. */
        read: (key) => Uint8Array.from(bucketCalls.read(name, key, null)),
        /** The text of an object. */
        text: (key) => decode(Uint8Array.from(bucketCalls.read(name, key, null))),
        head: (key) => bucketCalls.head(name, key),
        write: (key, content) => bucketCalls.write(name, key, bytes(content)),
        delete: (key) => bucketCalls.delete(name, key),
        /** At most 1,000 objects, in the order of their keys. */
        list: (prefix = "", after = null) => bucketCalls.list(name, prefix, after),
    }),
};

/** What `env` and `secrets` of the function say: a string, or null. */
export function config(name) {
    return configCalls.get(name) ?? null;
}

/** Writes lines to the engine's log, with fields if there are any. */
export const log = Object.fromEntries(
    ["trace", "debug", "info", "warn", "error"].map((level) => [
        level,
        (message, fields = {}) =>
            logCalls.log(level, String(message), Object.entries(fields).map(([name, value]) => [name, String(value)])),
    ]),
);

function bytes(value) {
    if (value instanceof Uint8Array) return value;
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    return encode(typeof value === "string" ? value : JSON.stringify(value));
}

function mediaType(value) {
    if (value instanceof Uint8Array || value instanceof ArrayBuffer || value == null || value === "") return null;
    return typeof value === "string" ? "text/plain; charset=utf-8" : "application/json";
}

function toReply(result) {
    if (result == null) return null;
    if (typeof result.then === "function") {
        throw new Reject("the handler returns a promise: handlers are not async");
    }
    const { status, headers, body } = result instanceof Reply ? result : new Reply(result, {});
    return { status, headers, body };
}

function toFailure(error) {
    if (error instanceof Reject) return { tag: "reject", val: error.message };
    const afterMs = error instanceof Retry ? error.afterMs : null;
    return { tag: "retry", val: { afterMs, reason: reason(error) } };
}

/** Errors of the engine's calls are variants: `{ tag, val }`. */
function reason(error) {
    if (error instanceof Error) return `${error.message}${error instanceof Retry ? "" : `\n${error.stack ?? ""}`}`.trim();
    const payload = error?.payload ?? error;
    if (payload?.tag) return payload.val === undefined ? payload.tag : `${payload.tag}: ${payload.val}`;
    return String(error);
}
