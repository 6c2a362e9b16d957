/**
 * Handlers in JavaScript for triggers with `batch`, which give a function many events in one call.
 *
 *     import { defineBatch } from "./batch.js";
 *     import { kv } from "./tidemill.js";
 *
 *     export const batchHandler = defineBatch((event) => {
 *         kv.open("counts").increment(event.source);
 *     });
 *
 * The component is made for the world `batch-function`. All else that a handler may ask for is in tidemill.js.
 */

import calls from "tidemill:function/batch@0.1.0";

import { define, Event } from "./tidemill.js";

/**
 * Makes a batch handler of a function for one event, like that of `define`. It runs for one event of the batch after
 * the other, and each has its own answer: what it emits and writes for an event that fails is thrown away, whatever
 * becomes of the others.
 */
export function defineBatch(run) {
    return defineWholeBatch((batch) => batch.each(run));
}

/**
 * Makes a batch handler of a function that gets the whole `Batch`, for work that is better done once for all events.
 * What it throws is the failure of every event that has none of its own. It returns nothing.
 */
export function defineWholeBatch(run) {
    return {
        handle(raws) {
            const batch = new Batch(raws);
            const whole = attempt(() => {
                const result = run(batch);
                // A promise is refused there; nothing else is meant.
                return typeof result?.then === "function" ? result : undefined;
            });
            return batch.answers.map((answer) => (answer.tag === "ok" && whole.tag === "err" ? whole : answer));
        },
    };
}

/**
 * The events of one call. One that gets no answer is ok, without a reply. What is emitted and written belongs to the
 * event that was begun last; before the first there may be reads only.
 */
export class Batch {
    constructor(raws) {
        /** In the order in which they came. */
        this.events = raws.map((raw) => new Event(raw));
        this.answers = raws.map(() => ({ tag: "ok", val: null }));
    }

    /** Runs a function for each event that has not failed yet, with its index. What it returns is the reply. */
    each(run) {
        this.events.forEach((event, index) => {
            if (this.answers[index].tag === "err") return;
            this.begin(index);
            this.settle(index, () => run(event, index));
        });
    }

    /** From here on, what is emitted and written is for the event at this index, which may have begun before. */
    begin(index) {
        const event = this.at(index);
        calls.begin(index);
        return event;
    }

    /** The event at this index is done, with a reply as a handler returns it. The last answer to an event counts. */
    reply(index, body) {
        this.at(index);
        this.settle(index, () => body);
    }

    /**
     * The event at this index has failed, with an error as a handler throws it. What was emitted and written for it so
     * far is thrown away.
     */
    fail(index, error) {
        this.at(index);
        this.settle(index, () => {
            throw error;
        });
    }

    at(index) {
        if (Number.isInteger(index) && index in this.events) return this.events[index];
        throw new RangeError(`the batch has ${this.events.length} events, and none at ${String(index)}`);
    }

    settle(index, run) {
        this.answers[index] = attempt(run);
        // Later events are not to see what a failed one did.
        if (this.answers[index].tag === "err") calls.discard(index);
    }
}

/** What becomes of a handler's function, as the engine takes it: its reply or its failure. */
function attempt(run) {
    try {
        // Like a handler that does not look at its event.
        return { tag: "ok", val: define(run).handle({}) };
    } catch (failure) {
        return { tag: "err", val: failure };
    }
}
