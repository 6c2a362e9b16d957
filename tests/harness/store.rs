//! A place for objects of one test's own, in a folder or on a server that speaks S3, with one face for
//! all: what is true of buckets is true wherever they are.

use std::fs;

use super::{Engine, S3, Server, Site, files, wait_until};

/// Where the objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    On(Server),
}

/// The place. The first part of a key is the name of a bucket of a plan.
pub enum Store {
    Folder(tempfile::TempDir),
    S3(S3),
}

impl Store {
    pub fn new(kind: Kind) -> Store {
        match kind {
            Kind::Folder => Store::Folder(tempfile::tempdir().expect("a folder")),
            Kind::On(server) => Store::S3(S3::on(server)),
        }
    }

    /// The tables of a plan with these buckets, which are there.
    pub fn buckets(&self, names: &[&str]) -> String {
        let table = |name: &&str| match self {
            Store::Folder(folder) => {
                let path = folder.path().join(name);
                fs::create_dir_all(&path).expect("it is made");
                format!("[buckets.{name}]\nurl = \"file:{}\"\n", path.display())
            }
            Store::S3(bucket) => {
                let (own, options) = (&bucket.name, bucket.options());
                format!("[buckets.{name}]\nurl = \"s3://{own}/{name}\"\n{options}\n")
            }
        };
        names.iter().map(table).collect()
    }

    /// What a trigger has to say of its bucket for what came to be noticed soon.
    pub fn soon(&self) -> &'static str {
        match self {
            Store::Folder(_) => "",
            Store::S3(_) => ", rescan = \"1s\"",
        }
    }

    /// Starts the engine of a site whose plan has buckets here.
    pub fn spawn(&self, site: &Site) -> Engine {
        match self {
            Store::Folder(_) => site.spawn(&[]),
            Store::S3(bucket) => site.spawn(&bucket.env()),
        }
    }

    /// The same, and waits until it is ready.
    pub fn start(&self, site: &Site) -> Engine {
        let engine = self.spawn(site);
        engine.wait_ready();
        engine
    }

    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        match self {
            Store::Folder(folder) => {
                let path = folder.path().join(key);
                fs::create_dir_all(path.parent().expect("a bucket")).expect("it is made");
                fs::write(path, content).expect("it is written");
            }
            Store::S3(bucket) => bucket.put(key, content),
        }
    }

    pub fn delete(&self, key: &str) {
        match self {
            Store::Folder(folder) => {
                fs::remove_file(folder.path().join(key)).expect("it is removed")
            }
            Store::S3(bucket) => bucket.delete(key),
        }
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Store::Folder(folder) => fs::read(folder.path().join(key)).ok(),
            Store::S3(bucket) => bucket.get(key),
        }
    }

    /// All keys, sorted: at most 1,000.
    pub fn keys(&self) -> Vec<String> {
        match self {
            Store::Folder(folder) => {
                let mut keys = files(folder.path());
                keys.retain(|key| !staged(key));
                keys
            }
            Store::S3(bucket) => bucket.keys(),
        }
    }

    /// How many writes were begun, and neither completed nor taken back.
    pub fn unfinished(&self) -> usize {
        match self {
            Store::Folder(folder) => {
                let all = files(folder.path());
                all.iter().filter(|key| staged(key)).count()
            }
            Store::S3(bucket) => bucket.open_uploads(),
        }
    }

    /// Waits until what is put now is later than this object, by the clock of the store.
    pub fn wait_later(&self, key: &str) {
        // Servers tell times by the second.
        if let Store::S3(bucket) = self {
            let last = bucket.header(key, "last-modified");
            wait_until("the object is older than now", || {
                bucket.header(key, "date") > last
            });
        }
    }

    /// Through how many writes of functions an object came, if its store says so: a folder cannot, so
    /// that the journal does.
    pub fn hops(&self, key: &str) -> Option<String> {
        match self {
            Store::Folder(_) => None,
            Store::S3(bucket) => bucket.header(key, "x-amz-meta-tidemillhops"),
        }
    }
}

/// Whether a file is no object yet: it is being written.
fn staged(key: &str) -> bool {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    name.len() < key.len() && name.ends_with('#')
}
