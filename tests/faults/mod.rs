//! Faults: kills at random moments, a full disk, a disk that cannot sync. The counts are taken from
//! outside: by the files there are, and by plain SQL on the journal's file.

mod disk;
mod kill;
