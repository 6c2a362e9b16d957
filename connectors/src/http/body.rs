//! Reading a body within its bounds: its size, the room there is in memory, and its pace.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::{Body, Incoming},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    budget::Room,
    refusal::{Refusal, busy},
    tuning::Tuning,
};

/// By how much room is made for a body that does not say how long it is.
const STEP: usize = 64 << 10;

/// The body of a request.
pub(super) struct Inbound {
    body: Incoming,
    /// The client waits to be asked for it.
    expects: bool,
    /// Its end has come, the right one or not.
    ended: bool,
    broken: bool,
}

impl Inbound {
    pub(super) fn new(body: Incoming, expects: bool) -> Inbound {
        Inbound {
            ended: body.is_end_stream(),
            body,
            expects,
            broken: false,
        }
    }

    /// Refuses a body that says beforehand that it is too large.
    pub(super) fn check(&self, max: usize) -> Result<(), Refusal> {
        match self.body.size_hint().exact() {
            Some(length) if length > max as u64 => Err(too_large(max)),
            _ => Ok(()),
        }
    }

    /// Reads it to its end, at most `max` bytes.
    pub(super) async fn read(
        &mut self,
        max: usize,
        room: &mut Room<'_>,
        tuning: &Tuning,
    ) -> Result<Bytes, Refusal> {
        let declared = self.body.size_hint().exact();
        let declared = declared.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let mut reserved = declared.unwrap_or(0);
        if !room.grow(reserved) {
            return Err(busy());
        }
        let mut data = BytesMut::with_capacity(reserved);
        let start = Instant::now();
        let (grace, rate) = tuning.slow;
        while !self.ended {
            let mut frame = self.body.frame();
            // Most bodies are there, and need no timer.
            let frame = match (&mut frame).now_or_never() {
                Some(frame) => Ok(frame),
                None => {
                    let earned = Duration::from_millis(data.len() as u64 * 1000 / rate);
                    let deadline = (Instant::now() + tuning.pause).min(start + grace + earned);
                    timeout_at(deadline, frame).await
                }
            };
            let frame = match frame {
                Err(_) => return Err(too_slow()),
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Ok(Some(Err(_))) => {
                    (self.ended, self.broken) = (true, true);
                    return Err(broken());
                }
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers are nothing to an event.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let length = data.len() + piece.len();
            if length > max {
                return Err(too_large(max));
            }
            while reserved < length {
                let step = STEP.min(max - reserved).max(length - reserved);
                if !room.grow(step) {
                    return Err(busy());
                }
                reserved += step;
            }
            data.extend_from_slice(&piece);
        }
        Ok(data.freeze())
    }

    /// Deals with what was not read of it; returns whether the connection can serve no other
    /// request after this one.
    pub(super) fn finish(self, tuning: &Tuning) -> bool {
        if self.ended {
            return self.broken;
        }
        // Who waits to be asked for it sends nothing, so that it need not be read.
        if !self.expects {
            tokio::spawn(discard(self.body, tuning.unwanted, tuning.head));
        }
        true
    }
}

/// Reads what nobody wants, so that its sender goes on to read the answer.
async fn discard(mut body: Incoming, mut most: usize, time: Duration) {
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match most.checked_sub(length) {
                Some(rest) => most = rest,
                None => break,
            }
        }
    };
    // Whether it ended, broke or took too long, nothing follows from it.
    let _ = timeout(time, read).await;
}

fn too_large(max: usize) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than the {max} bytes that `max_body` of this path allows"),
    )
}

fn too_slow() -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        "the body came too slowly; send the request again without pauses",
    )
}

fn broken() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "the body ends too early or is not properly chunked",
    )
}
