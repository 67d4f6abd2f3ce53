//! A few connections for people who look at marts: read only, and no statement runs long.

use millrace_sessions::mysql::{self, Pool};
const CONNECTIONS_MAX: u32 = 3;

/// Nothing is connected yet; `None` if the URL is none.
pub(super) fn lazy(url: &str) -> Option<Pool> {
    mysql::pool(url, CONNECTIONS_MAX).ok()
}
