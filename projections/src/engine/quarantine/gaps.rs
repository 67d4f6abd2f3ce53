//! Values in quarantine that partial rows build upon: the replica does not have them.

use millrace_events::{Sliced, Value};
use millrace_sessions::mysql::Session;
use sqlx::Row;

use super::{digest, failed, hex, Digest, Quarantine};
use crate::engine::error::Error;
use crate::engine::fold::{Net, TableBatch};
use crate::replica::{bases, slices, Kept, KeptIn, Table};
use crate::script::Script;

/// A value that stands there.
struct Found {
    column: String,
    /// Nothing, if it is too large to be brought here.
    text: Option<String>,
    bytes: u64,
}

impl Quarantine {
    /// Puts values that stand in quarantine into the gaps of partial rows. Large ones stay in the server, on the stage, and
    /// are noted in `kept`.
    pub(crate) async fn fill(
        &self,
        script: &mut Script<'_>,
        table: &Table,
        changes: &mut TableBatch,
        kept: &mut Vec<Kept>,
    ) -> Result<(), Error> {
        let Some(known) = self.tables.get(&table.name) else {
            return Ok(());
        };
        for net in changes.rows.values_mut() {
            let Net::Partial { values, base } = net else {
                continue;
            };
            let digest = digest(table, base)?;
            if !known.may_have(&digest) {
                continue;
            }
            for found in read(script.session().await?, table, &digest).await? {
                let Some(column) = table.position(&found.column) else {
                    continue;
                };
                if values[column].is_none() {
                    let value = value(script, table, (column, &digest), found, kept).await?;
                    values[column] = Some(value);
                }
            }
            if values.iter().all(Option::is_some) {
                *net = Net::Upsert(std::mem::take(values).into_iter().flatten().collect());
            }
        }
        Ok(())
    }
}

async fn value(
    script: &mut Script<'_>,
    table: &Table,
    (column, digest): (usize, &Digest),
    found: Found,
    kept: &mut Vec<Kept>,
) -> Result<Value, Error> {
    if let Some(text) = found.text {
        return Ok(Value::Text(text));
    }
    let value = Kept {
        name: format!("kept-{}", kept.len()),
        table: table.source.clone(),
        column,
        from: KeptIn::Quarantine(hex(digest)),
    };
    let staged = slices::keep(script, table, &value).await;
    staged.map_err(Error::written)?;
    let sliced = Sliced {
        sliced: value.name.clone(),
        slices: 1,
        bytes: found.bytes,
    };
    kept.push(value);
    Ok(Value::Sliced(sliced))
}

/// The values of a row that stand in quarantine.
async fn read(conn: &mut Session, table: &Table, digest: &Digest) -> Result<Vec<Found>, Error> {
    let sql = format!(
        "SELECT column_name, IF(OCTET_LENGTH(value) > {}, NULL, value), CAST(OCTET_LENGTH(value) AS UNSIGNED) \
         FROM millrace_quarantine WHERE name = ? AND digest = ?",
        bases::VALUE_BYTES_MAX
    );
    let query = sqlx::query(&sql).bind(&table.name).bind(hex(digest));
    let rows = query.fetch_all(conn).await.map_err(failed)?;
    let found = |row: &sqlx::mysql::MySqlRow| {
        Ok(Found {
            column: row.try_get_unchecked(0).map_err(failed)?,
            text: row.try_get_unchecked(1).map_err(failed)?,
            bytes: row.try_get_unchecked(2).map_err(failed)?,
        })
    };
    rows.iter().map(found).collect()
}
