//! From the messages of the replication stream to the records of the log. Pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_events::{
    Change, Epoch, Lsn, Op, PartHeader, PartWriter, Progress, Record, Row, SchemaId, TableId,
    TableSchema, Value,
};

use crate::cell::value;
use crate::pgoutput::{Begin, Cell, Commit, Message, OldTuple, Tuple};
use crate::Error;

/// The value of one record, and how far the log reaches with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) value: Vec<u8>,
    /// `end_lsn` if the record makes a transaction whole or is a progress record.
    pub(crate) ends: Option<Lsn>,
    /// The record ends a transaction.
    pub(crate) transaction: bool,
}

/// A table of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    schema: TableSchema,
    announced: bool,
}

#[derive(Clone, Debug)]
struct Refusal {
    publication: String,
    table: TableId,
    /// The name under which it was captured before, if it was.
    formerly: Option<TableId>,
}

impl Refusal {
    fn error(&self) -> Error {
        match &self.formerly {
            Some(name) => Error::TableChanged {
                table: name.clone(),
                reason: format!("was renamed or moved: it is {} now", self.table),
                remedy: "capture goes by names and does not take its rows any more; put the selection of tables right, drop the slot, delete the topic and start over with a new snapshot".into(),
            },
            None => Error::PublicationDiffers {
                publication: self.publication.clone(),
                difference: format!("sends rows of {}, which is not captured", self.table),
                remedy: format!(
                    "take it out again with ALTER PUBLICATION \"{}\" DROP TABLE {}; `millrace tables add` adds a table with its rows",
                    self.publication, self.table
                ),
            },
        }
    }
}

/// Limits of a record, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At this size of its changes a part is closed.
    pub(crate) part: usize,
    /// A record may have this size.
    pub(crate) record: usize,
}

/// Builds one session's records. `prev` links each transaction to its predecessor.
pub(crate) struct Assembler {
    epoch: Epoch,
    prev: Lsn,
    limits: Limits,
    message_prefix: String,
    tables: HashMap<u32, Table>,
    /// Relations whose rows must not come, and why.
    refused: HashMap<u32, Refusal>,
    last_schema: SchemaId,
    open: Option<Open>,
    /// The source is known to have nothing for the log up to here.
    idle: Lsn,
}

/// A transaction whose commit has not come yet.
struct Open {
    begin: Begin,
    writer: PartWriter,
    /// Something of it has to stand in the log.
    wanted: bool,
}

impl Assembler {
    /// Continues the log at `position`. Definitions are numbered above `last_schema`.
    pub(crate) fn new(
        epoch: Epoch,
        position: Lsn,
        last_schema: SchemaId,
        limits: Limits,
        message_prefix: String,
    ) -> Self {
        Assembler {
            epoch,
            prev: position,
            limits,
            message_prefix,
            tables: HashMap::new(),
            refused: HashMap::new(),
            last_schema,
            open: None,
            idle: position,
        }
    }

    /// Where the log ends with the last record that was made.
    pub(crate) fn position(&self) -> Lsn {
        self.prev
    }

    /// The name of a relation that the stream has described.
    pub(crate) fn table_name(&self, relation: u32) -> Option<&TableId> {
        let table = self.tables.get(&relation).map(|table| &table.schema.table);
        table.or_else(|| self.refused.get(&relation).map(|refusal| &refusal.table))
    }

    /// A number for the next definition.
    pub(crate) fn next_schema(&self) -> SchemaId {
        SchemaId(self.last_schema.0 + 1)
    }

    /// The definition of a table, valid from here on. `schema.id` is [`Assembler::next_schema`]; a
    /// definition of the same shape keeps its old number.
    pub(crate) fn define(&mut self, relation: u32, schema: TableSchema) {
        let known = self.tables.get(&relation);
        let refused = self.refused.get(&relation);
        let formerly = known
            .map(|table| &table.schema.table)
            .or_else(|| refused.and_then(|refusal| refusal.formerly.as_ref()));
        // To the name of another captured table: its rows would go on into that one.
        if formerly.is_some_and(|name| *name != schema.table) {
            return self.refuse(relation, "", schema.table);
        }
        if known.is_some_and(|table| table.schema.same_shape(&schema)) {
            return;
        }
        self.last_schema = schema.id;
        let table = Table {
            schema,
            announced: false,
        };
        self.refused.remove(&relation);
        self.tables.insert(relation, table);
    }

    /// A relation that is not captured, or no longer: its definition is forgotten, because rows
    /// under it would go on as rows of the old name. The description alone is no error; a row of it
    /// means that the publication was changed or a captured table renamed.
    pub(crate) fn refuse(&mut self, relation: u32, publication: &str, table: TableId) {
        let formerly = match self.tables.remove(&relation) {
            Some(known) => Some(known.schema.table),
            None => self.refused.remove(&relation).and_then(|r| r.formerly),
        };
        let refusal = Refusal {
            publication: publication.to_owned(),
            table,
            formerly,
        };
        self.refused.insert(relation, refusal);
    }

    /// Takes the next message, relations excepted, and appends what is ready to `out`.
    pub(crate) fn take(&mut self, message: Message, out: &mut Vec<Outgoing>) -> Result<(), Error> {
        match message {
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit, out),
            Message::Insert { relation, new } => self.insert(relation, &new, out),
            Message::Update { relation, old, new } => self.update(relation, old, &new, out),
            Message::Delete { relation, old } => self.delete(relation, &old, out),
            Message::Truncate { relations } => self.truncate(&relations, out),
            Message::Logical {
                transactional: true,
                prefix,
                ..
            } if prefix == self.message_prefix => {
                self.open()?.wanted = true;
                Ok(())
            }
            Message::Logical { .. }
            | Message::Relation(_)
            | Message::Type { .. }
            | Message::Origin { .. } => Ok(()),
        }
    }

    /// The server has sent everything that committed before `lsn`.
    pub(crate) fn idle(&mut self, lsn: Lsn) {
        if self.open.is_none() {
            self.idle = self.idle.max(lsn);
        }
    }

    /// A progress record, if the source has moved past the log.
    pub(crate) fn progress(&mut self, at: DateTime<Utc>) -> Option<Outgoing> {
        if self.open.is_some() || self.idle <= self.prev {
            return None;
        }
        let progress = Progress {
            epoch: self.epoch,
            prev: self.prev,
            end_lsn: self.idle,
            at,
        };
        self.prev = self.idle;
        Some(Outgoing {
            value: Record::Progress(progress).encode(),
            ends: Some(self.prev),
            transaction: false,
        })
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        if self.open.is_some() {
            return Err(Error::Protocol(
                "a transaction begins inside another".into(),
            ));
        }
        if begin.commit_lsn < self.prev {
            let (commit, prev) = (begin.commit_lsn, self.prev);
            return Err(Error::Protocol(format!(
                "a transaction commits at {commit}, before the end of the last at {prev}"
            )));
        }
        let writer = PartWriter::new(PartHeader {
            epoch: self.epoch,
            prev: self.prev,
            commit_lsn: begin.commit_lsn,
            xid: begin.xid,
            at: begin.at,
        });
        self.open = Some(Open {
            begin,
            writer,
            wanted: false,
        });
        Ok(())
    }

    fn commit(&mut self, commit: Commit, out: &mut Vec<Outgoing>) -> Result<(), Error> {
        let open = self.open.take().ok_or_else(outside)?;
        if open.begin.commit_lsn != commit.commit_lsn || commit.end_lsn <= commit.commit_lsn {
            return Err(Error::Protocol("a commit does not fit its begin".into()));
        }
        self.idle = self.idle.max(commit.end_lsn);
        if open.wanted {
            self.prev = commit.end_lsn;
            out.push(Outgoing {
                value: open.writer.finish(commit.end_lsn),
                ends: Some(commit.end_lsn),
                transaction: true,
            });
        }
        Ok(())
    }

    fn insert(&mut self, relation: u32, new: &Tuple, out: &mut Vec<Outgoing>) -> Result<(), Error> {
        let table = self.table(relation)?;
        let after = Some(table.after(new, None)?);
        self.push(relation, Op::Insert, None, after, out)
    }

    fn update(
        &mut self,
        relation: u32,
        old: Option<OldTuple>,
        new: &Tuple,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Error> {
        let table = self.table(relation)?;
        let after = Some(table.after(new, old.as_ref())?);
        let before = match &old {
            None => None,
            Some(OldTuple::Key(old)) => Some(table.key(old)?),
            Some(OldTuple::Full(old)) => Some(table.changed(old, new)?),
        };
        self.push(relation, Op::Update, before, after, out)
    }

    fn delete(
        &mut self,
        relation: u32,
        old: &OldTuple,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Error> {
        let table = self.table(relation)?;
        let before = match old {
            OldTuple::Key(old) => table.key(old)?,
            OldTuple::Full(old) => table.row(old, |_, _| true)?,
        };
        self.push(relation, Op::Delete, Some(before), None, out)
    }

    fn truncate(&mut self, relations: &[u32], out: &mut Vec<Outgoing>) -> Result<(), Error> {
        for &relation in relations {
            self.push(relation, Op::Truncate, None, None, out)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        relation: u32,
        op: Op,
        before: Option<Row>,
        after: Option<Row>,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Error> {
        self.table(relation)?;
        let open = self.open.as_mut().ok_or_else(outside)?;
        let table = self.tables.get_mut(&relation).ok_or_else(unknown_table)?;
        if !table.announced {
            open.writer.define(table.schema.clone());
            table.announced = true;
        }
        open.wanted = true;
        let before_push = open.writer.size();
        open.writer.push(&Change {
            table: table.schema.table.clone(),
            op,
            schema: table.schema.id,
            before,
            after,
        });
        let bytes = open.writer.size() - before_push;
        // What stands in the part already is below the size at which it is cut.
        let limit = self.limits.record - self.limits.part;
        if bytes > limit {
            return Err(Error::RowTooLarge {
                table: table.schema.table.clone(),
                place: format!("the transaction that commits at {}", open.begin.commit_lsn),
                bytes,
                limit,
            });
        }
        if open.writer.size() >= self.limits.part {
            out.push(Outgoing {
                value: open.writer.cut(),
                ends: None,
                transaction: false,
            });
        }
        Ok(())
    }

    fn open(&mut self) -> Result<&mut Open, Error> {
        self.open.as_mut().ok_or_else(outside)
    }

    fn table(&self, relation: u32) -> Result<&Table, Error> {
        match (self.tables.get(&relation), self.refused.get(&relation)) {
            (Some(table), _) => Ok(table),
            (None, Some(refusal)) => Err(refusal.error()),
            (None, None) => Err(unknown_table()),
        }
    }
}

fn outside() -> Error {
    Error::Protocol("a message of a transaction stands outside of one".into())
}

fn unknown_table() -> Error {
    Error::Protocol("a row of a table that was not defined before".into())
}

impl Table {
    /// The row after a change, without unchanged TOAST values. A key column that was not sent is
    /// taken from the old row: a row without its key could not be applied.
    fn after(&self, new: &Tuple, old: Option<&OldTuple>) -> Result<Row, Error> {
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
    fn key(&self, old: &Tuple) -> Result<Row, Error> {
        self.row(old, |_, key| key)
    }

    /// The columns of the key and those that changed.
    fn changed(&self, old: &Tuple, new: &Tuple) -> Result<Row, Error> {
        self.row(old, |i, key| {
            let (old, new) = (old.get(i), new.get(i));
            key || (new != Some(&Cell::Unchanged) && new != old)
        })
    }

    fn row(&self, tuple: &Tuple, wanted: impl Fn(usize, bool) -> bool) -> Result<Row, Error> {
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
            Cell::Text(text) => text,
            Cell::Binary(_) => {
                return Err(Error::Protocol(
                    "a value in binary form was not asked for".into(),
                ))
            }
        };
        let text = std::str::from_utf8(text).map_err(|_| Error::Value {
            table: self.schema.table.clone(),
            column: column.into(),
            reason: "the text is not UTF-8".into(),
        })?;
        match value(type_oid, text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Error::cell(&self.schema.table, column, error)),
        }
    }
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
