//! From the messages of the replication stream to the records of the log. Pure.

mod announce;
mod slices;
mod table;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use millrace_events::{
    Change, Epoch, Lsn, Op, PartHeader, PartWriter, Progress, Record, Row, SchemaId, TableId,
    TableSchema, Witness,
};

use crate::copy::Notes;
use crate::pgoutput::{Begin, Commit, Message, OldTuple, Tuple};
use crate::wide::Slice;
use crate::Error;
use table::Table;

/// The value of one record, and how far the log reaches with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) value: Vec<u8>,
    /// `end_lsn` if the record makes a transaction whole or is a progress record.
    pub(crate) ends: Option<Lsn>,
    /// The record ends a transaction.
    pub(crate) transaction: bool,
    /// A start may begin at it.
    pub(crate) checkpoint: bool,
}

impl Outgoing {
    /// A record that does not say how far the log reaches.
    pub(crate) fn aside(value: Vec<u8>) -> Self {
        Outgoing {
            value,
            ends: None,
            transaction: false,
            checkpoint: false,
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
    /// Relations whose rows are left out.
    others: HashMap<u32, TableId>,
    /// Those of them of which rows came.
    left_out: BTreeMap<u32, TableId>,
    last_schema: SchemaId,
    /// The last transaction of this session.
    last: Option<Witness>,
    open: Option<Open>,
    /// The source is known to have nothing for the log up to here.
    idle: Lsn,
    /// Values that were cut into slices.
    values_cut: u64,
    /// For copies.
    pub(crate) notes: Notes,
}

/// A transaction whose commit has not come yet.
struct Open {
    begin: Begin,
    writer: PartWriter,
    /// Something of it has to stand in the log.
    wanted: bool,
}

impl Assembler {
    /// Continues the log at `position`.
    pub(crate) fn new(
        epoch: Epoch,
        position: Lsn,
        limits: Limits,
        message_prefix: String,
        notes: Notes,
    ) -> Self {
        Assembler {
            epoch,
            prev: position,
            limits,
            message_prefix,
            tables: HashMap::new(),
            others: HashMap::new(),
            left_out: BTreeMap::new(),
            last: None,
            last_schema: SchemaId::default(),
            open: None,
            idle: position,
            values_cut: 0,
            notes,
        }
    }

    /// Where the log ends with the last record that was made.
    pub(crate) fn position(&self) -> Lsn {
        self.prev
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last transaction that was made.
    pub(crate) fn last(&self) -> Option<Witness> {
        self.last
    }

    /// The last transaction proves nothing any more.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    /// A number for the next definition.
    pub(crate) fn next_schema(&self) -> SchemaId {
        SchemaId(self.last_schema.0 + 1)
    }

    /// The definition of a captured table, valid from here on. `schema.id` is [`Assembler::next_schema`]; a
    /// definition of the same shape keeps its old number.
    pub(crate) fn define(&mut self, relation: u32, schema: TableSchema) {
        self.others.remove(&relation);
        let known = self.tables.get(&relation);
        if known.is_some_and(|table| table.schema.same_shape(&schema)) {
            return;
        }
        self.last_schema = schema.id;
        let table = Table {
            schema,
            announced: false,
        };
        self.tables.insert(relation, table);
    }

    /// A relation that is not captured, or no longer: its definition is forgotten, because rows
    /// under it would go on as rows of the old name.
    pub(crate) fn leave_out(&mut self, relation: u32, table: TableId) {
        self.tables.remove(&relation);
        self.others.insert(relation, table);
    }

    /// The relations of which rows were left out since the last call, with their names.
    pub(crate) fn take_left_out(&mut self) -> BTreeMap<u32, TableId> {
        std::mem::take(&mut self.left_out)
    }

    /// Whether a column of a captured table is part of its key.
    pub(crate) fn is_key(&self, relation: u32, column: usize) -> bool {
        let table = self.tables.get(&relation);
        let column = table.and_then(|table| table.schema.columns.get(column));
        column.is_some_and(|column| column.key)
    }

    /// Whether the message makes a transaction one of the log.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        match message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. }
            | Message::Slice(Slice { relation, .. }) => self.tables.contains_key(relation),
            Message::Truncate { relations } => relations
                .iter()
                .any(|relation| self.tables.contains_key(relation)),
            Message::Logical {
                transactional,
                prefix,
                ..
            } => *transactional && *prefix == self.message_prefix,
            _ => false,
        }
    }

    /// Takes the next message, relations excepted, and appends what is ready to `out`.
    pub(crate) fn take(&mut self, message: Message, out: &mut Vec<Outgoing>) -> Result<(), Error> {
        match message {
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit, out),
            Message::Slice(slice) => self.slice(slice, out),
            Message::Insert { relation, new } => self.insert(relation, &new, out),
            Message::Update { relation, old, new } => self.update(relation, old, &new, out),
            Message::Delete { relation, old } => self.delete(relation, &old, out),
            Message::Truncate { relations } => self.truncate(&relations, out),
            Message::Logical { .. } => {
                if self.wants(&message) {
                    self.open()?.wanted = true;
                }
                Ok(())
            }
            Message::Relation(_) | Message::Type { .. } | Message::Origin { .. } => Ok(()),
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
            gap: false,
            at,
        };
        self.prev = self.idle;
        Some(Outgoing {
            value: Record::Progress(progress).encode(),
            ends: Some(self.prev),
            transaction: false,
            checkpoint: false,
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
        // Of what was left out too, in case a copy of the table begins.
        self.notes.committed(open.begin.xid);
        if open.wanted {
            self.prev = commit.end_lsn;
            self.last = Some(Witness {
                commit_lsn: commit.commit_lsn,
                end_lsn: commit.end_lsn,
                xid: open.begin.xid,
                at: open.begin.at,
            });
            out.push(Outgoing {
                value: open.writer.finish(commit.end_lsn),
                ends: Some(commit.end_lsn),
                transaction: true,
                checkpoint: false,
            });
        }
        Ok(())
    }

    fn insert(&mut self, relation: u32, new: &Tuple, out: &mut Vec<Outgoing>) -> Result<(), Error> {
        let Some(table) = self.table(relation)? else {
            return Ok(());
        };
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
        let Some(table) = self.table(relation)? else {
            return Ok(());
        };
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
        let Some(table) = self.table(relation)? else {
            return Ok(());
        };
        let before = match old {
            OldTuple::Key(old) => table.key(old)?,
            OldTuple::Full(old) => table.row(old, |_, _| true)?,
        };
        self.push(relation, Op::Delete, Some(before), None, out)
    }

    fn truncate(&mut self, relations: &[u32], out: &mut Vec<Outgoing>) -> Result<(), Error> {
        for &relation in relations {
            if self.table(relation)?.is_some() {
                self.push(relation, Op::Truncate, None, None, out)?;
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        relation: u32,
        op: Op,
        mut before: Option<Row>,
        mut after: Option<Row>,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Error> {
        self.make_room(relation, (before.as_mut(), after.as_mut()), out);
        let open = self.open.as_mut().ok_or_else(outside)?;
        let table = self.tables.get_mut(&relation).ok_or_else(unknown_table)?;
        if !table.announced {
            open.writer.define(table.schema.clone());
            table.announced = true;
        }
        open.wanted = true;
        let before_push = open.writer.size();
        let change = Change {
            table: table.schema.table.clone(),
            op,
            schema: table.schema.id,
            before,
            after,
        };
        self.notes.change(&change);
        open.writer.push(&change);
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
            out.push(Outgoing::aside(open.writer.cut()));
        }
        Ok(())
    }

    fn open(&mut self) -> Result<&mut Open, Error> {
        self.open.as_mut().ok_or_else(outside)
    }

    /// The table of a relation, or none if its rows are left out, which is noted.
    fn table(&mut self, relation: u32) -> Result<Option<&Table>, Error> {
        if let Some(other) = self.others.get(&relation) {
            self.left_out.insert(relation, other.clone());
            return Ok(None);
        }
        let table = self.tables.get(&relation);
        table.map(Some).ok_or_else(unknown_table)
    }
}

fn outside() -> Error {
    Error::Protocol("a message of a transaction stands outside of one".into())
}

fn unknown_table() -> Error {
    Error::Protocol("a row of a table that was not defined before".into())
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
