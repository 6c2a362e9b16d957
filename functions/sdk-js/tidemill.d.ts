/** Types of tidemill.js; what things do is said there. */

/** Bytes, text, or anything that becomes JSON. */
export type Data = Uint8Array | ArrayBuffer | string | object | number | boolean;

export interface Event {
    readonly id: string;
    readonly source: string;
    readonly type: string;
    readonly subject: string | null;
    /** Milliseconds since the Unix epoch. */
    readonly timeMs: number;
    readonly datacontenttype: string | null;
    readonly traceparent: string | null;
    /** Names in lower case. */
    readonly headers: ReadonlyArray<readonly [string, string]>;
    readonly data: Uint8Array;
    readonly delivery: { readonly id: string; readonly trigger: string; readonly attempt: number };
    header(name: string): string | null;
    pathParameter(name: string): string | null;
    text(): string;
    json(): any;
}

export interface Reply {
    readonly status: number | null;
}

export interface StoredObject {
    readonly key: string;
    readonly size: number;
    readonly etag: string;
    readonly modifiedMs: number;
}

export interface Store {
    get(key: string): Uint8Array | null;
    text(key: string): string | null;
    json(key: string): any;
    set(key: string, value: Data): void;
    delete(key: string): void;
    exists(key: string): boolean;
    increment(key: string, delta?: number): number;
    keys(): string[];
}

export interface Bucket {
    read(key: string): Uint8Array;
    text(key: string): string;
    head(key: string): StoredObject;
    write(key: string, content: Data): void;
    delete(key: string): void;
    list(prefix?: string, after?: string | null): StoredObject[];
}

type Line = (message: unknown, fields?: Record<string, unknown>) => void;

export class Retry extends Error {
    constructor(reason: string, options?: { afterMs?: number });
}
export class Reject extends Error {
    constructor(reason: string);
}
export function define(run: (event: Event) => Reply | Data | null | undefined | void): object;
export function reply(body: Data | null, options?: { status?: number; headers?: Record<string, string> }): Reply;
export function emit(type: string, data?: Data, options?: { subject?: string; headers?: Record<string, string> }): string;
export function config(name: string): string | null;
export function decode(data: Uint8Array): string;
export function encode(text: string): Uint8Array;
export const kv: { open(name: string): Store };
export const bucket: { open(name: string): Bucket };
export const log: { trace: Line; debug: Line; info: Line; warn: Line; error: Line };
