//! The projector's own record of where it stands.

use millrace_events::{Lsn, TableSchema};
use sqlx::MySqlConnection;

use super::{mysql, Error};
use crate::replica::ddl;

const TABLE: &str = "millrace_position";

/// The row of `millrace_position`, as far as verify needs it.
pub(super) struct Position {
    /// The projector applies the log; before that its tables are not in place.
    pub(super) live: bool,
    /// The tables contain everything up to here.
    pub(super) end_lsn: Lsn,
    /// The tables that it keeps.
    pub(super) tables: Vec<TableSchema>,
}

impl Position {
    /// Reads the row; `None` if no projector was ever here.
    pub(super) async fn read(conn: &mut MySqlConnection) -> Result<Option<Position>, Error> {
        let existing = ddl::existing(conn, &[TABLE.to_owned()]).await;
        if existing
            .map_err(mysql("looking for the position"))?
            .is_empty()
        {
            return Ok(None);
        }
        let row: Option<(String, u64, String)> =
            sqlx::query_as("SELECT stage, end_lsn, tables FROM millrace_position WHERE id = 1")
                .fetch_optional(conn)
                .await
                .map_err(mysql("reading the position"))?;
        let Some((stage, end_lsn, tables)) = row else {
            return Ok(None);
        };
        Ok(Some(Position {
            live: stage == "live",
            end_lsn: Lsn(end_lsn),
            tables: serde_json::from_str(&tables)
                .map_err(|error| Error::Bookkeeping(format!("{TABLE}.tables: {error}")))?,
        }))
    }
}
