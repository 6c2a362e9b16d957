-- Version 2: turns in lanes and with keys, ids whose deliveries ask to be remembered, and schedules
-- that know what they were.

-- Its id is to go to event_ids when it leaves the journal.
ALTER TABLE deliveries ADD COLUMN remember INTEGER NOT NULL DEFAULT 0;
-- Another one that came before it is pending in its lane or with its key. Version 1 gave no delivery
-- either of them, and dead letters wait for nobody.
ALTER TABLE deliveries ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0;

-- What may run and what waits for its turn: together, all that is pending.
DROP INDEX pending;
CREATE INDEX pending ON deliveries (trigger, due) WHERE died IS NULL AND blocked = 0;
CREATE INDEX blocked ON deliveries (trigger) WHERE blocked = 1;
-- Who is pending in a lane, and who with a key, the first one first.
CREATE INDEX lane_turns ON deliveries (trigger, lane) WHERE died IS NULL AND lane IS NOT NULL;
CREATE INDEX key_turns ON deliveries (trigger, key) WHERE died IS NULL AND key IS NOT NULL;

-- A digest of the event, to tell a repetition from another event with the same id.
ALTER TABLE event_ids ADD COLUMN fingerprint BLOB;

-- The schedule in its own words, as it was when the cursor moved. Empty: nobody knows.
ALTER TABLE cursors ADD COLUMN definition TEXT NOT NULL DEFAULT '';
