//! MySQL: the position as it is committed there.

use std::str::FromStr;

use millrace_events::Lsn;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, MySqlConnection, Row};

use crate::status::Target;

/// MySQL's error for a table that does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// Asks MySQL on one connection that is kept.
pub(crate) struct MySql {
    url: String,
    session: Option<Session>,
}

struct Session {
    connection: MySqlConnection,
    server: String,
    database: String,
}

impl MySql {
    pub(crate) fn new(url: &str) -> MySql {
        MySql {
            url: url.to_owned(),
            session: None,
        }
    }

    /// What it says now. A connection that fails, or is given up in the middle, is not used again.
    pub(crate) async fn read(&mut self) -> Result<Target, String> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.url).await?,
        };
        let applied_lsn = applied(&mut session.connection)
            .await
            .map_err(|error| error.to_string())?;
        let target = Target {
            server: session.server.clone(),
            database: session.database.clone(),
            applied_lsn,
        };
        self.session = Some(session);
        Ok(target)
    }
}

impl Session {
    async fn open(url: &str) -> Result<Session, String> {
        let failed = |error: sqlx::Error| error.to_string();
        let mut connection = MySqlConnection::connect_with(&options(url)?)
            .await
            .map_err(failed)?;
        let row = sqlx::query("SELECT CAST(VERSION() AS CHAR), CAST(DATABASE() AS CHAR)")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let version: String = row.try_get_unchecked(0).map_err(failed)?;
        let database: Option<String> = row.try_get_unchecked(1).map_err(failed)?;
        Ok(Session {
            connection,
            server: product(&version),
            database: database.unwrap_or_default(),
        })
    }
}

/// Connection options under which results do not depend on the server's settings, and statements
/// are not logged.
pub(crate) fn options(url: &str) -> Result<MySqlConnectOptions, String> {
    let options = MySqlConnectOptions::from_str(url)
        .map_err(|_| "its URL cannot be used".to_owned())?
        .charset("utf8mb4")
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .disable_statement_logging();
    Ok(options)
}

/// The committed position; none before the projector's first start.
pub(crate) async fn applied(connection: &mut MySqlConnection) -> Result<Option<Lsn>, sqlx::Error> {
    let statement = "SELECT end_lsn FROM millrace_position WHERE id = 1";
    let found = sqlx::query(statement).fetch_optional(connection).await;
    match found {
        Ok(row) => row.map(|row| row.try_get(0).map(Lsn)).transpose(),
        Err(error) if is_no_such_table(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_no_such_table(error: &sqlx::Error) -> bool {
    let error = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>());
    error.is_some_and(|error| error.number() == NO_SUCH_TABLE)
}

/// "MariaDB 10.11.14" of "10.11.14-MariaDB-0+deb12u2".
fn product(version: &str) -> String {
    let name = match version.to_ascii_lowercase().contains("mariadb") {
        true => "MariaDB",
        false => "MySQL",
    };
    format!("{name} {}", version.split('-').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_and_version_are_named_shortly() {
        assert_eq!(product("10.11.14-MariaDB-0+deb12u2"), "MariaDB 10.11.14");
        assert_eq!(product("8.0.36-0ubuntu0.22.04.1"), "MySQL 8.0.36");
        assert_eq!(product("9.7.0"), "MySQL 9.7.0");
    }
}
