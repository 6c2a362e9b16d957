//! What `tidemill check --connect` says of a broker.

use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use super::{Lab, plan};
use crate::{
    amqp::{
        check::{self, properties},
        error,
        topology::{NOT_FOUND, is_there},
    },
    check::Finding,
};

async fn findings(lab: &Lab, text: &str) -> String {
    let show = |finding: &Finding| {
        let Finding {
            severity,
            place,
            problem,
            help,
        } = finding;
        format!("{severity:?} at {place}: {problem}\n  {help}\n")
    };
    let found = check::check(&plan(text)).await;
    lab.blank(&found.iter().map(show).collect::<String>())
}

fn consuming(lab: &Lab) -> String {
    format!(
        r#"
        [connections.orders]
        amqp = "{}"
        [triggers.billing]
        function = "f"
        amqp = {{ connection = "orders", queue = "{}" }}
        [triggers.also]
        function = "f"
        amqp = {{ connection = "orders", queue = "{1}" }}
        "#,
        lab.url, lab.queue
    )
}

#[tokio::test]
async fn queues() {
    let lab = Lab::without_queue().await;
    let text = consuming(&lab);
    insta::assert_snapshot!("no-queue", findings(&lab, &text).await);
    let declared = text.replace("\" }", "\", declare = true }");
    assert_eq!(findings(&lab, &declared).await, "");

    lab.make(&[]).await;
    assert_eq!(findings(&lab, &text).await, "");
    lab.delete().await;

    lab.make_other(&lab.queue, false, &[]).await;
    insta::assert_snapshot!("not-durable", findings(&lab, &text).await);
    lab.delete().await;

    let quorum = ("x-queue-type", "quorum");
    lab.make(&[quorum]).await;
    insta::assert_snapshot!("no-dead-letters", findings(&lab, &text).await);
    lab.send_some(0, 1).await;
    assert_eq!(lab.ready().await, 1);
    lab.delete().await;

    lab.make(&[quorum, ("x-dead-letter-exchange", "amq.fanout")])
        .await;
    assert_eq!(findings(&lab, &text).await, "");
    lab.delete().await;

    // What is asked for is found behind other arguments, too.
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), super::text("quorum"));
    arguments.insert("x-expires".into(), AMQPValue::LongInt(3_600_000));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(5));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1000));
    arguments.insert("x-overflow".into(), super::text("reject-publish"));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let made = lab
        .channel
        .queue_declare(lab.queue.as_str().into(), durable, arguments);
    made.await.unwrap();
    insta::assert_snapshot!("no-dead-letters", findings(&lab, &text).await);
    lab.delete().await;

    let passing = QueueDeclareOptions {
        auto_delete: true,
        ..durable
    };
    let table = FieldTable::default();
    let made = lab
        .channel
        .queue_declare(lab.queue.as_str().into(), passing, table);
    made.await.unwrap();
    insta::assert_snapshot!("auto-delete", findings(&lab, &text).await);
    lab.clean().await;
}

#[tokio::test]
async fn destinations() {
    let lab = Lab::without_queue().await;
    let text = format!(
        r#"
        [connections.orders]
        amqp = "{0}"
        [triggers.billing]
        function = "f"
        event = {{ type = "order" }}
        on_success = {{ amqp = {{ connection = "orders", exchange = "", routing_key = "{1}" }} }}
        dead_letter = {{ amqp = {{ connection = "orders", exchange = "{1}", routing_key = "k" }} }}
        [triggers.other]
        function = "f"
        event = {{ type = "other" }}
        on_success = {{ amqp = {{ connection = "orders", exchange = "amq.topic", routing_key = "k" }} }}
        "#,
        lab.url, lab.queue
    );
    insta::assert_snapshot!(findings(&lab, &text).await);
    lab.make(&[]).await;
    assert!(!findings(&lab, &text).await.contains("on_success"));
    lab.clean().await;
}

#[tokio::test]
async fn brokers() {
    let lab = Lab::without_queue().await;
    let wrong = lab.url.replacen(":guest@", ":s3cret@", 1);
    let text = consuming(&lab).replace(&lab.url, &wrong);
    let refused = r#"
        [connections.another]
        amqp = "${file:/nowhere/at/all}"
        "#;
    insta::assert_snapshot!(findings(&lab, &format!("{refused}{text}")).await);
}

#[tokio::test]
async fn asking_makes_no_queue() {
    let lab = Lab::without_queue().await;
    let asked = properties(&lab.connection, &lab.queue).await;
    assert!(asked.is_none(), "{asked:?}");
    let there = is_there(&lab.connection, &lab.queue).await.unwrap_err();
    assert_eq!(error::code(&there), NOT_FOUND);
}
