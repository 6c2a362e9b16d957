//! What one attempt gives out: counted against its limit, and its log carried to the engine.
//!
//! Every byte that outlives the instance is counted here. The log has a bound of its own below that of
//! the output: a handler that talks too much loses lines, not its work.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tidemill_core::{
    event::Field,
    host::{HostCalls, LogLevel},
    limits,
};

/// The most lines of log of one attempt: what a person still reads.
const LOG_LINES: u32 = 1000;
/// The same of a call for many events: each may say as much, as long as all together stay readable.
const BATCH_LOG_LINES: u32 = 10_000;
/// The log may take this part of the output limit.
const LOG_SHARE: u64 = 8;
/// The longest line of log, in bytes.
pub(crate) const LOG_LINE: usize = 16 << 10;

/// The attempt gave out more than its limit. Returned by a host function, it ends the guest.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too much output")]
pub(crate) struct TooMuchOutput;

/// The output of one attempt.
pub(crate) struct Output {
    host: Arc<dyn HostCalls>,
    limit: u64,
    lines: u32,
    used: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    lines: u32,
    bytes: u64,
    dropped: u64,
    /// What the guest said last, if it was an error: the reason of a trap that follows.
    last_words: Option<String>,
    /// Lines that the guest has begun on stdout and stderr.
    begun: [Vec<u8>; 2],
}

/// A stream of a guest that writes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Output {
    /// `events` is how many the call is for.
    pub(crate) fn new(host: Arc<dyn HostCalls>, limit: u64, events: usize) -> Output {
        let events = u32::try_from(events.max(1)).unwrap_or(u32::MAX);
        Output {
            host,
            limit,
            lines: LOG_LINES.saturating_mul(events).min(BATCH_LOG_LINES),
            used: AtomicU64::new(0),
            log: Mutex::default(),
        }
    }

    /// Counts bytes that are about to be given out.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), TooMuchOutput> {
        self.used.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.exceeded() {
            Err(TooMuchOutput)
        } else {
            Ok(())
        }
    }

    /// Whether the limit was passed, whatever the guest made of it.
    pub(crate) fn exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }

    /// Carries one line of log, or counts it as dropped.
    pub(crate) fn log(
        &self,
        level: LogLevel,
        message: &str,
        fields: &[Field],
    ) -> Result<(), TooMuchOutput> {
        let mut log = self.lock();
        log.last_words = (level == LogLevel::Error).then(|| last_words(message, fields));
        self.carry(&mut log, level, message, fields)
    }

    /// Takes what a guest wrote to a stream, and carries the lines that it completes.
    pub(crate) fn write(&self, stream: Stream, mut bytes: &[u8]) -> Result<(), TooMuchOutput> {
        let mut log = self.lock();
        while !bytes.is_empty() {
            let begun = &mut log.begun[stream as usize];
            let room = LOG_LINE - begun.len();
            let end = bytes.iter().take(room).position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(room.min(bytes.len()));
            begun.extend_from_slice(&bytes[..taken]);
            let complete = end.is_some() || begun.len() == LOG_LINE;
            bytes = &bytes[taken + usize::from(end.is_some())..];
            if complete {
                self.end_line(&mut log, stream)?;
            }
        }
        Ok(())
    }

    /// Carries what is left when the attempt has ended, and tells of dropped lines.
    pub(crate) fn finish(&self) {
        let mut log = self.lock();
        for stream in [Stream::Stdout, Stream::Stderr] {
            // The outcome is decided from `exceeded` after this.
            let _ = self.end_line(&mut log, stream);
        }
        if log.dropped > 0 {
            let message = format!(
                "{} more lines of this attempt's log were dropped; an attempt may log {} lines \
                 and {} bytes",
                log.dropped,
                self.lines,
                self.limit / LOG_SHARE
            );
            self.host.log(LogLevel::Warn, &message, &[]);
        }
    }

    /// What the guest said last, if it was an error.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.lock().last_words.take()
    }

    /// What was said so far is not the reason of a trap that comes from here on.
    pub(crate) fn forget_words(&self) {
        self.lock().last_words = None;
    }

    fn end_line(&self, log: &mut Log, stream: Stream) -> Result<(), TooMuchOutput> {
        let line = std::mem::take(&mut log.begun[stream as usize]);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(());
        }
        let level = match stream {
            Stream::Stdout => LogLevel::Info,
            Stream::Stderr => LogLevel::Warn,
        };
        if stream == Stream::Stderr {
            overhear(&mut log.last_words, line);
        }
        self.carry(log, level, line, &[])
    }

    fn carry(
        &self,
        log: &mut Log,
        level: LogLevel,
        message: &str,
        fields: &[Field],
    ) -> Result<(), TooMuchOutput> {
        let message = cut(message, LOG_LINE);
        let size = message.len() + fields.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        if log.lines == self.lines || log.bytes + size as u64 > self.limit / LOG_SHARE {
            log.dropped += 1;
            return Ok(());
        }
        log.lines += 1;
        log.bytes += size as u64;
        self.spend(size)?;
        self.host.log(level, &message, fields);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Nothing here is left half done by a panic of `HostCalls::log`.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error as the reason of a trap: what, and where if a field says that.
fn last_words(message: &str, fields: &[Field]) -> String {
    let mut words = cut(message, LOG_LINE).into_owned();
    if let Some((_, place)) = fields.iter().find(|(name, _)| name == "at") {
        words.push_str(", at ");
        words.push_str(&cut(place, limits::NAME));
    }
    words
}

/// Puts a panic message together as Rust's standard library prints it: a line that says where, and
/// lines of text.
fn overhear(last_words: &mut Option<String>, line: &str) {
    if line.contains("panicked at ") {
        *last_words = Some(line.to_owned());
    } else if let Some(words) = last_words
        && words.len() + line.len() < LOG_LINE
        && !line.starts_with("note: run with `RUST_BACKTRACE=")
    {
        words.push(' ');
        words.push_str(line);
    }
}

/// The text, at most `most` bytes of it; a cut is shown.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(most - MARK.len());
    Cow::Owned(format!("{}{MARK}", &text[..end]))
}
