//! Writing a batch into the open MySQL transaction: marts −, replica, marts +, table by table.

use millrace_events::{Lsn, Sliced, Value};
use sqlx::mysql::MySqlRow;
use sqlx::Row;

use super::assemble::{Followed, Tables};
use super::error::Error;
use super::fold::{Batch, Key, Net, TableBatch};
use super::quarantine::{Quarantine, Written};
use crate::marts::Marts;
use crate::replica::write::{self, WriteError};
use crate::replica::{
    bases, canonical, fill, from_server, slices, upsert, Column, Kept, KeptIn, Kind, Table, Unfit,
};
use crate::script::Script;

/// What every step of applying needs to know.
pub(crate) struct Applier<'a> {
    pub(crate) marts: &'a Marts,
    pub(crate) quarantine: &'a mut Quarantine,
}

impl Applier<'_> {
    /// Pushes the statements that apply a batch of what was committed between `begin` and `lsn`.
    pub(crate) async fn apply(
        &mut self,
        script: &mut Script<'_>,
        tables: &Tables,
        batch: &mut Batch,
        (begin, lsn): (Lsn, Lsn),
    ) -> Result<(), Error> {
        let staged = stage(script, tables, batch).await;
        staged.map_err(Error::written)?;
        for (id, changes) in &mut batch.tables {
            // `fold` has looked the table up before.
            let Some(Followed {
                table, contained, ..
            }) = tables.get(id)
            else {
                continue;
            };
            let open = contained.as_ref().is_some_and(|it| it.is_open(begin));
            let kept = &mut batch.kept;
            self.quarantine.fill(script, table, changes, kept).await?;
            let wholes = table.quarantines()
                && (script.is_careful()
                    || self.quarantine.has(&table.name)
                    || has_unfit(table, changes));
            let kept = wholes.then_some(&mut batch.kept);
            complete(script, table, changes, kept, (open, lsn)).await?;
            self.apply_table(script, table, changes, lsn).await?;
        }
        let kept = batch.kept.iter().map(|kept| &kept.name);
        let filled = batch.sliced.iter().chain(kept).map(String::as_str);
        Ok(slices::clear(script, filled).await?)
    }

    async fn apply_table(
        &mut self,
        script: &mut Script<'_>,
        table: &Table,
        changes: &TableBatch,
        lsn: Lsn,
    ) -> Result<(), Error> {
        if changes.truncate {
            self.marts.truncate(script, &table.name).await?;
            let emptied = write::empty(script, table, &changes.spared).await;
            emptied.map_err(Error::written)?;
            let emptied = self.quarantine.empty(script, table, &changes.spared);
            emptied.await?;
        }
        if changes.rows.is_empty() {
            return Ok(());
        }
        let is_read = self.marts.reads(&table.name);
        if is_read {
            let keys = changes.rows.keys().map(Vec::as_slice);
            let filled = write::fill_keys(script, table, keys).await;
            filled.map_err(Error::written)?;
            self.marts.retract(script, &table.name).await?;
        }
        let rows: Vec<&[Value]> = changes.upserts().collect();
        let unfit = write_rows(script, table, changes, &rows).await;
        let unfit = unfit.map_err(Error::written)?;
        if is_read {
            self.marts.add(script, &table.name).await?;
        }
        let unfit: Vec<_> = unfit.iter().map(|unfit| (unfit, rows[unfit.row])).collect();
        let written = Written { unfit: &unfit, lsn };
        let keys = changes.rows.keys().map(Vec::as_slice);
        self.quarantine.replace(script, table, keys, written).await
    }
}

/// Puts the slices that came with a batch where its rows will look for them, and those of an attempt that failed again.
async fn stage(script: &mut Script<'_>, tables: &Tables, batch: &Batch) -> Result<(), WriteError> {
    for slice in &batch.slices {
        if let Some(followed) = tables.get(&slice.table) {
            slices::stage(script, &followed.table, slice).await?;
        }
    }
    for kept in &batch.kept {
        if let Some(followed) = tables.get(&kept.table) {
            slices::keep(script, &followed.table, kept).await?;
        }
    }
    Ok(())
}

async fn write_rows(
    script: &mut Script<'_>,
    table: &Table,
    changes: &TableBatch,
    rows: &[&[Value]],
) -> Result<Vec<Unfit>, WriteError> {
    if !changes.truncate || !changes.spared.is_empty() {
        write::delete(script, table, changes.deletes()).await?;
    }
    let mut unfit = Vec::new();
    for (values, base) in changes.moves() {
        write::move_to(script, table, values, base).await?;
        let known = values.iter().enumerate();
        let known = known.filter_map(|(column, value)| Some((column, value.clone()?)));
        let (columns, row): (Vec<usize>, Vec<Value>) = known.unzip();
        fill(script, table, &columns, &[&row], &mut unfit).await?;
    }
    for (columns, rows) in changes.updates() {
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        write::update(script, table, &columns, rows.iter().copied()).await?;
        fill(script, table, &columns, &rows, &mut unfit).await?;
    }
    // Rows that may have to go on without a value are whole.
    debug_assert!(unfit.is_empty(), "partial rows have only values that fit");
    let mut unfit = upsert(script, table, rows).await?;
    let columns: Vec<usize> = (0..table.columns.len()).collect();
    fill(script, table, &columns, rows, &mut unfit).await?;
    Ok(unfit)
}

/// A partial row.
struct Gap {
    key: Key,
    /// Key of the row that it builds upon.
    base: Key,
}

impl Gap {
    fn moves(&self) -> bool {
        self.key != self.base
    }
}

/// Makes sure that partial rows (unchanged TOAST values) have a row to build upon. They stay partial, so that what they
/// lack never leaves the server; but where a value stands in quarantine, or may have to, they become whole, and `kept` is where
/// their large values are noted. A row that is not there is a contradiction; while the table may be ahead of the log (`open`), it was deleted later, and so is not written.
async fn complete(
    script: &mut Script<'_>,
    table: &Table,
    changes: &mut TableBatch,
    kept: Option<&mut Vec<Kept>>,
    (open, lsn): (bool, Lsn),
) -> Result<(), Error> {
    let mut gaps = gaps(changes);
    if gaps.is_empty() {
        return Ok(());
    }
    gaps.sort_by_key(|gap| !gap.moves());
    let bases: Vec<&[Value]> = gaps.iter().map(|gap| gap.base.as_slice()).collect();
    let missing = bases::missing(script, table, &bases).await;
    let missing = missing.map_err(Error::written)?;
    if let (Some(&first), false) = (missing.first(), open) {
        let key = write::describe_key(table, bases[first]);
        return Err(Error::Contradiction {
            table: table.source.clone(),
            lsn,
            reason: format!("it has no row {key} to complete an update from"),
        });
    }
    for deleted_later in missing {
        changes.rows.remove(&gaps[deleted_later].key);
    }
    let moving = gaps.iter().take_while(|gap| gap.moves()).count();
    if let Some(kept) = kept {
        return fill_gaps(script, table, changes, kept, &gaps).await;
    }
    if moving > 0 {
        let put_aside = bases::put_aside(script, table, moving).await;
        put_aside.map_err(Error::written)?;
    }
    Ok(())
}

/// True if a partial row has a value that its column cannot hold.
fn has_unfit(table: &Table, changes: &TableBatch) -> bool {
    let is_unfit = |(column, value): (&Column, &Option<Value>)| match value {
        None => false,
        Some(Value::Sliced(_)) => !slices::may_stand_in(column),
        Some(value) => canonical(value, column).is_err(),
    };
    changes.rows.values().any(|net| match net {
        Net::Partial { values, .. } => table.columns.iter().zip(values).any(is_unfit),
        _ => false,
    })
}

fn gaps(changes: &TableBatch) -> Vec<Gap> {
    let gap = |(key, net): (&Key, &Net)| match net {
        Net::Partial { base, .. } => Some(Gap {
            key: key.clone(),
            base: base.clone(),
        }),
        _ => None,
    };
    changes.rows.iter().filter_map(gap).collect()
}

/// Fills gaps with what the table holds at their bases. Large values stay there, on the stage.
async fn fill_gaps(
    script: &mut Script<'_>,
    table: &Table,
    changes: &mut TableBatch,
    kept: &mut Vec<Kept>,
    gaps: &[Gap],
) -> Result<(), Error> {
    let lacks = |&i: &usize| {
        let nets = gaps.iter().filter_map(|gap| changes.rows.get(&gap.key));
        nets.into_iter()
            .any(|net| matches!(net, Net::Partial { values, .. } if values[i].is_none()))
    };
    let columns: Vec<usize> = (0..table.columns.len()).filter(lacks).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let found = bases::values(script, table, &columns, gaps.len()).await;
    for (number, row) in found.map_err(Error::written)? {
        let net = gaps
            .get(number)
            .and_then(|gap| changes.rows.get_mut(&gap.key));
        let Some(net) = net else { continue };
        if let Net::Partial { values, .. } = net {
            for (at, &i) in (1..).zip(&columns) {
                if values[i].is_some() {
                    continue;
                }
                values[i] = Some(match large(&row, at + columns.len())? {
                    None => value(&row, at, &table.columns[i])?,
                    Some(bytes) => {
                        let place = (i, gaps[number].base.clone());
                        let value = keep(script, table, place, bytes, kept).await;
                        Value::Sliced(value.map_err(Error::written)?)
                    }
                });
            }
            *net = Net::Upsert(std::mem::take(values).into_iter().flatten().collect());
        }
    }
    Ok(())
}

/// Bytes of a value that is too large to be brought here.
fn large(row: &MySqlRow, at: usize) -> Result<Option<u64>, Error> {
    let bytes: Option<u64> = row
        .try_get_unchecked(at)
        .map_err(Error::sql("a row that an update builds upon"))?;
    Ok(bytes.filter(|bytes| *bytes > bases::VALUE_BYTES_MAX))
}

/// Puts a value of the row of a key on the stage.
async fn keep(
    script: &mut Script<'_>,
    table: &Table,
    (column, key): (usize, Key),
    bytes: u64,
    kept: &mut Vec<Kept>,
) -> Result<Sliced, WriteError> {
    let value = Kept {
        name: format!("kept-{}", kept.len()),
        table: table.source.clone(),
        column,
        from: KeptIn::Row(key),
    };
    slices::keep(script, table, &value).await?;
    let sliced = Sliced {
        sliced: value.name.clone(),
        slices: 1,
        bytes: slices::text_bytes(&table.columns[column], bytes),
    };
    kept.push(value);
    Ok(sliced)
}

/// The source's value as `canonical` takes it, from what MySQL prints.
fn value(row: &MySqlRow, at: usize, column: &Column) -> Result<Value, Error> {
    let text: Option<String> = row
        .try_get_unchecked(at)
        .map_err(Error::sql("a row that an update builds upon"))?;
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    let text = from_server(&text, column);
    Ok(match column.kind {
        Kind::SmallInt | Kind::Int | Kind::BigInt => text.parse().map_or(Value::Null, Value::Int),
        Kind::Bool => Value::Bool(text == "1"),
        Kind::LongBlob | Kind::VarBinary(_) => Value::Text(format!("\\x{text}")),
        _ => Value::Text(text.into_owned()),
    })
}
