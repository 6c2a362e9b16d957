//! Makes thumbnails of the JPEG and PNG images that arrive in a bucket.
//!
//! | configuration | meaning | default |
//! |---|---|---|
//! | `WIDTHS` | widths in pixels, separated by commas | `64,256` |
//! | `OUTPUT` | the bucket that the thumbnails go to | `thumbnails` |
//!
//! Each event increments the counter `made` in the store `thumbnails` and emits one `thumbnail.made`. It never writes
//! to the bucket that it reads, unless `OUTPUT` says so, and never makes an image larger than it is.

mod name;
mod picture;

use serde_json::json;
use tidemill_sdk::{Event, Failure, bucket, config, emit, handler, kv, log};

use crate::{name::thumbnail_key, picture::Picture};

fn thumbnail(event: Event) -> Result<(), Failure> {
    let object = event.object()?;
    let source = match object.read() {
        // Newer than the event, or gone: an event of its own tells of that.
        Err(error @ (bucket::Error::Changed(_) | bucket::Error::NotFound(_))) => {
            log::info!("nothing to do: {error}");
            return Ok(());
        }
        source => source?,
    };
    let widths = config::get("WIDTHS")?.unwrap_or_else(|| "64,256".into());
    // The operator's mistake, not the event's: once the configuration is right, a retry succeeds.
    let widths = name::widths(&widths).map_err(Failure::retry)?;
    let output = bucket::open(config::get("OUTPUT")?.unwrap_or_else(|| "thumbnails".into()));

    // A corrupt image does not get better by itself.
    let picture = Picture::decode(&source).map_err(Failure::reject)?;
    drop(source);
    let mut keys = Vec::new();
    for &width in &widths {
        let key = thumbnail_key(object.key, width, picture.extension());
        output.write(&key, &picture.shrunk(width).map_err(Failure::reject)?)?;
        keys.push(key);
    }

    kv::open("thumbnails")?.increment("made", 1)?;
    emit::event("thumbnail.made")
        .subject(object.key)
        .json(&json!({ "source": object.key, "widths": widths, "keys": keys }))
        .send()?;
    log::info!("made {} thumbnails", keys.len(); key = object.key);
    Ok(())
}

// A decoded image is larger than any arena worth having: the memory grows for it, and the default arena is for the
// rest.
handler!(thumbnail);
