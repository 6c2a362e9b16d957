//! Which widths are wanted and how a thumbnail is called. Pure.

/// The widths in `list`, separated by commas.
pub fn widths(list: &str) -> Result<Vec<u32>, String> {
    list.split(',')
        .map(str::trim)
        .map(|width| match width.parse() {
            Ok(width) if (1..=4096).contains(&width) => Ok(width),
            _ => Err(format!(
                "WIDTHS has `{width}`, expected numbers from 1 to 4096 and commas"
            )),
        })
        .collect()
}

/// The key of the thumbnail of `key`: the same folder and stem, then the width, then the extension of its format.
///
/// Keys that differ only in their extension (`a.jpg`, `a.jpeg`) share their thumbnails; the last one wins.
pub fn thumbnail_key(key: &str, width: u32, extension: &str) -> String {
    let name = key.rfind('/').map_or(0, |slash| slash + 1);
    // A dot at the start of the name hides a file and begins no extension.
    let stem = match key[name..].rfind('.') {
        Some(dot) if dot > 0 => &key[..name + dot],
        _ => key,
    };
    format!("{stem}-{width}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_numbers_and_commas() {
        assert_eq!(widths("64, 256"), Ok(vec![64, 256]));
        for wrong in ["", "64,", "0", "4097", "-1", "wide"] {
            assert!(widths(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_thumbnail_keeps_folder_and_stem() {
        for (key, expected) in [
            ("b.jpg", "b-64.jpg"),
            ("a/b.jpg", "a/b-64.jpg"),
            ("a.d/b", "a.d/b-64.jpg"),
            ("a/b.tar.JPEG", "a/b.tar-64.jpg"),
            ("a/.hidden", "a/.hidden-64.jpg"),
            ("bÿ/ü.jpg", "bÿ/ü-64.jpg"),
        ] {
            assert_eq!(thumbnail_key(key, 64, "jpg"), expected);
        }
    }
}
