//! What is published, and what is said when it is not.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use lapin::{
    ExchangeKind,
    message::BasicGetMessage,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tidemill_core::{
    destination::{Destination, OutboxAction, PublishError, Role},
    event::Event,
    time::Timestamp,
};

use super::{Fake, Lab, PATIENCE, plan, proxy::Proxy, text};
use crate::amqp::{AmqpDestination, Unusable};

/// Publishes to the queue by the default exchange; dead letters, to an exchange named like the queue.
fn destination(lab: &Lab) -> AmqpDestination {
    let made = AmqpDestination::new(&plan(&format!(
        r#"
        [connections.orders]
        amqp = "{0}"
        [triggers.billing]
        function = "f"
        event = {{ type = "order" }}
        on_success = {{ amqp = {{ connection = "orders", exchange = "", routing_key = "{1}" }} }}
        dead_letter = {{ amqp = {{ connection = "orders", exchange = "{1}.dead", routing_key = "k" }} }}
        [triggers.other]
        function = "f"
        event = {{ type = "other" }}
        on_success = {{ amqp = {{ connection = "orders", exchange = "amq.direct", routing_key = "{1}" }} }}
        "#,
        lab.url, lab.queue
    )));
    made.unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn action(trigger: &str, role: Role) -> OutboxAction {
    OutboxAction::PublishAmqp {
        trigger: trigger.to_owned(),
        role,
    }
}

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "trigger:billing".to_owned(),
        kind: "billed".to_owned(),
        subject: Some("Grüße".to_owned()),
        time: Timestamp(1_700_000_000_000),
        datacontenttype: Some("application/json".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        hops: 2,
        headers: vec![
            ("ce-attempt".to_owned(), "4".to_owned()),
            ("tidemill-reason".to_owned(), "out of luck".to_owned()),
            ("other".to_owned(), "stays".to_owned()),
        ],
        data: Bytes::from_static(b"{\"n\":1}"),
    }
}

/// What was said when it failed, for good or for now.
fn said(lab: &Lab, result: Result<(), PublishError>) -> String {
    let text = match result.unwrap_err() {
        PublishError::Failed(text) => format!("FAILED: {text}"),
        PublishError::Rejected(text) => format!("REJECTED: {text}"),
    };
    lab.blank(&text)
}

async fn publish(to: &AmqpDestination, event: &Event) -> Result<(), PublishError> {
    to.publish(&action("billing", Role::OnSuccess), event).await
}

async fn got(lab: &Lab) -> BasicGetMessage {
    lab.get(&lab.queue).await.expect("it was confirmed")
}

#[tokio::test]
async fn an_event_is_a_message_and_an_event_again() {
    let lab = Lab::new().await;
    let to = destination(&lab);
    publish(&to, &event("e-1")).await.unwrap();
    let message = got(&lab).await;
    let properties = &message.properties;
    assert_eq!(properties.message_id(), &Some("e-1".into()));
    assert_eq!(properties.kind(), &Some("billed".into()));
    assert_eq!(properties.content_type(), &Some("application/json".into()));
    assert_eq!(properties.delivery_mode(), &Some(2));
    let headers = properties.headers().as_ref().unwrap().inner();
    let mut shown: Vec<String> = Vec::new();
    for (name, value) in headers {
        shown.push(format!("{name}: {}", crate::amqp::value::text(value)));
    }
    insta::assert_snapshot!(shown.join("\n"));
    assert_eq!(headers.get("cloudEvents_id"), Some(&text("e-1")));

    publish(&to, &event("e-1")).await.unwrap();
    let intake = Fake::settling();
    let running = lab.start(&intake);
    let held = intake.given(1).await.remove(0);
    running.stop().await;
    assert!(held.stable);
    let mut again = held.event;
    let told = |(name, _): &(String, String)| name.starts_with("amqp-") || name == "traceparent";
    again.headers.retain(|header| !told(header));
    let mut sent = event("e-1");
    sent.headers.truncate(1);
    assert_eq!(again, sent);
    lab.clean().await;
}

#[tokio::test]
async fn what_is_not_taken_fails_with_words() {
    let lab = Lab::new().await;
    let to = destination(&lab);
    let mut texts = Vec::new();
    let mut push = |result| texts.push(said(&lab, result));

    // Another kind of action, and a trigger that is gone.
    let wrong = OutboxAction::Post {
        trigger: "billing".to_owned(),
        role: Role::OnSuccess,
    };
    push(to.publish(&wrong, &event("e")).await);
    push(
        to.publish(&action("gone", Role::OnSuccess), &event("e"))
            .await,
    );
    // No exchange; then one that leads nowhere.
    let dead = action("billing", Role::DeadLetter);
    push(to.publish(&dead, &event("e")).await);
    let name = format!("{}.dead", lab.queue);
    let made = lab.channel.exchange_declare(
        name.as_str().into(),
        ExchangeKind::Fanout,
        ExchangeDeclareOptions::default(),
        FieldTable::default(),
    );
    made.await.unwrap();
    push(to.publish(&dead, &event("e")).await);
    // Headers and a body that are too large.
    let mut large = event("e");
    large.headers = (0..40)
        .map(|n| (format!("ce-x{n}"), "v".repeat(4096)))
        .collect();
    push(publish(&to, &large).await);
    let mut large = event("e");
    large.data = vec![0; (128 << 20) + 1].into();
    push(publish(&to, &large).await);
    insta::assert_snapshot!(texts.join("\n"));

    // None of it is in the way of others.
    publish(&to, &event("e-2")).await.unwrap();
    assert_eq!(lab.ready().await, 1);
    lab.clean().await;
}

#[tokio::test]
async fn a_full_queue_does_not_take_it() {
    let lab = Lab::without_queue().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), 1.into());
    arguments.insert("x-overflow".into(), text("reject-publish"));
    let options = QueueDeclareOptions::default();
    let made = lab
        .channel
        .queue_declare(lab.queue.as_str().into(), options, arguments);
    made.await.unwrap();
    let to = destination(&lab);
    publish(&to, &event("e-1")).await.unwrap();
    insta::assert_snapshot!(said(&lab, publish(&to, &event("e-2")).await));
    assert_eq!(got(&lab).await.properties.message_id(), &Some("e-1".into()));
    publish(&to, &event("e-3")).await.unwrap();
    lab.clean().await;
}

/// What comes back is not taken for what was published at the same time, and the other way round.
#[tokio::test]
async fn each_hears_of_its_own_message() {
    let lab = Lab::new().await;
    let to = Arc::new(destination(&lab));
    let nowhere = action("other", Role::OnSuccess);
    let missing = action("billing", Role::DeadLetter);
    let here = action("billing", Role::OnSuccess);
    let results: Vec<(usize, Result<(), PublishError>)> = stream::iter(0..600)
        .map(|n| {
            let (to, action) = (&to, [&here, &nowhere, &missing][n % 3]);
            async move { (n, to.publish(action, &event(&n.to_string())).await) }
        })
        .buffer_unordered(200)
        .collect()
        .await;
    assert_eq!(results.len(), 600);
    for (n, result) in results {
        let words = match n % 3 {
            0 => {
                result.unwrap();
                continue;
            }
            1 => "leads to no queue",
            _ => "is not there",
        };
        let said = result.unwrap_err().to_string();
        assert!(said.contains(words), "{n}: {said}");
    }
    let mut ids = BTreeSet::new();
    while let Some(message) = lab.get(&lab.queue).await {
        ids.insert(
            message
                .properties
                .message_id()
                .as_ref()
                .unwrap()
                .to_string(),
        );
    }
    assert_eq!(ids, (0..600).step_by(3).map(|n| n.to_string()).collect());
    lab.clean().await;
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_anew() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::new(&lab.url).await;
    lab.url = format!("{}?heartbeat=1", proxy.through(&lab.url));
    let to = destination(&lab);
    publish(&to, &event("e-1")).await.unwrap();
    proxy.cut();
    proxy.has(0).await;
    let text = said(&lab, publish(&to, &event("e-2")).await);
    let text = text.replace(&proxy.port().to_string(), "PORT");
    assert!(text.starts_with("FAILED: "), "{text}");
    proxy.open();
    let again = async { while publish(&to, &event("e-2")).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    // Silence is noticed by the heartbeat, before the limit.
    proxy.freeze();
    let text = said(&lab, publish(&to, &event("e-3")).await);
    assert!(text.contains("silent for too long"), "{text}");
    proxy.open();
    let again = async { while publish(&to, &event("e-3")).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(lab.ready().await, 3);
    drop(to);
    lab.clean().await;
}

#[tokio::test]
async fn a_plan_that_cannot_be_used() {
    let made = AmqpDestination::new(&plan(
        r#"
        [connections.orders]
        amqp = "${file:/nowhere/at/all}"
        [triggers.billing]
        function = "f"
        event = { type = "order" }
        on_success = { amqp = { connection = "orders", exchange = "", routing_key = "q" } }
        dead_letter = { amqp = { connection = "orders", exchange = "e", routing_key = "k" } }
        "#,
    ));
    let errors = made.err().unwrap();
    let [Unusable::Reference { connection, .. }] = errors.as_slice() else {
        panic!("{errors:?}");
    };
    assert_eq!(connection, "orders");
}

#[tokio::test]
async fn a_fanout_confirms_what_all_queues_have() {
    let lab = Lab::new().await;
    let to = destination(&lab);
    let bound = lab.channel.queue_bind(
        lab.queue.as_str().into(),
        "amq.direct".into(),
        lab.queue.as_str().into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let other = action("other", Role::OnSuccess);
    to.publish(&other, &event("e-1")).await.unwrap();
    assert_eq!(got(&lab).await.exchange.as_str(), "amq.direct");
    lab.clean().await;
}
