//! Paths and `file:` URLs of the file, resolved by hand against the folder of the file: a URL parser
//! would make `/x` of `file:./x`. Nothing here looks at a disk.

use std::path::{Component, Path, PathBuf};

use crate::{plan::Store, values::Wrong};

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
        "s3" | "gs" | "az" => match rest.strip_prefix("//") {
            Some(bucket) if !bucket.is_empty() && !bucket.starts_with('/') => Ok(Store::NotBuilt {
                scheme: scheme.into(),
            }),
            _ => Err(wrong(format!("name the bucket: \"{scheme}://my-bucket\""))),
        },
        _ => Err(wrong(
            "a folder is \"file:./folder\", a bucket of an object store \"s3://my-bucket\"".into(),
        )),
    }
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
        assert_eq!(
            store("s3://b/p"),
            Ok(Store::NotBuilt {
                scheme: "s3".into()
            })
        );
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
            "http://x",
            ":",
        ] {
            assert!(store(url).is_err(), "{url}");
        }
    }
}
