//! A few sessions for people who look at marts.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Executor, MySql, MySqlPool};
use tokio::time::timeout;

use super::{options, prepare, ConnectError, Purpose};

/// A session of the pool is waited for so long.
const WAIT: Duration = Duration::from_secs(3);
/// Connections that nobody used for so long are closed.
const IDLE: Duration = Duration::from_secs(60);
/// A session that is given back must answer within so long; else it is dropped.
const SETTLE: Duration = Duration::from_secs(5);

/// Sessions for [`Purpose::Look`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool(MySqlPool);

/// A session of a [`Pool`], given back when it is dropped. One that then does not answer keeps its place among the
/// sessions for a few seconds at most.
#[derive(Debug)]
pub struct Pooled {
    connection: PoolConnection<MySql>,
    given_up: bool,
}

/// At most so many sessions. Nothing is connected yet; how long an answer may take beyond the server's own limit is up
/// to the caller, who should give up a session that did not answer in time.
pub fn pool(url: &str, connections_max: u32) -> Result<Pool, ConnectError> {
    let options = options(url).map_err(ConnectError::Url)?;
    let pool = MySqlPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(WAIT)
        .idle_timeout(IDLE)
        .after_connect(|conn, _| {
            Box::pin(async move {
                let prepared = prepare(conn, Purpose::Look).await;
                prepared.map(|_| ()).map_err(|error| match error {
                    ConnectError::Sql(error) | ConnectError::Settings(error) => error,
                    error => sqlx::Error::Configuration(Box::new(error)),
                })
            })
        })
        // A snapshot that stays open keeps MySQL from tidying up. What a caller stopped waiting for is read to its end
        // first, so this is where silence shows.
        .after_release(|conn, _| {
            Box::pin(async move { conn.execute("ROLLBACK").await.map(|_| true) })
        });
    Ok(Pool(pool.connect_lazy_with(options)))
}

impl Pool {
    /// Waits a few seconds for a session.
    pub async fn session(&self) -> sqlx::Result<Pooled> {
        Ok(Pooled {
            connection: self.0.acquire().await?,
            given_up: false,
        })
    }
}

impl Pooled {
    /// Closes it, because it still owes an answer: whoever got it next would wait for that first.
    pub fn give_up(mut self) {
        self.given_up = true;
        self.connection.close_on_drop();
    }
}

impl Deref for Pooled {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}

impl Drop for Pooled {
    /// The driver would give it back by itself, and after our ROLLBACK wait without limit for the answer to a ping.
    fn drop(&mut self) {
        if !self.given_up {
            tokio::spawn(timeout(SETTLE, self.connection.return_to_pool()));
        }
    }
}
