//! Where one destination of one trigger posts to: looked up, checked, and taken apart into what is
//! sent, what may be shown and what may not.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderName, HeaderValue},
};
use percent_encoding::percent_decode_str;
use tidemill_config::{
    plan,
    reference::{ReferenceError, Secret, Text},
    reserved,
};
use tidemill_core::destination::Role;
use url::Url;

use super::error::{Unusable, key};

/// Texts shorter than this are not blanked out: they would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// Where to, and with what.
pub(super) struct Target {
    /// The address as it is used, without user information.
    pub uri: Uri,
    /// The address as it may be shown.
    pub shown: String,
    /// The headers of the plan.
    pub headers: HeaderMap,
    /// How long one try may take.
    pub timeout: Duration,
    /// What may not be shown, the longest first.
    secrets: Vec<String>,
}

impl Target {
    pub(super) fn new(
        trigger: &str,
        role: Role,
        plan: &plan::HttpDestination,
    ) -> Result<Target, Vec<Unusable>> {
        let place = Place { trigger, role };
        let mut errors = Vec::new();
        let mut secrets = Vec::new();
        let mut headers = HeaderMap::new();
        for (name, text) in &plan.headers {
            match place.header(name, text) {
                Ok((name, value, secret)) => {
                    // A server may repeat the token alone that is behind `Bearer`.
                    let parts = secret.expose().split_whitespace().skip(1);
                    secrets.extend(parts.map(str::to_owned));
                    secrets.push(secret.expose().to_owned());
                    headers.insert(name, value);
                }
                Err(error) => errors.push(error),
            }
        }
        match place.address(&plan.url) {
            Ok((url, uri)) => {
                if let Some(value) = basic(&url) {
                    // What the plan says in so many words comes first.
                    headers.entry(header::AUTHORIZATION).or_insert(value);
                }
                let hidden = plan.url.has_reference();
                secrets.extend(secrets_of(&url, hidden));
                secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
                secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
                let path = if hidden { "/..." } else { url.path() };
                let origin = url.origin().ascii_serialization();
                if errors.is_empty() {
                    return Ok(Target {
                        uri,
                        shown: format!("{origin}{path}"),
                        headers,
                        timeout: plan.timeout,
                        secrets,
                    });
                }
            }
            Err(error) => errors.push(error),
        }
        Err(errors)
    }

    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The text with the secrets of the plan blanked out.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let blank = |text: String, secret: &String| text.replace(secret, "***");
        self.secrets.iter().fold(text.to_owned(), blank)
    }
}

/// A place in the plan.
struct Place<'a> {
    trigger: &'a str,
    role: Role,
}

impl Place<'_> {
    fn address(&self, text: &Text) -> Result<(Url, Uri), Unusable> {
        let wrong = |why: String| Unusable::Address {
            trigger: self.trigger.to_owned(),
            key: key(self.role),
            why,
        };
        let secret = text.resolve_url().map_err(|e| self.unresolved("url", e))?;
        let url = Url::parse(secret.expose().trim()).map_err(|e| wrong(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it is neither http nor https".into()));
        }
        let mut bare = url.clone();
        bare.set_fragment(None);
        // They fail for addresses without a host only, which these schemes must have.
        _ = bare.set_username("");
        _ = bare.set_password(None);
        let uri = bare
            .as_str()
            .parse()
            .map_err(|_| wrong("it has characters that must be percent-encoded".into()))?;
        Ok((url, uri))
    }

    fn header(
        &self,
        name: &str,
        text: &Text,
    ) -> Result<(HeaderName, HeaderValue, Secret), Unusable> {
        let wrong = |why| Unusable::Header {
            trigger: self.trigger.to_owned(),
            key: key(self.role),
            header: name.to_owned(),
            why,
        };
        let legal = HeaderName::try_from(name).map_err(|_| wrong("it is not a header's name"))?;
        if reserved::http_header(name) {
            return Err(wrong("the engine sets it by itself; leave it out"));
        }
        let secret = text
            .resolve()
            .map_err(|e| self.unresolved(&format!("headers.{name}"), e))?;
        let value = HeaderValue::try_from(secret.expose());
        let mut value =
            value.map_err(|_| wrong("its value has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok((legal, value, secret))
    }

    fn unresolved(&self, part: &str, source: ReferenceError) -> Unusable {
        Unusable::Reference {
            trigger: self.trigger.to_owned(),
            key: key(self.role),
            part: part.to_owned(),
            source,
        }
    }
}

/// The user and password of an address, as a header.
fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain: Vec<u8> = percent_decode_str(url.username()).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(url.password().unwrap_or_default()));
    let value = format!("Basic {}", BASE64_STANDARD.encode(plain));
    let mut value = HeaderValue::try_from(value).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    Some(value)
}

/// What of an address may not be shown, in both forms in which a server may repeat it.
fn secrets_of(url: &Url, hidden: bool) -> Vec<String> {
    let mut secrets: Vec<&str> = url.password().into_iter().collect();
    let query = url.query().unwrap_or_default();
    secrets.extend(
        query
            .split('&')
            .map(|pair| pair.split_once('=').map_or(pair, |p| p.1)),
    );
    if hidden {
        secrets.extend(url.path().split('/'));
    }
    let decoded = |secret: &&str| percent_decode_str(secret).decode_utf8_lossy().into_owned();
    let decoded: Vec<String> = secrets.iter().map(decoded).collect();
    let raw = secrets.into_iter().map(str::to_owned);
    let basic =
        basic(url).and_then(|value| Some(value.to_str().ok()?.strip_prefix("Basic ")?.to_owned()));
    raw.chain(decoded).chain(basic).collect()
}
