//! Which server it is, and a session whose results do not depend on its configuration.

use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, MySqlConnection, Row};

/// A connection attempt that takes longer is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A lock is waited for no longer; the transaction is then retried as a whole.
const LOCK_WAIT_SECONDS: u32 = 20;

/// The two families, where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MySQL, 8.0 or later.
    MySql,
    /// MariaDB, 10.6 or later.
    MariaDb,
}

/// Transaction isolation of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The projector: it is the only writer and must see its own last commit.
    ReadCommitted,
    /// Verify: several statements see one state.
    RepeatableRead,
}

/// A server as found at the start of a session.
#[derive(Clone, Debug)]
pub struct Server {
    /// MySQL or MariaDB.
    pub flavour: Flavour,
    /// What `VERSION()` says.
    pub version: String,
    /// `max_allowed_packet`: no statement may be longer.
    pub packet_bytes_max: usize,
}

/// No usable session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a MySQL URL.
    #[error("the MySQL URL cannot be used: {0}")]
    Url(#[source] sqlx::Error),
    /// Nobody answers, or a wrong password.
    #[error("no connection to MySQL: {0}")]
    Sql(#[from] sqlx::Error),
    /// It took longer than the limit.
    #[error("no connection to MySQL within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// Too old.
    #[error(
        "MySQL server version {0:?} is not supported; MySQL 8.0 or MariaDB 10.6 or later is needed"
    )]
    Version(String),
}

/// Opens a session with every setting pinned that results depend on.
///
/// Statements are never logged: they carry values.
pub async fn connect(
    url: &str,
    isolation: Isolation,
) -> Result<(MySqlConnection, Server), ConnectError> {
    let options = MySqlConnectOptions::from_str(url)
        .map_err(ConnectError::Url)?
        .charset("utf8mb4")
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .disable_statement_logging();
    tokio::time::timeout(CONNECT_TIMEOUT, async {
        let mut conn = MySqlConnection::connect_with(&options).await?;
        let server = Server::detect(&mut conn).await?;
        server.pin(&mut conn, isolation).await?;
        Ok((conn, server))
    })
    .await
    .map_err(|_| ConnectError::Timeout)?
}

impl Server {
    async fn detect(conn: &mut MySqlConnection) -> Result<Server, ConnectError> {
        let sql = "SELECT CAST(VERSION() AS CHAR), CAST(@@max_allowed_packet AS UNSIGNED)";
        let row = sqlx::query(sql).fetch_one(conn).await?;
        let version: String = row.try_get_unchecked(0)?;
        let packet: u64 = row.try_get(1)?;
        let flavour = flavour_of(&version).ok_or_else(|| ConnectError::Version(version.clone()))?;
        Ok(Server {
            flavour,
            version,
            packet_bytes_max: usize::try_from(packet).unwrap_or(usize::MAX),
        })
    }

    /// The binary collation under which 'a' and 'a ' differ, as in Postgres.
    pub fn collation(&self) -> &'static str {
        match self.flavour {
            Flavour::MySql => "utf8mb4_0900_bin",
            Flavour::MariaDb => "utf8mb4_nopad_bin",
        }
    }

    async fn pin(&self, conn: &mut MySqlConnection, isolation: Isolation) -> sqlx::Result<()> {
        let isolation = match isolation {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::RepeatableRead => "REPEATABLE READ",
        };
        let collation = self.collation();
        conn.execute(format!("SET NAMES utf8mb4 COLLATE {collation}").as_str())
            .await?;
        conn.execute(
            "SET SESSION sql_mode = \
             'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', \
             time_zone = '+00:00', div_precision_increment = 4, autocommit = 1",
        )
        .await?;
        conn.execute(
            format!("SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}").as_str(),
        )
        .await?;
        conn.execute(format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}").as_str())
            .await?;
        Ok(())
    }
}

fn flavour_of(version: &str) -> Option<Flavour> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().ok());
    let found = (numbers.next()??, numbers.next()??);
    let (flavour, oldest) = if version.to_ascii_lowercase().contains("mariadb") {
        (Flavour::MariaDb, (10, 6))
    } else {
        (Flavour::MySql, (8, 0))
    };
    (found >= oldest).then_some(flavour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_and_old_ones_refused() {
        let cases = [
            ("10.11.14-MariaDB-0+deb12u2", Some(Flavour::MariaDb)),
            ("10.6.0-MariaDB", Some(Flavour::MariaDb)),
            ("10.5.28-MariaDB", None),
            ("11.8.3-MariaDB-ubu2404", Some(Flavour::MariaDb)),
            ("8.0.36-0ubuntu0.22.04.1", Some(Flavour::MySql)),
            ("9.7.0", Some(Flavour::MySql)),
            ("5.7.44-log", None),
            ("", None),
        ];
        for (version, expected) in cases {
            assert_eq!(flavour_of(version), expected, "{version}");
        }
    }
}
