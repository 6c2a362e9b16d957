//! What the SDK of AWS needs of this crate: its requests go with the client of the other connectors, and
//! are signed with the credentials of the bucket. It decides nothing.

use std::{error::Error, fmt};

use aws_credential_types::provider::{error::CredentialsError, future::ProvideCredentials};
use aws_sdk_sqs::{
    Config,
    config::{
        BehaviorVersion, Credentials, IdentityCache, ProvideCredentials as Provider, Region,
        RuntimeComponents, SharedHttpClient, StalledStreamProtectionConfig,
        http::{HttpRequest, HttpResponse},
        retry::RetryConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
        http_client_fn,
    },
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use object_store::{
    aws::AwsCredentialProvider,
    client::{HttpErrorKind, HttpRequestBody},
};

use crate::bucket::remote::{Calls, failure};

/// The longest answer, in bytes: ten messages of 1 MiB, escaped.
const ANSWER: usize = 32 << 20;

/// How a service is reached: the server, and who asks.
pub(super) fn config(
    calls: Calls,
    credentials: AwsCredentialProvider,
    endpoint: String,
    region: String,
) -> Config {
    let connector = SharedHttpConnector::new(Connector(calls));
    let client: SharedHttpClient =
        http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
    Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(client)
        .credentials_provider(Bucket(credentials))
        // object_store keeps them.
        .identity_cache(IdentityCache::no_cache())
        .region(Region::new(region))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::standard())
        // The client knows how long an answer may take.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}

/// A failure in few words: what the service said, else what went wrong on the way to it.
pub(super) fn words<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => failure::chain(error),
    }
}

#[derive(Clone, Debug)]
struct Connector(Calls);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let calls = self.0.clone();
        HttpConnectorFuture::new(async move { send(&calls, request).await })
    }
}

async fn send(calls: &Calls, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request
        .try_into_http1x()
        .map_err(|error| ConnectorError::user(error.into()))?;
    let request = request.map(|body| {
        // The requests of queues are short and in memory.
        let bytes = body.bytes().map(Bytes::copy_from_slice);
        HttpRequestBody::from(bytes.unwrap_or_default())
    });
    let response = calls
        .send(request)
        .await
        .map_err(|error| match error.kind() {
            HttpErrorKind::Timeout => ConnectorError::timeout(error.into()),
            _ => ConnectorError::io(error.into()),
        })?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER)
        .collect()
        .await
        .map_err(ConnectorError::io)?;
    let body = SdkBody::from(body.to_bytes());
    hyper::Response::from_parts(head, body)
        .try_into()
        .map_err(|error| ConnectorError::other(Box::new(error), None))
}

/// The credentials of the bucket.
struct Bucket(AwsCredentialProvider);

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the credentials of the bucket")
    }
}

impl Provider for Bucket {
    fn provide_credentials<'a>(&'a self) -> ProvideCredentials<'a>
    where
        Self: 'a,
    {
        ProvideCredentials::new(async {
            let found = self.0.get_credential().await;
            let found = found.map_err(CredentialsError::provider_error)?;
            Ok(Credentials::new(
                &found.key_id,
                &found.secret_key,
                found.token.clone(),
                None,
                "bucket",
            ))
        })
    }
}
