//! The projector's own record of where it stands.

use millrace_events::Lsn;
use millrace_sessions::mysql::Session;
use sqlx::Row;

use super::{mysql, Error};
use crate::engine::position::NamedTable;

const TABLE: &str = "millrace_position";

/// The row of `millrace_position`, as far as verify needs it.
pub(super) struct Position {
    /// The projector applies the log; before that its tables are not in place.
    pub(super) live: bool,
    /// The tables contain everything up to here.
    pub(super) end_lsn: Lsn,
    /// The tables that it keeps.
    pub(super) tables: Vec<NamedTable>,
}

impl Position {
    /// Reads the row; `None` if no projector was ever here.
    pub(super) async fn read(conn: &mut Session) -> Result<Option<Position>, Error> {
        if !exist(conn, &[TABLE]).await? {
            return Ok(None);
        }
        let reading = mysql("reading the position");
        let row = sqlx::query("SELECT stage, end_lsn, tables FROM millrace_position WHERE id = 1")
            .fetch_optional(conn)
            .await
            .map_err(&reading)?;
        let Some(row) = row else { return Ok(None) };
        // Unchecked: sqlx takes text of a binary collation for bytes.
        let text = |column: usize| row.try_get_unchecked::<String, _>(column).map_err(&reading);
        let (stage, tables) = (text(0)?, text(2)?);
        let end_lsn: u64 = row.try_get(1).map_err(&reading)?;
        Ok(Some(Position {
            live: stage == "live",
            end_lsn: Lsn(end_lsn),
            tables: serde_json::from_str(&tables)
                .map_err(|error| Error::Bookkeeping(format!("{TABLE}.tables: {error}")))?,
        }))
    }
}

/// True if all these tables exist.
pub(super) async fn exist(conn: &mut Session, tables: &[&str]) -> Result<bool, Error> {
    let mut found = 0;
    for table in tables {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(table)
        .fetch_one(&mut *conn)
        .await
        .map_err(mysql("looking for tables"))?;
        found += usize::from(count > 0);
    }
    Ok(found == tables.len())
}
