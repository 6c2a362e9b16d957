//! A broker of the plan: where it is, and how it is connected to. What is sent over a connection is
//! not known here.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties, runtime,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use tidemill_config::{
    plan::{self, Plan},
    reference::Text,
};
use url::{Host, Url};

use super::error::{self, Trouble, Unusable};

/// How often both sides show that they are there, in seconds, unless the address says otherwise: a
/// connection that is dead without anybody having said so is noticed after two or three times as long.
const HEARTBEAT: u16 = 10;

/// How long to connect may take, greetings included, unless the address says otherwise.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the broker may take to answer when the engine stops.
pub(super) const CLOSE: Duration = Duration::from_secs(5);

/// A broker of the plan.
#[derive(Clone)]
pub(super) struct Broker {
    /// The name of the connection in the plan.
    pub connection: String,
    url: Text,
    /// Certificates to trust besides those of the system.
    pub tls: OwnedTLSConfig,
}

impl Broker {
    /// Looks its address up to see that it is one, and blocks while it does.
    pub(super) fn new(plan: &Plan, connection: &str) -> Result<Broker, Unusable> {
        let to = plan.connections.get(connection).map(|plan| &plan.to);
        let Some(plan::Connection::Amqp(url)) = to else {
            return Err(Unusable::NotAmqp(connection.to_owned()));
        };
        let broker = Broker {
            connection: connection.to_owned(),
            url: url.clone(),
            tls: OwnedTLSConfig::default(),
        };
        broker.address()?;
        Ok(broker)
    }

    /// The address as it is now: a password that is read from a file may have changed.
    fn address(&self) -> Result<AMQPUri, Unusable> {
        let url = self
            .url
            .resolve_url()
            .map_err(|source| Unusable::Reference {
                connection: self.connection.clone(),
                source,
            })?;
        address(url.expose()).map_err(|why| Unusable::Address {
            connection: self.connection.clone(),
            why,
        })
    }

    /// Connects. `purpose` is shown by the broker.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Link, Trouble> {
        let broker = self.clone();
        let looked_up = tokio::task::spawn_blocking(move || broker.address()).await;
        let name = &self.connection;
        let uri = match looked_up {
            Ok(Ok(uri)) => uri,
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(|e| format!(": {e}"));
                let problem = format!("{error}{}", cause.unwrap_or_default());
                return Err(Trouble::new(problem, "make it readable for the engine"));
            }
            Err(_) => {
                let problem = format!("looking up `connections.{name}.amqp` was cut off");
                return Err(Trouble::new(problem, "the engine stops"));
            }
        };
        let socket = Socket::default();
        let (wanted, tls) = (Arc::downgrade(&socket.0), self.tls.clone());
        let limit = uri.query.connection_timeout.map(Duration::from_millis);
        let limit = limit.unwrap_or(CONNECT);
        let options = ConnectionProperties::default()
            .with_connection_name(format!("tidemill: {purpose}").into())
            .with_client_property("product".into(), "Tidemill".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let runtime = runtime::default_runtime().map_err(|e| self.trouble(&uri, &e))?;
        let connecting = Connection::connector(
            uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let to = (uri.authority.host.clone(), uri.authority.port);
                let addresses = runtime.to_socket_addrs(to);
                let connecting = AsyncTcpStream::connect(&runtime, addresses);
                let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
                let stream = tokio::time::timeout(limit, connecting)
                    .await
                    .map_err(|_| late())??;
                if let AsyncTcpStream::Plain(stream) = &stream {
                    let socket = stream.get_ref().as_fd().try_clone_to_owned()?;
                    // Whoever asked may have gone.
                    let wanted = wanted.upgrade().ok_or_else(late)?;
                    wanted.keep(socket.into());
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => {
                        Ok(stream.into_tls(&uri.authority.host, tls.as_ref()).await?)
                    }
                }
            },
            options,
        );
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(connection)) => Ok(Link { connection, socket }),
            Ok(Err(error)) => Err(self.trouble(&uri, &error)),
            Err(_) => Err(Trouble::new(
                format!("{} did not answer within {limit:?}", self.shown(&uri)),
                "see that the address is right, that no firewall is between, and that the broker is not overloaded",
            )),
        }
    }

    /// The address as it may be shown.
    fn shown(&self, uri: &AMQPUri) -> String {
        let host = match uri.authority.host.contains(':') {
            true => format!("[{}]", uri.authority.host),
            false => uri.authority.host.clone(),
        };
        let port = uri.authority.port;
        format!(
            "the broker of connection `{}` ({host}:{port})",
            self.connection
        )
    }

    /// What a failure to connect means.
    fn trouble(&self, uri: &AMQPUri, error: &lapin::Error) -> Trouble {
        let (broker, words) = (self.shown(uri), error::words(error));
        let place = format!("`connections.{}.amqp`", self.connection);
        let user = &uri.authority.userinfo.username;
        match error::code(error) {
            403 if words.contains("Login was refused") || words.contains("login refused") => {
                Trouble::new(
                    format!("{broker} refuses the user `{user}`, or the password is wrong"),
                    format!(
                        "correct them in {place}, or set the password with `rabbitmqctl change_password {user} ...`"
                    ),
                )
            }
            403 | 530 if words.contains("not found") => {
                let help = match uri.vhost.as_str() {
                    "" => format!(
                        "{place} ends in `/`, which names a virtual host without a name; the usual one, `/`, is written %2f"
                    ),
                    vhost => format!(
                        "correct the path of {place}, or make it with `rabbitmqctl add_vhost {vhost}`"
                    ),
                };
                Trouble::new(
                    format!("{broker} has no virtual host `{}`", uri.vhost),
                    help,
                )
            }
            403 | 530 => Trouble::new(
                format!(
                    "{broker} does not let the user `{user}` use the virtual host `{}`: {words}",
                    uri.vhost
                ),
                format!(
                    "allow it with `rabbitmqctl set_permissions -p {} {user} '.*' '.*' '.*'`",
                    uri.vhost
                ),
            ),
            0 => match error::tls(error) {
                Some(rustls::Error::InvalidCertificate(_)) => Trouble::new(
                    format!("the certificate of {broker} is not trusted: {words}"),
                    "if the broker is the right one, add the authority of its certificate to the system's, or name it with SSL_CERT_FILE, and start the engine again",
                ),
                Some(rustls::Error::InvalidMessage(_)) => Trouble::new(
                    format!("{broker} does not speak TLS at this port: {words}"),
                    format!("correct the port of {place}, or write amqp:// there"),
                ),
                _ => Trouble::new(
                    format!("{broker} cannot be reached: {words}"),
                    format!("see that it runs, and that {place} is right"),
                ),
            },
            _ => Trouble::new(
                format!("{broker} refuses the connection: {words}"),
                "the log of the broker may say more",
            ),
        }
    }
}

/// A connection.
pub(super) struct Link {
    pub connection: Connection,
    /// Cut when this is dropped.
    socket: Socket,
}

impl Link {
    /// Says goodbye, so that the broker has dealt with all that was sent before.
    pub(super) async fn close(self) {
        let goodbye = self.connection.close(200, "OK".into());
        // Whoever does not answer is left.
        _ = tokio::time::timeout(CLOSE, goodbye).await;
        drop(self.socket);
    }
}

/// A second hold on the socket of a connection, by which it is cut in the end whatever its thread
/// waits for: a peer that is silent in the greetings or at the goodbye would keep it for ever.
#[derive(Default)]
struct Socket(Arc<Kept>);

/// Cut when nobody holds it any more.
#[derive(Default)]
struct Kept(Mutex<Option<TcpStream>>);

impl Kept {
    fn keep(&self, socket: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let kept = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = kept {
            // It may be closed already.
            _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Reads an address. What is wrong with it is said without showing it.
fn address(url: &str) -> Result<AMQPUri, String> {
    let url = Url::parse(url.trim()).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Err("it is neither amqp nor amqps".to_owned());
    }
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) if !host.to_string().is_empty() => host.to_string(),
        _ => return Err("it has no host".to_owned()),
    };
    let mut uri: AMQPUri = url.as_str().parse().map_err(|_| {
        "its user, password or path is not UTF-8, or one of frame_max, channel_max, heartbeat and connection_timeout is not a number that fits"
    })?;
    // The parser takes a host that is an IPv6 address for none, which is localhost to it.
    uri.authority.host = host;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}
