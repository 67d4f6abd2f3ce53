//! The source database, as capture connects to it.

use millrace_sessions::postgres::replication::Replication;
use millrace_sessions::postgres::{PgSession, Server, Work};

use crate::{Config, Error};

/// The source database.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    server: Server,
    application: String,
}

impl Source {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let server = Server::parse(&config.postgres_url)
            .map_err(|error| Error::Config(format!("postgres_url: {error}")))?;
        Ok(Source {
            server,
            application: format!("millrace-{}", config.slot),
        })
    }

    /// A session for short statements.
    pub(crate) async fn connect(&self) -> Result<PgSession, Error> {
        Ok(self.server.connect(&self.application, Work::Ask).await?)
    }

    /// A session that reads whole tables.
    pub(crate) async fn connect_to_copy(&self) -> Result<PgSession, Error> {
        Ok(self.server.connect(&self.application, Work::Copy).await?)
    }

    /// A session for replication commands.
    pub(crate) async fn replication(&self) -> Result<Replication, Error> {
        Ok(self.server.replication(&self.application).await?)
    }

    pub(crate) fn user(&self) -> &str {
        self.server.user()
    }
}
