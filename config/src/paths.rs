//! Paths and `file:` URLs of the file, resolved by hand against the folder of the file: a URL parser
//! would make `/x` of `file:./x`. Nothing here looks at a disk.

use std::path::{Component, Path, PathBuf};

use crate::{
    plan::{Provider, Store},
    values::Wrong,
};

/// The folder that relative paths of the file start from; absolute.
pub(crate) fn base(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| Path::new("/").join(file));
    normalise(absolute.parent().unwrap_or(Path::new("/")))
}

/// The path without `.` and `..`; `..` above the root stays at the root.
fn normalise(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// A path of the file, absolute.
pub(crate) fn resolve(base: &Path, path: &str) -> Result<PathBuf, Wrong> {
    let wrong = |verdict, help| Err(Wrong::new(verdict, "a path", help));
    match path {
        "" => wrong(
            "is empty",
            "write a path, such as \"./data\"; it starts from this file's folder",
        ),
        _ if path.contains('\0') => wrong("is not a path", "remove the NUL character"),
        _ if path == "~" || path.starts_with("~/") => wrong(
            "is not a path",
            "`~` is not expanded: write the whole path, such as \"/home/me/data\"",
        ),
        _ if path.starts_with("file:") => {
            wrong("is not a path", "only buckets have URLs: remove `file:`")
        }
        _ => Ok(normalise(&base.join(path))),
    }
}

/// The store that the URL of a bucket names.
pub(crate) fn store(base: &Path, url: &str) -> Result<Store, Wrong> {
    let expected = "a URL that starts with file:, s3://, gs:// or az://";
    let wrong = |help: String| Wrong::new("is not the URL of a bucket", expected, help);
    let Some((scheme, rest)) = url.split_once(':') else {
        let path = if url.is_empty() {
            "./buckets/uploads"
        } else {
            url
        };
        return Err(wrong(format!("for a folder write \"file:{path}\"")));
    };
    let provider = Provider::ALL.into_iter().find(|p| p.scheme() == scheme);
    if let Some(provider) = provider {
        return remote(provider, rest.strip_prefix("//").unwrap_or_default()).map_err(wrong);
    }
    match scheme {
        "file" => {
            let path = match rest.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(path) => {
                    let path = path.trim_start_matches("./");
                    return Err(wrong(format!(
                        "`file://` takes absolute paths: write \"file:./{path}\" or \"file:///{path}\""
                    )));
                }
                None => rest,
            };
            let root = resolve(base, path).map_err(|inner| Wrong {
                expected: expected.into(),
                ..inner
            })?;
            Ok(Store::File { root })
        }
        _ => Err(wrong(
            "a folder is \"file:./folder\", a bucket of an object store \"s3://my-bucket\"".into(),
        )),
    }
}

/// The bucket of an object store that `bucket` or `bucket/prefix` names, or what to write instead.
fn remote(provider: Provider, place: &str) -> Result<Store, String> {
    let scheme = provider.scheme();
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if bucket.contains('@') {
        return Err(format!(
            "credentials go into `options`: write \"{scheme}://my-bucket\""
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if bucket.is_empty() || !bucket.chars().all(plain) {
        return Err(format!("name the bucket: \"{scheme}://my-bucket\""));
    }
    let names = |prefix: &str| {
        prefix
            .split('/')
            .all(|name| !matches!(name, "" | "." | "..") && !name.contains(char::is_control))
    };
    if !prefix.is_empty() && !names(prefix) {
        return Err(format!(
            "after the bucket come names joined by single slashes: \"{scheme}://{bucket}/uploads/2026\""
        ));
    }
    Ok(Store::Remote {
        provider,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_against_the_folder_of_the_file() {
        let cases = [
            ("x", "/etc/tide/x"),
            ("./x", "/etc/tide/x"),
            ("../x/./y/../z", "/etc/x/z"),
            ("../../../../x", "/x"),
            ("/abs/../x", "/x"),
            ("a b?c#d%20", "/etc/tide/a b?c#d%20"),
            (".", "/etc/tide"),
        ];
        for (path, expected) in cases {
            let expected = PathBuf::from(expected);
            assert_eq!(
                resolve(Path::new("/etc/tide"), path),
                Ok(expected.clone()),
                "{path}"
            );
            let root = store(Path::new("/etc/tide"), &format!("file:{path}"));
            assert_eq!(root, Ok(Store::File { root: expected }), "{path}");
        }
        assert_eq!(base(Path::new("/etc/tide/../t.toml")), Path::new("/etc"));
    }

    #[test]
    fn takes_the_forms_of_urls() {
        let file = |root: &str| Ok(Store::File { root: root.into() });
        let store = |url| store(Path::new("/etc"), url);
        assert_eq!(store("file:///a/b"), file("/a/b"));
        assert_eq!(store("file:/a/b"), file("/a/b"));
        for (url, provider, bucket, prefix) in [
            ("s3://b", Provider::S3, "b", ""),
            ("s3://b/", Provider::S3, "b", ""),
            ("s3://b.c-d/p", Provider::S3, "b.c-d", "p"),
            ("gs://b/p q/ü/", Provider::Gs, "b", "p q/ü"),
            ("az://b/a+b%20", Provider::Az, "b", "a+b%20"),
        ] {
            let expected = Store::Remote {
                provider,
                bucket: bucket.into(),
                prefix: prefix.into(),
            };
            assert_eq!(store(url), Ok(expected), "{url}");
        }
        for url in [
            "",
            "x",
            "file:",
            "file://",
            "file://x",
            "file://./x",
            "file:~/x",
            "s3:",
            "s3://",
            "s3:///x",
            "s3://b//x",
            "s3://b/../x",
            "s3://b/x//",
            "s3://key:secret@b",
            "s3://b?x",
            "S3://b",
            "http://x",
            ":",
        ] {
            assert!(store(url).is_err(), "{url}");
        }
    }
}
