//! A connection whose client must not be slow: a head that does not come to its end, an answer that is not
//! read, and a long silence between requests end it. How slow bodies may be is decided elsewhere.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{crowd::Seated, tuning::Tuning};

/// What a connection is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

/// A head has begun, or the connection is new: who connects has something to say.
const HEAD: u8 = 0;
/// Nothing since the last request.
const IDLE: u8 = 1;
/// A request is under way.
const BUSY: u8 = 2;

/// A request is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Phase);

impl Phase {
    pub(super) fn busy(&self) -> Busy {
        self.0.store(BUSY, Relaxed);
        Busy(self.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Relaxed);
    }
}

pub(super) struct Paced {
    stream: Seated,
    phase: Phase,
    head: Limit,
    idle: Limit,
    write: Limit,
}

/// A time that runs while something is pending.
struct Limit {
    time: Duration,
    /// When it is up, while it runs.
    until: Option<Instant>,
    /// Set for one of the waits so far. It goes off early for a later one, and is then set anew: cheaper than to
    /// set it for each, of which nearly all end in time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(stream: Seated, phase: Phase, tuning: &Tuning) -> Paced {
        Paced {
            stream,
            phase,
            head: Limit::new(tuning.head),
            idle: Limit::new(tuning.idle),
            write: Limit::new(tuning.unread),
        }
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Seated>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), cx);
        if written.is_pending() {
            return self.write.check(cx);
        }
        self.write.stop();
        written
    }
}

impl Limit {
    fn new(time: Duration) -> Limit {
        Limit {
            time,
            until: None,
            timer: None,
        }
    }

    /// Pending, until its time is up.
    fn check<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let time = self.time;
        let until = *self.until.get_or_insert_with(|| Instant::now() + time);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(until);
        }
    }

    fn stop(&mut self) {
        self.until = None;
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        let phase = self.phase.0.load(Relaxed);
        if phase != HEAD {
            self.head.stop();
        }
        if phase != IDLE || read.is_ready() {
            self.idle.stop();
        }
        match phase {
            HEAD if read.is_pending() => return self.head.check(cx),
            IDLE if read.is_pending() => return self.idle.check(cx),
            IDLE if into.filled().len() > before => self.phase.0.store(HEAD, Relaxed),
            _ => {}
        }
        read
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, from))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, from))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
