//! What brings events, and how it is: the connectors under one roof.

use std::{sync::Arc, time::Duration};

use tidemill_connectors::{
    amqp::AmqpConnector,
    bucket::{self, BucketConnector, Hook, State},
    http,
    kafka::KafkaConnector,
    schedule::{self, ScheduleConnector},
};
use tidemill_core::{BoxFuture, hold::Holds, ledger};
use tokio_util::sync::CancellationToken;

use crate::{buckets::BucketSourceView, dispatcher::intake::EngineIntake, metrics::Metrics};

/// A connector, ready to run.
pub struct Source {
    /// How it is.
    pub health: SourceHealth,
    run: Run,
}

type Run = Box<dyn FnOnce(Arc<EngineIntake>, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// How a source is, for `/readyz` and `/metrics`.
#[derive(Clone)]
pub struct SourceHealth {
    /// Its name: the source attribute of its events, or the kind of connector.
    pub source: String,
    look: Arc<dyn Fn() -> (bool, String) + Send + Sync>,
    measure: Arc<dyn Fn(&Metrics) + Send + Sync>,
    /// Of a bucket alone.
    bucket: Option<(String, bucket::Health)>,
}

impl SourceHealth {
    /// Whether it brings all that there is, and in words.
    pub fn look(&self) -> (bool, String) {
        (self.look)()
    }

    /// How it finds objects, if it is a bucket.
    pub fn bucket(&self) -> Option<BucketSourceView> {
        let (name, health) = self.bucket.as_ref()?;
        let (_, state) = self.look();
        Some(BucketSourceView::new(name, state, &health.status()))
    }

    /// Brings what it counts itself into the metrics.
    pub fn measure(&self, metrics: &Metrics) {
        (self.measure)(metrics);
    }
}

impl Source {
    /// Runs until it is told to stop.
    pub fn run(self, intake: Arc<EngineIntake>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        (self.run)(intake, stop)
    }

    /// A bucket.
    pub fn bucket(connector: BucketConnector) -> Source {
        let health = connector.health();
        let measured = health.clone();
        let bucket = connector.bucket().name().to_owned();
        let (name, reported) = (bucket.clone(), health.clone());
        let look = move || {
            let status = health.status();
            let text = match status.state {
                State::Stopped => "stopped".into(),
                State::FirstScan => "looking through what is there".into(),
                State::Watching => "watching".into(),
                State::Listing => match status.told.map(|told| told.trouble) {
                    None => "found by listing".into(),
                    Some(None) => "told by notifications".into(),
                    Some(Some(why)) => format!("found by listing only: {why}"),
                },
                State::Unreachable(why) => return (false, why),
                State::RescansOnly(why) => format!("found by scans only: {why}"),
                State::FolderMissing => return (false, "its folder is missing".into()),
            };
            (status.ready, text)
        };
        Source {
            health: SourceHealth {
                source: ledger::source(&name),
                look: Arc::new(look),
                measure: Arc::new(move |metrics| metrics.bucket(&bucket, &measured.status())),
                bucket: Some((name, reported)),
            },
            run: Box::new(|intake, stop| Box::pin(connector.run(intake, stop))),
        }
    }

    /// A schedule.
    pub fn schedule(connector: ScheduleConnector) -> Source {
        let health = connector.health();
        let measured = health.clone();
        let trigger = connector.trigger().to_owned();
        let look = move || {
            let status = health.status();
            let text = match (status.trouble, status.next) {
                (Some(trouble), _) => trouble,
                (None, Some(next)) => format!("next tick at {next}"),
                (None, None) if status.ready => "no tick is left".into(),
                (None, None) => "looking what is due".into(),
            };
            (status.ready, text)
        };
        Source {
            health: SourceHealth {
                source: schedule::source(&trigger),
                look: Arc::new(look),
                measure: Arc::new(move |metrics| metrics.ticks(&trigger, &measured.status())),
                bucket: None,
            },
            run: Box::new(|intake, stop| Box::pin(connector.run(intake, stop))),
        }
    }

    /// A queue of an AMQP broker, for triggers or for the notifications of a bucket.
    pub fn amqp(connector: AmqpConnector, notices: Option<Hook>) -> Source {
        let health = connector.health();
        let measured = health.clone();
        let source = connector.source().to_owned();
        let name = source.clone();
        let look = move || {
            let status = health.status();
            let text = match (status.trouble, status.ready) {
                (Some(trouble), _) => trouble,
                (None, true) => "consuming".into(),
                (None, false) => "connecting".into(),
            };
            (status.ready, text)
        };
        Source {
            health: SourceHealth {
                source,
                look: Arc::new(look),
                measure: Arc::new(move |metrics| {
                    let status = measured.status();
                    metrics.held(&name, status.held, status.broken);
                }),
                bucket: None,
            },
            run: Box::new(|intake, stop| Box::pin(connector.run(holder(intake, notices), stop))),
        }
    }

    /// A consumer of Kafka topics, for triggers or for the notifications of a bucket.
    pub fn kafka(connector: KafkaConnector, notices: Option<Hook>) -> Source {
        let health = connector.health();
        let measured = health.clone();
        let source = connector.source().to_owned();
        let name = source.clone();
        let look = move || {
            let status = health.status();
            let text = match (status.trouble, status.ready, status.full) {
                (Some(trouble), ..) => trouble,
                (None, true, false) => format!("reading {} partitions", status.partitions),
                (None, true, true) => "waiting until some of its records are done".into(),
                (None, false, _) => "joining its group".into(),
            };
            (status.ready, text)
        };
        Source {
            health: SourceHealth {
                source,
                look: Arc::new(look),
                measure: Arc::new(move |metrics| {
                    let status = measured.status();
                    metrics.held(&name, status.held, status.broken);
                }),
                bucket: None,
            },
            run: Box::new(|intake, stop| Box::pin(connector.run(holder(intake, notices), stop))),
        }
    }

    /// All HTTP triggers; `drain` is how long requests may go on after a stop.
    pub fn http(bound: http::Bound, health: http::Health, drain: Duration) -> Source {
        let address = bound.local_addr();
        let measured = health.clone();
        let look = move || match health.status().listening {
            true => (true, format!("listening on {address}")),
            false => (false, "not listening".into()),
        };
        Source {
            health: SourceHealth {
                source: "http".into(),
                look: Arc::new(look),
                measure: Arc::new(move |metrics| metrics.http(&measured.status())),
                bucket: None,
            },
            run: Box::new(move |intake, stop| Box::pin(bound.run(intake, stop, drain))),
        }
    }
}

/// Who takes what a broker holds: the engine, or a bucket whose notifications it brings.
fn holder(intake: Arc<EngineIntake>, notices: Option<Hook>) -> Arc<dyn Holds> {
    match notices {
        Some(hook) => Arc::new(hook),
        None => intake,
    }
}
