//! Standing still until somebody says otherwise: a row in MySQL beside the position, so that it outlives
//! the projector.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use millrace_sessions::mysql::{connect, Purpose, Session};
use tokio::sync::{watch, Mutex};

use super::bookkeeping::prepare;
use super::error::Error;
use super::handle::Handle;
use super::owner::Lock;
use super::shared::Shared;
use super::status::State;
use super::Limits;

/// Held while the row is written and read.
const LOCK: Lock = Lock("millrace.pause.");
/// An attempt to learn what became of a write that was not answered, and the time between two of them.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// For so long that is tried. Later it is found out when the projector connects again.
const SETTLE_FOR: Duration = Duration::from_secs(600);
/// A pause is in force once it is written. An answer waits so long for the commit that is being made.
const STANDSTILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pausing or resuming failed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// MySQL did not take it.
    #[error("it cannot be written down in MySQL, so nothing has changed")]
    Write(#[source] Box<Error>),
    /// MySQL did not answer before it was asked to write.
    #[error("MySQL does not answer, so nothing has changed; try again when it does")]
    Silent,
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
    /// Somebody is finding out what became of a write.
    settling: AtomicBool,
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
    pub(super) fn new(mysql_url: String, limits: &Limits) -> Pause {
        Pause {
            mysql_url: Url(mysql_url),
            answer_within: limits.pause_answer,
            change: Mutex::new(()),
            settling: AtomicBool::new(false),
            standing: watch::Sender::new(false),
        }
    }

    /// Where bookkeeping is written to beside the projector's own connection, and how long that may take.
    pub(super) fn target(&self) -> (&str, Duration) {
        (&self.mysql_url.0, self.answer_within)
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
    pub(super) async fn remember_pause(self: &Arc<Self>, conn: &mut Session) -> Result<(), Error> {
        let _change = self.pause.change.lock().await;
        let writer = LOCK.seize(conn).await?;
        self.show_pause(read(conn).await?);
        match writer {
            None => LOCK.release(conn).await,
            // Somebody writes it who cannot be ended: no reason to stop.
            Some(_) => {
                self.settle();
                Ok(())
            }
        }
    }

    async fn write_pause(self: Arc<Self>, pause: bool) -> Result<(), PauseError> {
        let within = self.pause.answer_within;
        let change = tokio::time::timeout(within, self.pause.change.lock()).await;
        let _change = change.map_err(|_| PauseError::Silent)?;
        let mut sent = false;
        let written = write(&self.pause.mysql_url.0, pause, &mut sent);
        match tokio::time::timeout(within, written).await {
            Ok(Ok(since)) => {
                self.show_pause(since);
                Ok(())
            }
            Ok(Err(error)) if !sent => Err(PauseError::Write(Box::new(error))),
            Err(_) if !sent => Err(PauseError::Silent),
            _ => {
                self.settle();
                Err(PauseError::Unanswered)
            }
        }
    }

    /// Finds out what became of a statement that was sent, and puts it in force.
    fn settle(self: &Arc<Self>) {
        if self.pause.settling.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let attempts = async {
                while !shared.settled().await {
                    tokio::time::sleep(SETTLE_EVERY).await;
                }
            };
            let _ = tokio::time::timeout(SETTLE_FOR, attempts).await;
            shared.pause.settling.store(false, Ordering::SeqCst);
        });
    }

    async fn settled(&self) -> bool {
        let _change = self.pause.change.lock().await;
        let read = read_alone(&self.pause.mysql_url.0);
        match tokio::time::timeout(SETTLE_WITHIN, read).await {
            Ok(Ok(since)) => {
                self.show_pause(since);
                true
            }
            Ok(Err(_)) | Err(_) => false,
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

/// A connection of its own: that of the projector may be in the middle of a transaction. `sent` from when
/// the statement is sent, unless the server has refused it.
async fn write(url: &str, pause: bool, sent: &mut bool) -> Result<Option<DateTime<Utc>>, Error> {
    let mut conn = connect(url, Purpose::Project).await?;
    prepare(&mut conn).await?;
    seize(&mut conn).await?;
    let now = Utc::now().trunc_subsecs(6).naive_utc();
    let query = match pause {
        true => {
            sqlx::query("INSERT IGNORE INTO millrace_paused (id, since) VALUES (1, ?)").bind(now)
        }
        false => sqlx::query("DELETE FROM millrace_paused WHERE id = 1"),
    };
    *sent = true;
    let written = query.execute(&mut conn).await;
    if matches!(written, Err(sqlx::Error::Database(_))) {
        *sent = false;
    }
    written.map_err(Error::sql("the pause"))?;
    read(&mut conn).await
}

/// The row as it stays: nobody is writing it any more.
async fn read_alone(url: &str) -> Result<Option<DateTime<Utc>>, Error> {
    let mut conn = connect(url, Purpose::Project).await?;
    seize(&mut conn).await?;
    read(&mut conn).await
}

async fn seize(conn: &mut Session) -> Result<(), Error> {
    match LOCK.seize(conn).await? {
        None => Ok(()),
        Some(_) => Err(Error::Bookkeeping(
            "the pause is being written by somebody else".into(),
        )),
    }
}

async fn read(conn: &mut Session) -> Result<Option<DateTime<Utc>>, Error> {
    let since: Option<NaiveDateTime> =
        sqlx::query_scalar("SELECT since FROM millrace_paused WHERE id = 1")
            .fetch_optional(conn)
            .await
            .map_err(Error::sql("the pause"))?;
    Ok(since.map(|since| since.and_utc()))
}
