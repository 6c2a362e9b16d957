//! A client of the engine's HTTP triggers.

use std::time::Duration;

use ureq::{Agent, http};

use super::PATIENCE;

/// Sends requests to one address.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    address: String,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replied {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as text.
    pub body: String,
}

impl Replied {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    /// A client of this address.
    pub fn new(address: &str) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Client {
            agent: Agent::new_with_config(config),
            address: address.to_owned(),
        }
    }

    /// Posts a body, and expects an answer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Replied {
        self.try_post(path, headers, body, PATIENCE)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Posts a body; the server may be gone.
    pub fn try_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Replied, ureq::Error> {
        self.request("POST", path, headers, body.as_ref(), timeout)
    }

    /// Sends any request, and expects an answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Replied {
        self.request(method, path, headers, body.as_ref(), PATIENCE)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<Replied, ureq::Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec())?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(timeout))
            .allow_non_standard_methods(true)
            .build();
        let mut response = self.agent.run(request)?;
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        };
        Ok(Replied {
            status: response.status().as_u16(),
            headers: response.headers().iter().map(header).collect(),
            body: response.body_mut().read_to_string()?,
        })
    }
}
