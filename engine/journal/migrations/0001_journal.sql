-- The journal, version 1. Times are milliseconds since the Unix epoch, UTC.

-- What only ever grows. One row.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,           -- the last place given to a delivery
    version INTEGER NOT NULL,       -- the last version given to a key's value
    running INTEGER NOT NULL        -- milliseconds that engines have run on this journal
) STRICT;
INSERT INTO meta VALUES (1, 0, 0, 0);

-- An event, once, however many deliveries it has. It goes with the last of them.
CREATE TABLE events (
    event INTEGER PRIMARY KEY,      -- the place of its first delivery
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT,
    time INTEGER NOT NULL,
    datacontenttype TEXT,
    traceparent TEXT,
    hops INTEGER NOT NULL,
    headers TEXT,                   -- [["name", "value"], ...]
    data BLOB NOT NULL
) STRICT;

-- Events that came with more than one delivery: kept apart, so that counting rewrites no payload.
CREATE TABLE shared (
    event INTEGER PRIMARY KEY,
    deliveries INTEGER NOT NULL,    -- how many are left
    spoiled INTEGER NOT NULL        -- one of them was purged
) STRICT;

-- Pending deliveries and, with died set, dead letters.
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    shared INTEGER NOT NULL,        -- its event has a row in shared
    id BLOB NOT NULL,
    trigger TEXT NOT NULL,
    work TEXT,                      -- the outbox action as JSON; null: run the function
    attempts INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    due INTEGER NOT NULL,
    size INTEGER NOT NULL,          -- bytes of its event, about
    lane TEXT,
    key TEXT,                       -- the idempotency key
    redrive_of BLOB,
    redrive_original INTEGER,
    cause TEXT,
    reason TEXT,
    died INTEGER
) STRICT;
CREATE UNIQUE INDEX deliveries_id ON deliveries (id);
CREATE INDEX pending ON deliveries (trigger, due) WHERE died IS NULL;
CREATE INDEX dead ON deliveries (seq) WHERE died IS NOT NULL;

-- The attempts of deliveries that did not end well at once.
CREATE TABLE attempts (
    delivery INTEGER NOT NULL,
    position INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    digest TEXT,
    PRIMARY KEY (delivery, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE kv (
    store TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (store, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    etag TEXT,                      -- null: deleted
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    deletes INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- Objects that the engine wrote and whose ledger has not moved to them yet.
CREATE TABLE written (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    etag TEXT NOT NULL,
    hops INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- Event ids of what has left the journal, until so many milliseconds of meta.running.
CREATE TABLE event_ids (
    delivery BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX event_ids_expires ON event_ids (expires);

-- Completed idempotency keys.
CREATE TABLE keys (
    trigger TEXT NOT NULL,
    key TEXT NOT NULL,
    delivery BLOB NOT NULL,
    completed INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    fingerprint BLOB,
    status INTEGER,
    headers TEXT,                   -- as in events
    body BLOB,                      -- null: no reply is kept
    PRIMARY KEY (trigger, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_expires ON keys (expires);

CREATE TABLE cursors (
    schedule TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- All offsets of a partition below its watermark are completed, and so are these above it.
CREATE TABLE partitions (
    trigger TEXT NOT NULL,
    consumers TEXT NOT NULL,        -- the consumer group
    partition TEXT NOT NULL,
    watermark INTEGER NOT NULL,
    PRIMARY KEY (trigger, consumers, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE completed (
    trigger TEXT NOT NULL,
    consumers TEXT NOT NULL,
    partition TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (trigger, consumers, partition, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (
    function TEXT NOT NULL,
    day INTEGER NOT NULL,           -- since the Unix epoch, UTC
    invocations INTEGER NOT NULL,
    wall_us INTEGER NOT NULL,
    busy_us INTEGER NOT NULL,
    memory INTEGER NOT NULL,        -- KiB times milliseconds
    PRIMARY KEY (function, day)
) STRICT, WITHOUT ROWID;
