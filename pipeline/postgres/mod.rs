//! The wire protocol of PostgreSQL: psql, drivers and BI tools query models and marts, read-only.
//!
//! A query sees one state of the lake, the newest when it begins; a prepared statement that is executed again sees the
//! newest again. What landed as it was sent (`events`, `dead_letters`) and the identifiers behind customers are not
//! shown here.

mod answer;
mod authentication;
mod catalog;
mod comments;
mod connection;
mod handler;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub use self::authentication::Login;
use self::catalog::Catalog;
use self::connection::{Door, Tls};
use crate::error::{Context, Error, Result};
use crate::reader::Reader;

/// Where and how the door stands open.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on. Off loopback a login is required.
    pub address: SocketAddr,
    /// Who may come in; `None` is anybody.
    pub login: Option<Login>,
    /// Certificate and key for TLS, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Longest that a statement may take.
    pub statement_timeout: Duration,
    /// Clients at a time.
    pub max_connections: usize,
}

impl Options {
    fn check(&self) -> Result<()> {
        if !self.address.ip().is_loopback() && self.login.is_none() {
            return Err(Error::invalid(format!("{} can be reached by others, and nobody need log in", self.address))
                .hint(format!("set {}, or {0}_FILE, or listen on 127.0.0.1", authentication::PASSWORD)));
        }
        Ok(())
    }
}

/// Serves a project until the task is dropped; `listens` is told the address.
pub async fn serve(reader: Reader, options: Options, listens: impl FnOnce(SocketAddr)) -> Result<()> {
    options.check()?;
    let tls = options.tls.as_ref().map(|(certificate, key)| Tls::load(certificate, key)).transpose()?;
    // A project that cannot be opened is told at once.
    let catalog = Catalog::open(reader).await?;
    let listener = TcpListener::bind(options.address).await.context(format!("could not listen on {}", options.address));
    let listener = listener.map_err(|error| error.hint("another server may listen there: name another address"))?;
    listens(listener.local_addr()?);
    Door::new(Arc::new(catalog), options, tls).open(listener).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_login_only_this_machine_is_let_in() {
        let options = |address: &str, login: Option<Login>| Options {
            address: address.parse().unwrap(),
            login,
            tls: None,
            statement_timeout: Duration::from_secs(1),
            max_connections: 1,
        };
        let login = || Some(Login::new("someone".into(), "secret".into()));
        for address in ["127.0.0.1:0", "[::1]:0"] {
            assert!(options(address, None).check().is_ok(), "{address}");
        }
        for address in ["0.0.0.0:0", "192.0.2.1:5432", "[::]:0"] {
            assert!(options(address, None).check().is_err(), "{address}");
            assert!(options(address, login()).check().is_ok(), "{address}");
        }
    }
}
