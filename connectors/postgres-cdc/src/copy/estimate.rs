//! How many rows there are to copy, and how many make a chunk.

use millrace_events::{CapturedTable, TableId};
use millrace_sessions::postgres::{qualified, PgSession};

use crate::catalog::{self, CatalogTable};
use crate::{Config, Error};

/// Bytes of a table that are read within seconds, whatever the disk.
const COUNTED_BYTES_MAX: u64 = 64 << 20;
/// What a row takes in its table, about.
const ROW_BYTES: u64 = 128;
/// Bytes of a chunk in its table: read again when capture is killed, which takes a second or two.
const CHUNK_BYTES: u64 = 16 << 20;

/// A table that was never analysed has no estimate. It is counted if that is quick; of a larger one, whose count could
/// take longer than an answer may, the size has to do: the number is for the progress that is shown, and nothing else.
pub(crate) async fn estimated_rows(
    session: &mut PgSession,
    table: &CatalogTable,
) -> Result<u64, Error> {
    if table.estimated_rows > 0.0 {
        return Ok(table.estimated_rows as u64);
    }
    if let Some(rows) = rows_by_size(bytes(session, table).await?) {
        return Ok(rows);
    }
    let TableId { schema, name } = &table.id;
    let sql = format!("SELECT count(*) FROM ONLY {}", qualified(schema, name));
    let count: i64 = sqlx::query_scalar(&sql).fetch_one(session).await?;
    Ok(count.unsigned_abs())
}

/// How many rows of a table make a chunk.
pub(crate) async fn chunk_rows(
    session: &mut PgSession,
    config: &Config,
    table: &CapturedTable,
) -> Result<u64, Error> {
    let Some(found) = catalog::table(session, &table.definition.table).await? else {
        return Ok(config.chunk_rows_max);
    };
    let bytes = bytes(session, &found).await?;
    Ok(rows_of_chunk(bytes, table.estimated_rows).min(config.chunk_rows_max))
}

/// Bytes of a table, with what it stores out of line.
pub(super) async fn bytes(session: &mut PgSession, table: &CatalogTable) -> Result<u64, Error> {
    let size = sqlx::query_scalar("SELECT pg_table_size($1::oid)").bind(table.oid);
    let bytes: i64 = size.fetch_one(session).await?;
    Ok(bytes.unsigned_abs())
}

/// About how many rows a table of this size has; `None` if it is small enough to be counted.
fn rows_by_size(bytes: u64) -> Option<u64> {
    (bytes > COUNTED_BYTES_MAX).then_some(bytes / ROW_BYTES)
}

fn rows_of_chunk(bytes: u64, rows: u64) -> u64 {
    let row_bytes = (bytes / rows.max(1)).max(1);
    (CHUNK_BYTES / row_bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_table_is_counted() {
        assert_eq!(rows_by_size(0), None);
        assert_eq!(rows_by_size(COUNTED_BYTES_MAX), None);
        assert_eq!(rows_by_size(1 << 40), Some(1 << 33));
    }

    #[test]
    fn a_chunk_has_as_many_rows_as_fit() {
        assert_eq!(rows_of_chunk(0, 0), CHUNK_BYTES);
        assert_eq!(rows_of_chunk(1 << 30, 1 << 20), CHUNK_BYTES >> 10);
        assert_eq!(rows_of_chunk(1 << 40, 1 << 10), 1);
    }
}
