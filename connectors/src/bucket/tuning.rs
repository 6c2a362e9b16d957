//! The times and bounds of watching, in one place with their reasons. Tests make them small.

use std::time::Duration;

use tidemill_core::limits;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// How long size and modification time of a file must stand still, if nothing told that it is
    /// finished.
    pub(super) still: Duration,
    /// The same for a file that somebody is known to have open for writing: pauses of uploads are
    /// longer than pauses between the steps of a copy.
    pub(super) still_open: Duration,
    /// Modification times advance in ticks of the kernel, at most 10 ms long. Two writes of equal
    /// length within one tick look the same, so a file is looked at when its tick is over.
    pub(super) tick: Duration,
    /// How many changed files are remembered between two looks; beyond, a scan finds them.
    pub(super) hints: usize,
    /// How often a missing folder is looked for.
    pub(super) missing: Duration,
    /// The first and the longest wait before an offer that the journal could not take is repeated.
    pub(super) retry: (Duration, Duration),
    /// The time between two lines on the progress of a scan.
    pub(super) progress: Duration,
    /// How old a file whose name says that it is being written must be before it is reported.
    pub(super) staged: Duration,
    /// Whether to watch at all; otherwise only scans find changes.
    pub(super) watch: bool,
}

impl Tuning {
    pub(super) const STANDARD: Tuning = Tuning {
        still: Duration::from_secs(2),
        still_open: Duration::from_secs(60),
        tick: Duration::from_millis(12),
        hints: limits::WATCH_HINTS,
        missing: Duration::from_secs(1),
        retry: (Duration::from_millis(100), Duration::from_secs(5)),
        progress: Duration::from_secs(5),
        staged: Duration::from_secs(60),
        watch: true,
    };
}

/// How many files a walk hands over at a time, and how many keys the ledger is asked for at a
/// time: enough that a question costs little for each.
pub(super) const BATCH: usize = 512;

/// How many files noticed by the watcher are looked at at a time, besides those of a scan.
pub(super) const HINTED: usize = 256;

/// How many different refused names are told in the log; the rest is only counted.
pub(super) const REPORTS: usize = 1000;

/// How many new folders wait to be walked over; beyond, a scan finds them.
pub(super) const FOLDERS: usize = 4096;

/// How many objects one page of an object store's listing has: the most that S3 gives.
pub(super) const PAGE: usize = 1000;

/// How many objects of an object store are looked at at a time: each is a request and an offer.
pub(super) const LOOKS: usize = 64;

/// The longest wait between two tries to list an object store that does not answer; the first is
/// that of `Tuning::missing`.
pub(super) const UNREACHABLE: Duration = Duration::from_secs(30);

/// How many keys that went long ago the ledger forgets in one commit: few enough that others do not
/// wait for long.
pub(super) const FORGET: usize = 4096;

/// How many pages of objects that are no news wait for the journal at a time, while the listing goes
/// on.
pub(super) const NOTES: usize = 4;
