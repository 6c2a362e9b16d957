//! The lock on the data folder: one engine at a time, and who it is. The operating system holds the
//! lock and lets go of it when the process ends, however it ends; so the file stays, and whatever it
//! says counts only while the lock is held.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidemill_core::time::Timestamp;

/// The file in the data folder.
const FILE: &str = "lock";

/// The file's content has always this length, filled up with spaces: so a new content covers the
/// old one in one write, and a reader meets no mixture.
const LENGTH: usize = 512;

/// A reader that finds out whether the lock is held has to hold it for an instant. Who wants the
/// lock for good tries as often, with this pause, before it believes that it is taken.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// How often a reader looks at a file that is locked and makes no sense, which lasts for the few
/// instructions between locking and writing it.
const PATIENCE: usize = 10_000;

/// Who holds a data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The process.
    pub pid: u32,
    /// Where its admin API listens, once it does.
    pub admin: Option<String>,
    /// When it took the lock.
    pub started: Timestamp,
}

/// Why a data folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{dir} is in use by {}: stop that one first, or set `data` in [engine] to another folder",
        described(.holder.as_ref())
    )]
    Taken {
        /// The data folder.
        dir: PathBuf,
        /// Who, if the file says so.
        holder: Option<LockInfo>,
    },
    /// The folder is not there and cannot be made.
    #[error(
        "the data folder {dir} cannot be made: check `data` in [engine] and who may write there"
    )]
    Create {
        /// The data folder.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The lock's file cannot be opened, locked or written.
    #[error("{path} cannot be used: the user that runs tidemill needs the right to write there")]
    File {
        /// The lock's file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

fn described(holder: Option<&LockInfo>) -> String {
    let Some(LockInfo {
        pid,
        admin,
        started,
    }) = holder
    else {
        return "another process".to_owned();
    };
    let admin = admin
        .as_ref()
        .map_or(String::new(), |admin| format!(", admin at {admin}"));
    format!("the tidemill with pid {pid} (started {started}{admin})")
}

/// The lock on a data folder, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DataLock {
    file: File,
    path: PathBuf,
    info: LockInfo,
}

impl DataLock {
    /// Takes the lock on the folder `dir`, which is made if it is not there. `now` is put down as
    /// the start of the engine.
    pub fn acquire(dir: &Path, now: Timestamp) -> Result<DataLock, LockError> {
        fs::create_dir_all(dir).map_err(|source| LockError::Create {
            dir: dir.to_owned(),
            source,
        })?;
        let path = dir.join(FILE);
        let wrong = |source| LockError::File {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(wrong)?;
        for tried in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tried < TRIES => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Taken {
                        dir: dir.to_owned(),
                        holder: content(&path),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(wrong(source)),
            }
        }
        let info = LockInfo {
            pid: std::process::id(),
            admin: None,
            started: now,
        };
        let mut lock = DataLock { file, path, info };
        lock.write(&lock.text())?;
        Ok(lock)
    }

    /// Puts down where the admin API listens.
    pub fn set_admin(&mut self, address: impl Into<String>) -> Result<(), LockError> {
        self.info.admin = Some(address.into());
        self.write(&self.text())
    }

    fn text(&self) -> String {
        let json = serde_json::to_string(&self.info).expect("strings and numbers become JSON");
        format!("{json:LENGTH$}\n")
    }

    fn write(&mut self, text: &str) -> Result<(), LockError> {
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.set_len(text.len() as u64))
            .map_err(|source| LockError::File {
                path: self.path.clone(),
                source,
            })
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Only a courtesy to whoever looks into the file: the lock goes with the handle.
        _ = self.write("");
    }
}

impl LockInfo {
    /// Who holds the folder `dir` now; none, if nobody does, though a killed engine's file may be
    /// there. The folder need not exist.
    pub fn read(dir: &Path) -> io::Result<Option<LockInfo>> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // An engine that ended well leaves the file empty, and whoever just took the lock has not
        // said yet who it is: there is no need to disturb it.
        for _ in 0..PATIENCE {
            if file.metadata()?.len() == 0 {
                return Ok(None);
            }
            match file.try_lock_shared() {
                Ok(()) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(info) = content(&path) {
                return Ok(Some(info));
            }
            // Its holder is about to write it, or to go.
            thread::yield_now();
        }
        let reason = format!("{} is locked, but does not say by whom", path.display());
        Err(io::Error::new(ErrorKind::InvalidData, reason))
    }
}

fn content(path: &Path) -> Option<LockInfo> {
    let mut text = String::new();
    File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn one_at_a_time_and_says_who() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made");
        assert_eq!(LockInfo::read(&dir).unwrap(), None);

        let mut lock = DataLock::acquire(&dir, NOW).unwrap();
        let mut info = LockInfo {
            pid: std::process::id(),
            admin: None,
            started: NOW,
        };
        assert_eq!(LockInfo::read(&dir).unwrap().as_ref(), Some(&info));

        lock.set_admin("127.0.0.1:8081").unwrap();
        info.admin = Some("127.0.0.1:8081".into());
        assert_eq!(LockInfo::read(&dir).unwrap().as_ref(), Some(&info));

        let error = DataLock::acquire(&dir, NOW).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LockError::Taken { holder: Some(holder), .. } if holder == info));
        for part in ["pid", "2023-11-14T22:13:20", "127.0.0.1:8081"] {
            assert!(text.contains(part), "{text}");
        }

        drop(lock);
        assert_eq!(LockInfo::read(&dir).unwrap(), None);
        DataLock::acquire(&dir, NOW).unwrap();
    }

    #[test]
    fn a_file_without_a_lock_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let info = LockInfo {
            pid: 1,
            admin: Some("127.0.0.1:1".into()),
            started: NOW,
        };
        let text = serde_json::to_string(&info).unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        assert_eq!(LockInfo::read(dir.path()).unwrap(), None);
        DataLock::acquire(dir.path(), NOW).unwrap();
    }

    #[test]
    fn says_what_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataLock::acquire(&file.join("data"), NOW).unwrap_err();
        assert!(matches!(error, LockError::Create { .. }), "{error:?}");
        fs::create_dir(dir.path().join(FILE)).unwrap();
        let error = DataLock::acquire(dir.path(), NOW).unwrap_err();
        assert!(matches!(error, LockError::File { .. }), "{error:?}");
    }
}
