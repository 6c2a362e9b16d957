//! The journal, opened to read: that needs no lock, whether an engine runs on it or not.

use std::io;

use tidemill_config::plan::Plan;
use tidemill_journal::{SqliteJournal, SqliteOptions};
use tokio::runtime::Runtime;

use super::Failure;
use crate::assemble;

/// Reads the journal of a plan.
pub(super) struct Reader {
    pub journal: SqliteJournal,
    pub runtime: Runtime,
}

impl Reader {
    pub(super) fn open(plan: &Plan) -> Result<Reader, Failure> {
        let options = SqliteOptions {
            read_only: true,
            ..SqliteOptions::default()
        };
        let journal = SqliteJournal::open(&assemble::journal_path(&plan.engine), options)?;
        Ok(Reader {
            journal,
            runtime: runtime()?,
        })
    }
}

/// What a command waits with.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
