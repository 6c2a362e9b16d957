//! Brokers: the addresses of the shared ones, and private ones that a test may stop and kill.
//!
//! How a broker is started is known to tests/services alone.

#[path = "../services/addresses.rs"]
mod addresses;

use std::{
    fs::{self, File},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{free_port, root};

pub use addresses::{amqp_url, kafka_brokers, s3_endpoint};

/// A broker of one test's own. Killed, and its data deleted, when dropped.
pub struct Broker {
    script: PathBuf,
    dir: TempDir,
    port: u16,
    address: String,
}

impl Broker {
    /// Starts RabbitMQ, and waits until it takes clients.
    pub fn rabbitmq() -> Broker {
        Broker::new("rabbitmq")
    }

    /// Starts Kafka, and waits until it takes clients.
    pub fn kafka() -> Broker {
        Broker::new("kafka")
    }

    /// Starts a server that speaks S3 and SQS, and waits until it takes clients. It keeps no data.
    pub fn s3() -> Broker {
        Broker::new("moto")
    }

    fn new(service: &str) -> Broker {
        let private = root().join("target/services/private");
        fs::create_dir_all(&private).expect("it is made");
        // By these names `make services-stop` finds what a killed test has left.
        let prefix = format!("{service}-");
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(private);
        let mut broker = Broker {
            script: root().join(format!("tests/services/{service}.sh")),
            dir: dir.expect("a folder"),
            port: free_port(),
            address: String::new(),
        };
        broker.address = broker.run("start");
        broker
    }

    /// Where clients find it: the URL of RabbitMQ or of S3, the `host:port` of Kafka. Stays the same.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// Stops it in good order. It keeps its data, but for S3.
    pub fn stop(&self) {
        self.run("stop");
    }

    /// Ends it as a power cut would. It keeps its data, but of a quorum queue declared in the last
    /// 5 s RabbitMQ 3 forgets the leader for good: `stop` and `start_again` after declaring help.
    pub fn kill(&self) {
        self.run("kill");
    }

    /// Starts it on the same port with the same data, after `stop` or `kill`.
    pub fn start_again(&self) {
        self.run("start");
    }

    /// A command of RabbitMQ's own tool.
    pub fn rabbitmqctl(&self, args: &[&str]) {
        let output = Command::new(&self.script)
            .args(["ctl".as_ref(), self.dir.path().as_os_str()])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the script runs");
        let (out, errors) = super::texts(&output);
        assert!(output.status.success(), "{args:?}: {out}{errors}");
    }

    /// Whether something listens at its address.
    pub fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// A command of the script; what it prints.
    fn run(&self, command: &str) -> String {
        let (ended, out, errors) = self.try_run(command);
        assert!(
            ended,
            "{} {command} failed:\n{errors}",
            self.script.display()
        );
        out.trim().to_owned()
    }

    fn try_run(&self, command: &str) -> (bool, String, String) {
        // Into files: a broker that inherited a pipe would hold it open.
        let [out, errors] = ["out", "err"].map(|name| self.dir.path().join(name));
        let file = |path| Stdio::from(File::create(path).expect("it is made"));
        let status = Command::new(&self.script)
            .args([command.as_ref(), self.dir.path().as_os_str()])
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&errors))
            .status()
            .expect("the script runs");
        // `remove` takes them away.
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        (status.success(), text(&out), text(&errors))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (ended, _, errors) = self.try_run("remove");
        if !ended {
            println!("a broker may be left: {errors}");
        }
    }
}

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
                let (dir, port) = (broker.dir.path().to_owned(), broker.port);
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
