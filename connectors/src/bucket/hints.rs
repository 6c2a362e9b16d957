//! Hints: what the watcher's thread leaves for the bucket's task. The thread only notes paths in a
//! bounded map, several changes of a file in one entry; it never touches the disk and never waits
//! for anybody. When the map is full, the files that it has no room for are left to a scan.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode},
};
use tokio::sync::Notify;

use super::{key, pending::Change, watch};

/// What happened at one path since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hint {
    /// What happened to a file there.
    pub(super) file: Option<Change>,
    /// A folder was made there.
    pub(super) folder: bool,
    /// Something went from there that may have been a folder.
    pub(super) vanished: bool,
}

/// Everything since the last look.
#[derive(Debug, Default)]
pub(super) struct Hinted {
    pub(super) paths: HashMap<PathBuf, Hint>,
    /// Changes were lost, by the kernel's queue or by ours.
    pub(super) overflow: bool,
    /// The bucket's folder itself went.
    pub(super) root_gone: bool,
    /// The watcher failed, in words.
    pub(super) trouble: Option<String>,
}

/// The meeting point of the watcher's thread and the bucket's task.
#[derive(Debug)]
pub(super) struct Hints {
    root: PathBuf,
    limit: usize,
    inner: Mutex<Hinted>,
    changed: Notify,
}

impl Hints {
    pub(super) fn new(root: &Path, limit: usize) -> Hints {
        Hints {
            root: root.to_owned(),
            limit,
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits until there is something to [`take`](Hints::take).
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes all.
    pub(super) fn take(&self) -> Hinted {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hinted> {
        // The map is whole after each statement: a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event of the watcher.
    pub(super) fn note(&self, event: notify::Result<Event>) {
        let news = match event {
            Err(error) => {
                let mut inner = self.lock();
                inner.overflow = true;
                inner.trouble = Some(watch::explain(&error));
                true
            }
            Ok(event) if event.need_rescan() => {
                self.lock().overflow = true;
                true
            }
            Ok(event) => self.note_kind(event),
        };
        if news {
            self.changed.notify_one();
        }
    }

    fn note_kind(&self, event: Event) -> bool {
        let change = |change| Hint {
            file: Some(change),
            ..Hint::default()
        };
        let vanished = Hint {
            vanished: true,
            ..change(Change::Gone)
        };
        let hint = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => change(Change::Settled),
            EventKind::Remove(RemoveKind::File) => change(Change::Gone),
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                vanished
            }
            EventKind::Create(CreateKind::Folder) => Hint {
                folder: true,
                ..Hint::default()
            },
            EventKind::Create(_) => change(Change::Created),
            EventKind::Modify(ModifyKind::Data(_)) => change(Change::Written),
            // Both ends of a rename come by themselves as well.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) | EventKind::Access(_) => {
                return false;
            }
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => change(Change::Touched),
        };
        let mut news = false;
        for path in event.paths {
            news |= self.note_path(path, hint);
        }
        news
    }

    fn note_path(&self, path: PathBuf, hint: Hint) -> bool {
        if path == self.root {
            self.lock().root_gone |= hint.vanished;
            return hint.vanished;
        }
        // Our own unfinished writes; their names are known before the disk is asked.
        if key::staged_path(&path) && !hint.folder {
            return false;
        }
        let mut inner = self.lock();
        if inner.paths.len() >= self.limit && !inner.paths.contains_key(&path) {
            inner.overflow = true;
            return true;
        }
        let known = inner.paths.entry(path).or_default();
        known.folder |= hint.folder;
        known.vanished |= hint.vanished;
        known.file = match (known.file, hint.file) {
            (known, None) => known,
            (Some(known), Some(Change::Touched)) => Some(known),
            (Some(Change::Written), Some(Change::Created)) => Some(Change::Written),
            (_, new) => new,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, MetadataKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> notify::Result<Event> {
        Ok(Event::new(kind).add_path(path.into()))
    }

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const CHMOD: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    const GONE: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));

    #[test]
    fn several_changes_of_a_file_become_one() {
        let hints = Hints::new(Path::new("/b"), 10);
        let after = |kinds: &[EventKind]| {
            for kind in kinds {
                hints.note(event(*kind, "/b/f"));
            }
            hints
                .take()
                .paths
                .remove(Path::new("/b/f"))
                .unwrap_or_default()
        };
        let create = EventKind::Create(CreateKind::File);
        assert_eq!(
            after(&[create, WRITE, WRITE, CLOSE]).file,
            Some(Change::Settled)
        );
        assert_eq!(
            after(&[create, WRITE, CLOSE, CHMOD]).file,
            Some(Change::Settled)
        );
        assert_eq!(
            after(&[create, WRITE, CLOSE, WRITE]).file,
            Some(Change::Written)
        );
        assert_eq!(after(&[create]).file, Some(Change::Created));
        assert_eq!(after(&[CHMOD]).file, Some(Change::Touched));
        assert_eq!(
            after(&[EventKind::Access(AccessKind::Open(AccessMode::Any))]).file,
            None
        );
        let moved = after(&[GONE]);
        assert_eq!((moved.file, moved.vanished), (Some(Change::Gone), true));
    }

    #[test]
    fn is_bounded_and_knows_the_folder_and_unfinished_writes() {
        let hints = Hints::new(Path::new("/b"), 2);
        for path in ["/b/x", "/b/x", "/b/y", "/b/a#1", "/b"] {
            hints.note(event(CLOSE, path));
        }
        let taken = hints.take();
        assert_eq!(
            (taken.paths.len(), taken.overflow, taken.root_gone),
            (2, false, false)
        );
        for path in ["/b/x", "/b/y", "/b/z"] {
            hints.note(event(CLOSE, path));
        }
        hints.note(event(GONE, "/b"));
        let taken = hints.take();
        assert_eq!(
            (taken.paths.len(), taken.overflow, taken.root_gone),
            (2, true, true)
        );
        hints.note(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(hints.take().overflow);
        hints.note(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
        let taken = hints.take();
        assert!(taken.overflow && taken.trouble.unwrap().contains("max_user_watches"));
    }
}
