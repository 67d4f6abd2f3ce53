//! From the cells of the stream to the rows of a table.

use millrace_events::{self as events, Row, TableSchema, Value};

use crate::cell::value;
use crate::pgoutput::{Cell, OldTuple, Tuple};
use crate::wide::Slice;
use crate::Error;

/// A table of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(super) schema: TableSchema,
    pub(super) announced: bool,
}

impl Table {
    /// The row after a change, without unchanged TOAST values. A key column that was not sent is
    /// taken from the old row: a row without its key could not be applied.
    pub(super) fn after(&self, new: &Tuple, old: Option<&OldTuple>) -> Result<Row, Error> {
        let old = old.map(|old| match old {
            OldTuple::Key(old) | OldTuple::Full(old) => old,
        });
        let missing_key = |i: usize| {
            let key = self.schema.columns.get(i).is_some_and(|column| column.key);
            key && new.get(i) == Some(&Cell::Unchanged)
        };
        let Some(first) = (0..new.len()).find(|&i| missing_key(i)) else {
            return self.row(new, |_, _| true);
        };
        let Some(old) = old else {
            let column = self
                .schema
                .columns
                .get(first)
                .map(|column| column.name.as_str());
            return Err(Error::Protocol(format!(
                "an update of {} was sent without key column {}",
                self.schema.table,
                column.unwrap_or_default()
            )));
        };
        let completed: Tuple = (0..new.len())
            .zip(new.iter().zip(old))
            .map(|(i, (new, old))| if missing_key(i) { old } else { new })
            .cloned()
            .collect();
        self.row(&completed, |_, _| true)
    }

    /// The columns of the key.
    pub(super) fn key(&self, old: &Tuple) -> Result<Row, Error> {
        self.row(old, |_, key| key)
    }

    /// The columns of the key and those that changed.
    pub(super) fn changed(&self, old: &Tuple, new: &Tuple) -> Result<Row, Error> {
        self.row(old, |i, key| {
            let (old, new) = (old.get(i), new.get(i));
            key || (new != Some(&Cell::Unchanged) && new != old)
        })
    }

    /// A part of a value of the next row.
    pub(super) fn slice(&self, slice: Slice) -> Result<events::Slice, Error> {
        let column = self.schema.columns.get(slice.column);
        let column = column.ok_or_else(|| {
            Error::Protocol(format!(
                "a row of {} has too many columns",
                self.schema.table
            ))
        })?;
        let text = String::from_utf8(slice.text.into());
        Ok(events::Slice {
            table: self.schema.table.clone(),
            column: column.name.clone(),
            value: slice.value,
            slice: slice.slice,
            text: text.map_err(|_| self.not_utf8(&column.name))?,
        })
    }

    fn not_utf8(&self, column: &str) -> Error {
        Error::Value {
            table: self.schema.table.clone(),
            column: column.into(),
            reason: "the text is not UTF-8".into(),
        }
    }

    pub(super) fn row(
        &self,
        tuple: &Tuple,
        wanted: impl Fn(usize, bool) -> bool,
    ) -> Result<Row, Error> {
        let columns = &self.schema.columns;
        if tuple.len() != columns.len() {
            return Err(Error::Protocol(format!(
                "a row of {} has {} columns, its definition {}",
                self.schema.table,
                tuple.len(),
                columns.len()
            )));
        }
        let mut row = Vec::with_capacity(columns.len());
        for (i, (cell, column)) in tuple.iter().zip(columns).enumerate() {
            if !wanted(i, column.key) {
                continue;
            }
            if let Some(value) = self.value(cell, &column.name, column.oid)? {
                row.push((column.name.clone(), value));
            }
        }
        Ok(Row(row))
    }

    fn value(&self, cell: &Cell, column: &str, type_oid: u32) -> Result<Option<Value>, Error> {
        let text = match cell {
            Cell::Null => return Ok(Some(Value::Null)),
            Cell::Unchanged => return Ok(None),
            Cell::Sliced(value) => return Ok(Some(Value::Sliced(value.clone()))),
            Cell::Text(text) => text,
            Cell::Binary(_) => {
                return Err(Error::Protocol(
                    "a value in binary form was not asked for".into(),
                ))
            }
        };
        let text = std::str::from_utf8(text).map_err(|_| self.not_utf8(column))?;
        match value(type_oid, text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Error::cell(&self.schema.table, column, error)),
        }
    }
}
