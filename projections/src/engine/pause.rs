//! Standing still until somebody says otherwise: a row in MySQL beside the position, so that it outlives
//! the projector.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use sqlx::{Connection, MySqlConnection};
use tokio::sync::{watch, Mutex};

use super::error::Error;
use super::position;
use super::status::{Handle, Shared, State};
use crate::replica::{connect, Isolation};

/// Writing one row takes no longer on a server that works.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// A pause is in force once it is written. An answer waits so long for the commit that is being made.
const STANDSTILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pausing or resuming failed; the projector goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// MySQL did not take it.
    #[error("it cannot be written down in MySQL, so nothing has changed: {0}")]
    Write(#[source] Box<Error>),
    /// MySQL did not answer; it may have been written.
    #[error("MySQL did not answer within {} s; ask again", .0.as_secs())]
    Timeout(Duration),
}

/// What pausing needs beside the orders.
#[derive(Debug)]
pub(super) struct Pause {
    mysql_url: Url,
    /// Row and memory change together.
    change: Mutex<()>,
    standing: watch::Sender<bool>,
}

/// Holds a password.
struct Url(String);

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mysql://…")
    }
}

impl Pause {
    pub(super) fn new(mysql_url: String) -> Pause {
        Pause {
            mysql_url: Url(mysql_url),
            change: Mutex::new(()),
            standing: watch::Sender::new(false),
        }
    }

    /// Says whether the projector stands still for a pause.
    pub(super) fn standing(&self, still: bool) {
        self.standing.send_replace(still);
    }
}

impl Handle {
    /// Lets the projector stand still between two commits until it is resumed, over restarts too. Returns
    /// when it stands still, or after a few seconds if it is in the middle of a long commit or if a
    /// hold is in force; the pause then begins behind that. Pausing twice is pausing once.
    pub async fn pause(&self) -> Result<(), PauseError> {
        let shared = self.0.clone();
        to_the_end(async move { shared.write_pause(true).await }).await?;
        if self.status().state != State::Live {
            return Ok(());
        }
        let mut standing = self.0.pause.standing.subscribe();
        let stands = standing.wait_for(|still| *still);
        let _ = tokio::time::timeout(STANDSTILL_TIMEOUT, stands).await;
        Ok(())
    }

    /// Lets a paused projector go on. One that is not paused goes on anyway.
    pub async fn resume(&self) -> Result<(), PauseError> {
        let shared = self.0.clone();
        to_the_end(async move { shared.write_pause(false).await }).await
    }
}

impl Shared {
    /// Takes over what an earlier projector was told, or this one on another connection.
    pub(super) async fn remember_pause(&self, conn: &mut MySqlConnection) -> Result<(), Error> {
        let _change = self.pause.change.lock().await;
        self.show_pause(read(conn).await?);
        Ok(())
    }

    async fn write_pause(self: Arc<Self>, pause: bool) -> Result<(), PauseError> {
        let _change = self.pause.change.lock().await;
        let written = write(&self.pause.mysql_url.0, pause);
        match tokio::time::timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(since)) => {
                self.show_pause(since);
                Ok(())
            }
            Ok(Err(error)) => Err(PauseError::Write(Box::new(error))),
            Err(_) => Err(PauseError::Timeout(WRITE_TIMEOUT)),
        }
    }
}

/// On a task of its own: a caller that hangs up must not leave row and memory in two minds.
async fn to_the_end(
    work: impl Future<Output = Result<(), PauseError>> + Send + 'static,
) -> Result<(), PauseError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(_) => Err(PauseError::Timeout(WRITE_TIMEOUT)),
    }
}

/// A connection of its own: that of the projector may be in the middle of a transaction.
async fn write(url: &str, pause: bool) -> Result<Option<DateTime<Utc>>, Error> {
    let (mut conn, server) = connect(url, Isolation::ReadCommitted)
        .await
        .map_err(Error::Server)?;
    position::prepare(&mut conn, &server).await?;
    let now = Utc::now().trunc_subsecs(6).naive_utc();
    let query = match pause {
        true => {
            sqlx::query("INSERT IGNORE INTO millrace_paused (id, since) VALUES (1, ?)").bind(now)
        }
        false => sqlx::query("DELETE FROM millrace_paused WHERE id = 1"),
    };
    query
        .execute(&mut conn)
        .await
        .map_err(Error::sql("the pause"))?;
    let since = read(&mut conn).await?;
    let _ = conn.close().await;
    Ok(since)
}

async fn read(conn: &mut MySqlConnection) -> Result<Option<DateTime<Utc>>, Error> {
    let since: Option<NaiveDateTime> =
        sqlx::query_scalar("SELECT since FROM millrace_paused WHERE id = 1")
            .fetch_optional(conn)
            .await
            .map_err(Error::sql("the pause"))?;
    Ok(since.map(|since| since.and_utc()))
}
