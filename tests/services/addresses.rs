//! Where the brokers listen that `make services` starts. The connectors' tests and the end-to-end tests
//! both include this file, by path; it starts nothing.

use std::path::Path;

/// RabbitMQ's address, as a URL with user and password.
pub fn amqp_url() -> String {
    address("TIDEMILL_TEST_AMQP", "amqp.address")
}

/// Kafka's address, as `host:port`.
pub fn kafka_brokers() -> String {
    address("TIDEMILL_TEST_KAFKA", "kafka.address")
}

fn address(variable: &str, file: &str) -> String {
    if let Ok(address) = std::env::var(variable) {
        return address;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../target/services").join(file);
    match std::fs::read_to_string(&path) {
        Ok(address) => address.trim().to_owned(),
        Err(_) => panic!(
            "neither {variable} nor {} is there: run `make services` first",
            path.display()
        ),
    }
}
