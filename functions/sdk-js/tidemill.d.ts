/** Types of tidemill.js; what things do is said there. */

/** Bytes, text, or anything that becomes JSON. */
export type Data = Uint8Array | ArrayBuffer | string | object | number | boolean;
/** A name with several values is there several times. */
export type Headers = Record<string, string | number | ReadonlyArray<string | number>>;

export class Event {
    private constructor();
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
    readonly headers: ReadonlyArray<readonly [string, string]>;
    readonly body: Uint8Array;
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
    update<T extends Exclude<Data, Uint8Array | ArrayBuffer> | null>(key: string, change: (value: any) => T): T;
    delete(key: string): void;
    exists(key: string): boolean;
    increment(key: string, delta?: number): number;
    keys(): string[];
}

export interface Bucket {
    read(key: string, range?: { offset: number; length: number }): Uint8Array;
    text(key: string): string;
    head(key: string): StoredObject;
    write(key: string, content: Data): void;
    delete(key: string): void;
    list(prefix?: string): Generator<StoredObject, void>;
}

type Line = (message: unknown, fields?: Record<string, unknown>) => void;

export class Retry extends Error {
    constructor(reason: string, options?: { afterMs?: number });
    readonly afterMs: number | null;
}
export class Reject extends Error {
    constructor(reason: string);
}
export class EngineError extends Error {
    constructor(code: EngineError["code"], message: string);
    readonly code:
        | "not-found"
        | "changed"
        | "denied"
        | "too-large"
        | "failed"
        | "no-such-store"
        | "access-denied"
        | "other"
        | "upstream"
        | "io";
}
export function define(run: (event: Event) => Reply | Data | null | undefined | void): object;
export function reply(body: Data | null, options?: { status?: number; headers?: Headers }): Reply;
export function emit(type: string, data?: Data | null, options?: { subject?: string | null; headers?: Headers }): string;
export function config(name: string): string | null;
export function decode(data: Uint8Array): string;
export function encode(text: string): Uint8Array;
export const kv: { open(name: string): Store };
export const bucket: { open(name: string): Bucket };
export const random: { bytes(length: number): Uint8Array; number(): number };
export const log: { trace: Line; debug: Line; info: Line; warn: Line; error: Line };
