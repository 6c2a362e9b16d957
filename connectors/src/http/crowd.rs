//! Where connections are served: among all other tasks of the engine, and, if their path is crowded, on threads of
//! their own, one for each core, which the kernel lets run behind all others. So clients that want more than the
//! machine has get what is left of the cores, and a request of any other path, or another trigger's event, does not
//! stand behind theirs.
//!
//! A path is crowded if many of its requests are under way at a time. Only those count that are to become durable:
//! they wait for the cores and the journal, and for nothing else, so that many of them are a sign of too many. It
//! gives way if other paths have requests too: to be behind others costs it some of its rate.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use rustix::process::nice;
use tidemill_core::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::{Builder, Handle, Runtime},
    time::Instant,
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::tuning::Tuning;

/// The name of the threads.
pub(super) const NAME: &str = "http-crowd";

/// What is known of crowds.
pub(super) struct Crowd {
    /// The threads, once there was a need for them.
    threads: OnceLock<Option<Runtime>>,
    began: Instant,
    /// The last request of a path that was not crowded, and the last one of another such path.
    others: [AtomicU64; 2],
}

/// When a request came and whose it was, in one number: the second, and the number of its path.
fn visit(second: u64, path: u32) -> u64 {
    second << 32 | u64::from(path)
}

/// None yet.
const NOBODY: u64 = u64::MAX;

impl Crowd {
    pub(super) fn new() -> Crowd {
        Crowd {
            threads: OnceLock::new(),
            began: Instant::now(),
            others: [const { AtomicU64::new(NOBODY) }; 2],
        }
    }

    /// A request has come to a path, and finds it crowded or not. Whether it gives way to others.
    pub(super) fn gives_way(
        &self,
        path: u32,
        crowded: bool,
        now: Instant,
        tuning: &Tuning,
    ) -> bool {
        let second = (now - self.began).as_secs();
        let others = self.others.each_ref().map(|other| other.load(Relaxed));
        if crowded {
            let since = visit(second.saturating_sub(tuning.beside), 0);
            let is_beside = |other| other != NOBODY && other as u32 != path && other >= since;
            return others.into_iter().any(is_beside);
        }
        let this = visit(second, path);
        if others[0] != this {
            if others[0] as u32 != path {
                self.others[1].store(others[0], Relaxed);
            }
            self.others[0].store(this, Relaxed);
        }
        false
    }

    fn threads(&self) -> Option<&Handle> {
        let threads = self.threads.get_or_init(|| {
            let threads = Builder::new_multi_thread()
                .thread_name(NAME)
                // It is always allowed.
                .on_thread_start(|| _ = nice(limits::STEP_BACK))
                .enable_all()
                .build();
            threads
                .inspect_err(|error| {
                    tracing::warn!(%error, "no threads for crowded paths: they are served among the others");
                })
                .ok()
        });
        threads.as_ref().map(Runtime::handle)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(Some(threads)) = self.threads.take() {
            // Its connections have ended, and this may be a task, which may not wait.
            threads.shutdown_background();
        }
    }
}

/// Whether something was so lately: for a request, or one of some before it.
#[derive(Debug, Default)]
pub(super) struct Lately(AtomicU8);

impl Lately {
    /// A request has begun, for which it is so or not. If it is, it was so lately for `requests` from this one on.
    pub(super) fn note(&self, is: bool, requests: u8) {
        let was = self.0.load(Relaxed);
        let left = match is {
            true => requests,
            // That two who note at once count as one does no harm.
            false => was.saturating_sub(1),
        };
        // Where it never is, cores do not write what they share.
        if left != was {
            self.0.store(left, Relaxed);
        }
    }

    pub(super) fn was(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

/// Where a connection is to be served: its requests say so, its task hears of it, and then its stream.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Its requests give way. A proxy may bring some that do not among them.
    pub(super) gives_way: Lately,
    /// Its task has moved, and its stream has not.
    moved: AtomicBool,
}

/// The stream of a connection, which hears of its socket from the runtime that the connection is served in.
pub(super) struct Seated {
    /// Absent if it could not follow.
    stream: Option<TcpStream>,
    seat: Arc<Seat>,
}

impl Seated {
    pub(super) fn new(stream: TcpStream, seat: Arc<Seat>) -> Seated {
        let stream = Some(stream);
        Seated { stream, seat }
    }

    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.seat.moved.load(Relaxed) {
            self.seat.moved.store(false, Relaxed);
            let there = self.stream.take().map(TcpStream::into_std).transpose()?;
            self.stream = there.map(TcpStream::from_std).transpose()?;
        }
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, into)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(TcpStream::is_write_vectored)
    }
}

/// The serving of a connection, to its end or until it moves: then the rest goes on in a task over there.
pub(super) struct Serving {
    /// Absent once it has moved.
    rest: Option<Rest>,
    /// Whether this task is one of the threads for crowds.
    away: bool,
}

struct Rest {
    run: Pin<Box<dyn Future<Output = ()> + Send>>,
    seat: Arc<Seat>,
    home: Handle,
    crowd: Arc<Crowd>,
    _token: TaskTrackerToken,
}

impl Serving {
    /// Begins it, among all other tasks.
    pub(super) fn spawn(
        run: impl Future<Output = ()> + Send + 'static,
        seat: Arc<Seat>,
        crowd: Arc<Crowd>,
        token: TaskTrackerToken,
    ) {
        let home = Handle::current();
        let rest = Rest {
            run: Box::pin(run),
            seat,
            home: home.clone(),
            crowd,
            _token: token,
        };
        home.spawn(Serving {
            rest: Some(rest),
            away: false,
        });
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(());
        };
        if rest.run.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let away = rest.seat.gives_way.was();
        let to = match away {
            _ if away == this.away => return Poll::Pending,
            true => rest.crowd.threads(),
            false => Some(&rest.home),
        };
        let Some(to) = to.cloned() else {
            return Poll::Pending;
        };
        rest.seat.moved.store(true, Relaxed);
        let rest = this.rest.take();
        to.spawn(Serving { rest, away });
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_crowded_path_gives_way_while_others_have_requests() {
        let crowd = Crowd::new();
        let asked = |path, crowded, seconds| {
            let now = crowd.began + Duration::from_secs(seconds);
            crowd.gives_way(path, crowded, now, &Tuning::STANDARD)
        };
        assert!(!asked(1, true, 5), "nobody else came");
        assert!(!asked(1, false, 5) && !asked(1, true, 5));
        assert!(!asked(2, false, 8));
        assert!(asked(1, true, 8) && asked(1, true, 9));
        assert!(!asked(1, false, 9));
        assert!(asked(1, true, 9), "its own are none of others");
        assert!(!asked(1, true, 10), "long ago");
        assert!(!asked(2, true, 11), "both are crowded");
    }
}
