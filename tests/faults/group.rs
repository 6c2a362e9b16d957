//! Two engines of one Kafka group, each with a journal of its own, that come, leave and die while
//! records come.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use super::{kills, seed};
use crate::harness::{Engine, Kafka, Site, kafka_brokers, unique, wait_until};

const PARTITIONS: i32 = 6;

/// How many records are produced at a time.
const AT_A_TIME: usize = 300;

const CONFIG: &str = r#"
[connections.log]
kafka = { brokers = ["BROKERS"], properties = { "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "200" } }
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
kafka = { connection = "log", topics = ["TOPIC"], group = "TOPIC" }
"#;

/// How an engine goes.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// As it is asked to, with SIGTERM. Nothing of what it has handled runs again.
    Well,
    /// By SIGKILL.
    Dead,
}

/// The records of a topic, as partition and offset.
type Records = BTreeSet<(i32, i64)>;

struct Group {
    topic: String,
    broker: Kafka,
    sites: [Site; 2],
    produced: usize,
}

impl Group {
    fn new() -> Group {
        let (topic, broker) = (unique("group"), Kafka::connect(&kafka_brokers()));
        broker.create(&topic, PARTITIONS);
        let config = CONFIG.replace("BROKERS", &kafka_brokers());
        let config = config.replace("TOPIC", &topic);
        Group {
            topic,
            broker,
            sites: [(); 2].map(|()| Site::new(&config)),
            produced: 0,
        }
    }

    fn spawn(&self, site: usize) -> Engine {
        // All of what the group does, should it fail.
        let log = "info,tidemill_connectors::kafka=debug";
        self.sites[site].spawn(&[("TIDEMILL_LOG", log)])
    }

    fn start(&self, site: usize) -> Engine {
        let engine = self.spawn(site);
        engine.wait_ready();
        engine
    }

    fn produce(&mut self) {
        let all = self.produced..self.produced + AT_A_TIME;
        let records: Vec<_> = all.map(|n| (n.to_string(), "{}".to_owned())).collect();
        let produced = self.broker.produce(&self.topic, &records);
        produced.expect("the broker has them");
        self.produced += AT_A_TIME;
    }

    fn committed(&self) -> Option<Vec<i64>> {
        self.broker.committed(&self.topic, &self.topic, PARTITIONS)
    }

    /// Waits until all that was produced is. How many records each partition has then.
    fn wait_committed(&self) -> Vec<i64> {
        let ends = self.broker.ends(&self.topic, PARTITIONS);
        assert_eq!(ends.iter().sum::<i64>(), self.produced as i64);
        wait_until("all is committed", || {
            self.committed().as_ref() == Some(&ends)
        });
        ends
    }

    /// What an engine has handled. Once each, whatever happened to it.
    fn handled(&self, site: usize) -> Records {
        let counted = self.sites[site].counters(":");
        let twice: BTreeMap<_, _> = counted.iter().filter(|(_, count)| **count != 1).collect();
        assert!(
            twice.is_empty(),
            "more than once by engine {site}: {twice:?}"
        );
        let place = |id: &String| {
            let (place, _) = id.split_once('@')?;
            let (partition, offset) = place.split_once(':')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        };
        let places = counted
            .keys()
            .map(|id| place(id).expect("the id of a record"));
        places.collect()
    }

    /// What the group may handle again, now that this engine is dead: what it has handled and the
    /// group has not committed.
    fn uncommitted(&self, site: usize) -> Records {
        // Asked first: it only grows.
        let committed = self.committed().expect("the broker answers");
        let mut handled = self.handled(site);
        handled.retain(|(partition, offset)| *offset >= committed[*partition as usize]);
        handled
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.broker.delete(&self.topic);
    }
}

/// A fifth of the kills of the other faults: the group waits for the session of each dead.
#[test]
fn two_engines_of_a_group_lose_nothing_and_run_again_only_what_was_not_committed() {
    let rounds = (kills() / 5).max(2);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut group = Group::new();
    let mut engines: [Option<Engine>; 2] = [0, 1].map(|n| Some(group.start(n)));
    let (mut again, mut allowed) = (Records::new(), Records::new());
    for round in 0..rounds {
        group.produce();
        pause(&mut random);
        let how = match round % 2 {
            0 => Leaves::Dead,
            _ => Leaves::Well,
        };
        let first = random.usize(..2);
        let leave = match random.u8(..4) {
            0 => vec![first, 1 - first],
            _ => vec![first],
        };
        println!("round {round}: of two, {leave:?} leave: {how:?}");
        for n in &leave {
            let engine = engines[*n].take().expect("it runs");
            match how {
                Leaves::Dead => {
                    engine.kill();
                    allowed.append(&mut group.uncommitted(*n));
                }
                Leaves::Well => drop(engine.stop()),
            }
        }
        group.produce();
        pause(&mut random);
        for n in &leave {
            engines[*n] = Some(group.spawn(*n));
        }
        group.produce();
        let ends = group.wait_committed();
        // What is committed is handled, in one of the journals.
        let [one, other] = [0, 1].map(|n| group.handled(n));
        for (partition, end) in ends.iter().enumerate() {
            for offset in 0..*end {
                let place = (partition as i32, offset);
                assert!(
                    one.contains(&place) || other.contains(&place),
                    "{place:?} was committed and not handled"
                );
            }
        }
        again = &one & &other;
        let more: Records = &again - &allowed;
        assert!(
            more.is_empty(),
            "handled by both, though committed: {more:?}"
        );
        assert_eq!((&one | &other).len(), group.produced);
    }
    for engine in engines.into_iter().flatten() {
        engine.wait_ready();
        engine.stop();
    }
    println!(
        "{} records, {rounds} rounds, {} again, of {} that were not committed",
        group.produced,
        again.len(),
        allowed.len()
    );
}

/// While members join, the broker answers no commit of those that are there.
#[test]
fn an_engine_that_stops_while_others_join_has_committed_what_it_has_handled() {
    let mut group = Group::new();
    let [stays, dies] = [0, 1].map(|n| group.start(n));
    while (0..2).any(|n| group.handled(n).is_empty()) {
        group.produce();
        group.wait_committed();
    }
    dies.kill();
    // The group waits for the dead one's session to end.
    let joins = group.spawn(1);
    wait_until("the group joins", || {
        group.broker.state(&group.topic) == "PreparingRebalance"
    });
    // Long enough for it to be told, and to join again.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let before = group.handled(0).len();
        group.produce();
        wait_until("it reads on", || group.handled(0).len() > before);
    }
    assert_eq!(group.broker.state(&group.topic), "PreparingRebalance");
    stays.stop();
    group.wait_committed();
    let both = &group.handled(0) & &group.handled(1);
    assert!(both.is_empty(), "handled by both: {both:?}");
    joins.stop();
}

/// A random moment, not a wait for anything.
fn pause(random: &mut fastrand::Rng) {
    thread::park_timeout(Duration::from_millis(random.u64(..800)));
}
