//! From the plan to a client of an object store. Looks secrets up and shows none; asks no server.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
};
use rustls::RootCertStore;
use tidemill_config::{
    plan::{Provider, StoreOptions},
    reference::Text,
};

use super::{
    Inner, Remote,
    calls::{Calls, Traffic},
    failure::Failure,
    listing::{Lister, S3},
};
use crate::{bucket::open::OpenError, client};

/// Where requests go that no region is known for.
const REGION: &str = "us-east-1";

/// A bucket of an object store, by the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// Whose it is.
    pub provider: Provider,
    /// The bucket's name there.
    pub bucket: String,
    /// How its keys start there; see [`tidemill_config::plan::Store`].
    pub prefix: String,
    /// How to reach it.
    pub options: StoreOptions,
}

impl RemoteSettings {
    /// Makes the client. Reads the environment and files, and blocks while it does; asks nobody.
    pub(in crate::bucket) fn open(&self, name: &str) -> Result<Remote, OpenError> {
        let options = Options {
            name,
            plan: &self.options,
        };
        let endpoint = options.get("endpoint", &self.options.endpoint)?;
        let endpoint = endpoint.map(|url| url.trim().trim_end_matches('/').to_owned());
        let plain = endpoint
            .as_ref()
            .is_some_and(|url| url.starts_with("http:"));
        let roots = match client::system_roots() {
            Some(roots) => roots,
            None if plain => RootCertStore::empty(),
            None => return Err(OpenError::NoAuthorities(name.to_owned())),
        };
        let traffic = Arc::new(Traffic::default());
        let calls = Calls::new(client::client(roots), traffic.clone());
        let shown = endpoint.clone().unwrap_or_default();
        let (store, lister) = match self.provider {
            Provider::S3 => self.s3(&options, endpoint, calls)?,
            Provider::Gs => (self.gs(&options, endpoint, calls)?, Lister::Store),
            Provider::Az => (self.az(&options, endpoint, calls)?, Lister::Store),
        };
        let (scheme, bucket) = (self.provider.scheme(), &self.bucket);
        let prefix = match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Remote(Arc::new(Inner {
            name: name.to_owned(),
            place: format!("{scheme}://{bucket}/{prefix}"),
            prefix,
            identity: format!("{shown} {scheme}://{bucket}"),
            store,
            lister,
            traffic,
        })))
    }

    fn s3(
        &self,
        options: &Options<'_>,
        endpoint: Option<String>,
        calls: Calls,
    ) -> Result<(Arc<dyn ObjectStore>, Lister), OpenError> {
        let plan = &self.options;
        // A key of the plan does not go with a token of the environment.
        let builder = match plan.access_key_id {
            Some(_) => AmazonS3Builder::new(),
            None => AmazonS3Builder::from_env(),
        };
        let mut builder = builder
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(!plan.path_style)
            .with_skip_signature(plan.anonymous)
            .with_retry(retry())
            .with_http_connector(calls.clone());
        let from_env = |key| AmazonS3Builder::from_env().get_config_value(&key);
        let region = match options.get("region", &plan.region)? {
            Some(region) => region,
            None => from_env(AmazonS3ConfigKey::Region).unwrap_or_else(|| REGION.to_owned()),
        };
        builder = builder.with_region(&region);
        if let Some(id) = options.get("access_key_id", &plan.access_key_id)? {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = options.get("secret_access_key", &plan.secret_access_key)? {
            builder = builder.with_secret_access_key(secret);
        }
        if let Some(token) = options.get("session_token", &plan.session_token)? {
            builder = builder.with_token(token);
        }
        let endpoint = endpoint
            .or_else(|| from_env(AmazonS3ConfigKey::Endpoint))
            .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = endpoint.trim_end_matches('/');
        let url = match (plan.path_style, endpoint.split_once("://")) {
            (false, Some((scheme, host))) => format!("{scheme}://{}.{host}", self.bucket),
            _ => format!("{endpoint}/{}", self.bucket),
        };
        // With the bucket in the host's name, object_store wants it there.
        builder = match plan.path_style {
            true => builder.with_endpoint(endpoint),
            false => builder.with_endpoint(&url),
        };
        let store = builder.build().map_err(|e| options.unusable(&e))?;
        let credentials = (!plan.anonymous).then(|| store.credentials().clone());
        let lister = Lister::S3(Box::new(S3 {
            calls,
            url,
            region,
            credentials,
        }));
        Ok((Arc::new(store), lister))
    }

    fn gs(
        &self,
        options: &Options<'_>,
        endpoint: Option<String>,
        calls: Calls,
    ) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&self.bucket)
            .with_skip_signature(self.options.anonymous)
            .with_retry(retry())
            .with_http_connector(calls);
        if let Some(url) = endpoint {
            builder = builder.with_base_url(&url);
        }
        if let Some(key) = options.get("service_account", &self.options.service_account)? {
            builder = builder.with_service_account_key(key);
        }
        let store = builder.build().map_err(|e| options.unusable(&e))?;
        Ok(Arc::new(store))
    }

    fn az(
        &self,
        options: &Options<'_>,
        endpoint: Option<String>,
        calls: Calls,
    ) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_container_name(&self.bucket)
            .with_skip_signature(self.options.anonymous)
            .with_retry(retry())
            .with_http_connector(calls);
        if let Some(url) = endpoint {
            builder = builder.with_endpoint(url);
        }
        if let Some(account) = options.get("account", &self.options.account)? {
            builder = builder.with_account(account);
        }
        if let Some(key) = options.get("access_key", &self.options.access_key)? {
            builder = builder.with_access_key(key);
        }
        let store = builder.build().map_err(|e| options.unusable(&e))?;
        Ok(Arc::new(store))
    }
}

/// Short: an attempt waits for it, and is tried again itself.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: Duration::from_secs(20),
    }
}

/// The options of a bucket, and how to name them in errors.
struct Options<'a> {
    name: &'a str,
    plan: &'a StoreOptions,
}

impl Options<'_> {
    fn get(&self, key: &'static str, text: &Option<Text>) -> Result<Option<String>, OpenError> {
        let Some(text) = text else { return Ok(None) };
        match text.resolve() {
            Ok(secret) => Ok(Some(secret.expose().to_owned())),
            Err(source) => Err(OpenError::Unresolved {
                bucket: self.name.to_owned(),
                key,
                source,
            }),
        }
    }

    /// object_store may quote what it was given; secrets are blanked out.
    fn unusable(&self, error: &object_store::Error) -> OpenError {
        let mut why = Failure::of(error).to_string();
        let plan = self.plan;
        for secret in [
            &plan.secret_access_key,
            &plan.session_token,
            &plan.access_key,
            &plan.service_account,
        ] {
            if let Some(secret) = secret.as_ref().and_then(|text| text.resolve().ok())
                && !secret.expose().is_empty()
            {
                why = why.replace(secret.expose(), "***");
            }
        }
        OpenError::Unusable {
            bucket: self.name.to_owned(),
            why,
        }
    }
}
