//! Compiled components on disk, so that a function is compiled once and not at every start.
//!
//! A file's name holds the digest of the component and a fingerprint of the engine (wasmtime's
//! version and every setting that shapes code), so one that does not fit is never found. Its last bytes
//! are a checksum of the rest: a torn or damaged file is compiled anew. The checksum is no signature;
//! what keeps others from planting code is that only this user may write to the directory.
//!
//! Entries of earlier engines are removed at the start. Those of functions that are no longer deployed
//! stay; the directory may be emptied at any time while no engine runs.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

/// The end of a compiled component's file name.
const SUFFIX: &str = ".cwasm";
/// The end of the name of a file that is still written.
const TEMPORARY: &str = ".tmp";
/// How many characters a digest has.
const DIGEST: usize = 64;
/// Marks the trailer, and its version.
const MAGIC: &[u8; 8] = b"tidemil1";
/// The magic, then the SHA-256 of all that is before it.
const TRAILER: usize = MAGIC.len() + 32;

/// Why the cache's directory is unusable.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cache of compiled components {} cannot be used; it must be a directory that this user owns",
    path.display()
)]
pub struct CacheError {
    path: PathBuf,
    source: io::Error,
}

/// What became of a look into the cache.
pub(crate) enum Found {
    /// The component, mapped from its file.
    Component(Component),
    /// There is no such file.
    Nothing,
    /// There is one, and it is unusable for this reason.
    Damaged(String),
}

pub(crate) struct Cache {
    directory: PathBuf,
    /// `-<fingerprint>.cwasm`
    ending: String,
}

impl Cache {
    /// Makes the directory private to this user and removes what earlier engines left.
    pub(crate) fn open(directory: PathBuf, engine: &Engine) -> Result<Cache, CacheError> {
        let ending = format!("-{}{SUFFIX}", fingerprint(engine));
        let prepare = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)?;
            fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
            sweep(&directory, &ending)
        };
        match prepare() {
            Ok(()) => Ok(Cache { directory, ending }),
            Err(source) => Err(CacheError {
                path: directory,
                source,
            }),
        }
    }

    /// The compiled component of these bytes, if its file is there and whole.
    pub(crate) fn get(&self, digest: &str, engine: &Engine) -> Found {
        let path = self.path(digest);
        match verify(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return Found::Damaged(error.to_string()),
        }
        // SAFETY: deserializing executes what the file holds, so it must be what wasmtime wrote. The
        // name says that an engine with the same settings wrote it for this digest, the checksum just
        // verified that it is whole, and the directory (mode 0700) lets no other user put or change a
        // file there. This crate never writes to a finished file: it is replaced by a rename, which
        // leaves an existing mapping as it was.
        match unsafe { Component::deserialize_file(engine, &path) } {
            Ok(component) => Found::Component(component),
            Err(error) => Found::Damaged(error.root_cause().to_string()),
        }
    }

    /// Keeps a compiled component: whole or not at all, also over a crash.
    pub(crate) fn put(&self, digest: &str, compiled: &[u8]) -> io::Result<()> {
        // Names never collide within the process, and other processes have another id.
        static UNIQUE: AtomicU64 = AtomicU64::new(0);
        let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{digest}.{}.{unique}{TEMPORARY}", std::process::id());
        let temporary = self.directory.join(name);
        let write = || {
            let mut file = File::create_new(&temporary)?;
            file.write_all(compiled)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(compiled))?;
            file.sync_all()?;
            fs::rename(&temporary, self.path(digest))?;
            File::open(&self.directory)?.sync_all()
        };
        write().inspect_err(|_| {
            // The first error is the one to tell of.
            let _ = fs::remove_file(&temporary);
        })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}{}", self.ending))
    }
}

/// Reads the whole file and compares its checksum.
fn verify(path: &Path) -> io::Result<()> {
    let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let body = length
        .checked_sub(TRAILER as u64)
        .ok_or_else(|| damaged("it is cut short"))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    let mut left = body;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        file.read_exact(&mut chunk[..most])?;
        hash.update(&chunk[..most]);
        left -= most as u64;
    }
    let mut trailer = [0; TRAILER];
    file.read_exact(&mut trailer)?;
    let (magic, sum) = trailer.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it is cut short"));
    }
    if sum != hash.finalize().as_slice() {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(())
}

/// Removes the entries of other engines and what a crash left half written.
fn sweep(directory: &Path, ending: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // Only what is named as `path` and `put` do: whatever else is here is not ours.
        let ours = name
            .get(..DIGEST)
            .is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let stale = name.ends_with(SUFFIX) && !name.ends_with(ending);
        if !ours || !(stale || name.ends_with(TEMPORARY)) {
            continue;
        }
        // An engine that still maps the file keeps it until it ends.
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(%error, file = %entry.path().display(), "cannot remove a stale cache file");
        }
    }
    Ok(())
}

/// Names the engines that can run each other's compiled components.
fn fingerprint(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            u64::from_be_bytes(
                self.0.clone().finalize()[..8]
                    .try_into()
                    .expect("8 of 32 bytes"),
            )
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The digest of a component's bytes, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
