//! Opens a journal file: makes it, checks that it is one and brings it up to date. What is wrong
//! with it is said for a person, with the next step. Never repairs and never deletes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::fault;

/// "TDML", in the header of the file: `file journal.db` shows it.
const APPLICATION_ID: i32 = 0x5444_4d4c;

/// Each in a transaction of its own; the version of a journal is how many it went through.
/// A migration that was released is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_journal.sql"),
    include_str!("../../migrations/0002_turns.sql"),
    include_str!("../../migrations/0003_queues.sql"),
    include_str!("../../migrations/0004_buckets.sql"),
];

/// Files up to this size are read and checked as a whole when opened, which takes well under a
/// second; damage in larger ones is found when the damaged page is used.
const CHECKED_BYTES: u64 = 64 << 20;

/// What the writer keeps of the file in memory, in KiB: the upper levels of what is sorted, and where it wrote last.
/// The kernel has the rest, and a page that is used again costs less than a new one.
const CACHE_KIB: i64 = 16 << 10;

/// How far the log of changes is cut back once it has been carried over into the file.
const LOG_KEPT_BYTES: i64 = 64 << 20;

/// How long to wait for another process that has the file locked, such as an SQL shell.
const BUSY: Duration = Duration::from_secs(10);

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Made by a newer engine.
    #[error(
        "{path} has journal version {found}, and this tidemill knows versions up to {known}: \
         start the newer tidemill that wrote it, or restore the backup made before the upgrade"
    )]
    Newer {
        /// The journal's file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// Made by an older engine, and it may only be read.
    #[error(
        "{path} has journal version {found}, and this tidemill reads version {known}: \
         start the engine once, which brings it up to date"
    )]
    Older {
        /// The journal's file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program reads.
        known: i64,
    },
    /// A file of SQLite, but of another program.
    #[error(
        "{path} is a database of another program (its application id is {found:#010x}): \
         set `data` in [engine] to a folder of its own"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The other program's application id.
        found: i32,
    },
    /// No journal, or one that the disk lost parts of.
    #[error(
        "{path} is damaged or no journal ({reason}): restore it from a backup. Moving {path}, \
         {path}-wal and {path}-shm away lets the engine start empty, which loses pending \
         deliveries, dead letters, state, and the memory of what was handled already"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// There is no such file, and it may only be read.
    #[error("there is no journal {path} yet: the engine makes it when it starts")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The folder or the file cannot be written.
    #[error(
        "{path} cannot be written ({reason}): give the user that runs tidemill the right to \
         write the folder and the journal's files, or set `data` in [engine] to another folder"
    )]
    NotWritable {
        /// The file or its folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// No space.
    #[error("no space left for {path}: free some and start again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another program holds the file's locks.
    #[error(
        "{path} is locked by another program: close SQL shells and backups that use it, then \
         start again"
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Something else.
    #[error("{path} cannot be opened ({reason}): check the disk, then start again")]
    Failed {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
}

/// Opens the connection of the writer; makes the file, and the last folder on its path, if needed.
pub fn writer(path: &Path) -> Result<Connection, OpenError> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if let Err(error) = fs::create_dir(folder)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(OpenError::NotWritable {
            path: folder.into(),
            reason: error.to_string(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let wrong = |error| explain(path, &error);
    let mut conn = Connection::open_with_flags(path, flags).map_err(wrong)?;
    conn.busy_timeout(BUSY).map_err(wrong)?;
    let found = identify(&conn, path)?;
    check(&conn, path)?;
    set_up(&conn).map_err(wrong)?;
    if migrate(&mut conn, found, MIGRATIONS).map_err(wrong)? && found == 0 {
        // The new file's name must be as durable as what will be written into it.
        let sync = fs::File::open(folder).and_then(|folder| folder.sync_all());
        sync.map_err(|error| OpenError::Failed {
            path: path.into(),
            reason: error.to_string(),
        })?;
    }
    Ok(conn)
}

/// Opens a connection that cannot write, to a journal that is there and up to date.
pub fn reader(path: &Path) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::Missing { path: path.into() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let wrong = |error| explain(path, &error);
    let conn = Connection::open_with_flags(path, flags).map_err(wrong)?;
    conn.busy_timeout(BUSY).map_err(wrong)?;
    conn.pragma_update(None, "query_only", true)
        .map_err(wrong)?;
    conn.pragma_update(None, "temp_store", "memory")
        .map_err(wrong)?;
    leave_files(&conn).map_err(wrong)?;
    keep_plans(&conn).map_err(wrong)?;
    conn.set_prepared_statement_cache_capacity(32);
    let (found, known) = (identify(&conn, path)?, MIGRATIONS.len() as i64);
    if found < known {
        return Err(OpenError::Older {
            path: path.into(),
            found,
            known,
        });
    }
    Ok(conn)
}

/// When this connection is closed it does not carry the log over, even if it is the last one.
pub fn leave_files(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map(drop)
}

/// The version of the journal, if it is ours or empty.
fn identify(conn: &Connection, path: &Path) -> Result<i64, OpenError> {
    let wrong = |error| explain(path, &error);
    let number = |sql: &str| {
        conn.query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(wrong)
    };
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if application != i64::from(APPLICATION_ID) && (application, version, tables) != (0, 0, 0) {
        return Err(OpenError::Foreign {
            path: path.into(),
            found: application as i32,
        });
    }
    let known = MIGRATIONS.len() as i64;
    if version > known {
        return Err(OpenError::Newer {
            path: path.into(),
            found: version,
            known,
        });
    }
    Ok(version)
}

/// Reads the whole file and compares, if it is small.
fn check(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    if fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_BYTES) {
        return Ok(());
    }
    let found: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| explain(path, &error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: path.into(),
        reason: found,
    })
}

/// Settings of the file, and of this connection.
fn set_up(conn: &Connection) -> rusqlite::Result<()> {
    // Takes effect only in an empty file; it lets the file shrink while in use.
    conn.pragma_update(None, "auto_vacuum", "incremental")?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update_and_check(None, "journal_size_limit", LOG_KEPT_BYTES, |_| Ok(()))?;
    keep_plans(conn)
}

/// Plans a statement once. Otherwise SQLite plans some anew whenever a value that might matter is bound,
/// which costs many times what running them does; with the indexes of the journal it never does matter.
fn keep_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
}

/// Applies the migrations that are missing. Returns whether there were any.
fn migrate(conn: &mut Connection, found: i64, migrations: &[&str]) -> rusqlite::Result<bool> {
    let mut any = false;
    for (version, migration) in (1i64..).zip(migrations) {
        if version <= found {
            continue;
        }
        let transaction = conn.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
        any = true;
    }
    Ok(any)
}

/// Says what SQLite's error means for whoever starts the engine.
pub fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, reason) = (path.to_owned(), fault::words(error));
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, reason }
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable { path, reason }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy { path },
        _ => OpenError::Failed { path, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(conn: &Connection) -> i64 {
        conn.query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn migrations_go_on_where_the_file_stands() {
        let mut conn = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE a (x)";
        assert!(migrate(&mut conn, 0, &[first]).unwrap());
        assert!(!migrate(&mut conn, 1, &[first]).unwrap());
        let second = "CREATE TABLE b (x); INSERT INTO b VALUES (1)";
        assert!(migrate(&mut conn, 1, &[first, second]).unwrap());
        assert_eq!(version(&conn), 2);
        conn.query_row("SELECT x FROM b", [], |_| Ok(())).unwrap();
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE a (x)";
        let broken = "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)";
        migrate(&mut conn, 0, &[first, broken]).unwrap_err();
        assert_eq!(version(&conn), 1);
        migrate(&mut conn, 1, &[first, "CREATE TABLE b (x)"]).unwrap();
        assert_eq!(version(&conn), 2);
    }
}
