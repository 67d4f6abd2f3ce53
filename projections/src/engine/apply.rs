//! Writing a batch into the open MySQL transaction: marts −, replica, marts +, table by table.

use millrace_events::{Lsn, Value};
use millrace_sessions::mysql::Session;
use sqlx::{Executor, Row};

use super::assemble::Tables;
use super::error::Error;
use super::fold::{Batch, Net, TableBatch};
use crate::marts::Marts;
use crate::replica::{from_server, quoted, write, Column, Kind, Table};

/// What every step of applying needs to know.
pub(crate) struct Applier<'a> {
    pub(crate) marts: &'a Marts,
}

/// A partial row has nothing in the replica that it could be completed from.
#[derive(Debug)]
struct NoBase(String);

impl Applier<'_> {
    /// Applies a batch that ends at `lsn`. Completes its partial rows in place, so that a repetition finds them whole.
    pub(crate) async fn apply(
        &self,
        conn: &mut Session,
        tables: &Tables,
        batch: &mut Batch,
        lsn: Lsn,
    ) -> Result<(), Error> {
        for (id, changes) in &mut batch.tables {
            // `fold` has looked the table up before.
            if let Some((_, table)) = tables.get(id) {
                complete(conn, table, changes, lsn).await?;
                self.apply_table(conn, table, changes).await?;
            }
        }
        Ok(())
    }

    async fn apply_table(
        &self,
        conn: &mut Session,
        table: &Table,
        changes: &TableBatch,
    ) -> Result<(), Error> {
        if changes.truncate {
            self.marts.truncate(conn, &table.name).await?;
            conn.on_a_table()
                .execute(format!("DELETE FROM {}", quoted(&table.name)).as_str())
                .await
                .map_err(Error::of_table("the emptying of", &table.source))?;
        }
        if changes.rows.is_empty() {
            return Ok(());
        }
        if !self.marts.tables().is_empty() {
            let keys = changes.rows.keys().map(Vec::as_slice);
            write::fill_keys(conn, table, keys).await?;
        }
        self.marts.retract(conn, &table.name).await?;
        if !changes.truncate {
            write::delete(conn, table, changes.deletes()).await?;
        }
        write::upsert(conn, table, "", changes.upserts()).await?;
        self.marts.add(conn, &table.name).await?;
        Ok(())
    }
}

/// Fills the gaps of partial rows (unchanged TOAST values) from the replica as it stands.
async fn complete(
    conn: &mut Session,
    table: &Table,
    changes: &mut TableBatch,
    lsn: Lsn,
) -> Result<(), Error> {
    for net in changes.rows.values_mut() {
        let Net::Partial { values, base } = net else {
            continue;
        };
        let missing: Vec<usize> = (0..values.len()).filter(|&i| values[i].is_none()).collect();
        let found = fetch(conn, table, &missing, base).await?;
        let found = found.map_err(|NoBase(key)| Error::Contradiction {
            lsn,
            reason: format!(
                "table {} has no row {key} to complete an update from",
                table.source
            ),
        })?;
        for (position, value) in missing.into_iter().zip(found) {
            values[position] = Some(value);
        }
        *net = Net::Upsert(std::mem::take(values).into_iter().flatten().collect());
    }
    Ok(())
}

async fn fetch(
    conn: &mut Session,
    table: &Table,
    columns: &[usize],
    key: &[Value],
) -> Result<Result<Vec<Value>, NoBase>, Error> {
    let columns: Vec<&Column> = columns.iter().map(|&i| &table.columns[i]).collect();
    let expressions: Vec<String> = columns.iter().map(|c| c.select_expression()).collect();
    let sql = format!(
        "SELECT {} FROM {} WHERE {}",
        expressions.join(", "),
        quoted(&table.name),
        write::key_condition(table, key)?,
    );
    let row = conn
        .fetch_optional(sql.as_str())
        .await
        .map_err(Error::sql("a row that an update builds upon"))?;
    let Some(row) = row else {
        return Ok(Err(NoBase(write::describe_key(table, key))));
    };
    let value = |(i, column): (usize, &&Column)| {
        let text: Option<String> = row
            .try_get_unchecked(i)
            .map_err(Error::sql("a row that an update builds upon"))?;
        Ok(source_value(text.as_deref(), column))
    };
    let values: Result<Vec<Value>, Error> = columns.iter().enumerate().map(value).collect();
    values.map(Ok)
}

/// The source's value as `canonical` takes it, from what MySQL prints.
fn source_value(text: Option<&str>, column: &Column) -> Value {
    let Some(text) = text else {
        return Value::Null;
    };
    let text = from_server(text, column);
    match column.kind {
        Kind::SmallInt | Kind::Int | Kind::BigInt => text.parse().map_or(Value::Null, Value::Int),
        Kind::Bool => Value::Bool(text == "1"),
        Kind::LongBlob | Kind::VarBinary(_) => Value::Text(format!("\\x{text}")),
        _ => Value::Text(text.into_owned()),
    }
}
