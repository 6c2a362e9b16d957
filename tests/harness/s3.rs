//! A client of the server that speaks S3, for what happens outside the engine.

use ureq::{Agent, RequestBuilder};

use super::{PATIENCE, Sqs, s3_endpoint, second_s3_endpoint, unique};

/// The server wants to see who asks, and does not look at the signature.
const SIGNED: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
);

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// It wants requests to be signed.
    Moto,
    /// It wants them not to be, and its listings have no etags.
    S3s,
}

/// A bucket of one test's own.
pub struct S3 {
    agent: Agent,
    server: Server,
    /// Its name on the server.
    pub name: String,
    endpoint: String,
}

impl S3 {
    /// Makes a bucket on the usual server.
    pub fn new() -> S3 {
        S3::on(Server::Moto)
    }

    /// Makes a bucket on a shared server.
    pub fn on(server: Server) -> S3 {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        let bucket = S3 {
            agent: Agent::new_with_config(config),
            server,
            name: unique("bucket"),
            endpoint: match server {
                Server::Moto => s3_endpoint(),
                Server::S3s => second_s3_endpoint(),
            },
        };
        let made = bucket.signed(bucket.agent.put(bucket.url(""))).send_empty();
        assert!(made.expect("it answers").status().is_success());
        bucket
    }

    /// What the engine has to know, besides the URL of the bucket: nothing of it stands in a plan.
    /// The address of S3 comes before that of all other services.
    pub fn env(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL_S3", &self.endpoint),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ]
    }

    /// What the plan has to say of a bucket there, besides its URL.
    pub fn options(&self) -> &'static str {
        match self.server {
            Server::Moto => "",
            Server::S3s => "options = { anonymous = true }",
        }
    }

    fn signed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match self.server {
            Server::Moto => request.header(SIGNED.0, SIGNED.1),
            Server::S3s => request,
        }
    }

    /// Writes an object.
    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        let answer = self
            .signed(self.agent.put(self.url(key)))
            .send(content.as_ref());
        let status = answer.expect("it answers").status();
        assert!(status.is_success(), "{key}: {status}");
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        let answer = self.signed(self.agent.delete(self.url(key))).call();
        let status = answer.expect("it answers").status();
        assert!(status.is_success(), "{key}: {status}");
    }

    /// Has the server tell a queue of all that becomes of the objects.
    pub fn tell(&self, queue: &Sqs) {
        let arn = queue.arn();
        let text = format!(
            "<NotificationConfiguration><QueueConfiguration><Id>all</Id><Queue>{arn}</Queue>\
             <Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>\
             </QueueConfiguration></NotificationConfiguration>"
        );
        let answer = self
            .agent
            .put(self.url("?notification"))
            .header(SIGNED.0, SIGNED.1)
            .content_type("application/xml")
            .send(text);
        let status = answer.expect("it answers").status();
        assert!(status.is_success(), "{status}");
    }

    /// The content of an object, if it is there.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let mut answer = self
            .signed(self.agent.get(self.url(key)))
            .call()
            .expect("it answers");
        let found = answer.status().is_success();
        found.then(|| answer.body_mut().read_to_vec().expect("it is read"))
    }

    /// A header of an object.
    pub fn header(&self, key: &str, name: &str) -> Option<String> {
        let answer = self
            .signed(self.agent.head(self.url(key)))
            .call()
            .expect("it answers");
        let value = answer.headers().get(name)?;
        Some(value.to_str().expect("text").to_owned())
    }

    /// All keys, sorted: at most 1,000, without escapes.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.elements("?list-type=2", "Key");
        keys.sort();
        keys
    }

    /// How many uploads in parts were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.elements("?uploads", "UploadId").len()
    }

    fn elements(&self, query: &str, name: &str) -> Vec<String> {
        let answer = self.signed(self.agent.get(self.url(query))).call();
        let text = answer.expect("it answers").body_mut().read_to_string();
        let text = text.expect("it is read");
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let parts = text.split(&begin).skip(1);
        let inside = parts.filter_map(|part| part.split_once(&end));
        inside.map(|(value, _)| value.to_owned()).collect()
    }

    fn url(&self, key: &str) -> String {
        match key.starts_with('?') {
            true => format!("{}/{}{key}", self.endpoint, self.name),
            false => format!("{}/{}/{}", self.endpoint, self.name, escaped(key)),
        }
    }
}

/// A key as it stands in a path.
fn escaped(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    key.bytes().map(escape).collect()
}
