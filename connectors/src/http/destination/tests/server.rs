//! A server that answers every request with the same bytes, and notes what it is sent.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tidemill_core::event::Field;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a server answers to every request; empty, nothing at all.
type Answer = Arc<[u8]>;

/// The server. It answers until it is dropped.
pub(super) struct Server {
    /// Its address, without a path.
    pub url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    answer: Answer,
    connections: AtomicUsize,
    closed: Notify,
    requests: Mutex<Vec<Received>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Received {
    pub line: String,
    pub headers: Vec<Field>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, v)| v.as_str());
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }
}

impl Server {
    pub async fn new(answer: impl AsRef<[u8]>) -> Server {
        Server::with(answer, None).await
    }

    pub async fn with(answer: impl AsRef<[u8]>, tls: Option<TlsAcceptor>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            answer: answer.as_ref().into(),
            connections: AtomicUsize::new(0),
            closed: Notify::new(),
            requests: Mutex::default(),
        });
        let url = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (tls, state) = (tls.clone(), shared.clone());
                tokio::spawn(async move {
                    match tls {
                        None => talk(tcp, &state).await,
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(stream) => talk(stream, &state).await,
                            Err(_) => None,
                        },
                    };
                    state.closed.notify_one();
                });
            }
        });
        Server { url, state, task }
    }

    pub fn requests(&self) -> Vec<Received> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Waits until a connection has ended.
    pub async fn closed(&self) {
        self.state.closed.notified().await;
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers until the other side has gone.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = read.split_off(end + 4);
                break std::mem::replace(&mut read, rest);
            }
            more(&mut stream, &mut read).await?;
        };
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<Field> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.unwrap().1.parse().unwrap();
        while read.len() < length {
            more(&mut stream, &mut read).await?;
        }
        let rest = read.split_off(length);
        let body = String::from_utf8(std::mem::replace(&mut read, rest)).unwrap();
        let received = Received {
            line,
            headers,
            body,
        };
        state.requests.lock().unwrap().push(received);
        stream.write_all(&state.answer).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<()> {
    let count = stream.read_buf(read).await.ok()?;
    (count > 0).then_some(())
}
