//! Reads an object range by range, through the traits of `std::io`. It holds one range in memory, never the object.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use crate::bucket::{Bucket, Error};

/// Bytes asked for at once: large enough that the calls do not count, small beside any memory.
const RANGE: u64 = 256 << 10;

/// A reader of one object; see [`Bucket::reader`]. It buffers, so it needs no `BufReader` around it.
///
/// Its errors carry the [`Error`] of the bucket, and by `?` count as that.
#[derive(Debug)]
pub struct Reader {
    bucket: Bucket,
    key: String,
    size: u64,
    position: u64,
    /// The range that was read last, and where it starts.
    held: Vec<u8>,
    held_from: u64,
}

impl Reader {
    pub(crate) fn new(bucket: Bucket, key: String, size: u64) -> Self {
        Self {
            bucket,
            key,
            size,
            position: 0,
            held: Vec::new(),
            held_from: 0,
        }
    }

    /// The size of the object in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn buffered(&self) -> &[u8] {
        self.position
            .checked_sub(self.held_from)
            .and_then(|skip| self.held.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default()
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffered().is_empty() && self.position < self.size {
            // Freed first, so that two ranges are never in memory.
            self.held = Vec::new();
            let range = self.position..self.size.min(self.position.saturating_add(RANGE));
            self.held = self
                .bucket
                .read_range(&self.key, range)
                .map_err(io::Error::other)?;
            self.held_from = self.position;
            if self.held.is_empty() {
                let object = format!("{}/{}", self.bucket.name(), self.key);
                return Err(io::Error::other(Error::Changed(object)));
            }
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount as u64;
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = position(self.position, self.size, to).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "seek to before the start of the object",
            )
        })?;
        Ok(self.position)
    }
}

fn position(now: u64, size: u64, to: SeekFrom) -> Option<u64> {
    match to {
        SeekFrom::Start(offset) => Some(offset),
        SeekFrom::End(offset) => size.checked_add_signed(offset),
        SeekFrom::Current(offset) => now.checked_add_signed(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(held: &[u8], held_from: u64) -> Reader {
        let bucket = crate::bucket::open("b");
        Reader {
            held: held.to_vec(),
            held_from,
            ..Reader::new(bucket, "k".into(), 6)
        }
    }

    #[test]
    fn positions_stay_inside_the_numbers() {
        assert_eq!(position(5, 10, SeekFrom::End(-3)), Some(7));
        assert_eq!(position(5, 10, SeekFrom::Current(-5)), Some(0));
        assert_eq!(position(5, 10, SeekFrom::Current(-6)), None);
        assert_eq!(position(5, 10, SeekFrom::Start(99)), Some(99));
    }

    #[test]
    fn what_is_held_is_read_without_a_call() {
        let mut reader = reader(b"cdef", 2);
        reader.seek(SeekFrom::Start(3)).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "def");
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 5);
        assert_eq!(reader.fill_buf().unwrap(), b"f");
    }

    #[test]
    fn past_the_end_there_is_nothing() {
        let mut reader = reader(b"", 0);
        reader.seek(SeekFrom::Start(100)).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }
}
