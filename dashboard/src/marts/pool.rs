//! A few connections for people who look at marts: read only, and no statement runs long.

use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Executor, MySql, MySqlPool};

use crate::collect;

pub(super) type Connection = PoolConnection<MySql>;

const CONNECTIONS_MAX: u32 = 3;
const WAIT: Duration = Duration::from_secs(3);
/// Connections that nobody used for so long are closed.
const IDLE: Duration = Duration::from_secs(60);
const STATEMENT_SECONDS_MAX: u32 = 5;

/// Nothing is connected yet; `None` if the URL is none.
pub(super) fn lazy(url: &str) -> Option<MySqlPool> {
    let options = collect::mysql_options(url).ok()?;
    let pool = MySqlPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(WAIT)
        .idle_timeout(IDLE)
        .after_connect(|conn, _| Box::pin(prepare(conn)))
        // A snapshot that stays open keeps MySQL from tidying up.
        .after_release(|conn, _| {
            Box::pin(async move {
                conn.execute("ROLLBACK").await?;
                Ok(true)
            })
        });
    Some(pool.connect_lazy_with(options))
}

/// The two families name the time limit of a statement differently.
async fn prepare(conn: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let version: String = sqlx::query_scalar("SELECT CAST(VERSION() AS CHAR)")
        .fetch_one(&mut *conn)
        .await?;
    let limit = match version.to_ascii_lowercase().contains("mariadb") {
        true => format!("max_statement_time = {STATEMENT_SECONDS_MAX}"),
        false => format!("max_execution_time = {}", STATEMENT_SECONDS_MAX * 1_000),
    };
    let settings = format!(
        "SET SESSION {limit}; SET SESSION time_zone = '+00:00'; \
         SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    );
    for setting in settings.split("; ") {
        conn.execute(setting).await?;
    }
    Ok(())
}
