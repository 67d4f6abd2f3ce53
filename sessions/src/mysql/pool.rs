//! A few sessions for people who look at marts.

use std::io;
use std::time::Duration;

use sqlx::mysql::MySqlPoolOptions;
use sqlx::{Executor, MySqlPool};

use super::{options, prepare, ConnectError, Purpose};

/// A session of the pool is waited for so long.
const WAIT: Duration = Duration::from_secs(3);
/// Connections that nobody used for so long are closed.
const IDLE: Duration = Duration::from_secs(60);

/// A session that is given back must answer within so long; else it is closed.
const SETTLE: Duration = Duration::from_secs(5);

/// Sessions for [`Purpose::Look`], at most so many. Nothing is connected yet; how long an answer may take beyond the
/// server's own limit is up to the caller, who should close a session that did not answer in time. One that is given
/// back all the same keeps its place among the sessions for a few seconds at most.
pub fn pool(url: &str, connections_max: u32) -> Result<MySqlPool, ConnectError> {
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
        // A snapshot that stays open keeps MySQL from tidying up.
        .after_release(|conn, _| {
            Box::pin(async move {
                // What a caller stopped waiting for is read to its end first, so this is where silence shows.
                let settled = tokio::time::timeout(SETTLE, conn.execute("ROLLBACK")).await;
                match settled {
                    Ok(done) => done.map(|_| true),
                    // As an error: the server is not even told goodbye, which could take as long again.
                    Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                }
            })
        });
    Ok(pool.connect_lazy_with(options))
}
