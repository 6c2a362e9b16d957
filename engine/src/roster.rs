//! The sources that run, and how they change with the plan: what is the same goes on, what is not ends as
//! at a stop of the engine, and what is new begins once nothing has its place any more.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    assemble::{Key, Unit},
    dispatcher::{
        Dispatcher,
        intake::{EngineIntake, SourceNumber},
    },
    sources::{Source, SourceHealth},
};

/// How the sources are that run. Clones share it.
#[derive(Clone, Default)]
pub struct Healths(Arc<ArcSwap<Vec<SourceHealth>>>);

impl Healths {
    /// All of them.
    pub fn all(&self) -> Arc<Vec<SourceHealth>> {
        self.0.load_full()
    }
}

/// All sources of the engine.
pub struct Roster {
    dispatcher: Arc<Dispatcher>,
    /// Stops all of them.
    stop: CancellationToken,
    units: Vec<Running>,
    /// Those that end, by the places they still have.
    leaving: Vec<(String, TaskTracker)>,
    http: Option<SourceHealth>,
    tasks: TaskTracker,
    last: SourceNumber,
    healths: Healths,
}

/// A unit that runs, or waits until its place is free.
struct Running {
    key: Key,
    healths: Vec<SourceHealth>,
    numbers: Vec<SourceNumber>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Roster {
    /// None runs yet; all end with `stop`.
    pub fn new(dispatcher: Arc<Dispatcher>, stop: CancellationToken) -> Roster {
        Roster {
            dispatcher,
            stop,
            units: Vec::new(),
            leaving: Vec::new(),
            http: None,
            tasks: TaskTracker::new(),
            last: 0,
            healths: Healths::default(),
        }
    }

    /// How they are.
    pub fn healths(&self) -> Healths {
        self.healths.clone()
    }

    /// Starts what takes requests. It goes on as long as the engine does.
    pub fn start_http(&mut self, source: Source) {
        self.http = Some(source.health.clone());
        self.last += 1;
        let intake = EngineIntake::new(self.dispatcher.clone(), self.last, self.stop.clone());
        let running = source.run(Arc::new(intake), self.stop.clone());
        self.tasks.spawn(running);
        self.show();
    }

    /// Has all those end that are not among these: from now on they bring nothing. What of it does not run
    /// goes back to where it came from.
    pub fn end_all_but(&mut self, units: &[Unit]) {
        self.leaving.retain(|(_, tasks)| !tasks.is_empty());
        let stays = |running: &Running| units.iter().any(|unit| unit.key == running.key);
        let (stay, leave) = std::mem::take(&mut self.units).into_iter().partition(stays);
        self.units = stay;
        for Running {
            key,
            numbers,
            stop,
            tasks,
            ..
        } in leave
        {
            stop.cancel();
            for number in numbers {
                self.dispatcher.release_source(number);
            }
            tracing::info!(source = key.place(), "stopped, for the plan has changed");
            self.leaving.push((key.place(), tasks));
        }
    }

    /// Starts those that do not run yet, each when whatever had its place has ended.
    pub fn start(&mut self, units: Vec<Unit>) {
        for Unit { key, sources, .. } in units {
            if self.units.iter().any(|running| running.key == key) {
                continue;
            }
            let place = key.place();
            let before = self.leaving.iter().filter(|(other, _)| *other == place);
            let before: Vec<TaskTracker> = before.map(|(_, tasks)| tasks.clone()).collect();
            let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
            let (mut healths, mut numbers) = (Vec::new(), Vec::new());
            for source in sources {
                self.last += 1;
                numbers.push(self.last);
                healths.push(source.health.clone());
                let intake = EngineIntake::new(self.dispatcher.clone(), self.last, stop.clone());
                let (stop, before) = (stop.clone(), before.clone());
                let run = tasks.track_future(async move {
                    for tasks in before {
                        if stop.run_until_cancelled(tasks.wait()).await.is_none() {
                            return;
                        }
                    }
                    source.run(Arc::new(intake), stop).await;
                });
                self.tasks.spawn(run);
            }
            tasks.close();
            self.units.push(Running {
                key,
                healths,
                numbers,
                stop,
                tasks,
            });
        }
        self.show();
    }

    /// Waits until all have ended, after the stop.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn show(&self) {
        let units = self.units.iter().flat_map(|unit| &unit.healths);
        let all = units.chain(&self.http).cloned().collect();
        self.healths.0.store(Arc::new(all));
    }
}
