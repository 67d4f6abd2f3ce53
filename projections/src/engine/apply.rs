//! Writing a batch into the open MySQL transaction: marts −, replica, marts +, table by table.

use millrace_events::{Lsn, Value};
use millrace_sessions::mysql::Session;
use sqlx::{Executor, Row};

use super::assemble::{Followed, Tables};
use super::error::Error;
use super::fold::{Batch, Net, TableBatch};
use super::follower::Desk;
use super::quarantine::Written;
use crate::marts::Marts;
use crate::replica::write::WriteError;
use crate::replica::{from_server, quoted, slices, upsert, write, Column, Kind, Table, Unfit};

/// What every step of applying needs to know.
pub(crate) struct Applier<'a> {
    pub(crate) marts: &'a Marts,
}

/// A partial row has nothing in the replica that it could be completed from.
#[derive(Debug)]
struct NoBase(String);

impl Applier<'_> {
    /// Applies a batch of what was committed between `begin` and `lsn`. Completes its partial rows in place, so that a
    /// repetition finds them whole.
    pub(crate) async fn apply(
        &self,
        desk: &mut Desk,
        tables: &Tables,
        batch: &mut Batch,
        (begin, lsn): (Lsn, Lsn),
    ) -> Result<(), Error> {
        for slice in &batch.slices {
            let Some(followed) = tables.get(&slice.table) else {
                continue;
            };
            let staged = slices::stage(&mut desk.conn, &followed.table, slice).await;
            staged.map_err(Error::written(&slice.table))?;
        }
        for (id, changes) in &mut batch.tables {
            // `fold` has looked the table up before.
            let Some(Followed {
                table, contained, ..
            }) = tables.get(id)
            else {
                continue;
            };
            let open = contained.as_ref().is_some_and(|it| it.is_open(begin));
            let quarantine = &desk.catalog.quarantine;
            quarantine.fill(&mut desk.conn, table, changes).await?;
            complete(&mut desk.conn, table, changes, open, lsn).await?;
            self.apply_table(desk, table, changes, lsn).await?;
        }
        let filled = batch.sliced.iter().map(String::as_str);
        let cleared = slices::clear(&mut desk.conn, filled).await;
        cleared.map_err(Error::sql("what is left of large values"))
    }

    async fn apply_table(
        &self,
        Desk { conn, catalog }: &mut Desk,
        table: &Table,
        changes: &TableBatch,
        lsn: Lsn,
    ) -> Result<(), Error> {
        let quarantine = &mut catalog.quarantine;
        if changes.truncate {
            self.marts.truncate(conn, &table.name).await?;
            let emptied = write::empty(conn, table, &changes.spared).await;
            emptied.map_err(Error::written(&table.source))?;
            quarantine.empty(conn, table, &changes.spared).await?;
        }
        if changes.rows.is_empty() {
            return Ok(());
        }
        if !self.marts.tables().is_empty() {
            let keys = changes.rows.keys().map(Vec::as_slice);
            let filled = write::fill_keys(conn, table, keys).await;
            filled.map_err(Error::written(&table.source))?;
        }
        self.marts.retract(conn, &table.name).await?;
        let rows: Vec<&[Value]> = changes.upserts().collect();
        let unfit = write_rows(conn, table, changes, &rows).await;
        let unfit = unfit.map_err(Error::written(&table.source))?;
        self.marts.add(conn, &table.name).await?;
        let unfit: Vec<_> = unfit.iter().map(|unfit| (unfit, rows[unfit.row])).collect();
        let written = Written { unfit: &unfit, lsn };
        let keys = changes.rows.keys().map(Vec::as_slice);
        quarantine.replace(conn, table, keys, written).await
    }
}

async fn write_rows(
    conn: &mut Session,
    table: &Table,
    changes: &TableBatch,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    if !changes.truncate || !changes.spared.is_empty() {
        write::delete(conn, table, changes.deletes()).await?;
    }
    let mut unfit = upsert(conn, table, rows).await?;
    unfit.extend(slices::fill(conn, table, rows).await?);
    Ok(unfit)
}

/// Fills the gaps of partial rows (unchanged TOAST values) from the table as it stands. A row that is not there is a
/// contradiction; while the table may be ahead of the log (`open`), it was deleted later, and so is not written.
async fn complete(
    conn: &mut Session,
    table: &Table,
    changes: &mut TableBatch,
    open: bool,
    lsn: Lsn,
) -> Result<(), Error> {
    let mut deleted_later = Vec::new();
    for (key, net) in &mut changes.rows {
        let Net::Partial { values, base } = net else {
            continue;
        };
        let missing: Vec<usize> = (0..values.len()).filter(|&i| values[i].is_none()).collect();
        let found = match fetch(conn, table, &missing, base).await? {
            Ok(found) => found,
            Err(NoBase(_)) if open => {
                deleted_later.push(key.clone());
                continue;
            }
            Err(NoBase(key)) => {
                return Err(Error::Contradiction {
                    table: table.source.clone(),
                    lsn,
                    reason: format!("it has no row {key} to complete an update from"),
                })
            }
        };
        for (position, value) in missing.into_iter().zip(found) {
            values[position] = Some(value);
        }
        *net = Net::Upsert(std::mem::take(values).into_iter().flatten().collect());
    }
    for key in deleted_later {
        changes.rows.remove(&key);
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
        write::key_condition(table, key).map_err(Error::written(&table.source))?,
    );
    let row = conn
        .fetch_optional(sql.as_str())
        .await
        .map_err(|error| Error::written(&table.source)(error.into()))?;
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
