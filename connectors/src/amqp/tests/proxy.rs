//! A proxy between a client and the broker, which can cut connections, freeze them, and speak TLS.

use std::{io, net::SocketAddr, sync::Arc};

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// What the proxy does to its connections, old and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Carries what is sent.
    Open,
    /// Ends them.
    Cut,
    /// Leaves them open, and carries nothing.
    Frozen,
}

pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// How many connections are there.
    open: watch::Sender<usize>,
    /// Its certificate, if it speaks TLS to its clients.
    pub certificate: Option<String>,
}

impl Proxy {
    /// In front of the broker of this address.
    pub async fn new(url: &str) -> Arc<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Proxy::start(url, listener, None, None).await
    }

    /// The same, on ::1; an error, if this machine has no such address.
    pub async fn on_ipv6(url: &str) -> io::Result<Arc<Proxy>> {
        let listener = TcpListener::bind("[::1]:0").await?;
        Ok(Proxy::start(url, listener, None, None).await)
    }

    /// The same, with TLS, under the name localhost.
    pub async fn with_tls(url: &str) -> Arc<Proxy> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Proxy::start(url, listener, Some(acceptor), Some(pem(cert.der()))).await
    }

    async fn start(
        url: &str,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        certificate: Option<String>,
    ) -> Arc<Proxy> {
        let url = url::Url::parse(url).unwrap();
        let broker = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let proxy = Arc::new(Proxy {
            address: listener.local_addr().unwrap(),
            mode: watch::Sender::new(Mode::Open),
            open: watch::Sender::new(0),
            certificate,
        });
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (proxy, broker, tls) = (accepting.clone(), broker.clone(), tls.clone());
                tokio::spawn(async move {
                    proxy.open.send_modify(|open| *open += 1);
                    match tls {
                        None => proxy.carry(client, broker).await,
                        Some(tls) => {
                            // A client that does not trust it ends the greetings.
                            if let Ok(client) = tls.accept(client).await {
                                proxy.carry(client, broker).await;
                            }
                        }
                    }
                    proxy.open.send_modify(|open| *open -= 1);
                });
            }
        });
        proxy
    }

    async fn carry(&self, mut client: impl AsyncRead + AsyncWrite + Unpin, broker: (String, u16)) {
        let mut mode = self.mode.subscribe();
        if *mode.borrow() == Mode::Open {
            let mut broker = TcpStream::connect(broker).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut broker) => return,
                _ = mode.wait_for(|mode| *mode != Mode::Open) => {}
            }
        }
        // What was frozen once stays so: what the client sends is lost, and nothing comes.
        let mut nowhere = sink();
        tokio::select! {
            _ = copy(&mut client, &mut nowhere) => {}
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The broker's address through the proxy.
    pub fn through(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        if self.certificate.is_some() {
            url = url::Url::parse(&url.as_str().replacen("amqp", "amqps", 1)).unwrap();
        }
        let host = match self.address {
            // The name in its certificate.
            SocketAddr::V4(_) => "localhost",
            SocketAddr::V6(_) => "[::1]",
        };
        url.set_host(Some(host)).unwrap();
        url.set_port(Some(self.port())).unwrap();
        url.to_string()
    }

    pub fn open(&self) {
        self.mode.send_replace(Mode::Open);
    }

    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    pub fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// Waits until so many connections are there.
    pub async fn has(&self, connections: usize) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open == connections).await.unwrap();
    }
}

fn pem(der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}
