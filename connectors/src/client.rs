//! The HTTP client of everything that calls servers: destinations and object stores. One kind of
//! TLS, one set of certificates. It knows no request and retries nothing.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tidemill_core::limits;

/// A client that sends bodies of this type.
pub(crate) type HttpClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// How long a connection is kept that nothing is sent on: less than servers commonly keep theirs, so
/// that few requests meet one that is just being closed.
const IDLE: Duration = Duration::from_secs(30);

/// How long to connect may take, over all addresses of a server, if the plan's timeout is not shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// The system's authorities; absent if it has none. Reads files, and blocks while it does.
pub(crate) fn system_roots() -> Option<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return None;
    }
    // One that cannot be read matters only to servers that need it.
    for error in found.errors {
        tracing::debug!("a certificate of the system is left out: {error}");
    }
    Some(roots)
}

/// A client that trusts these authorities.
pub(crate) fn client<B>(roots: RootCertStore) -> HttpClient<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
        .http1_max_buf_size(limits::ANSWER)
        .build(connector)
}
