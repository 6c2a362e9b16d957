//! The load: HTTP clients that keep their connections, each with one request under way, on one thread so that
//! little of the machine is theirs. Nothing of an answer is looked at but its status and its length.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};

use crate::measure::{Sample, Timer};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of the requests, the first tenth is to warm up.
const WARM: u64 = 10;

/// The same request, again and again.
#[derive(Clone)]
pub struct Load {
    address: String,
    request: Vec<u8>,
    status: u16,
}

impl Load {
    /// Posts this body to `path` of `address`, and expects this status.
    pub fn post(address: &str, path: &str, body: &[u8], status: u16) -> Load {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/octet-stream\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        Load {
            address: address.to_owned(),
            request: [head.as_bytes(), body].concat(),
            status,
        }
    }

    /// Sends so many requests over so many connections. `pid` is the process that answers.
    pub fn run(&self, requests: u64, connections: usize, pid: u32) -> Result<Sample> {
        block_on(async {
            let mut clients = self.connect_all(connections).await?;
            self.ask_all(&mut clients, requests / WARM).await?;
            let timer = Timer::of(pid)?;
            self.ask_all(&mut clients, requests).await?;
            timer.stop(requests)
        })
    }

    /// Sends so many requests over so many connections, and returns when all are answered.
    pub fn send(&self, requests: u64, connections: usize) -> Result<()> {
        block_on(async {
            let mut clients = self.connect_all(connections).await?;
            self.ask_all(&mut clients, requests).await
        })
    }

    async fn connect_all(&self, connections: usize) -> Result<Vec<Client>> {
        try_join_all((0..connections).map(|_| self.connect())).await
    }

    async fn ask_all(&self, clients: &mut [Client], requests: u64) -> Result<()> {
        let left = &AtomicU64::new(requests);
        let clients = clients.iter_mut().map(|client| async move {
            let take = |left: u64| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
            {
                client.ask(self).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(clients).await?;
        Ok(())
    }

    /// A client of its own.
    pub async fn connect(&self) -> Result<Client> {
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            read: Vec::with_capacity(4096),
        })
    }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(future)
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Sends the request, and reads the answer.
    pub async fn ask(&mut self, load: &Load) -> Result<()> {
        tokio::time::timeout(PATIENCE, self.try_ask(load))
            .await
            .map_err(|_| anyhow!("no answer within {PATIENCE:?}"))?
    }

    async fn try_ask(&mut self, load: &Load) -> Result<()> {
        self.stream.write_all(&load.request).await?;
        self.read.clear();
        let end = loop {
            ensure!(
                self.stream.read_buf(&mut self.read).await? > 0,
                "the connection was closed before the answer"
            );
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = std::str::from_utf8(&self.read[..end])?;
        let status: u16 = head
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("no status: {head}"))?;
        ensure!(status == load.status, "the answer is {head}");
        if is_chunked(head) {
            while !self.read.ends_with(b"0\r\n\r\n") {
                ensure!(self.stream.read_buf(&mut self.read).await? > 0, "cut off");
            }
            return Ok(());
        }
        let length = content_length(head);
        while self.read.len() < end + length {
            ensure!(
                self.stream.read_buf(&mut self.read).await? > 0,
                "the connection was closed within the answer"
            );
        }
        Ok(())
    }
}

fn content_length(head: &str) -> usize {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, value)| value.parse().unwrap_or(0))
}

fn is_chunked(head: &str) -> bool {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.any(|(name, value)| name.eq_ignore_ascii_case("transfer-encoding") && value == "chunked")
}
