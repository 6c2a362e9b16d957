/** Greets whoever asks, and counts how often. */

import { Reject, define, kv, log } from "./tidemill-sdk/tidemill.js";

export const handler = define((event) => {
    const { name } = event.json();
    // An error of the sender, which no retry mends.
    if (typeof name !== "string") throw new Reject("`name` is missing");
    // Takes effect once for each event, whatever happens in between.
    const count = kv.open("NAME").increment(name);
    log.info("greeted", { name, count });
    return `Hello, ${name}! (${count})\n`;
});
