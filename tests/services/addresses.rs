//! Where the services listen that `make services` starts. The connectors' tests and the end-to-end tests
//! and the benchmarks include this file, by path; it starts nothing.

use std::path::Path;

/// RabbitMQ's address, as a URL with user and password.
pub fn amqp_url() -> String {
    address("TIDEMILL_TEST_AMQP", "amqp.address")
}

/// Kafka's address, as `host:port`.
pub fn kafka_brokers() -> String {
    address("TIDEMILL_TEST_KAFKA", "kafka.address")
}

/// The endpoint of the server that speaks S3 and SQS, as a URL.
pub fn s3_endpoint() -> String {
    address("TIDEMILL_TEST_S3", "s3.address")
}

/// The endpoint of another server that speaks S3, which takes unsigned requests alone, as a URL.
#[allow(dead_code, reason = "not all who include this need it")]
pub fn second_s3_endpoint() -> String {
    address("TIDEMILL_TEST_S3S", "s3s.address")
}

fn address(variable: &str, file: &str) -> String {
    if let Ok(address) = std::env::var(variable) {
        return address;
    }
    // Of the package that includes this, or of the repository above it.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut files = folders.map(|folder| folder.join("target/services").join(file));
    match files.find_map(|path| std::fs::read_to_string(path).ok()) {
        Some(address) => address.trim().to_owned(),
        None => panic!(
            "neither {variable} nor target/services/{file} is there: run `make services` first"
        ),
    }
}
