/** Types of batch.js; what things do is said there. */

import type { Data, Event, Reply } from "./tidemill.js";

type Answer = Reply | Data | null | undefined | void;

export class Batch {
    private constructor();
    readonly events: ReadonlyArray<Event>;
    each(run: (event: Event, index: number) => Answer): void;
    begin(index: number): Event;
    reply(index: number, body: Answer): void;
    fail(index: number, error: unknown): void;
}
export function defineBatch(run: (event: Event, index: number) => Answer): object;
export function defineWholeBatch(run: (batch: Batch) => void): object;
