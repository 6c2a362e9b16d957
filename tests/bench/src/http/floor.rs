//! The bare server of durable requests: axum, one route, one SQLite file. No limits, no looks at headers, no handler.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing,
    serve::ListenerExt as _,
};
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
    let app = Router::new()
        .route("/work", routing::post(accept))
        .with_state(commits.sender.clone());
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            stream.set_nodelay(true).ok();
        });
        axum::serve(listener, app).await?;
        Ok(())
    })
}

async fn accept(State(sender): State<mpsc::Sender<Accept>>, data: Bytes) -> Response {
    let id = format!("{:032x}", fastrand::u128(..));
    let body = format!("{{\"id\":\"{id}\"}}");
    let (durable, done) = oneshot::channel();
    let accept = Accept { id, data, durable };
    if sender.send(accept).await.is_err() || done.await.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the writer has ended").into_response();
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::ACCEPTED, json, body).into_response()
}

fn insert(connection: &Connection, accept: &Accept) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO events (id, time, data) VALUES (?1, ?2, ?3)")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    insert.execute(params![accept.id, now, &accept.data[..]])?;
    Ok(())
}
