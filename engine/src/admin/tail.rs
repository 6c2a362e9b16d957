//! The attempts as they end: a response that goes on, a line of JSON for each, until the engine stops
//! or the client goes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Admin, api::by_commas, refusal};
use crate::{
    dispatcher::tap::{Heard, Listener},
    views::{AttemptView, LeftOutView},
};

/// After so long without a line an empty one is sent, so that a client that went is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// About how many bytes of lines are sent together, if there are as many.
const TOGETHER: usize = 32 << 10;

/// Which attempts: what is empty matches all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailQuery {
    /// Of these triggers, separated by commas.
    #[serde(deserialize_with = "by_commas")]
    pub trigger: Vec<String>,
    /// Of these functions.
    #[serde(deserialize_with = "by_commas")]
    pub function: Vec<String>,
    /// With these outcomes.
    #[serde(deserialize_with = "by_commas")]
    pub outcome: Vec<String>,
    /// Of events of this type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Of events of this source.
    pub source: Option<String>,
}

impl TailQuery {
    fn matches(&self, view: &AttemptView) -> bool {
        let among = |wanted: &[String], is: Option<&str>| {
            wanted.is_empty() || is.is_some_and(|is| wanted.iter().any(|one| one == is))
        };
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|one| one == is);
        among(&self.trigger, Some(&view.trigger))
            && among(&self.function, view.function.as_deref())
            && among(&self.outcome, Some(&view.outcome))
            && same(&self.kind, &view.kind)
            && same(&self.source, &view.source)
    }
}

pub(super) async fn tail(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<TailQuery>,
    stopped: CancellationToken,
) -> Response {
    match admin.dispatcher.listen() {
        Some(listener) => {
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            let tail = Tail {
                listener,
                query,
                stopped,
            };
            (kind, Body::from_stream(tail.chunks())).into_response()
        }
        None => refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "too many follow the attempts already: end another `tidemill events tail`",
        ),
    }
}

struct Tail {
    listener: Listener,
    query: TailQuery,
    /// Nothing more will end.
    stopped: CancellationToken,
}

impl Tail {
    fn chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut tail| async {
            let chunk = tail.chunk().await?;
            Some((Ok(chunk), tail))
        })
    }

    /// The lines that are there, or the next one once it is. None at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            let heard = tokio::select! {
                biased;
                heard = self.listener.next() => heard?,
                () = self.stopped.cancelled() => return None,
                () = tokio::time::sleep(SIGN_OF_LIFE) => return Some(Bytes::from_static(b"\n")),
            };
            self.add(&mut lines, &heard);
            while lines.len() < TOGETHER
                && let Some(heard) = self.listener.at_hand()
            {
                self.add(&mut lines, &heard);
            }
        }
        Some(lines.into())
    }

    fn add(&self, lines: &mut Vec<u8>, heard: &Heard) {
        let written = match heard {
            Heard::Ended(view) if !self.query.matches(view) => return,
            Heard::Ended(view) => serde_json::to_writer(&mut *lines, &**view),
            Heard::LeftOut(left_out) => serde_json::to_writer(
                &mut *lines,
                &LeftOutView {
                    left_out: *left_out,
                },
            ),
        };
        written.expect("texts and numbers are JSON, and a vector takes all");
        lines.push(b'\n');
    }
}
