//! `wayline serve --postgres`: what can be asked of the door for clients of PostgreSQL.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Global;
use crate::error::Result;

#[derive(Debug, Args)]
pub struct PostgresArgs {
    /// Let clients of PostgreSQL query models and marts, at 127.0.0.1:5433 or another address. Off this machine they
    /// log in: WAYLINE_POSTGRES_USER and WAYLINE_POSTGRES_PASSWORD, or WAYLINE_POSTGRES_PASSWORD_FILE
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:5433")]
    postgres: Option<SocketAddr>,
    /// Longest that a statement of such a client may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration, requires = "postgres")]
    statement_timeout: Duration,
    /// Most such clients at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 20, requires = "postgres")]
    max_connections: usize,
    /// PEM file of the certificate by which such clients know this server
    #[arg(long, value_name = "PATH", requires_all = ["postgres", "tls_key"])]
    tls_certificate: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "PATH", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

#[cfg(feature = "postgres")]
pub use self::door::{options, serve};

#[cfg(feature = "postgres")]
mod door {
    use super::{Global, PathBuf, PostgresArgs, Result};
    use crate::cli::messages::Messages;
    use crate::postgres::{self, Login, Options};
    use crate::reader::Reader;

    /// How the door stands open, if it does.
    pub fn options(args: &PostgresArgs) -> Result<Option<Options>> {
        let Some(address) = args.postgres else { return Ok(None) };
        Ok(Some(Options {
            address,
            login: Login::from_environment()?,
            tls: args.tls_certificate.clone().zip(args.tls_key.clone()),
            statement_timeout: args.statement_timeout,
            max_connections: args.max_connections,
        }))
    }

    /// Serves until a signal stops it.
    pub async fn serve(options: Options, global: &Global) -> Result<()> {
        let messages = Messages(global.log_format);
        let folder = global.project.clone().unwrap_or_else(|| PathBuf::from("."));
        let is_plain = !options.address.ip().is_loopback() && options.tls.is_none();
        postgres::serve(Reader::new(folder, global.as_of), options, |address| {
            if is_plain {
                messages
                    .say("what clients ask and are answered crosses the network unencrypted: see --tls-certificate");
            }
            messages.say(&format!("PostgreSQL at postgres://{address}/wayline"));
        })
        .await
    }
}

/// This build has no door.
#[cfg(not(feature = "postgres"))]
pub fn options(args: &PostgresArgs) -> Result<Option<std::convert::Infallible>> {
    match args.postgres {
        None => Ok(None),
        Some(_) => Err(crate::error::Error::invalid("this build does not speak the protocol of PostgreSQL")
            .hint("build it so: cargo install --path . --features postgres")),
    }
}

#[cfg(not(feature = "postgres"))]
pub async fn serve(options: std::convert::Infallible, _global: &Global) -> Result<()> {
    match options {}
}
