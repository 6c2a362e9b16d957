/**
 * Handlers in JavaScript.
 *
 *     import { define, emit } from "./tidemill.js";
 *
 *     export const handler = define((event) => {
 *         emit("order.paid", { order: event.json().order });
 *     });
 *
 * What a handler may ask for is in this file; its types are in tidemill.d.ts. It runs in QuickJS: the language is all
 * there, the web's APIs are not (no fetch, timers, console, URL, Buffer). Handlers are not async.
 *
 * The engine's calls trap on a value of the wrong type, which is nobody's idea of a message. So everything is
 * checked here first, and what a call refuses is thrown as an `EngineError` that says so in words.
 */

import bucketCalls from "tidemill:function/bucket@0.1.0";
import emitCalls from "tidemill:function/emit@0.1.0";
import logCalls from "tidemill:function/log@0.1.0";
import configCalls from "wasi:config/store@0.2.0-rc.1";
import atomics from "wasi:keyvalue/atomics@0.2.0-draft2";
import storeCalls from "wasi:keyvalue/store@0.2.0-draft2";
import randomCalls from "wasi:random/random@0.2.12";

import { decode, encode, wellFormed } from "./utf8.js";

export { decode, encode };

/** Thrown by a handler: try again later, by the trigger's policy. */
export class Retry extends Error {
    /** The reason is for the person who reads the dead letters; `afterMs`: not before so many milliseconds. */
    constructor(reason, { afterMs = null } = {}) {
        super(reason);
        this.name = "Retry";
        this.afterMs = afterMs === null ? null : whole(Math.ceil(afterMs), "afterMs", 0);
    }
}

/** Thrown by a handler: never try again, the event itself is wrong. */
export class Reject extends Error {
    /** The reason is for the person who reads the dead letters. */
    constructor(reason) {
        super(reason);
        this.name = "Reject";
    }
}

/** Thrown by the calls of this file: what the engine refused, or could not do. */
export class EngineError extends Error {
    /**
     * The code is, of a bucket: `not-found`, `changed`, `denied`, `too-large`, `failed`; of a store:
     * `no-such-store`, `access-denied`, `other`; of `emit`: `denied`, `too-large`; of `config`: `upstream`, `io`.
     */
    constructor(code, message) {
        super(message);
        this.name = "EngineError";
        this.code = code;
    }
}

// What the same event would meet again at every attempt.
const FINAL = ["changed", "too-large"];

let running = false;

// The runtime is a snapshot, with the seed of its chance in it: its own `Math.random` would say the same in every
// event. While the snapshot is taken there is no engine to ask.
const snapshotRandom = Math.random;
Math.random = () => (running ? random.number() : snapshotRandom());

/**
 * Makes a handler of a function. It returns nothing, a string, bytes, a `reply(...)`, or anything else that becomes
 * JSON. To fail it throws: `Reject`, or `Retry`. Of other errors, those that the same event would meet again (an
 * object that has changed or is too large) reject it, and all the rest is tried again.
 */
export function define(run) {
    return {
        handle(raw) {
            running = true;
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
        /** The identity of the event at its source. */
        this.id = raw.id;
        /** Where it comes from, such as `bucket:uploads`. */
        this.source = raw.source;
        /** What happened, such as `object.created`. */
        this.type = raw.type;
        /** What it happened to, such as the key of an object. */
        this.subject = raw.subject;
        /** When it happened, in milliseconds since 1970. */
        this.timeMs = raw.timeMs;
        this.datacontenttype = raw.datacontenttype;
        /** The W3C trace context that it belongs to. */
        this.traceparent = raw.traceparent;
        /** All headers in their order; names are lower-case. */
        this.headers = raw.headers;
        this.data = raw.data;
        /** Its id is the same in all attempts, which count from 1. */
        this.delivery = raw.delivery;
    }

    /** The first header of this name, in whatever case, or null. */
    header(name) {
        const found = this.headers.find(([known]) => known === name.toLowerCase());
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
        const text = this.text();
        try {
            return JSON.parse(text);
        } catch (error) {
            throw new Reject(`the data are no JSON: ${error.message}`);
        }
    }
}

/** An answer to a client that waits, or to `on_success`: a string, bytes, or anything that becomes JSON. */
export function reply(body, options = {}) {
    return new Reply(body, options);
}

class Reply {
    constructor(body, { status = null, headers = {} }) {
        this.status = status === null ? null : whole(status, "the status", 100, 599);
        this.headers = fields(headers);
        this.body = bytes(body ?? "");
        const typed = this.headers.some(([name]) => name.toLowerCase() === "content-type");
        const kind = mediaType(body);
        if (!typed && kind) this.headers.push(["content-type", kind]);
    }
}

/**
 * Emits an event of a type that the function was granted (`allow.emit`), with data that are a string, bytes, or
 * anything that becomes JSON. It becomes real, once, when the handler has ended well. Returns its id.
 */
export function emit(type, data, { subject = null, headers = {} } = {}) {
    const event = {
        type: string(type, "the type"),
        subject: subject === null ? null : string(subject, "the subject"),
        datacontenttype: mediaType(data),
        headers: fields(headers),
        data: bytes(data ?? ""),
    };
    return call(() => emitCalls.emit(event), {
        denied: (reason) => `the event may not be emitted: ${reason}`,
        "too-large": (reason) => `the event is too large: ${reason}`,
    });
}

/** A key-value store. Keys that are read and written by two deliveries at once are the engine's matter. */
class Store {
    constructor(name) {
        this.name = string(name, "the store's name");
        this.handle = this.call(() => storeCalls.open(this.name));
    }

    /** The bytes of a key, or null. */
    get(key) {
        return this.call(() => this.handle.get(string(key, "the key")));
    }

    /** The text of a key, or null. */
    text(key) {
        const value = this.get(key);
        return value === null ? null : decode(value);
    }

    /** The JSON of a key, or null. */
    json(key) {
        const text = this.text(key);
        return text === null ? null : JSON.parse(text);
    }

    /** Sets a key to a string, bytes, or anything that becomes JSON. */
    set(key, value) {
        this.call(() => this.handle.set(string(key, "the key"), bytes(value)));
    }

    /** Sets a key to what becomes of its JSON, which is null if there is none; returns that. */
    update(key, change) {
        const value = change(this.json(key));
        // As JSON, also if it is a string: the next update reads it so.
        this.set(key, json(value));
        return value;
    }

    delete(key) {
        this.call(() => this.handle.delete(string(key, "the key")));
    }

    exists(key) {
        return this.call(() => this.handle.exists(string(key, "the key")));
    }

    /** Adds to the number of a key, which is 0 if there is none; returns the sum. */
    increment(key, delta = 1) {
        whole(delta, "what is added", Number.MIN_SAFE_INTEGER);
        const sum = this.call(() => atomics.increment(this.handle, string(key, "the key"), delta));
        return whole(sum, `the sum in \`${key}\``, Number.MIN_SAFE_INTEGER);
    }

    /** All keys. */
    keys() {
        const keys = [];
        let cursor = null;
        do {
            const page = this.call(() => this.handle.listKeys(cursor));
            keys.push(...page.keys);
            cursor = page.cursor;
        } while (cursor !== null);
        return keys;
    }

    call(run) {
        return call(run, {
            "no-such-store": () => `no store \`${this.name}\``,
            "access-denied": () => `the store \`${this.name}\` may not be used: add it to the function's allow.store`,
            other: (reason) => `the store \`${this.name}\` failed: ${reason}`,
        });
    }
}

/** The key-value stores that the function was granted (`allow.store`). */
export const kv = {
    open: (name) => new Store(name),
};

/** A bucket. What is written and deleted is done when the handler has ended well, at least once. */
class Bucket {
    constructor(name) {
        this.name = string(name, "the bucket's name");
    }

    /** The bytes of an object, or of a part of it: `{ offset, length }`. */
    read(key, range) {
        const part = range && {
            offset: whole(range.offset, "the offset", 0),
            length: whole(range.length, "the length", 0),
        };
        return this.call(key, () => bucketCalls.read(this.name, string(key, "the key"), part ?? null));
    }

    /** The text of an object. */
    text(key) {
        return decode(this.read(key));
    }

    /** Its size, etag and time, without its bytes. */
    head(key) {
        return this.call(key, () => bucketCalls.head(this.name, string(key, "the key")));
    }

    /** Writes an object: a string, bytes, or anything that becomes JSON. */
    write(key, content) {
        this.call(key, () => bucketCalls.write(this.name, string(key, "the key"), bytes(content)));
    }

    delete(key) {
        this.call(key, () => bucketCalls.delete(this.name, string(key, "the key")));
    }

    /** The objects whose keys begin so, in the order of their keys, for a loop with `of`. */
    *list(prefix = "") {
        let after = null;
        for (;;) {
            const page = this.call(prefix, () => bucketCalls.list(this.name, string(prefix, "the prefix"), after));
            // A page may be short without being the last, so only an empty one ends.
            if (page.length === 0) return;
            yield* page;
            after = page[page.length - 1].key;
        }
    }

    call(key, run) {
        const object = `${this.name}/${key}`;
        return call(run, {
            "not-found": () => `no object \`${object}\``,
            changed: () => `the object \`${object}\` has changed since the event`,
            denied: (reason) => `the bucket may not be used: ${reason}`,
            "too-large": (reason) => `the object is too large: ${reason}`,
            failed: (reason) => `the bucket failed: ${reason}`,
        });
    }
}

/** The buckets that the function was granted (`allow.read`, `allow.write`). */
export const bucket = {
    open: (name) => new Bucket(name),
};

/** What `env` and `secrets` of the function say: a string, or null. */
export function config(name) {
    const failed = (reason) => `cannot read the function's configuration: ${reason}`;
    return call(() => configCalls.get(string(name, "the name")), { upstream: failed, io: failed });
}

/** Randomness of cryptographic quality. `Math.random` is made of it too. */
export const random = {
    /** So many random bytes. */
    bytes: (length) => randomCalls.getRandomBytes(whole(length, "the length", 0)),
    /** At least 0, less than 1. */
    number() {
        const part = random.bytes(7).reduce((sum, byte, at) => sum + (at < 6 ? byte : byte & 31) * 2 ** (8 * at), 0);
        return part / 2 ** 53;
    },
};

const line =
    (level) =>
    (message, values = {}) =>
        logCalls.log(level, wellFormed(String(message)), fields(values));

/** Writes lines to the engine's log, with fields if there are any. */
export const log = {
    trace: line("trace"),
    debug: line("debug"),
    info: line("info"),
    warn: line("warn"),
    error: line("error"),
};

/** Makes a call of the engine; `words` says what its refusals mean. */
function call(run, words) {
    try {
        return run();
    } catch (error) {
        const refused = error?.payload;
        if (!refused?.tag) throw error;
        throw new EngineError(refused.tag, words[refused.tag]?.(refused.val) ?? refused.tag);
    }
}

function string(value, what) {
    if (typeof value !== "string") throw new TypeError(`${what} is not a string: ${String(value)}`);
    return wellFormed(value);
}

function whole(value, what, least, most = Number.MAX_SAFE_INTEGER) {
    if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
    throw new RangeError(`${what} is not a whole number from ${least} to ${most}: ${String(value)}`);
}

/** Names and values as the engine takes them; a name with several values is there several times. */
function fields(record) {
    return Object.entries(record).flatMap(([name, value]) =>
        (Array.isArray(value) ? value : [value]).map((one) => [wellFormed(name), wellFormed(String(one))]),
    );
}

function bytes(value) {
    if (value instanceof Uint8Array) return value;
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    return encode(typeof value === "string" ? value : json(value));
}

function json(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`JSON cannot hold ${String(value)}`);
    return text;
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
    const said = wellFormed(error instanceof Error ? error.message : String(error));
    const final = error instanceof EngineError && FINAL.includes(error.code);
    if (final || error instanceof Reject) return { tag: "reject", val: said };
    if (error instanceof Retry) return { tag: "retry", val: { afterMs: error.afterMs, reason: said } };
    // Nobody foresaw it, so where it was thrown is worth knowing.
    const place = error instanceof Error && error.stack ? `\n${wellFormed(error.stack)}` : "";
    return { tag: "retry", val: { afterMs: null, reason: `${said}${place}`.trim() } };
}
