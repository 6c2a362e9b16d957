//! The connector against real sockets and an intake in memory. Clients write their requests byte by
//! byte, for most of what goes wrong cannot be said with a proper client.

mod cors;
mod crowd;
mod fake;
mod malformed;
mod replies;
mod requests;
mod slow;
mod stop;
mod verify;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tidemill_config::{
    plan::{HttpSource, Mode},
    reference::Text,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Health, HttpConnector, Route, tuning::Tuning};
use fake::Fake;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running connector.
struct World {
    address: SocketAddr,
    intake: Arc<Fake>,
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    async fn new(routes: Vec<Route>) -> World {
        World::with(routes, Tuning::STANDARD, PATIENCE).await
    }

    async fn with(routes: Vec<Route>, tuning: Tuning, drain: Duration) -> World {
        let any = "127.0.0.1:0".parse().unwrap();
        let connector = HttpConnector::with(any, routes, tuning).unwrap();
        let health = connector.health();
        let bound = connector.bind().await.unwrap();
        let (intake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
        World {
            address: bound.local_addr(),
            health,
            task: tokio::spawn(bound.run(intake.clone(), stop.clone(), drain)),
            intake,
            stop,
        }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends one request on a connection of its own. `head` is its first line and headers.
    async fn ask(&self, head: &str, body: impl AsRef<[u8]>) -> Response {
        let mut client = self.connect().await;
        client.send(head, body).await;
        client.response().await
    }

    /// Waits until so many are open.
    async fn connections(&self, count: u64) {
        let reached = async {
            while self.health.status().connections != count {
                tokio::task::yield_now().await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("{:?}", self.health.status()));
    }

    async fn stop(self) {
        self.stop.cancel();
        let stopped = timeout(PATIENCE, self.task).await;
        stopped.expect("it ends").unwrap();
        assert!(!self.health.status().listening);
        assert_eq!(self.health.status().connections, 0);
    }
}

/// A connection.
struct Client(TcpStream);

#[derive(Debug)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Client {
    async fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A request with the length of its body, if it has one.
    async fn send(&mut self, head: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let mut text = format!("{line} HTTP/1.1\r\nhost: test\r\n");
        for header in headers.lines() {
            text.push_str(&format!("{}\r\n", header.trim()));
        }
        if !body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        self.raw([text.as_bytes(), body].concat()).await;
    }

    async fn response(&mut self) -> Response {
        self.response_to(true).await
    }

    async fn response_to(&mut self, has_body: bool) -> Response {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match timeout(PATIENCE, self.0.read_u8()).await.unwrap() {
                Ok(byte) => head.push(byte),
                Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            let values = headers.entry(name.to_owned()).or_default();
            if !values.is_empty() {
                values.push_str(", ");
            }
            values.push_str(value);
        }
        let length = headers.get("content-length").filter(|_| has_body);
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        let read = timeout(PATIENCE, self.0.read_exact(&mut body)).await;
        read.unwrap().unwrap();
        Response {
            status: status.parse().unwrap(),
            headers,
            body,
        }
    }

    /// Everything until the connection ends, well or not.
    async fn rest(&mut self) -> String {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = timeout(PATIENCE, self.0.read(&mut some))
            .await
            .expect("the connection ends")
        {
            all.extend_from_slice(&some[..read]);
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// It is a refusal in whole sentences.
    #[track_caller]
    fn refused(&self, status: u16, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json = self.json();
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
    }
}

/// A trigger of `METHODS path`, such as `GET,POST /a`.
fn route(trigger: &str, what: &str) -> Route {
    let (methods, path) = what.split_once(' ').unwrap();
    Route {
        trigger: trigger.to_owned(),
        source: HttpSource {
            path: path.to_owned(),
            methods: methods.split(',').map(str::to_owned).collect(),
            mode: Mode::Async,
            max_body: 1 << 20,
            verify: None,
            cors: None,
        },
        hook: None,
    }
}

/// The same for clients that wait.
fn sync(trigger: &str, what: &str) -> Route {
    let mut route = route(trigger, what);
    route.source.mode = Mode::Sync;
    route
}

/// A text of the plan.
fn text(value: &str) -> Text {
    let file = format!("[functions.f]\ncomponent = \"f.wasm\"\nenv = {{ TEXT = {value:?} }}\n");
    let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &file).unwrap();
    loaded.plan.functions["f"].env["TEXT"].clone()
}
