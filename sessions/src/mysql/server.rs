//! Which server it is.

use std::fmt;

use sqlx::{Executor, MySqlConnection, Row};

use super::ConnectError;

/// The two families, where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Oracle's MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// The oldest servers that work, in words; [`Flavour::oldest`] has the numbers.
pub const OLDEST: &str = "MySQL 8.0.23 or MariaDB 10.6";

impl Flavour {
    /// The oldest version that works: MySQL before 8.0.23 has no invisible columns.
    pub fn oldest(self) -> (u32, u32, u32) {
        match self {
            Flavour::MySql => (8, 0, 23),
            Flavour::MariaDb => (10, 6, 0),
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::MySql => "MySQL",
            Flavour::MariaDb => "MariaDB",
        })
    }
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
    /// What the server calls this session; `KILL` takes it.
    pub connection: u64,
    /// `lower_case_table_names`: "Orders" and "orders" are one table, and it may be shown under another name than it was
    /// made under.
    pub ignores_case: bool,
}

impl Server {
    pub(super) async fn detect(conn: &mut MySqlConnection) -> Result<Server, ConnectError> {
        let sql = "SELECT CAST(VERSION() AS CHAR), CAST(@@max_allowed_packet AS UNSIGNED), \
                   CAST(CONNECTION_ID() AS UNSIGNED), CAST(@@lower_case_table_names AS UNSIGNED)";
        let row = conn.fetch_one(sql).await?;
        let version: String = row.try_get_unchecked(0)?;
        let (packet, case): (u64, u64) = (row.try_get(1)?, row.try_get(3)?);
        let flavour = flavour_of(&version).ok_or_else(|| ConnectError::Version(version.clone()))?;
        Ok(Server {
            flavour,
            version,
            packet_bytes_max: usize::try_from(packet).unwrap_or(usize::MAX),
            connection: row.try_get(2)?,
            ignores_case: case != 0,
        })
    }

    /// The binary collation under which 'a' and 'a ' differ, as in Postgres.
    pub fn collation(&self) -> &'static str {
        match self.flavour {
            Flavour::MySql => "utf8mb4_0900_bin",
            Flavour::MariaDb => "utf8mb4_nopad_bin",
        }
    }

    /// The name of a table in a form that two names of one table have in common.
    pub fn table_name(&self, name: &str) -> String {
        match self.ignores_case {
            true => name.to_lowercase(),
            false => name.to_owned(),
        }
    }

    /// Product and version in short, such as "MariaDB 10.11.14".
    pub fn product(&self) -> String {
        format!(
            "{} {}",
            self.flavour,
            self.version.split('-').next().unwrap_or_default()
        )
    }

    /// True if it writes statements into its binary log: such a server takes no writes at READ COMMITTED.
    pub(super) async fn logs_statements(&self, conn: &mut MySqlConnection) -> sqlx::Result<bool> {
        let sql = "SHOW SESSION VARIABLES WHERE (Variable_name = 'log_bin' AND Value = 'ON') \
                   OR (Variable_name = 'binlog_format' AND Value = 'STATEMENT')";
        Ok(conn.fetch_all(sql).await?.len() == 2)
    }
}

fn flavour_of(version: &str) -> Option<Flavour> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().ok());
    let found = (numbers.next()??, numbers.next()??, numbers.next()??);
    let flavour = if version.to_ascii_lowercase().contains("mariadb") {
        Flavour::MariaDb
    } else {
        Flavour::MySql
    };
    (found >= flavour.oldest()).then_some(flavour)
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
            ("8.0.23", Some(Flavour::MySql)),
            ("8.0.22", None),
            ("9.7.0", Some(Flavour::MySql)),
            ("5.7.44-log", None),
            ("", None),
        ];
        for (version, expected) in cases {
            assert_eq!(flavour_of(version), expected, "{version}");
        }
    }

    #[test]
    fn the_oldest_servers_are_the_same_in_words_and_in_numbers() {
        let words = |flavour: Flavour| {
            let (major, minor, patch) = flavour.oldest();
            let numbers = format!("{flavour} {major}.{minor}.{patch}");
            numbers.trim_end_matches(".0").to_owned()
        };
        let [mysql, mariadb] = [Flavour::MySql, Flavour::MariaDb].map(words);
        assert_eq!(OLDEST, format!("{mysql} or {mariadb}"));
    }

    #[test]
    fn product_and_version_are_named_shortly() {
        let cases = [
            ("10.11.14-MariaDB-0+deb12u2", "MariaDB 10.11.14"),
            ("8.0.36-0ubuntu0.22.04.1", "MySQL 8.0.36"),
            ("9.7.0", "MySQL 9.7.0"),
        ];
        for (version, product) in cases {
            let server = Server {
                ignores_case: false,
                flavour: flavour_of(version).expect("supported"),
                version: version.to_owned(),
                packet_bytes_max: 0,
                connection: 0,
            };
            assert_eq!(server.product(), product);
        }
    }
}
