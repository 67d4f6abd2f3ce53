//! The keys that a copy has read again, in `millrace_again`.

use millrace_events::{CopyId, TableId};
use millrace_sessions::mysql::Session;
use sqlx::mysql::MySqlRow;
use sqlx::{MySql, QueryBuilder};

use super::bookkeeping::{json, number, parse_json, run, text};
use super::contained::AgainKeys;
use super::error::Error;

/// Keys in one statement.
const KEYS_PER_STATEMENT: usize = 500;

/// Keeps keys that were read again, in the transaction that loads their rows.
pub(crate) async fn save_again(
    conn: &mut Session,
    copy: CopyId,
    source: &TableId,
    keys: &AgainKeys,
) -> Result<(), Error> {
    let rows: Vec<(String, u32)> = (keys.iter())
        .map(|(key, chunk)| Ok((json(key)?, *chunk)))
        .collect::<Result<_, Error>>()?;
    for rows in rows.chunks(KEYS_PER_STATEMENT) {
        let mut query = QueryBuilder::<MySql>::new(
            "REPLACE INTO millrace_again (copy, source, digest, chunk, row_key) ",
        );
        query.push_values(rows, |mut row, (key, chunk)| {
            row.push_bind(copy.0)
                .push_bind(source.to_string())
                .push("SHA2(")
                .push_bind_unseparated(key)
                .push_unseparated(", 256)")
                .push_bind(u64::from(*chunk))
                .push_bind(key);
        });
        // Their number differs each time.
        run(conn, query.build().persistent(false)).await?;
    }
    Ok(())
}

/// The keys of a table that were read again, and in which chunk.
pub(crate) async fn read_again(
    conn: &mut Session,
    copy: CopyId,
    source: &TableId,
) -> Result<AgainKeys, Error> {
    let found =
        sqlx::query("SELECT chunk, row_key FROM millrace_again WHERE copy = ? AND source = ?")
            .bind(copy.0)
            .bind(source.to_string())
            .fetch_all(conn)
            .await
            .map_err(Error::sql("its bookkeeping"))?;
    let key = |row: &MySqlRow| {
        let chunk = u32::try_from(number(row, "chunk")?);
        let chunk = chunk.map_err(|error| Error::Bookkeeping(error.to_string()))?;
        Ok((parse_json(&text(row, "row_key")?)?, chunk))
    };
    found.iter().map(key).collect()
}
