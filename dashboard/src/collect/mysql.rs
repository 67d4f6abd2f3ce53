//! MySQL: the position as it is committed there.

use millrace_control::in_words;
use millrace_events::Lsn;
use millrace_sessions::mysql::{self, Purpose};
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};

use super::reading::{Size, Sizes};
use crate::status::Target;

/// MySQL's error for a table that does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// Sizes are estimates, and asking for them costs: they are asked for in every tenth tick.
const SIZES_EVERY: u64 = 10;

/// Asks MySQL on one connection that is kept.
pub(crate) struct MySql {
    url: String,
    session: Option<Session>,
    asked: u64,
    sizes: Sizes,
}

struct Session {
    connection: mysql::Session,
    database: String,
}

impl MySql {
    pub(crate) fn new(url: &str) -> MySql {
        MySql {
            url: url.to_owned(),
            session: None,
            asked: 0,
            sizes: Sizes::new(),
        }
    }

    /// The tables' sizes, as they were last asked for.
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes.clone()
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
        if self.asked.is_multiple_of(SIZES_EVERY) {
            let read = sizes(&mut session.connection).await;
            self.sizes = read.map_err(|error| error.to_string())?;
        }
        self.asked += 1;
        let target = Target {
            server: session.connection.server().product(),
            database: session.database.clone(),
            applied_lsn,
        };
        self.session = Some(session);
        Ok(target)
    }
}

impl Session {
    async fn open(url: &str) -> Result<Session, String> {
        let mut connection = mysql::connect(url, Purpose::Look)
            .await
            .map_err(|error| in_words(&error))?;
        let database: Result<Option<String>, sqlx::Error> = connection
            .fetch_one("SELECT CAST(DATABASE() AS CHAR)")
            .await
            .and_then(|row| row.try_get_unchecked(0));
        Ok(Session {
            connection,
            database: database
                .map_err(|error| error.to_string())?
                .unwrap_or_default(),
        })
    }
}

/// What MySQL estimates of the tables of its current database.
async fn sizes(connection: &mut mysql::Session) -> Result<Sizes, sqlx::Error> {
    let statement = "SELECT CAST(table_name AS CHAR), CAST(COALESCE(table_rows, 0) AS UNSIGNED), \
                     CAST(COALESCE(data_length + index_length, 0) AS UNSIGNED) \
                     FROM information_schema.tables WHERE table_schema = DATABASE()";
    let rows = connection.fetch_all(statement).await?;
    let size = |row: &MySqlRow| {
        let size = Size {
            rows: row.try_get(1)?,
            bytes: row.try_get(2)?,
        };
        Ok((row.try_get_unchecked(0)?, size))
    };
    rows.iter().map(size).collect()
}

/// The committed position; none before the projector's first start.
pub(crate) async fn applied(
    connection: impl Executor<'_, Database = sqlx::MySql>,
) -> Result<Option<Lsn>, sqlx::Error> {
    let statement = "SELECT end_lsn FROM millrace_position WHERE id = 1";
    let found = sqlx::query(statement).fetch_optional(connection).await;
    match found {
        Ok(row) => row.map(|row| row.try_get(0).map(Lsn)).transpose(),
        Err(error) if mysql::server_code(&error) == Some(NO_SUCH_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}
