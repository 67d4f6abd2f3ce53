//! The sessions of a copy: as many as read at once, made when they are needed.

use std::sync::{Mutex, PoisonError};

use millrace_sessions::postgres::PgSession;

use crate::catalog::Types;
use crate::source::Source;
use crate::Error;

/// Sessions that are free. One that failed is dropped.
pub(crate) struct Sessions {
    source: Source,
    free: Mutex<Vec<Copying>>,
}

/// A session that reads tables.
pub(crate) struct Copying {
    pub(crate) session: PgSession,
    pub(crate) types: Types,
}

impl Sessions {
    pub(crate) fn new(source: Source) -> Self {
        Sessions {
            source,
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
            None => Ok(Copying {
                session: self.source.connect_to_copy().await?,
                types: Types::default(),
            }),
        }
    }

    pub(crate) fn give(&self, session: Copying) {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
    }
}
