//! The API of the command line: dead letters and invocations.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de::IntoDeserializer};
use tidemill_connectors::cloudevent::Draft;
use tidemill_core::{
    delivery::{Cause, Seq},
    identity::DeliveryId,
    time::Timestamp,
};
use tidemill_journal::{DeadLetterFilter, JournalError};

use super::{Admin, refusal};
use crate::{
    clock,
    dispatcher::{RedriveError, redrive as redriving},
    operations,
    sources::SourceHealth,
    views::{InvokedView, RedrivenView},
};

/// Which dead letters to list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Of these triggers, separated by commas.
    #[serde(default, deserialize_with = "by_commas")]
    pub trigger: Vec<String>,
    /// Given up for these causes, separated by commas.
    #[serde(default, deserialize_with = "by_commas")]
    pub cause: Vec<Cause>,
    /// Whose reason contains this.
    pub reason: Option<String>,
    /// Given up at or after, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Given up before.
    pub until: Option<i64>,
    /// From the page before.
    pub after: Option<Seq>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl ListQuery {
    /// The journal's filter.
    pub fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            triggers: self.trigger.clone(),
            causes: self.cause.clone(),
            reason: self.reason.clone(),
            since: self.since.map(Timestamp),
            until: self.until.map(Timestamp),
        }
    }
}

pub(super) fn by_commas<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    text: D,
) -> Result<Vec<T>, D::Error> {
    let text = String::deserialize(text)?;
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| T::deserialize(part.to_owned().into_deserializer()))
        .collect()
}

/// How to redrive.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct RedriveQuery {
    /// The object as it was.
    #[serde(default)]
    pub original: bool,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<ListQuery>,
) -> Response {
    answer(
        operations::list(&**admin.dispatcher.journal(), &query)
            .await
            .map_err(Into::into),
    )
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(id): Path<DeliveryId>) -> Response {
    answer(operations::show(&**admin.dispatcher.journal(), id).await)
}

pub(super) async fn redrive(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<DeliveryId>,
    Query(query): Query<RedriveQuery>,
) -> Response {
    let redriven = admin.dispatcher.redrive(id, query.original).await;
    answer(redriven.map(|redriven| RedrivenView {
        of: id,
        id: redriven.id,
    }))
}

pub(super) async fn purge(State(admin): State<Arc<Admin>>, Path(id): Path<DeliveryId>) -> Response {
    answer(redriving::purge(&**admin.dispatcher.journal(), id).await)
}

pub(super) async fn buckets(State(admin): State<Arc<Admin>>) -> Response {
    let sources = admin.sources.all();
    let buckets = sources.iter().filter_map(SourceHealth::bucket);
    Json(buckets.collect::<Vec<_>>()).into_response()
}

pub(super) async fn invoke(
    State(admin): State<Arc<Admin>>,
    Path(function): Path<String>,
    event: Bytes,
) -> Response {
    let event = Draft::from_json(&event).and_then(|draft| draft.finish(Vec::new(), clock::now()));
    let event = match event {
        Ok(event) => event,
        Err(broken) => return refusal(StatusCode::BAD_REQUEST, &broken.to_string()),
    };
    match admin.dispatcher.invoke(&function, event).await {
        Some(invoked) => Json(InvokedView::from(invoked)).into_response(),
        None => refusal(
            StatusCode::NOT_FOUND,
            &format!("there is no function `{function}`"),
        ),
    }
}

fn answer<T: Serialize>(result: Result<T, RedriveError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error @ RedriveError::Unknown(_)) => refusal(StatusCode::NOT_FOUND, &error.to_string()),
        Err(RedriveError::Journal(error @ JournalError::Full { .. })) => {
            refusal(StatusCode::INSUFFICIENT_STORAGE, &error.to_string())
        }
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
