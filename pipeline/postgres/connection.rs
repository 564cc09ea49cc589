//! Clients at the door: how many come in, over TLS or not, and what becomes of a query whose client has gone.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::api::ConnectionManager;
use datafusion_postgres::pgwire::api::PgWireServerHandlers;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::tokio::process_socket;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::Options;
use super::authentication::Porter;
use super::catalog::Catalog;
use super::handler::Handler;
use crate::error::{Error, Result};

/// How often it is looked whether a client is still there.
const LOOK: Duration = Duration::from_millis(250);
/// After a failed accept, such as one for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that is turned away is listened to so long.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_GREETING: usize = 10_000;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Certificate and key.
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Reads PEM files; without them the door does not open.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let unread = |path: &Path, error: &dyn std::fmt::Display| {
            Error::invalid(format!("could not read {}: {error}", path.display())).hint("expected a PEM file")
        };
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| unread(certificate, &error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
        let config = config.map_err(|error| Error::invalid(format!("certificate and key do not fit: {error}")))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// What every connection shares.
pub struct Door {
    handler: Arc<Handler>,
    connections: Arc<ConnectionManager>,
    options: Options,
    tls: Option<Tls>,
    room: Arc<Semaphore>,
}

impl Door {
    pub fn new(catalog: Arc<Catalog>, options: Options, tls: Option<Tls>) -> Self {
        let room = Arc::new(Semaphore::new(options.max_connections));
        let handler = Arc::new(Handler::new(catalog, options.statement_timeout));
        Self { handler, connections: Arc::new(ConnectionManager::new()), options, tls, room }
    }

    /// Lets clients in until the task is dropped; their tasks end with it.
    pub async fn open(self, listener: TcpListener) -> Result<()> {
        let door = Arc::new(self);
        let mut clients = tokio::task::JoinSet::new();
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "could not take a connection");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
                Some(_) = clients.join_next() => continue,
            };
            clients.spawn(door.clone().admit(stream, address));
        }
    }

    async fn admit(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let Ok(_place) = self.room.clone().try_acquire_owned() else {
            tracing::warn!(%address, most = self.options.max_connections, "turned a client away: too many connections");
            return turn_away(stream).await;
        };
        let watched = match watched(stream) {
            Ok(watched) => watched,
            Err(error) => return tracing::warn!(%address, %error, "could not serve a client"),
        };
        let (stream, witness) = watched;
        let tls = self.tls.as_ref().map(|tls| tls.0.clone());
        let connection = Connection(self.clone());
        tokio::select! {
            served = process_socket(stream, tls, connection) => {
                if let Err(error) = served {
                    tracing::debug!(%address, %error, "a connection ended");
                }
            }
            _ = gone(witness) => tracing::debug!(%address, "a client has gone"),
        }
    }
}

/// The stream of a client, and another by which it is seen whether it is still there.
fn watched(stream: TcpStream) -> std::io::Result<(TcpStream, TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let witness = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, TcpStream::from_std(witness)?))
}

/// Ends once a client has closed its side, though what it sent before may not have been read yet.
async fn gone(witness: TcpStream) {
    loop {
        match witness.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK).await,
            _ => {
                // What was read of it by then is still answered: a client may close right after its last query.
                tokio::time::sleep(LOOK).await;
                return;
            }
        }
    }
}

/// Tells a client that there is no room, once it has said who it is, as it expects to be told.
async fn turn_away(mut stream: TcpStream) {
    let mut fields = Vec::new();
    for (kind, text) in [(b'S', "FATAL"), (b'C', "53300"), (b'M', "too many connections; try again later")] {
        fields.push(kind);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).expect("a short message");
    let mut message = vec![b'E'];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&fields);
    let told = async {
        greeting(&mut stream).await?;
        stream.write_all(&message).await?;
        stream.shutdown().await
    };
    // A client that does not listen is turned away all the same.
    let _ = tokio::time::timeout(PATIENCE, told).await;
}

/// Reads a client's first message; encryption that it asks for before is declined.
async fn greeting(stream: &mut TcpStream) -> std::io::Result<()> {
    loop {
        let (length, kind) = (stream.read_u32().await?, stream.read_u32().await?);
        if [SSL_REQUEST, GSS_REQUEST].contains(&kind) {
            stream.write_all(b"N").await?;
            continue;
        }
        let rest = usize::try_from(length).unwrap_or_default().saturating_sub(8).min(LONGEST_GREETING);
        return stream.read_exact(&mut vec![0; rest]).await.map(|_| ());
    }
}

/// What one connection asks for.
struct Connection(Arc<Door>);

impl PgWireServerHandlers for Connection {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.0.handler.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.0.handler.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::new(Porter::new(self.0.options.login.as_ref(), self.0.connections.clone()))
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(DefaultCancelHandler::new(self.0.connections.clone()))
    }
}
