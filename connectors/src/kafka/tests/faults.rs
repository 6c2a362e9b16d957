//! Brokers that fail: librdkafka's mock of them.

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_down_are_named_and_waited_for() {
    let cluster = MockCluster::new(1).unwrap();
    let mut lab = Lab::without_topic(cluster.bootstrap_servers());
    lab.properties = r#"{ "reconnect.backoff.max.ms" = "200" }"#.to_owned();
    cluster.create_topic(&lab.topic, 1, 1).unwrap();
    cluster.broker_down(1).unwrap();
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let begin = format!(
        "no broker of connection `telemetry` answers ({}): ",
        lab.brokers
    );
    member
        .reached("trouble", |status| {
            let trouble = status.trouble.as_deref().unwrap_or_default();
            !status.ready
                && trouble.starts_with(&begin)
                && trouble.ends_with("; it is tried until one does")
        })
        .await;
    cluster.broker_up(1).unwrap();
    member
        .reached("health", |status| status.ready && status.partitions == 1)
        .await;
    lab.produce(0, 0..3).await;
    fake.given(3).await;
    // And again, while it reads.
    cluster.broker_down(1).unwrap();
    member.reached("trouble", |status| !status.ready).await;
    cluster.broker_up(1).unwrap();
    member.reached("health", |status| status.ready).await;
    lab.produce(0, 3..4).await;
    fake.given(4).await;
    member.stop().await;
    assert_eq!(fake.places().len(), 4, "and none came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_may_not_be_read_is_named_and_tried_again() {
    let cluster = MockCluster::new(1).unwrap();
    let lab = Lab::without_topic(cluster.bootstrap_servers());
    cluster.create_topic(&lab.topic, 1, 1).unwrap();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 2];
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &refused);
    let fake = Fake::settling();
    let member = lab.run(&fake);
    let expected = format!(
        "connection `telemetry` does not let us join group `{}`; allow its user to read it",
        lab.group
    );
    let trouble = |status: &Status| status.trouble.as_deref() == Some(&expected) && !status.ready;
    member.reached("trouble", trouble).await;
    member
        .reached("health", |status| status.ready && status.partitions == 1)
        .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_in_time_though_no_broker_answers() {
    let cluster = MockCluster::new(1).unwrap();
    let lab = Lab::without_topic(cluster.bootstrap_servers());
    cluster.create_topic(&lab.topic, 1, 1).unwrap();
    let fake = Fake::settling();
    let member = lab.run(&fake);
    member
        .reached("health", |status| status.ready && status.partitions == 1)
        .await;
    lab.produce(0, 0..3).await;
    fake.given(3).await;
    cluster.broker_down(1).unwrap();
    let begin = std::time::Instant::now();
    member.stop().await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
}
