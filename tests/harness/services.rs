//! Brokers: the addresses of the shared ones, and private ones that a test may stop and kill.
//!
//! How a broker is started is known to tests/services alone.

#[path = "../services/addresses.rs"]
mod addresses;
#[path = "../services/private.rs"]
mod private;

use std::net::TcpStream;

pub use addresses::{amqp_url, kafka_brokers, s3_endpoint, second_s3_endpoint};
pub use private::{Broker, free_port, root};

#[test]
fn the_shared_brokers_take_clients() {
    let amqp = amqp_url();
    let (_, amqp) = amqp.rsplit_once('@').expect("a user");
    let (amqp, _) = amqp.split_once('/').expect("a virtual host");
    TcpStream::connect(amqp).expect("RabbitMQ listens");
    TcpStream::connect(kafka_brokers()).expect("Kafka listens");
    let s3 = s3_endpoint();
    let s3 = s3.strip_prefix("http://").expect("a URL");
    TcpStream::connect(s3).expect("S3 listens");
}

#[test]
fn a_private_broker_survives_a_stop_and_a_kill_and_leaves_nothing() {
    std::thread::scope(|scope| {
        for start in [Broker::rabbitmq, Broker::kafka, Broker::s3] {
            scope.spawn(move || {
                let broker = start();
                let (dir, port) = (broker.dir().to_owned(), broker.port());
                assert!(broker.listens());
                assert!(broker.url().contains(&format!("127.0.0.1:{port}")));
                broker.kill();
                assert!(!broker.listens());
                broker.start_again();
                broker.stop();
                assert!(!broker.listens());
                broker.start_again();
                drop(broker);
                assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
                assert!(!dir.exists());
            });
        }
    });
}
