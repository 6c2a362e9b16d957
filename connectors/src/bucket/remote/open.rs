//! From the plan to a client of an object store. Looks secrets up and shows none; asks no server.

use std::{env, sync::Arc, time::Duration};

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
    profile::{Files, Profile},
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
        let profile = match self.provider {
            Provider::S3 => options.profile()?,
            Provider::Gs | Provider::Az => None,
        };
        let endpoint = options.get("endpoint", &self.options.endpoint)?;
        let endpoint = endpoint.or_else(|| profile.as_ref()?.named_endpoint());
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
            Provider::S3 => self.s3(&options, endpoint, profile, calls)?,
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
            there: bucket.clone(),
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
        chosen: Option<Chosen>,
        calls: Calls,
    ) -> Result<(Arc<dyn ObjectStore>, Lister), OpenError> {
        let plan = &self.options;
        // A key of the plan or of a profile does not go with a token of the environment.
        let builder = match (&plan.access_key_id, &chosen) {
            (None, None) => AmazonS3Builder::from_env(),
            _ => AmazonS3Builder::new(),
        };
        let mut builder = builder
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(!plan.path_style)
            .with_skip_signature(plan.anonymous)
            .with_retry(retry())
            .with_http_connector(calls.clone());
        let from_env = |key| AmazonS3Builder::from_env().get_config_value(&key);
        let of_profile = || chosen.as_ref()?.profile.region.clone();
        let region = options.get("region", &plan.region)?;
        let region = region
            .or_else(|| of_profile().filter(|_| chosen.as_ref().is_some_and(|c| c.by_plan)))
            .or_else(|| from_env(AmazonS3ConfigKey::Region))
            .or_else(of_profile)
            .unwrap_or_else(|| REGION.to_owned());
        builder = builder.with_region(&region);
        if let Some(Chosen { profile, .. }) = &chosen {
            builder = builder
                .with_access_key_id(&profile.access_key_id)
                .with_secret_access_key(&profile.secret_access_key);
            if let Some(token) = &profile.session_token {
                builder = builder.with_token(token);
            }
        }
        if let Some(id) = options.get("access_key_id", &plan.access_key_id)? {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = options.get("secret_access_key", &plan.secret_access_key)? {
            builder = builder.with_secret_access_key(secret);
        }
        if let Some(token) = options.get("session_token", &plan.session_token)? {
            builder = builder.with_token(token);
        }
        // The environment's address for S3 alone comes before its address for all of AWS.
        let endpoint = endpoint
            .or_else(|| from_env(AmazonS3ConfigKey::S3Endpoint))
            .or_else(|| from_env(AmazonS3ConfigKey::Endpoint))
            .or_else(|| chosen.as_ref()?.profile.endpoint.clone())
            .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = endpoint.trim_end_matches('/');
        let url = match (plan.path_style, endpoint.split_once("://")) {
            (false, Some((scheme, host))) => format!("{scheme}://{}.{host}", self.bucket),
            _ => format!("{endpoint}/{}", self.bucket),
        };
        // With the bucket in the host's name, object_store wants it there. This key wins over any
        // other address that the environment names.
        let address = if plan.path_style { endpoint } else { &url };
        let builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, address);
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

/// The profile that is used.
struct Chosen {
    profile: Profile,
    /// Whether the plan names it: then it comes before the environment.
    by_plan: bool,
}

impl Chosen {
    fn named_endpoint(&self) -> Option<String> {
        self.profile.endpoint.clone().filter(|_| self.by_plan)
    }
}

impl Options<'_> {
    /// The profile that the plan names, else the environment, if nothing else gives keys.
    fn profile(&self) -> Result<Option<Chosen>, OpenError> {
        let given = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let named = self.get("profile", &self.plan.profile)?;
        let by_plan = named.is_some();
        let has_keys = self.plan.access_key_id.is_some() || given("AWS_ACCESS_KEY_ID").is_some();
        let name = match named {
            Some(name) => Some(name),
            None if has_keys || self.plan.anonymous => None,
            None => given("AWS_PROFILE"),
        };
        let Some(name) = name else { return Ok(None) };
        match Files::of_the_user().and_then(|files| files.profile(&name)) {
            Ok(profile) => Ok(Some(Chosen { profile, by_plan })),
            Err(source) => Err(OpenError::Profile {
                bucket: self.name.to_owned(),
                profile: name,
                source,
            }),
        }
    }

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bucket::{Place, Settings};

    fn opened(url: &str, options: &str) -> Result<Remote, OpenError> {
        let text = format!("[buckets.b]\nurl = \"{url}\"\noptions = {{ {options} }}\n");
        let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &text);
        let settings = Settings::of(&loaded.unwrap().plan).remove(0);
        let Place::Remote(remote) = settings.place else {
            panic!("{url} is no object store");
        };
        remote.open("b")
    }

    const KEY: &str = r#"access_key_id = "id", secret_access_key = "hunter2""#;

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        for (options, expected) in [
            ("", "https://s3.eu-west-1.amazonaws.com/photos"),
            (
                "path_style = false",
                "https://photos.s3.eu-west-1.amazonaws.com",
            ),
            (
                r#"endpoint = "http://127.0.0.1:9000/""#,
                "http://127.0.0.1:9000/photos",
            ),
            (
                r#"endpoint = "http://s3.local:9000", path_style = false"#,
                "http://photos.s3.local:9000",
            ),
        ] {
            let separator = if options.is_empty() { "" } else { ", " };
            let options = format!("region = \"eu-west-1\", {KEY}{separator}{options}");
            let remote = opened("s3://photos/a/b", &options).unwrap();
            let Lister::S3(s3) = &remote.0.lister else {
                panic!("S3 is listed by its own request");
            };
            assert_eq!(
                (s3.url.as_str(), s3.region.as_str()),
                (expected, "eu-west-1")
            );
            assert!(s3.credentials.is_some());
            assert_eq!(remote.0.place, "s3://photos/a/b/");
            assert!(!format!("{remote:?}").contains("hunter2"));
        }
        let public = opened("s3://photos", "anonymous = true").unwrap();
        assert!(matches!(&public.0.lister, Lister::S3(s3) if s3.credentials.is_none()));
    }

    #[test]
    fn google_and_azure_have_clients_too() {
        let google = opened("gs://photos/a", "anonymous = true").unwrap();
        assert_eq!(google.0.place, "gs://photos/a/");
        let azure = r#"account = "tide", access_key = "aHVudGVyMg==""#;
        let azure = opened("az://photos", azure).unwrap();
        assert_eq!(azure.0.place, "az://photos/");
    }

    #[test]
    fn says_what_is_wrong_and_shows_no_secret() {
        let unset = r#"access_key_id = "id", secret_access_key = "${env:TIDEMILL_NO_SUCH_KEY}""#;
        let Err(error) = opened("s3://photos", unset) else {
            panic!("there is no such variable");
        };
        let text = error.to_string();
        assert_eq!(
            text,
            "bucket `b`: `options.secret_access_key` cannot be looked up"
        );
        let wrong = r#"service_account = "{ \"private_key\": \"hunter2\" }""#;
        let Err(error) = opened("gs://photos", wrong) else {
            panic!("this is no key of Google's");
        };
        let text = error.to_string();
        assert!(text.starts_with("bucket `b`: its object store"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
