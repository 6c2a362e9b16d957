//! The beat of the wall clock, once a second, while there are schedules.
//!
//! A schedule sleeps until its next tick by the clock of the runtime, which wakes it to the
//! millisecond, but which knows nothing of the wall clock being set, and stands still while the
//! machine sleeps. The job scheduler goes by the wall clock: it looks at it twice a second. So its one
//! job tells the schedules to look at it too, and a tick that a clock has jumped to is late by a
//! second or so, and not until the sleep is over.
//!
//! It computes no ticks: its jobs do not know when they were to run, merge runs that were missed, and
//! freeze the offset of a time zone when they are made.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::watch;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// A handle on the beat. Clones share it; it begins with the first schedule that runs, and ends when
/// the last handle is dropped.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    begun: AtomicBool,
    beats: watch::Sender<()>,
}

impl Beat {
    /// Changes with each beat.
    pub(super) fn listen(&self) -> watch::Receiver<()> {
        if !self.0.begun.swap(true, Relaxed) {
            let inner = Arc::downgrade(&self.0);
            // On a task of its own: no schedule waits for it, and all go on without it.
            tokio::spawn(async move {
                if let Err(error) = begin(inner).await {
                    tracing::warn!(
                        %error,
                        "the wall clock is not watched: when it is set, schedules notice it a \
                         minute later"
                    );
                }
            });
        }
        self.0.beats.subscribe()
    }

    /// A beat by hand.
    #[cfg(test)]
    pub(super) fn by_hand() -> Beat {
        let beat = Beat::default();
        beat.0.begun.store(true, Relaxed);
        beat
    }

    /// Beats once.
    #[cfg(test)]
    pub(super) fn beat(&self) {
        self.0.beats.send_replace(());
    }
}

async fn begin(inner: Weak<Inner>) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    scheduler.init().await?;
    let job = Job::new_async("* * * * * *", move |_, mut scheduler| {
        let inner = inner.upgrade();
        Box::pin(async move {
            match inner {
                Some(inner) => {
                    inner.beats.send_replace(());
                }
                None => {
                    // It cannot fail: nobody asked to be told.
                    let _ = scheduler.shutdown().await;
                }
            }
        })
    })?;
    scheduler.add(job).await?;
    scheduler.start().await
}
