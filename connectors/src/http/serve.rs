//! Connections: let in, bounded in number, served one by one in tasks of their own, and ended.
//! What their requests ask for is not looked at here.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tidemill_core::limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    crowd::{Seat, Seated, Serving},
    handle::Server,
    pace::{Busy, Paced, Phase},
    tuning::{NO_FILES, REFUSAL, REFUSING},
};

/// Lets clients in until `stop`; then requests under way have `drain` to end.
pub(super) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    stop: CancellationToken,
    drain: Duration,
) {
    server.health.listening(true);
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    let refusing = Arc::new(Semaphore::new(REFUSING));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                tracing::error!(
                    %error,
                    "cannot let HTTP clients in, and tries again; if it is for want of open files, raise their limit (`ulimit -n`)"
                );
                stop.run_until_cancelled(sleep(NO_FILES)).await;
                continue;
            }
        };
        if let Ok(permit) = server.connections.clone().try_acquire_owned() {
            let seat = Arc::<Seat>::default();
            let served = connection(
                server.clone(),
                stream,
                seat.clone(),
                stop.clone(),
                cut.clone(),
            );
            let run = async move {
                served.await;
                drop(permit);
            };
            Serving::spawn(run, seat, server.crowd.clone(), tasks.token());
        } else {
            server.health.turned_away();
            if let Ok(permit) = refusing.clone().try_acquire_owned() {
                tasks.spawn(async move {
                    // Whether it read this or not, it is let go.
                    let _ = timeout(REFUSAL, turn_away(stream)).await;
                    drop(permit);
                });
            }
        }
    }
    server.health.listening(false);
    drop(listener);
    tasks.close();
    if timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "HTTP clients wait longer than engine.drain and are cut off"
        );
        cut.cancel();
        tasks.wait().await;
    }
}

/// Serves the requests of one connection: after `stop` only the one under way, and after `cut` none.
async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    seat: Arc<Seat>,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    let _connected = server.health.connected();
    // Answers are written whole, and are not to wait for more.
    let _ = stream.set_nodelay(true);
    let phase = Phase::default();
    let stream = Seated::new(stream, seat.clone());
    let stream = TokioIo::new(Paced::new(stream, phase.clone(), &server.tuning));
    let service = |request: Request<Incoming>| {
        let (server, seat, busy) = (server.clone(), seat.clone(), phase.busy());
        async move {
            let response = server.respond(request, &seat).await;
            Ok::<_, Infallible>(response.map(|body| Answer { body, _busy: busy }))
        }
    };
    let mut http = http1::Builder::new();
    http.header_read_timeout(None) // `Paced` has its own.
        .max_headers(limits::HTTP_HEADERS)
        .max_header_size(limits::HTTP_HEAD)
        .max_buf_size(limits::HTTP_HEAD);
    let mut served = pin!(http.serve_connection(stream, service_fn(service)));
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => Some(ended),
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            cut.run_until_cancelled(served).await
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// Tells a client that there are too many, and waits for it to read that.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    let body = r#"{"error":"too many clients are connected; come again a little later"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closed with a request unread, it would be reset, and the answer lost.
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Whether the client is gone already, and nobody else is to blame.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// The body of an answer. The request is under way until it is written.
struct Answer {
    body: Full<Bytes>,
    _busy: Busy,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
