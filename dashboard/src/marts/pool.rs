//! A few connections for people who look at marts: read only, and no statement runs long.

use millrace_sessions::mysql;
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool};

pub(super) type Connection = PoolConnection<MySql>;

const CONNECTIONS_MAX: u32 = 3;

/// Nothing is connected yet; `None` if the URL is none.
pub(super) fn lazy(url: &str) -> Option<MySqlPool> {
    mysql::pool(url, CONNECTIONS_MAX).ok()
}
