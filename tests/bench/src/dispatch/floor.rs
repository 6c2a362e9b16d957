//! The bare loop: as many tasks as threads, each of which calls the handler again and again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

use super::{BYTES, SOURCE};
use crate::{
    guest::{Event, Guest},
    measure::{Sample, Timer},
};

/// Calls it so often.
pub fn run(guest: &Arc<Guest>, threads: usize, events: u64) -> Result<Sample> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    call(&runtime, guest, threads, events / 10)?;
    let timer = Timer::here()?;
    call(&runtime, guest, threads, events)?;
    timer.stop(events)
}

fn call(runtime: &Runtime, guest: &Arc<Guest>, threads: usize, events: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..threads)
        .map(|_| {
            let (guest, next) = (guest.clone(), next.clone());
            runtime.spawn(async move {
                let data = vec![b'x'; BYTES];
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= events {
                        return anyhow::Ok(());
                    }
                    let id = format!("{n:024}");
                    guest
                        .call(Event::new(&id, SOURCE, "amqp.message", &data))
                        .await?;
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.context("a loop broke")??;
        }
        Ok(())
    })
}
