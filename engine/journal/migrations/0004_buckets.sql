-- Version 4: what is known of buckets as a whole, and keys that went may be forgotten.

CREATE TABLE buckets (
    bucket TEXT PRIMARY KEY,
    began INTEGER NOT NULL,         -- when it was listened to for the first time, by its own clock
    complete INTEGER NOT NULL,      -- whether all that was there then is in the ledger
    deletes INTEGER NOT NULL        -- where the count of keys that the ledger does not know begins
) STRICT, WITHOUT ROWID;

-- What an older engine listened to is not new.
INSERT INTO buckets SELECT DISTINCT bucket, 0, 1, 0 FROM ledger;

-- When the ledger saw keys deleted.
CREATE INDEX ledger_gone ON ledger (bucket, modified) WHERE etag IS NULL;
