-- A journal as version 1 wrote it. Never edited: it stands for the files that users have.
PRAGMA application_id = 0x54444d4c;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
INSERT INTO "attempts" VALUES(7,0,1,10,20,'trap','the handler broke','sha256:0');
INSERT INTO "attempts" VALUES(8,0,1,10,20,'trap','the handler broke','sha256:0');
CREATE TABLE completed (
    trigger TEXT NOT NULL,
    consumers TEXT NOT NULL,
    partition TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (trigger, consumers, partition, at)
) STRICT, WITHOUT ROWID;
INSERT INTO "completed" VALUES('t','g','p/0',7);
CREATE TABLE cursors (
    schedule TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "cursors" VALUES('nightly',500);
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
INSERT INTO "deliveries" VALUES(7,7,0,X'07070707070707070707070707070707','t',NULL,1,10,20,40,'lane','key',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES(8,8,0,X'08080808080808080808080808080808','t','{"delete-object":{"bucket":"b","key":"k","etag":"e"}}',1,10,20,40,NULL,NULL,X'01010101010101010101010101010101',1,'attempts','the handler broke',30);
CREATE TABLE event_ids (
    delivery BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "event_ids" VALUES(X'05050505050505050505050505050505',99999);
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
INSERT INTO "events" VALUES(7,'e-7','http:/hook','http.request','subject',1,'text/plain',NULL,0,'[["a","b"]]',X'00FF');
INSERT INTO "events" VALUES(8,'e-8','http:/hook','http.request','subject',1,'text/plain',NULL,0,'[["a","b"]]',X'00FF');
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
INSERT INTO "keys" VALUES('t','k',X'05050505050505050505050505050505',1,9999,NULL,200,'[["a","b"]]',X'02');
CREATE TABLE kv (
    store TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (store, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "kv" VALUES('s','k',4,X'01');
CREATE TABLE ledger (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    etag TEXT,                      -- null: deleted
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    deletes INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "ledger" VALUES('b','a.jpg','1',5,6,0);
INSERT INTO "ledger" VALUES('b','gone.jpg',NULL,0,6,1);
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,           -- the last place given to a delivery
    version INTEGER NOT NULL,       -- the last version given to a key's value
    running INTEGER NOT NULL        -- milliseconds that engines have run on this journal
) STRICT;
INSERT INTO "meta" VALUES(1,9,4,1000);
CREATE TABLE partitions (
    trigger TEXT NOT NULL,
    consumers TEXT NOT NULL,        -- the consumer group
    partition TEXT NOT NULL,
    watermark INTEGER NOT NULL,
    PRIMARY KEY (trigger, consumers, partition)
) STRICT, WITHOUT ROWID;
INSERT INTO "partitions" VALUES('t','g','p/0',5);
CREATE TABLE shared (
    event INTEGER PRIMARY KEY,
    deliveries INTEGER NOT NULL,    -- how many are left
    spoiled INTEGER NOT NULL        -- one of them was purged
) STRICT;
CREATE TABLE usage (
    function TEXT NOT NULL,
    day INTEGER NOT NULL,           -- since the Unix epoch, UTC
    invocations INTEGER NOT NULL,
    wall_us INTEGER NOT NULL,
    busy_us INTEGER NOT NULL,
    memory INTEGER NOT NULL,        -- KiB times milliseconds
    PRIMARY KEY (function, day)
) STRICT, WITHOUT ROWID;
INSERT INTO "usage" VALUES('f',1,3,4,5,6);
CREATE TABLE written (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    etag TEXT NOT NULL,
    hops INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "written" VALUES('b','own.jpg','9',2);
CREATE UNIQUE INDEX deliveries_id ON deliveries (id);
CREATE INDEX pending ON deliveries (trigger, due) WHERE died IS NULL;
CREATE INDEX dead ON deliveries (seq) WHERE died IS NOT NULL;
CREATE INDEX event_ids_expires ON event_ids (expires);
CREATE INDEX keys_expires ON keys (expires);
COMMIT;
