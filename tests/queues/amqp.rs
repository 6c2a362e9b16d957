//! RabbitMQ.

use std::collections::BTreeMap;

use crate::harness::{Amqp, Site, amqp_url, unique, wait_for, wait_until};

/// A site whose trigger `work` listens to a queue of its own.
struct Work {
    queue: String,
    broker: Amqp,
    site: Site,
}

impl Work {
    fn new(rest: &str) -> Work {
        let (queue, broker) = (unique("work"), Amqp::connect(&amqp_url()));
        broker.declare(&queue);
        let url = amqp_url();
        let rest = rest.replace("QUEUE", &queue);
        let site = Site::new(&format!(
            r#"
[connections.rabbit]
amqp = "{url}"
[functions.probe]
component = "PROBE"
allow = {{ store = ["probe"] }}
[triggers.work]
function = "probe"
amqp = {{ connection = "rabbit", queue = "{queue}", prefetch = 64 }}
retry = {{ attempts = 2, first = "1ms" }}
{rest}
"#
        ));
        Work {
            queue,
            broker,
            site,
        }
    }

    fn publish(&self, messages: impl IntoIterator<Item = (String, String)>) {
        let messages: Vec<_> = messages.into_iter().collect();
        assert!(self.broker.publish(&self.queue, &messages));
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.broker.delete(&self.queue);
    }
}

fn count(id: &str) -> (String, String) {
    let order = r#"{ "do": "count", "key": "n", "type": "" }"#;
    (id.to_owned(), order.to_owned())
}

#[test]
fn every_message_takes_effect_once_and_leaves_the_queue() {
    let work = Work::new("");
    let engine = work.site.start();
    work.publish((0..500).map(|n| count(&n.to_string())));
    // The same ids again: a publisher that did not hear the confirmation.
    work.publish((0..500).step_by(5).map(|n| count(&n.to_string())));
    wait_until("all are settled", || {
        let accepted = engine.metric("tidemill_events_accepted_total", "amqp");
        accepted >= 600.0 && engine.metric("tidemill_held", "") == 0.0
    });
    let log = engine.stop();
    assert_eq!(work.broker.waiting(&work.queue), 0, "{log}");
    let counted = work.site.counters("n:");
    assert_eq!(counted.len(), 500);
    assert!(counted.values().all(|count| *count == 1), "{counted:?}");
}

#[test]
fn a_poison_message_blocks_nobody_and_is_redriven_by_hand() {
    let work = Work::new("");
    let engine = work.site.start();
    let messages = (0..200).map(|n| match n % 10 {
        0 => {
            let order = r#"{ "do": "retry", "text": "the till is closed" }"#;
            (format!("bad-{n}"), order.to_owned())
        }
        _ => count(&n.to_string()),
    });
    work.publish(messages);
    wait_until("all are done or dead", || {
        work.site.dead_letters() == 20 && work.site.counters("n:").len() == 180
    });
    engine.wait_idle();
    assert_eq!(work.broker.waiting(&work.queue), 0);
    let list = work.site.succeeds(&["dead-letters", "list", "--json"]);
    let list: Vec<serde_json::Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for letter in &list {
        assert_eq!(letter["attempts"], 2, "{letter}");
        let reason = letter["reason"].as_str().expect("a reason");
        assert!(reason.contains("the till is closed"), "{reason}");
    }
    work.site.succeeds(&["dead-letters", "redrive", "--all"]);
    engine.wait_idle();
    assert_eq!(work.site.dead_letters(), 20, "it is closed still");
    engine.stop();
}

#[test]
fn replies_and_dead_letters_go_to_queues() {
    let (done, dead) = (unique("done"), unique("dead"));
    let work = Work::new(&format!(
        r#"
on_success = {{ amqp = {{ connection = "rabbit", exchange = "", routing_key = "{done}" }} }}
dead_letter = {{ amqp = {{ connection = "rabbit", exchange = "", routing_key = "{dead}" }} }}
"#
    ));
    for queue in [&done, &dead] {
        work.broker.declare(queue);
    }
    let engine = work.site.start();
    work.publish([
        ("a".to_owned(), r#"{ "do": "echo", "n": 1 }"#.to_owned()),
        (
            "b".to_owned(),
            r#"{ "do": "reject", "text": "no such order" }"#.to_owned(),
        ),
    ]);
    let take = |queue: &str| wait_for("a message", || work.broker.take(queue));
    let (reply, letter) = (take(&done), take(&dead));
    assert_eq!(reply.body, br#"{ "do": "echo", "n": 1 }"#);
    assert!(reply.id.is_some_and(|id| !id.is_empty()));
    let headers: BTreeMap<_, _> = letter.headers.into_iter().collect();
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| key.ends_with(name));
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("tidemill-cause"), Some("rejected"), "{headers:?}");
    assert_eq!(
        letter.body,
        br#"{ "do": "reject", "text": "no such order" }"#
    );
    engine.wait_idle();
    engine.stop();
    for queue in [&done, &dead] {
        work.broker.delete(queue);
    }
}
