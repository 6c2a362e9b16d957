//! Telling once, in the log, about each file that is not an object.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    path::Path,
};

use super::{key::Refusal, tuning::REPORTS};

#[derive(Debug, Default)]
pub(super) struct Reports {
    hasher: RandomState,
    told: HashSet<u64>,
}

impl Reports {
    /// Tells about the file, unless it was told about already; returns whether it is a new one.
    pub(super) fn refused(&mut self, bucket: &str, file: &Path, why: &Refusal) -> bool {
        if self.told.len() >= REPORTS {
            return false;
        }
        let new = self.told.insert(self.hasher.hash_one(file));
        if new {
            tracing::warn!(bucket, ?file, "not an object, so it makes no events: {why}");
            if self.told.len() == REPORTS {
                tracing::warn!(
                    bucket,
                    "{REPORTS} files that are no objects; the rest is counted"
                );
            }
        }
        new
    }
}
