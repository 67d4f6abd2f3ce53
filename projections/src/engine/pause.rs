//! Standing still until somebody says otherwise: a row in MySQL beside the position, so that it outlives
//! the projector.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use sqlx::{Connection, MySqlConnection};
use tokio::sync::{watch, Mutex};

use super::error::Error;
use super::status::{Handle, Shared, State};
use super::{owner, position};
use crate::replica::{connect, ConnectError, Isolation};

/// Between attempts to learn what became of a write that was not answered.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// A pause is in force once it is written. An answer waits so long for the commit that is being made.
const STANDSTILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pausing or resuming failed; the projector goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// MySQL did not take it.
    #[error("it cannot be written down in MySQL, so nothing has changed: {0}")]
    Write(#[source] Box<Error>),
    /// MySQL did not answer. What it made of it is found out as soon as it does, and then in force.
    #[error("MySQL did not say whether it is written down; `millrace projection list` tells when it answers again")]
    Unanswered,
}

/// What pausing needs beside the orders.
#[derive(Debug)]
pub(super) struct Pause {
    mysql_url: Url,
    /// Writing one row takes no longer on a server that works.
    answer_within: Duration,
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
    pub(super) fn new(mysql_url: String, answer_within: Duration) -> Pause {
        Pause {
            mysql_url: Url(mysql_url),
            answer_within,
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
        let mut sent_on = None;
        let written = write(&self.pause.mysql_url.0, pause, &mut sent_on);
        let error = match tokio::time::timeout(self.pause.answer_within, written).await {
            Ok(Ok(since)) => {
                self.show_pause(since);
                return Ok(());
            }
            Ok(Err(error)) => Some(Box::new(error)),
            Err(_) => None,
        };
        match (sent_on, error) {
            (Some(connection), _) => {
                tokio::spawn(self.clone().settle(connection));
                Err(PauseError::Unanswered)
            }
            (None, Some(error)) => Err(PauseError::Write(error)),
            (None, None) => {
                let error = Error::Server(ConnectError::Timeout);
                Err(PauseError::Write(Box::new(error)))
            }
        }
    }

    /// Finds out what became of a statement that was sent on this connection, and puts it in force. Tries for
    /// as long as the projector does.
    async fn settle(self: Arc<Self>, connection: u64) {
        loop {
            {
                let _change = self.pause.change.lock().await;
                let read = read_behind(&self.pause.mysql_url.0, connection);
                if let Ok(Ok(since)) = tokio::time::timeout(self.pause.answer_within, read).await {
                    self.show_pause(since);
                    return;
                }
            }
            if self.is_stopped() {
                return;
            }
            tokio::time::sleep(SETTLE_EVERY).await;
        }
    }
}

/// On a task of its own: a caller that hangs up must not leave row and memory in two minds.
async fn to_the_end(
    work: impl Future<Output = Result<(), PauseError>> + Send + 'static,
) -> Result<(), PauseError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(_) => Err(PauseError::Unanswered),
    }
}

/// A connection of its own: that of the projector may be in the middle of a transaction. `sent_on` names
/// it from when the statement is sent until it is answered.
async fn write(
    url: &str,
    pause: bool,
    sent_on: &mut Option<u64>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let (mut conn, server) = connect(url, Isolation::ReadCommitted)
        .await
        .map_err(Error::Server)?;
    position::prepare(&mut conn, &server).await?;
    let connection = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS UNSIGNED)")
        .fetch_one(&mut conn)
        .await
        .map_err(Error::sql("the pause"))?;
    let now = Utc::now().trunc_subsecs(6).naive_utc();
    let query = match pause {
        true => {
            sqlx::query("INSERT IGNORE INTO millrace_paused (id, since) VALUES (1, ?)").bind(now)
        }
        false => sqlx::query("DELETE FROM millrace_paused WHERE id = 1"),
    };
    *sent_on = Some(connection);
    let written = query.execute(&mut conn).await;
    if matches!(written, Ok(_) | Err(sqlx::Error::Database(_))) {
        *sent_on = None;
    }
    written.map_err(Error::sql("the pause"))?;
    let since = read(&mut conn).await?;
    let _ = conn.close().await;
    Ok(since)
}

/// Ends a connection, so that what it has not done it never does, and waits for what it is doing.
async fn read_behind(url: &str, connection: u64) -> Result<Option<DateTime<Utc>>, Error> {
    let (mut conn, _) = connect(url, Isolation::ReadCommitted)
        .await
        .map_err(Error::Server)?;
    owner::end_connection(&mut conn, connection).await;
    let since = select(&mut conn, "FOR UPDATE").await?;
    let _ = conn.close().await;
    Ok(since)
}

async fn read(conn: &mut MySqlConnection) -> Result<Option<DateTime<Utc>>, Error> {
    select(conn, "").await
}

async fn select(conn: &mut MySqlConnection, lock: &str) -> Result<Option<DateTime<Utc>>, Error> {
    let sql = format!("SELECT since FROM millrace_paused WHERE id = 1 {lock}");
    let since: Option<NaiveDateTime> = sqlx::query_scalar(&sql)
        .fetch_optional(conn)
        .await
        .map_err(Error::sql("the pause"))?;
    Ok(since.map(|since| since.and_utc()))
}
