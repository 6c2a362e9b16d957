//! The guard at the bucket's wall: where a file really is, once every symlink is followed. The
//! store itself follows symlinks out of its folder; nothing gets to the store that has not passed
//! here. It looks, and changes nothing.
//!
//! A check before an open can be outrun by somebody who swaps a folder for a symlink in between.
//! Reads are therefore checked again on the open file (see [`opened_inside`]); writes and deletes
//! are not, which matters only where somebody may write to the bucket's folder and is not trusted
//! with the files that the engine can write.

use std::{fs, io, path::Path};

use super::key::Refusal;

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A regular file, or a symlink inside the bucket to one.
    File,
    /// A folder.
    Folder,
    /// Nothing, in a folder inside the bucket or to be made there.
    Absent,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    Refused(Refusal),
    RootMissing,
    Io(io::Error),
}

/// Tells what is at `file`, a path below `root`; `root` has no symlinks in it. Blocks.
pub(super) fn place(root: &Path, file: &Path) -> Result<Place, Trouble> {
    match fs::canonicalize(file) {
        Ok(real) => {
            inside(root, &real)?;
            let kind = fs::metadata(&real).map_err(sort)?.file_type();
            if kind.is_file() {
                Ok(Place::File)
            } else if !kind.is_dir() {
                Err(Trouble::Refused(Refusal::Special))
            } else if real != file {
                Err(Trouble::Refused(Refusal::LinkToFolder))
            } else {
                Ok(Place::Folder)
            }
        }
        Err(error) if absent(&error) => {
            ancestor_inside(root, file)?;
            Ok(Place::Absent)
        }
        Err(error) => Err(sort(error)),
    }
}

/// Whether the deepest ancestor of `file` that exists is inside `root`.
fn ancestor_inside(root: &Path, file: &Path) -> Result<(), Trouble> {
    for ancestor in file.ancestors() {
        match fs::canonicalize(ancestor) {
            Ok(real) => return inside(root, &real),
            Err(error) if absent(&error) => {}
            Err(error) => return Err(sort(error)),
        }
        if ancestor == root {
            break;
        }
        // It has no target now, but may have one by the time the store writes through it.
        if fs::symlink_metadata(ancestor).is_ok_and(|found| found.is_symlink()) {
            return Err(Trouble::Refused(Refusal::LeadsNowhere));
        }
    }
    Err(Trouble::RootMissing)
}

fn inside(root: &Path, real: &Path) -> Result<(), Trouble> {
    if real.starts_with(root) {
        Ok(())
    } else {
        Err(Trouble::Refused(Refusal::LeadsOut(real.to_owned())))
    }
}

/// Nothing there: also where a file stands in place of a folder.
pub(super) fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn sort(error: io::Error) -> Trouble {
    /// Too many levels of symbolic links, which has no stable name in the standard library.
    const ELOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };
    match error.kind() {
        io::ErrorKind::InvalidFilename => Trouble::Refused(Refusal::TooLong),
        _ if error.raw_os_error() == Some(ELOOP) => Trouble::Refused(Refusal::LeadsNowhere),
        _ => Trouble::Io(error),
    }
}

/// Whether an open file is inside `root`, asked of the operating system where it can tell.
pub(super) fn opened_inside(root: &Path, file: &fs::File) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::read_link(name).map_or(true, |real| real.starts_with(root))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (root, file);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let root = dir.join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir(dir.join("outside")).unwrap();
        fs::write(dir.join("outside/secret"), "").unwrap();
        fs::write(root.join("sub/file"), "").unwrap();
        for (target, link) in [
            (dir.join("outside"), "out"),
            (dir.join("outside/secret"), "secret"),
            (dir.join("nowhere"), "dangling"),
            (root.join("sub"), "folder"),
            (root.join("sub/file"), "alias"),
            (root.join("loop"), "loop"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let place = |key: &str| match place(&root, &root.join(key)) {
            Ok(place) => format!("{place:?}"),
            Err(Trouble::Refused(Refusal::LeadsOut(_))) => "LeadsOut".into(),
            Err(Trouble::Refused(why)) => format!("{why:?}"),
            Err(other) => format!("{other:?}"),
        };
        for (key, expected) in [
            ("sub/file", "File"),
            ("sub", "Folder"),
            ("alias", "File"),
            ("sub/new", "Absent"),
            ("new/new/new", "Absent"),
            ("sub/file/below", "Absent"),
            ("alias/below", "Absent"),
            ("folder/file", "File"),
            ("folder", "LinkToFolder"),
            ("out", "LeadsOut"),
            ("out/secret", "LeadsOut"),
            ("out/new", "LeadsOut"),
            ("secret", "LeadsOut"),
            ("dangling", "LeadsNowhere"),
            ("dangling/new", "LeadsNowhere"),
            ("loop", "LeadsNowhere"),
            ("loop/x", "LeadsNowhere"),
        ] {
            assert_eq!(place(key), expected, "{key}");
        }
        let file = fs::File::open(dir.join("outside/secret")).unwrap();
        assert!(!opened_inside(&root, &file));
        let file = fs::File::open(root.join("alias")).unwrap();
        assert!(opened_inside(&root, &file));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(place("sub/file"), "RootMissing");
    }
}
