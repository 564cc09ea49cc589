//! Who may come in: anybody on this machine, or one user with a password that SCRAM-SHA-256 never sends.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::SASLAuthStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password};
use datafusion_postgres::pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
};
use datafusion_postgres::pgwire::api::{ClientInfo, ConnectionManager, PgWireConnectionState};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::Sink;
use uuid::Uuid;

use crate::error::{Context, Result};

/// Environment variables of the login; `…_FILE` names a file that holds the password.
pub const USER: &str = "WAYLINE_POSTGRES_USER";
pub const PASSWORD: &str = "WAYLINE_POSTGRES_PASSWORD";
const DEFAULT_USER: &str = "wayline";

/// A user and what their password was made into.
#[derive(Clone)]
pub struct Login {
    user: String,
    salt: Vec<u8>,
    salted: Vec<u8>,
}

impl Login {
    /// A login; the password itself is not kept.
    pub fn new(user: String, password: String) -> Self {
        let salt = Uuid::new_v4().as_bytes().to_vec();
        let salted = gen_salted_password(&password, &salt, SCRAM_ITERATIONS);
        Self { user, salt, salted }
    }

    /// The login of the environment, if it names a password.
    pub fn from_environment() -> Result<Option<Self>> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file_variable = format!("{PASSWORD}_FILE");
        let password = match (given(PASSWORD), given(&file_variable)) {
            (Some(password), _) => password,
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path).context(format!("{file_variable}, {path}"))?;
                text.trim_end_matches(['\n', '\r']).to_string()
            }
            (None, None) => return Ok(None),
        };
        if password.is_empty() {
            return Err(crate::error::Error::invalid(format!("{file_variable} names an empty file")));
        }
        Ok(Some(Self::new(given(USER).unwrap_or_else(|| DEFAULT_USER.into()), password)))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[async_trait]
impl AuthSource for Login {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        // Another user is asked like the right one, and no password is theirs.
        let salted = match login.user() == Some(self.user.as_str()) {
            true => self.salted.clone(),
            false => gen_salted_password(&Uuid::new_v4().to_string(), &self.salt, SCRAM_ITERATIONS),
        };
        Ok(Password::new(Some(self.salt.clone()), salted))
    }
}

/// Set in a connection once its client may query.
pub struct Admitted;

/// Lets a client in, or ends its connection.
pub enum Porter {
    /// Nobody need log in.
    Open(OpenPorter),
    /// A password is asked for; one porter knows one connection.
    Asking(SASLAuthStartupHandler<DefaultServerParameterProvider>),
}

pub struct OpenPorter(Arc<ConnectionManager>);

impl NoopStartupHandler for OpenPorter {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(self.0.clone())
    }
}

impl Porter {
    pub fn new(login: Option<&Login>, connections: Arc<ConnectionManager>) -> Self {
        match login {
            None => Self::Open(OpenPorter(connections)),
            Some(login) => {
                let scram = ScramAuth::new(Arc::new(login.clone()));
                let parameters = Arc::new(DefaultServerParameterProvider::default());
                let handler = SASLAuthStartupHandler::new(parameters).with_scram(scram);
                Self::Asking(handler.with_connection_manager(connections))
            }
        }
    }
}

#[async_trait]
impl StartupHandler for Porter {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let outcome = match self {
            Self::Open(porter) => porter.on_startup(client, message).await,
            Self::Asking(porter) => porter.on_startup(client, message).await,
        };
        match outcome {
            Ok(()) if matches!(client.state(), PgWireConnectionState::ReadyForQuery) => {
                client.session_extensions().insert(Admitted);
                Ok(())
            }
            Ok(()) => Ok(()),
            // Whatever went wrong before a client was let in ends the connection.
            Err(error) => {
                let mut told: ErrorInfo = error.into();
                told.severity = "FATAL".into();
                Err(PgWireError::UserError(Box::new(told)))
            }
        }
    }
}
