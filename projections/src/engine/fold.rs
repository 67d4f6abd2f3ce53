//! Folding row changes to their net effect per key. Pure.

use std::collections::{BTreeMap, BTreeSet};

use millrace_events::{Change, Op, Row, Slice, TableId, Value};

use crate::replica::{Kept, Table};

/// The values of the key columns, in their order.
pub type Key = Vec<Value>;

/// What becomes of the row of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// There is no such row afterwards.
    Delete,
    /// This is the row afterwards, a value per column.
    Upsert(Vec<Value>),
    /// The same, but the missing values (unchanged TOAST) are those that the row `base` has in the
    /// replica before this batch.
    Partial {
        /// A value per column, where it is known.
        values: Vec<Option<Value>>,
        /// Key in the replica as it stands.
        base: Key,
    },
}

/// The net effect on one table: first all rows go if `truncate`, then each key has its say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableBatch {
    /// All rows that the replica has go first.
    pub truncate: bool,
    /// But for these.
    pub spared: BTreeSet<Key>,
    /// By key, so that rows are written in the order of the primary key.
    pub rows: BTreeMap<Key, Net>,
}

/// The net effect of any number of changes, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// By table.
    pub tables: BTreeMap<TableId, TableBatch>,
    /// Slices of values, of rows that were folded in or that come with the next batch.
    pub slices: Vec<Slice>,
    /// Names of the sliced values of the rows that were folded in.
    pub sliced: Vec<String>,
    /// Values of rows that move to another key, and that stay in the server.
    pub kept: Vec<Kept>,
    /// Changes folded in.
    pub changes: u64,
}

/// A change that cannot follow upon what came before it, or does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a change of table {table} makes no sense: {reason}")]
pub struct FoldError {
    /// Its table.
    pub table: TableId,
    /// What is wrong, without values.
    pub reason: String,
}

impl Batch {
    /// True when nothing was folded in.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.slices.is_empty()
    }

    /// Applies one more change, but for what it does to the rows of the keys `spared`.
    pub fn fold(
        &mut self,
        change: Change,
        table: &Table,
        spared: &BTreeSet<Key>,
    ) -> Result<(), FoldError> {
        self.changes += 1;
        let values = change.after.iter().flat_map(Row::iter);
        self.sliced
            .extend(values.filter_map(|(_, value)| match value {
                Value::Sliced(value) => Some(value.sliced.clone()),
                _ => None,
            }));
        let batch = self.tables.entry(change.table).or_default();
        let folded = batch.fold(change.op, change.before, change.after, table, spared);
        let Some(reason) = folded.err() else {
            return Ok(());
        };
        Err(FoldError {
            table: table.source.clone(),
            reason,
        })
    }
}

impl TableBatch {
    /// Keys that end without a row.
    pub fn deletes(&self) -> impl Iterator<Item = &[Value]> {
        self.rows
            .iter()
            .filter(|(_, net)| matches!(net, Net::Delete))
            .map(|(key, _)| key.as_slice())
    }

    /// Whole rows to write.
    pub fn upserts(&self) -> impl Iterator<Item = &[Value]> {
        self.rows.values().filter_map(|net| match net {
            Net::Upsert(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Partial rows that stay at their keys, by the columns of which they have a value, with these values.
    pub fn updates(&self) -> BTreeMap<Vec<usize>, Vec<Vec<Value>>> {
        let mut updates: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, net) in &self.rows {
            let Net::Partial { values, base } = net else {
                continue;
            };
            if key != base {
                continue;
            }
            let known = |(column, value): (usize, &Option<Value>)| Some((column, value.clone()?));
            let (columns, values) = values.iter().enumerate().filter_map(known).unzip();
            updates.entry(columns).or_default().push(values);
        }
        updates
    }

    /// Partial rows that come from other keys: a value per column, where it is known, and those keys.
    pub fn moves(&self) -> impl Iterator<Item = (&[Option<Value>], &Key)> {
        self.rows.iter().filter_map(|(key, net)| match net {
            Net::Partial { values, base } if key != base => Some((values.as_slice(), base)),
            _ => None,
        })
    }

    fn fold(
        &mut self,
        op: Op,
        before: Option<Row>,
        after: Option<Row>,
        table: &Table,
        spared: &BTreeSet<Key>,
    ) -> Result<(), String> {
        match (op, before, after) {
            (Op::Truncate, _, _) => {
                self.clear(spared);
                Ok(())
            }
            (Op::Insert, _, Some(after)) => {
                let values = whole_row(after, table)?;
                let key = table.key.iter().map(|&i| values[i].clone()).collect();
                self.put(key, Net::Upsert(values), spared);
                Ok(())
            }
            (Op::Update, before, Some(after)) => self.update(before, after, table, spared),
            (Op::Delete, Some(before), _) => {
                let before = in_columns(before, table)?;
                let key = key_of(&before, table).ok_or("a delete without its key")?;
                self.put(key, Net::Delete, spared);
                Ok(())
            }
            (op, _, _) => Err(format!("{op:?} without its row")),
        }
    }

    fn clear(&mut self, spared: &BTreeSet<Key>) {
        self.rows.retain(|key, _| spared.contains(key));
        let stays = |key: &Key| !self.truncate || self.spared.contains(key);
        self.spared = spared.iter().filter(|key| stays(key)).cloned().collect();
        self.truncate = true;
    }

    fn put(&mut self, key: Key, net: Net, spared: &BTreeSet<Key>) {
        if !spared.contains(&key) {
            self.rows.insert(key, net);
        }
    }

    fn update(
        &mut self,
        before: Option<Row>,
        after: Row,
        table: &Table,
        spared: &BTreeSet<Key>,
    ) -> Result<(), String> {
        let before = match before {
            Some(before) => in_columns(before, table)?,
            None => vec![None; table.columns.len()],
        };
        let mut values = in_columns(after, table)?;
        // What the update left unsent did not change, so an old value is as good as a new one.
        for (value, old) in values.iter_mut().zip(&before) {
            if value.is_none() {
                value.clone_from(old);
            }
        }
        let new_key = key_of(&values, table).ok_or("an update without its key")?;
        let old_key = key_of(&before, table).unwrap_or_else(|| new_key.clone());
        let net = match whole(values) {
            Ok(values) => Some(Net::Upsert(values)),
            Err(_) if spared.contains(&new_key) => None,
            Err(values) => Some(self.complete(values, &old_key)?),
        };
        if old_key != new_key {
            self.put(old_key, Net::Delete, spared);
        }
        if let Some(net) = net {
            self.put(new_key, net, spared);
        }
        Ok(())
    }

    /// Fills gaps from what this batch already knows of the row, else leaves them to the replica.
    fn complete(&self, mut values: Vec<Option<Value>>, old_key: &Key) -> Result<Net, String> {
        let base = match self.rows.get(old_key) {
            Some(Net::Delete) => return Err("an update of a row that was deleted before".into()),
            None if self.truncate && !self.spared.contains(old_key) => {
                return Err("an update of a row that was truncated before".into())
            }
            None => old_key.clone(),
            Some(Net::Upsert(known)) => {
                let fill = |(value, known): (Option<Value>, &Value)| {
                    value.unwrap_or_else(|| known.clone())
                };
                return Ok(Net::Upsert(
                    values.into_iter().zip(known).map(fill).collect(),
                ));
            }
            Some(Net::Partial {
                values: known,
                base,
            }) => {
                for (value, known) in values.iter_mut().zip(known) {
                    if value.is_none() {
                        value.clone_from(known);
                    }
                }
                base.clone()
            }
        };
        Ok(match whole(values) {
            Ok(values) => Net::Upsert(values),
            Err(values) => Net::Partial { values, base },
        })
    }
}

/// A row that has a value for every column of its table.
pub(crate) fn whole_row(row: Row, table: &Table) -> Result<Vec<Value>, String> {
    whole(in_columns(row, table)?).map_err(|_| "a whole row lacks columns of its table".into())
}

/// The row's values in the order of the table's columns.
fn in_columns(row: Row, table: &Table) -> Result<Vec<Option<Value>>, String> {
    let mut values = vec![None; table.columns.len()];
    let mut next = 0;
    for (name, value) in row.0 {
        // Rows come in the order of the columns, so the next one is nearly always the one.
        let found = table.columns[next..]
            .iter()
            .position(|column| column.source == name)
            .map(|ahead| next + ahead)
            .or_else(|| table.position(&name));
        let position = found.ok_or_else(|| format!("it has no column {name}"))?;
        values[position] = Some(value);
        next = position + 1;
    }
    Ok(values)
}

fn key_of(values: &[Option<Value>], table: &Table) -> Option<Key> {
    table.key.iter().map(|&i| values[i].clone()).collect()
}

fn whole(values: Vec<Option<Value>>) -> Result<Vec<Value>, Vec<Option<Value>>> {
    if values.iter().all(Option::is_some) {
        Ok(values.into_iter().flatten().collect())
    } else {
        Err(values)
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
