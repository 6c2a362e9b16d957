/**
 * A guest that handles batches in JavaScript, for the tests of the engine. What to do for an event is its data: `ok`,
 * `reply`, `reject`, `retry`, `emit`, `throw`.
 */

import { defineBatch } from "../../sdk-js/batch.js";
import { Reject, Retry, emit } from "../../sdk-js/tidemill.js";

export const batchHandler = defineBatch((event, index) => {
    const order = event.text();
    if (order !== "ok") emit("probe.made", order, { subject: String(index) });
    switch (order) {
        case "reply":
            return { index };
        case "reject":
            throw new Reject("as ordered");
        case "retry":
            throw new Retry("as ordered", { afterMs: 1500 });
        case "throw":
            throw new Error("unforeseen");
    }
});
