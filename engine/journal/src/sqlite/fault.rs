//! Tells what an error of SQLite means for a commit: no space, a broken disk, or something that
//! passes. Never decides what to do about it.

use std::io::{self, ErrorKind};

use rusqlite::{Connection, ErrorCode, ffi};

use crate::JournalError;

/// SQLite's words, without the code that rusqlite puts around them.
pub fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(text)) => {
            format!("{text}, SQLite code {}", code.extended_code)
        }
        other => other.to_string(),
    }
}

/// What the error of the last call on this connection means.
pub fn classify(conn: &Connection, path: &str, error: &rusqlite::Error) -> JournalError {
    // SAFETY: the handle is that of a live connection, which only this thread uses.
    let errno = unsafe { ffi::sqlite3_system_errno(conn.handle()) };
    let (path, reason) = (path.to_owned(), words(error));
    match error.sqlite_error() {
        Some(code) => match meaning(*code, errno) {
            Meaning::Full => JournalError::Full { path },
            Meaning::Broken => JournalError::Broken { path, reason },
            Meaning::Failed => JournalError::Failed { path, reason },
        },
        None => JournalError::Failed { path, reason },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Full,
    Broken,
    Failed,
}

fn meaning(error: ffi::Error, errno: i32) -> Meaning {
    let synced = matches!(
        error.extended_code,
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC | ffi::SQLITE_IOERR_CLOSE
    );
    match error.code {
        ErrorCode::DiskFull => Meaning::Full,
        // After a failed fsync the pages count as clean though they may be lost: a second try would
        // succeed and prove nothing. That holds for a lack of space as well.
        ErrorCode::SystemIoFailure if synced => Meaning::Broken,
        ErrorCode::SystemIoFailure if no_space(errno) => Meaning::Full,
        ErrorCode::SystemIoFailure
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::FileLockingProtocolFailed => Meaning::Broken,
        _ => Meaning::Failed,
    }
}

/// Disk, quota and limit of the file's size: each goes away without a restart.
fn no_space(errno: i32) -> bool {
    let kind = io::Error::from_raw_os_error(errno).kind();
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        let cases = [
            (ffi::SQLITE_FULL, 0, Meaning::Full),
            (ffi::SQLITE_IOERR_WRITE, ENOSPC, Meaning::Full),
            (ffi::SQLITE_IOERR_SHMSIZE, ENOSPC, Meaning::Full),
            (ffi::SQLITE_IOERR_WRITE, EIO, Meaning::Broken),
            (ffi::SQLITE_IOERR_FSYNC, EIO, Meaning::Broken),
            (ffi::SQLITE_IOERR_FSYNC, ENOSPC, Meaning::Broken),
            (ffi::SQLITE_IOERR_READ, EIO, Meaning::Broken),
            (ffi::SQLITE_CORRUPT, 0, Meaning::Broken),
            (ffi::SQLITE_READONLY_DBMOVED, 0, Meaning::Broken),
            (ffi::SQLITE_BUSY, 0, Meaning::Failed),
            (ffi::SQLITE_TOOBIG, 0, Meaning::Failed),
            (ffi::SQLITE_NOMEM, ENOSPC, Meaning::Failed),
        ];
        for (code, errno, expected) in cases {
            assert_eq!(
                meaning(ffi::Error::new(code), errno),
                expected,
                "{code}, errno {errno}"
            );
        }
    }
}
