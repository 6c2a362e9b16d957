//! Work on many things: at a pace, with a bar for a person at a terminal and a line now and then for a
//! log.

use std::{
    io::{self, IsTerminal},
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tidemill_core::rate::Rate;

/// How long a log hears nothing.
const QUIET: Duration = Duration::from_secs(5);

/// Starts no more than a rate allows: evenly, so that whoever does the work has it easy.
pub(super) struct Pace {
    gap: Duration,
    next: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Pace {
        // Rounded up: what is cut off would let one too many start.
        let gap = |rate: Rate| rate.per / rate.count + Duration::from_nanos(1);
        Pace {
            gap: rate.map_or(Duration::ZERO, gap),
            next: None,
        }
    }

    /// How long the next start has to wait, if it is asked for now; the one after counts from there.
    fn wait(&mut self, now: Instant) -> Duration {
        let start = self.next.map_or(now, |next| next.max(now));
        self.next = Some(start + self.gap);
        start - now
    }

    /// Waits for the next start.
    pub(super) fn pause(&mut self) {
        thread::sleep(self.wait(Instant::now()));
    }
}

/// How far it is.
pub(super) struct Progress {
    bar: ProgressBar,
    lines: Option<Lines>,
    begun: Instant,
}

impl Progress {
    /// Of so many, each of which is `done` in the end.
    pub(super) fn new(total: usize, done: &'static str) -> anyhow::Result<Progress> {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}  {eta}")?;
        let bar = ProgressBar::new(total as u64).with_style(style);
        // The bar hides itself where there is no terminal.
        let lines = (!io::stderr().is_terminal()).then_some(Lines {
            total,
            done,
            next: QUIET,
        });
        Ok(Progress {
            bar: bar.with_message(done),
            lines,
            begun: Instant::now(),
        })
    }

    /// Says something beside the bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// So many are through.
    pub(super) fn at(&mut self, position: usize) {
        self.bar.set_position(position as u64);
        let lines = self.lines.as_mut();
        if let Some(line) = lines.and_then(|lines| lines.line(position, self.begun.elapsed())) {
            eprintln!("{line}");
        }
    }

    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// The lines of a log.
struct Lines {
    total: usize,
    done: &'static str,
    /// When the next one is due, counted from the begin.
    next: Duration,
}

impl Lines {
    fn line(&mut self, position: usize, elapsed: Duration) -> Option<String> {
        // The end is told by others.
        if elapsed < self.next || position == self.total {
            return None;
        }
        self.next = elapsed + QUIET;
        Some(format!("{position} of {} {}", self.total, self.done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spread_evenly_and_never_caught_up_on() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut pace = Pace::new(Some("4/s".parse().expect("a rate")));
        let mut waits = |ms| pace.wait(at(ms)).as_millis();
        assert_eq!([waits(0), waits(10), waits(250)], [0, 240, 250]);
        // It was late: the next one does not hurry.
        assert_eq!([waits(2000), waits(2000), waits(2000)], [0, 250, 500]);
        let mut free = Pace::new(None);
        assert_eq!(
            [free.wait(at(0)), free.wait(at(0))],
            [Duration::ZERO, Duration::ZERO]
        );
    }

    #[test]
    fn a_log_has_a_line_now_and_then() {
        let mut lines = Lines {
            total: 100,
            done: "redriven",
            next: QUIET,
        };
        let mut line = |position, secs| lines.line(position, Duration::from_secs(secs));
        assert_eq!(line(10, 4), None);
        assert_eq!(line(20, 6).as_deref(), Some("20 of 100 redriven"));
        assert_eq!(line(30, 10), None);
        assert_eq!(line(40, 11).as_deref(), Some("40 of 100 redriven"));
        assert_eq!(line(100, 60), None);
    }
}
