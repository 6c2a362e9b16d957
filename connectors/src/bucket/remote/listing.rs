//! Listings in pages, in the order of the bytes of keys.
//!
//! S3 is asked here and not by object_store, whose listing ends at the first key that it cannot
//! represent, such as `a//b`, takes `/a` for `a`, and knows no prefix that ends within a name. The
//! request is signed by object_store.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, StatusCode, Uri, header::DATE};
use object_store::{
    ObjectMeta, ObjectStore,
    aws::{AwsAuthorizer, AwsCredentialProvider},
    client::{HttpRequest, HttpRequestBody},
    path::Path as StorePath,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tidemill_core::{ledger::Object, time::Timestamp};

use super::{calls::Calls, failure, object, path};
use crate::bucket::key::Refusal;

/// The longest answer, in bytes: 1,000 keys of 1,024 bytes, escaped, with what comes with them.
const ANSWER: usize = 16 << 20;

/// The waits before another try. The caller may try on.
const WAITS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
];

/// How a bucket is listed.
pub(super) enum Lister {
    S3(Box<S3>),
    /// By object_store.
    Store,
}

/// What the listing of S3 takes.
pub(super) struct S3 {
    pub(super) calls: Calls,
    /// The URL of the bucket, without a slash at its end.
    pub(super) url: String,
    pub(super) region: String,
    /// Absent, requests go unsigned.
    pub(super) credentials: Option<AwsCredentialProvider>,
}

/// A page of keys as the store gives them.
pub(super) struct Keys {
    found: Vec<(String, ObjectMeta)>,
    more: bool,
    at: Option<Timestamp>,
}

/// A page of a bucket's listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// Keys that no object of a bucket can have.
    pub(crate) refused: Vec<(String, Refusal)>,
    /// The last key of the page, whatever it is.
    pub(crate) last: Option<String>,
    /// Whether others follow it.
    pub(crate) more: bool,
    /// When it was made, by the store's clock, if the store says so.
    pub(crate) at: Option<Timestamp>,
}

impl Lister {
    /// At most `limit` keys from `prefix` that sort after `after`; both are the store's own. An
    /// error is in words.
    pub(super) async fn keys(
        &self,
        store: &Arc<dyn ObjectStore>,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Keys, String> {
        match self {
            Lister::S3(s3) => s3.keys(prefix, after, limit).await,
            Lister::Store => by_store(store, prefix, after, limit).await,
        }
    }
}

impl Keys {
    /// The page without the bucket's own prefix. The order is the store's promise, and all that
    /// is known of deletions rests on it: it is checked.
    pub(super) fn into_page(self, own: &str, after: Option<&str>) -> Result<Page, String> {
        let mut page = Page {
            objects: Vec::new(),
            refused: Vec::new(),
            last: after.map(str::to_owned),
            more: self.more,
            at: self.at,
        };
        for (full, meta) in self.found {
            let key = full.strip_prefix(own).unwrap_or(&full);
            if page.last.as_deref().is_some_and(|last| key <= last) {
                return Err(format!(
                    "its keys are not in the order of their bytes: `{key}` came too late; such a store cannot be listened to"
                ));
            }
            page.last = Some(key.to_owned());
            match path(key, &full) {
                Ok(_) => page.objects.push(object(key.to_owned(), &meta)),
                // What consoles make to show an empty folder.
                Err(_) if key.is_empty() || (key.ends_with('/') && meta.size == 0) => {}
                Err(why) => page.refused.push((key.to_owned(), why)),
            }
        }
        Ok(page)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    contents: Vec<Contents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    size: u64,
    last_modified: DateTime<Utc>,
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}

impl S3 {
    async fn keys(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Keys, String> {
        let mut url = format!("{}/?list-type=2&max-keys={limit}", self.url);
        for (name, value) in [("prefix", Some(prefix)), ("start-after", after.as_deref())] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
                url = format!("{url}&{name}={value}");
            }
        }
        let uri: Uri = url
            .parse()
            .map_err(|_| "its address is not a URL; correct `endpoint`".to_owned())?;
        let mut waits = WAITS.into_iter();
        let (answer, at) = loop {
            match (self.ask(&uri).await, waits.next()) {
                (Ok(answered), _) => break answered,
                (Err((true, _)), Some(wait)) => tokio::time::sleep(wait).await,
                (Err((_, why)), _) => return Err(why),
            }
        };
        let answer: Answer = quick_xml::de::from_reader(answer.reader())
            .map_err(|error| format!("its answer is not that of S3: {error}"))?;
        let found = answer.contents.into_iter().map(|found| {
            let meta = ObjectMeta {
                location: StorePath::default(),
                last_modified: found.last_modified,
                size: found.size,
                e_tag: found.e_tag,
                version: None,
            };
            (found.key, meta)
        });
        Ok(Keys {
            found: found.collect(),
            more: answer.is_truncated,
            at,
        })
    }

    /// One request; an error says whether another try may help.
    async fn ask(&self, uri: &Uri) -> Result<(Bytes, Option<Timestamp>), (bool, String)> {
        let broken = |error: &(dyn std::error::Error + 'static)| {
            let why = failure::words(&failure::chain(error));
            (true, why)
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri.clone();
        if let Some(credentials) = &self.credentials {
            let credential = credentials.get_credential().await.map_err(|error| {
                let why = failure::Failure::of(&error);
                (true, format!("there are no credentials: {why}"))
            })?;
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .try_authorize(&mut request, None)
                .map_err(|error| broken(&error))?;
        }
        let response = self.calls.send(request).await.map_err(|e| broken(&e))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER).collect().await;
        let body = body.map_err(|e| broken(e.as_ref()))?.to_bytes();
        if head.status.is_success() {
            let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
            return Ok((body, date.map(|date| date.to_utc().into())));
        }
        let words = failure::words(&String::from_utf8_lossy(&body));
        let region = head.headers.get("x-amz-bucket-region");
        let region = region.and_then(|region| region.to_str().ok());
        let next = match (head.status, region) {
            (_, Some(region)) if region != self.region => {
                format!("; it is in region {region}: set options.region")
            }
            (StatusCode::NOT_FOUND, _) => "; correct `url` or `options.endpoint`".to_owned(),
            (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => {
                "; see to the credentials in `options`, and whether they may list it".to_owned()
            }
            _ => String::new(),
        };
        let again = head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS;
        Err((again, format!("{}: {words}{next}", head.status)))
    }
}

/// A prefix may end within a name, of which object_store knows nothing: the folder is listed, and
/// what does not start so is left out.
async fn by_store(
    store: &Arc<dyn ObjectStore>,
    prefix: &str,
    after: Option<String>,
    limit: usize,
) -> Result<Keys, String> {
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let wrong = |_| "a prefix is made of names joined by single slashes".to_owned();
    let folder = StorePath::parse(folder).map_err(wrong)?;
    let folder = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
    let mut listing = match &after {
        Some(after) => store.list_with_offset(folder, &StorePath::from(after.as_str())),
        None => store.list(folder),
    };
    let mut found: Vec<(String, ObjectMeta)> = Vec::new();
    let mut more = false;
    while let Some(next) = listing.next().await {
        let meta = next.map_err(|error| failure::Failure::of(&error).to_string())?;
        let key = meta.location.as_ref().to_owned();
        if !key.starts_with(prefix) || after.as_ref().is_some_and(|after| key <= *after) {
            continue;
        }
        if found.len() == limit {
            more = true;
            break;
        }
        found.push((key, meta));
    }
    let at = None;
    Ok(Keys { found, more, at })
}
