-- Version 3: partitions know when the last record below their watermark was made.

-- The broker's timestamp of that record; null: nobody knows.
ALTER TABLE partitions ADD COLUMN stamp INTEGER;
