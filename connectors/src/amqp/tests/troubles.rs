//! What is said when something is wrong.

use std::path::Path;

use tempfile::NamedTempFile;

use super::{Fake, Lab, Running, Unusable, connector, plan, proxy::Proxy};
use crate::amqp::AmqpConnector;

/// A connector for an address that is in a file: what is in the plan itself was checked before.
fn in_file(lab: &Lab, file: &Path) -> Result<AmqpConnector, Unusable> {
    connector(&plan(&format!(
        r#"
        [connections.orders]
        amqp = "${{file:{}}}"
        [triggers.billing]
        function = "f"
        amqp = {{ connection = "orders", queue = "{}" }}
        "#,
        file.display(),
        lab.queue
    )))
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// What a connector for this address says when it cannot begin.
async fn trouble(lab: &Lab, connector: AmqpConnector) -> String {
    let running = Running::new(connector, &Fake::settling());
    let trouble = running.trouble().await;
    running.stop().await;
    assert!(!trouble.contains("s3cret"), "{trouble}");
    lab.blank(&trouble)
}

#[tokio::test]
async fn brokers_that_refuse() {
    let lab = Lab::without_queue().await;
    let (_, broker) = lab.url.split_once('@').unwrap();
    let (broker, _) = broker.split_once('/').unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = free.local_addr().unwrap().port();
    drop(free);
    let cases = [
        ("password", format!("amqp://guest:s3cret@{broker}/%2f")),
        (
            "virtual-host",
            format!("amqp://guest:guest@{broker}/nowhere"),
        ),
        (
            "empty-virtual-host",
            format!("amqp://guest:guest@{broker}/"),
        ),
        ("queue", format!("amqp://guest:guest@{broker}/%2f")),
        (
            "refused",
            format!("amqp://guest:guest@127.0.0.1:{refused}/%2f"),
        ),
        (
            "host",
            "amqp://guest:guest@nowhere.invalid:1/%2f".to_owned(),
        ),
    ];
    for (name, url) in cases {
        let file = file(&url);
        let said = trouble(&lab, in_file(&lab, file.path()).unwrap()).await;
        let said = said.replace(&refused.to_string(), "REFUSED");
        insta::assert_snapshot!(name, said);
    }
}

#[tokio::test]
async fn a_broker_without_permission() {
    let lab = Lab::new().await;
    // Queues of this prefix are the broker's own.
    let said = trouble(
        &lab,
        connector(&plan(&format!(
            r#"
            [connections.orders]
            amqp = "{}"
            [triggers.billing]
            function = "f"
            amqp = {{ connection = "orders", queue = "amq.{}", declare = true }}
            "#,
            lab.url, lab.queue
        )))
        .unwrap(),
    )
    .await;
    insta::assert_snapshot!(said);
    lab.clean().await;
}

#[tokio::test]
async fn somebody_has_the_queue_for_himself() {
    let lab = Lab::without_queue().await;
    let exclusive = lapin::options::QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let made = lab.channel.queue_declare(
        lab.queue.as_str().into(),
        exclusive,
        lapin::types::FieldTable::default(),
    );
    made.await.unwrap();
    let said = trouble(&lab, connector(&lab.plan()).unwrap()).await;
    insta::assert_snapshot!(said);
    lab.clean().await;
}

#[tokio::test]
async fn a_name_with_another_meaning() {
    let mut lab = Lab::without_queue().await;
    lab.declare = true;
    // What is to take the dead letters is there, as a queue of another type.
    lab.make_other(&format!("{}.dead", lab.queue), true, &[])
        .await;
    let said = trouble(&lab, connector(&lab.plan()).unwrap()).await;
    insta::assert_snapshot!(said);
    lab.clean().await;
}

#[tokio::test]
async fn addresses_that_are_none() {
    let lab = Lab::without_queue().await;
    let cases = [
        ("scheme", "http://guest:s3cret@localhost"),
        ("no-host", "amqp:///%2f"),
        ("port", "amqp://guest:s3cret@localhost:99999/"),
        (
            "heartbeat",
            "amqp://guest:s3cret@localhost/?heartbeat=often",
        ),
        ("no-url", "guest:s3cret@localhost"),
    ];
    for (name, url) in cases {
        let Err(error) = in_file(&lab, file(url).path()) else {
            panic!("{url} is taken");
        };
        let said = error.to_string();
        assert!(!said.contains("s3cret"), "{said}");
        insta::assert_snapshot!(name, said);
    }
    let gone = file("");
    let path = gone.path().to_owned();
    drop(gone);
    let error = in_file(&lab, &path).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&path.display().to_string()), "{cause}");
    insta::assert_snapshot!("missing-file", error.to_string());

    let mut long = lab;
    long.queue = "q".repeat(251);
    assert!(connector(&long.plan()).is_ok());
    long.declare = true;
    let Err(error @ Unusable::TooLong(_)) = connector(&long.plan()) else {
        panic!("there is room for 255 bytes only");
    };
    insta::assert_snapshot!("too-long", long.blank(&error.to_string()));
}

#[tokio::test]
async fn tls() {
    let mut lab = Lab::new().await;
    let proxy = Proxy::with_tls(&lab.url).await;
    lab.url = proxy.through(&lab.url);
    lab.send_some(0, 3).await;

    let mut trusting = connector(&lab.plan()).unwrap();
    trusting.broker.tls.cert_chain = proxy.certificate.clone();
    let intake = Fake::settling();
    let running = Running::new(trusting, &intake);
    running.reached("three", |status| status.settled == 3).await;
    running.stop().await;

    let said = trouble(&lab, connector(&lab.plan()).unwrap()).await;
    insta::assert_snapshot!(said);

    // A broker without TLS.
    let plain = Proxy::new(&super::services::amqp_url()).await;
    let url = plain
        .through(&super::services::amqp_url())
        .replacen("amqp", "amqps", 1);
    let file = file(&url);
    let said = trouble(&lab, in_file(&lab, file.path()).unwrap()).await;
    insta::assert_snapshot!("no-tls", said.replace(&plain.port().to_string(), "PORT"));
    lab.clean().await;
}

#[tokio::test]
async fn a_password_that_is_changed_in_its_file_is_used() {
    let lab = Lab::new().await;
    let wrong = lab.url.replacen(":guest@", ":s3cret@", 1);
    assert_ne!(wrong, lab.url);
    let file = file(&wrong);
    let running = Running::new(in_file(&lab, file.path()).unwrap(), &Fake::settling());
    let said = running.trouble().await;
    assert!(said.contains("refuses the user"), "{said}");
    std::fs::write(file.path(), &lab.url).unwrap();
    running.ready().await;
    running.stop().await;
    lab.clean().await;
}
