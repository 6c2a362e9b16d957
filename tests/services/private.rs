//! Private brokers, which a test may stop and kill. The connectors' tests and the end-to-end tests include
//! this file, by path.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

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

    /// Starts Kafka with these properties besides; see kafka.sh. It never runs in Docker.
    pub fn kafka_with(properties: &str) -> Broker {
        let broker = Broker::prepare("kafka");
        let more = broker.dir.path().join("more.properties");
        fs::write(more, properties).expect("it is written");
        broker.begin()
    }

    /// Starts a server that speaks S3 and SQS, and waits until it takes clients. It keeps no data.
    pub fn s3() -> Broker {
        Broker::new("moto")
    }

    fn new(service: &str) -> Broker {
        Broker::prepare(service).begin()
    }

    fn prepare(service: &str) -> Broker {
        let private = root().join("target/services/private");
        fs::create_dir_all(&private).expect("it is made");
        // By these names `make services-stop` finds what a killed test has left.
        let prefix = format!("{service}-");
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(private);
        Broker {
            script: root().join(format!("tests/services/{service}.sh")),
            dir: dir.expect("a folder"),
            port: free_port(),
            address: String::new(),
        }
    }

    fn begin(mut self) -> Broker {
        self.address = self.run("start");
        self
    }

    /// Where it keeps its data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
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
        self.tool("ctl", args);
    }

    /// A command of kafka-configs.
    #[allow(
        dead_code,
        reason = "not everybody who includes this has users of Kafka"
    )]
    pub fn kafka_configs(&self, args: &[&str]) {
        self.tool("configs", args);
    }

    fn tool(&self, tool: &str, args: &[&str]) {
        let output = Command::new(&self.script)
            .args([tool.as_ref(), self.dir.path().as_os_str()])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the script runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
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

/// A port that is free, and that the system gives to nobody who asks for any: so an engine that is
/// killed finds it free again.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(free).expect("there is one")
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crates with tests of brokers are folders of the root");
    root.to_owned()
}
