//! The limits that no user sets, each with its reason. What a user sets is in the table of keys of
//! `tidemill-config`.

use std::time::Duration;

/// The last hop that is still delivered; the next one is a loop that feeds itself.
pub const HOPS: u32 = 16;

/// How many pending deliveries of one trigger are kept in memory. The rest waits in the journal,
/// so that a backlog of millions costs disk and not memory. At about 150 bytes each: 1.5 MB.
pub const WINDOW: usize = 10_000;

/// How often an attempt whose reads were overtaken runs again before it counts as a failure.
pub const CONFLICT_RERUNS: u32 = 10;

/// The longest text of a reason that is kept with an attempt, in bytes.
pub const REASON: usize = 4 << 10;

/// The longest name of a key, store, bucket or type that a handler may pass, in bytes.
pub const NAME: usize = 1024;

/// The most hints of changed files a watcher keeps before it asks for a rescan instead.
pub const WATCH_HINTS: usize = 65_536;

/// How many offers of one scan of a bucket wait for their receipt at a time: enough to fill a
/// group commit.
pub const SCAN_OFFERS: usize = 512;

/// The most units in one commit of the journal, so that the first of them does not wait for long.
pub const COMMIT_UNITS: usize = 4096;

/// The most bytes of events in one commit of the journal.
pub const COMMIT_BYTES: usize = 32 << 20;

/// How long a delivery rests that could not be read from the journal.
pub const JOURNAL_RETRY: Duration = Duration::from_secs(1);
