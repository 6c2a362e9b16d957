//! The bare server of durable requests: hyper, one path, one SQLite file. No limits, no looks at headers, no
//! handler.

use std::{
    convert::Infallible,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, params};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use crate::commits::Commits;

const TABLE: &str =
    "CREATE TABLE events (event INTEGER PRIMARY KEY, id TEXT, time INTEGER, data BLOB) STRICT";

/// A request's body on its way into the file.
pub struct Accept {
    id: String,
    data: Bytes,
    durable: oneshot::Sender<()>,
}

/// Serves until the process ends.
pub fn serve() -> Result<()> {
    let commits = Commits::open(Path::new("floor.db"), TABLE, insert, |group| {
        for accept in group {
            accept.durable.send(()).ok();
        }
    })?;
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let sender = commits.sender.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let sender = sender.clone();
                    async move { Ok::<_, Infallible>(respond(request, sender).await) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connection.await.ok();
            });
        }
    })
}

async fn respond(
    request: Request<Incoming>,
    sender: mpsc::Sender<Accept>,
) -> Response<Full<Bytes>> {
    match accept(request, sender).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(Full::from(format!("{error:#}")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

async fn accept(
    request: Request<Incoming>,
    sender: mpsc::Sender<Accept>,
) -> Result<Response<Full<Bytes>>> {
    anyhow::ensure!(
        request.method() == Method::POST && request.uri().path() == "/work",
        "there is one path"
    );
    let data = request.into_body().collect().await?.to_bytes();
    let id = format!("{:032x}", fastrand::u128(..));
    let body = format!("{{\"id\":\"{id}\"}}");
    let (durable, done) = oneshot::channel();
    let accept = Accept { id, data, durable };
    sender.send(accept).await?;
    done.await?;
    let response = Response::builder()
        .status(StatusCode::ACCEPTED)
        .header(header::CONTENT_TYPE, "application/json");
    Ok(response.body(Full::from(body))?)
}

fn insert(connection: &Connection, accept: &Accept) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO events (id, time, data) VALUES (?1, ?2, ?3)")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    insert.execute(params![accept.id, now, &accept.data[..]])?;
    Ok(())
}
