//! The sessions of a copy: as many as read at once, made when they are needed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_sessions::postgres::PgSession;
use sqlx::Executor;

use crate::catalog::Types;
use crate::source::Source;
use crate::{Config, Error};

/// Sessions that are free. One that failed is dropped.
pub(crate) struct Sessions {
    source: Source,
    /// How long a statement of theirs waits for a table that somebody changes.
    lock_timeout: Duration,
    free: Mutex<Vec<Copying>>,
}

/// A session that reads tables.
pub(crate) struct Copying {
    pub(crate) session: PgSession,
    pub(crate) types: Types,
}

impl Sessions {
    pub(crate) fn new(source: Source, config: &Config) -> Self {
        Sessions {
            source,
            lock_timeout: config.lock_timeout,
            free: Mutex::default(),
        }
    }

    pub(crate) async fn take(&self) -> Result<Copying, Error> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match free {
            Some(session) => Ok(session),
            None => self.connect().await,
        }
    }

    /// What it writes is safe on the server itself when it is committed, and waits for no standby.
    async fn connect(&self) -> Result<Copying, Error> {
        let mut session = self.source.connect_to_copy().await?;
        let lock_timeout = self.lock_timeout.as_millis();
        let set = format!("SET lock_timeout = {lock_timeout}; SET synchronous_commit = local");
        session.execute(set.as_str()).await?;
        Ok(Copying {
            session,
            types: Types::default(),
        })
    }

    pub(crate) fn give(&self, session: Copying) {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
    }
}
