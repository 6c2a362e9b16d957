//! The floor of listings: object_store's own, page by page, over an HTTP client without anything to it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::{TryStreamExt, future::BoxFuture};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector as Tcp},
    rt::TokioExecutor,
};
use object_store::{
    ClientOptions, ObjectStore,
    aws::AmazonS3Builder,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService,
    },
};

use crate::{machine, measure::Sample};

/// Lists all objects once.
pub fn run(endpoint: &str, objects: u64) -> Result<Sample> {
    let runtime = tokio::runtime::Runtime::new()?;
    let client = Client::builder(TokioExecutor::new()).build(Tcp::new());
    let store = AmazonS3Builder::new()
        .with_bucket_name("synthetic")
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_http_connector(Bare(client))
        .build()?;
    let (started, before) = (Instant::now(), own_cpu()?);
    let listed = runtime.block_on(async {
        let listing = store.list(None);
        listing
            .try_fold((0_u64, 0_u64), async |(count, bytes), object| {
                Ok((count + 1, bytes + object.size))
            })
            .await
    });
    let (count, _) = listed.context("the floor cannot list")?;
    ensure!(count == objects, "{count} of {objects} were listed");
    let events = objects as f64;
    Ok(Sample {
        rate: events / started.elapsed().as_secs_f64(),
        cpu: (own_cpu()? - before).as_secs_f64() * 1e6 / events,
    })
}

/// That of this process: the server's is in it.
fn own_cpu() -> Result<std::time::Duration> {
    machine::cpu(std::process::id())
}

#[derive(Clone, Debug)]
struct Bare(Client<Tcp, HttpRequestBody>);

impl HttpService for Bare {
    // What #[async_trait] makes of an async function.
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let response = self.0.request(request).await;
            let response = response.map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
            let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
            Ok(response.map(|body| HttpResponseBody::new(body.map_err(broken))))
        })
    }
}

impl HttpConnector for Bare {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
