//! A source database in memory, with a capture that writes its log.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use millrace_events::{
    Baseline, Chain, Change, Checkpoint, Column, Copies, Epoch, Lsn, Op, PartHeader, PartWriter,
    Progress, Record, Row, SchemaId, Start, TableId, TableSchema, Value, Verdict, Xid,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::RngExt;

use crate::memory_log::MemoryLog;
use slicing::sliced;

#[path = "copying.rs"]
mod copying;
#[path = "made_up.rs"]
mod made_up;
#[path = "slicing.rs"]
mod slicing;

pub(crate) const CHANGES: &str = "world-changes";
/// Topic of the first copy.
pub(crate) const SNAPSHOT: &str = "world-snapshot-1";

pub(crate) type Rows = BTreeMap<Vec<Value>, Vec<Value>>;
pub(crate) type State = BTreeMap<TableId, Rows>;

pub(crate) struct Source {
    pub(crate) log: MemoryLog,
    pub(crate) rng: StdRng,
    pub(crate) schemas: Vec<TableSchema>,
    pub(crate) state: State,
    /// What the tables held at each `end_lsn`.
    pub(crate) history: BTreeMap<Lsn, State>,
    pub(crate) lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) incarnation: String,
    /// Of the next transaction.
    pub(crate) xid: Xid,
    pub(crate) copies: u64,
    /// Keys of updates that changed the key and did not send all, since the last copy began.
    rekeyed: BTreeSet<(TableId, Vec<Value>)>,
    /// Some of the values that it makes up fit into no column of MySQL.
    pub(crate) unfit: bool,
    /// Some values travel in slices.
    pub(crate) slices: bool,
}

pub(crate) fn at() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
}

/// The schema whose tables keep their names.
pub(crate) const MAIN_SCHEMA: &str = "source";

/// The table that the tests call `name`: some of them are in other schemas.
pub(crate) fn id(name: &str) -> TableId {
    match name {
        "pairs" => TableId::new("far", name),
        "Straße" => TableId::new("Größe & Co.", name),
        _ => TableId::new(MAIN_SCHEMA, name),
    }
}

/// What it is called in MySQL.
pub(crate) fn mysql_name(table: &TableId) -> String {
    match table.schema.as_str() {
        MAIN_SCHEMA => table.name.clone(),
        schema => format!("{schema}__{}", table.name),
    }
}

pub(crate) fn schema(number: u32, table: &str, columns: &[(&str, &str, bool)]) -> TableSchema {
    let column = |(name, type_name, key): &(&str, &str, bool)| Column {
        name: (*name).to_owned(),
        type_name: (*type_name).to_owned(),
        oid: 0,
        type_mod: -1,
        key: *key,
    };
    TableSchema {
        id: SchemaId(number),
        table: id(table),
        columns: columns.iter().map(column).collect(),
    }
}

pub(crate) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

impl Source {
    pub(crate) fn new(log: MemoryLog, rng: StdRng) -> Source {
        let schemas = vec![
            schema(
                1,
                "things",
                &[
                    ("id", "bigint", true),
                    ("name", "character varying(60)", false),
                    ("price", "numeric(12,2)", false),
                    ("notes", "text", false),
                    ("made", "timestamp with time zone", false),
                    ("live", "boolean", false),
                ],
            ),
            schema(
                2,
                "pairs",
                &[
                    ("kind", "text", true),
                    ("number", "integer", true),
                    ("data", "bytea", false),
                    ("ratio", "double precision", false),
                    ("free", "numeric", false),
                    ("born", "date", false),
                ],
            ),
        ];
        let mut state = State::new();
        state.insert(id("things"), Rows::new());
        state.insert(id("pairs"), Rows::new());
        Source {
            log,
            rng,
            schemas,
            state,
            history: BTreeMap::new(),
            lsn: Lsn(1000),
            epoch: Epoch(0),
            incarnation: "first".into(),
            xid: Xid(100),
            copies: 0,
            rekeyed: BTreeSet::new(),
            unfit: false,
            slices: true,
        }
    }

    fn schema(&self, table: &str) -> &TableSchema {
        let found = self.schemas.iter().find(|schema| schema.table == id(table));
        found.expect("a known table")
    }

    fn key_of(&self, table: &str, values: &[Value]) -> Vec<Value> {
        let columns = self.schema(table).columns.iter().zip(values);
        columns
            .filter(|(c, _)| c.key)
            .map(|(_, v)| v.clone())
            .collect()
    }

    fn row(&self, table: &str, values: &[Value]) -> Row {
        let columns = self.schema(table).columns.iter().zip(values);
        Row(columns.map(|(c, v)| (c.name.clone(), v.clone())).collect())
    }

    fn key_row(&self, table: &str, key: &[Value]) -> Row {
        let columns = self.schema(table).key().zip(key);
        Row(columns.map(|(c, v)| (c.name.clone(), v.clone())).collect())
    }

    pub(crate) fn change(
        &self,
        table: &str,
        op: Op,
        before: Option<Row>,
        after: Option<Row>,
    ) -> Change {
        Change {
            table: id(table),
            op,
            schema: self.schema(table).id,
            before,
            after,
        }
    }

    pub(crate) fn put(&mut self, table: &str, values: Vec<Value>) -> Change {
        let key = self.key_of(table, &values);
        let after = Some(self.row(table, &values));
        let rows = self.state.get_mut(&id(table)).expect("a known table");
        let op = match rows.insert(key, values) {
            Some(_) => Op::Update,
            None => Op::Insert,
        };
        self.change(table, op, None, after)
    }

    fn remove(&mut self, table: &str, key: &[Value]) -> Change {
        self.state
            .get_mut(&id(table))
            .expect("a known table")
            .remove(key);
        let before = self.key_row(table, key);
        self.change(table, Op::Delete, Some(before), None)
    }

    /// Moves a row to another key and sends neither of the columns that may be TOAST.
    pub(crate) fn rekey(&mut self, table: &str, from: &[Value], to: &[Value]) -> Change {
        let rows = self.state.get_mut(&id(table)).expect("a known table");
        let mut values = rows.remove(from).expect("the row exists");
        values[..to.len()].clone_from_slice(to);
        rows.insert(to.to_vec(), values.clone());
        self.rekeyed.insert((id(table), to.to_vec()));
        let mut after = self.row(table, &values);
        after
            .0
            .retain(|(name, _)| !["notes", "data", "free"].contains(&name.as_str()));
        let before = self.key_row(table, from);
        self.change(table, Op::Update, Some(before), Some(after))
    }

    /// An update of the pair of that kind which leaves a column unsent, as its value is large and has not changed.
    pub(crate) fn change_unsent(
        &mut self,
        table: &str,
        from: &str,
        values: Vec<Value>,
        unsent: &str,
    ) -> Change {
        let from = vec![text(from), Value::Int(1)];
        let to = self.key_of(table, &values);
        let mut after = self.row(table, &values);
        after.0.retain(|(name, _)| name != unsent);
        let before = (from != to).then(|| self.key_row(table, &from));
        let rows = self.state.get_mut(&id(table)).expect("a known table");
        rows.remove(&from).expect("the row exists");
        rows.insert(to, values);
        self.change(table, Op::Update, before, Some(after))
    }

    fn random_change(&mut self) -> Vec<Change> {
        let table = if self.rng.random() { "things" } else { "pairs" };
        let keys: Vec<Vec<Value>> = self.state[&id(table)].keys().cloned().collect();
        let some = |rng: &mut StdRng| keys.choose(rng).cloned();
        match self.rng.random_range(0..100) {
            0..=1 => {
                self.state.insert(id(table), Rows::new());
                vec![self.change(table, Op::Truncate, None, None)]
            }
            2..=20 => match some(&mut self.rng) {
                Some(key) => vec![self.remove(table, &key)],
                None => Vec::new(),
            },
            21..=35 => match (some(&mut self.rng), self.random_row(table)) {
                (Some(from), values) => {
                    let to = self.key_of(table, &values);
                    match self.state[&id(table)].contains_key(&to) && to != from {
                        true => self.swap(table, &from, &to),
                        false if to != from => vec![self.rekey(table, &from, &to)],
                        false => Vec::new(),
                    }
                }
                _ => Vec::new(),
            },
            36..=50 => match some(&mut self.rng) {
                Some(key) => vec![self.touch(table, &key)],
                None => Vec::new(),
            },
            _ => {
                let values = self.random_row(table);
                vec![self.put(table, values)]
            }
        }
    }

    /// An update that changes one column and leaves unchanged TOAST unsent.
    pub(crate) fn touch(&mut self, table: &str, key: &[Value]) -> Change {
        let fresh = self.random_row(table);
        let rows = self.state.get_mut(&id(table)).expect("a known table");
        let values = rows.get_mut(key).expect("the row exists");
        values[4] = fresh[4].clone();
        let values = values.clone();
        let mut after = self.row(table, &values);
        after
            .0
            .retain(|(name, _)| !["notes", "data"].contains(&name.as_str()));
        self.change(table, Op::Update, None, Some(after))
    }

    fn swap(&mut self, table: &str, one: &[Value], two: &[Value]) -> Vec<Change> {
        let spare = match table {
            "things" => vec![Value::Int(-1)],
            _ => vec![text("spare"), Value::Int(-99)],
        };
        vec![
            self.rekey(table, one, &spare),
            self.rekey(table, two, one),
            self.rekey(table, &spare, two),
        ]
    }

    /// What the log says, written as capture does it when nothing is in flight.
    pub(crate) fn checkpoint(&mut self) {
        let (mut chain, mut copies, mut baseline) = (Chain::unanchored(), Copies::new(), None);
        for (offset, value) in (0..).zip(self.log.values(CHANGES)) {
            let record = Record::decode(&value).expect("a record");
            let verdict = chain.offer(&record);
            copies.offer(offset, &record, verdict);
            let begins = matches!(verdict, Verdict::Moved | Verdict::BegunAgain);
            if let (Record::Baseline(found), true) = (record, begins) {
                baseline = Some(found);
            }
        }
        let baseline = baseline.expect("the log has begun");
        let lsn = chain.position().expect("the log has begun");
        self.write_checkpoint(lsn, baseline, &copies);
    }

    /// As after all of a topic was removed and another log began in it.
    pub(crate) fn checkpoint_of_another_log(&mut self) {
        let baseline = Baseline {
            epoch: self.epoch,
            incarnation: self.incarnation.clone(),
            lsn: self.lsn,
            system: "1".into(),
            database: "db".into(),
            at: at(),
            again: None,
        };
        self.write_checkpoint(self.lsn, baseline, &Copies::new());
    }

    fn write_checkpoint(&mut self, lsn: Lsn, baseline: Baseline, copies: &Copies) {
        let checkpoint = Record::Checkpoint(Box::new(Checkpoint {
            epoch: self.epoch,
            lsn,
            at: at(),
            baseline,
            tables: copies.iter().map(|(_, table)| table.clone()).collect(),
            source: None,
            last: None,
            removed: Vec::new(),
            former: Vec::new(),
            unseen: Vec::new(),
        }));
        self.log.append(CHANGES, checkpoint.encode());
    }

    /// Capture starts: fences, and defines its tables anew.
    pub(crate) fn start(&mut self) {
        self.epoch = self.epoch.next();
        let start = Record::Start(Start {
            epoch: self.epoch,
            owner: None,
            at: at(),
        });
        self.log.append(CHANGES, start.encode());
    }

    /// The record values of a transaction with these changes, `per_part` to a part.
    pub(crate) fn parts(&self, changes: &[Change], per_part: usize) -> Vec<Vec<u8>> {
        let mut writer = PartWriter::new(PartHeader {
            epoch: self.epoch,
            prev: self.lsn,
            commit_lsn: Lsn(self.lsn.0 + 10),
            xid: self.xid,
            at: at(),
        });
        for schema in &self.schemas {
            writer.define(schema.clone());
        }
        let mut values = Vec::new();
        for (n, change) in changes.iter().enumerate() {
            if n > 0 && n % per_part == 0 {
                values.push(writer.cut());
            }
            let mut change = change.clone();
            let prefix = format!("{}-{}-", self.epoch, self.lsn.0);
            let slices = match &mut change.after {
                Some(row) if self.slices => sliced(&change.table, &prefix, row),
                _ => Vec::new(),
            };
            for slice in slices {
                if writer.has_changes() || slice.slice % 4 == 3 {
                    values.push(writer.cut());
                }
                writer.push_slice(&slice);
            }
            writer.push(&change);
        }
        values.push(writer.finish(Lsn(self.lsn.0 + 50)));
        values
    }

    /// Commits changes that were made to `state`.
    pub(crate) fn commit(&mut self, changes: &[Change], per_part: usize) {
        for value in self.parts(changes, per_part) {
            self.log.append(CHANGES, value);
        }
        self.committed();
    }

    pub(crate) fn committed(&mut self) {
        self.lsn = Lsn(self.lsn.0 + 50);
        self.xid = Xid(self.xid.0 + 1);
        self.history.insert(self.lsn, self.state.clone());
    }

    pub(crate) fn progress(&mut self) {
        let record = Record::Progress(Progress {
            epoch: self.epoch,
            prev: self.lsn,
            end_lsn: Lsn(self.lsn.0 + 8),
            gap: false,
            at: at(),
        });
        self.log.append(CHANGES, record.encode());
        self.lsn = Lsn(self.lsn.0 + 8);
        self.history.insert(self.lsn, self.state.clone());
    }

    /// A random transaction, with what may happen to its records on the way to the log.
    pub(crate) fn random_transaction(&mut self) {
        let count = match self.rng.random_range(0..10) {
            0 => 0,
            1 => self.rng.random_range(30..80),
            _ => self.rng.random_range(1..8),
        };
        let changes: Vec<Change> = (0..count).flat_map(|_| self.random_change()).collect();
        let per_part = self.rng.random_range(1..30);
        let parts = self.parts(&changes, per_part);
        match self.rng.random_range(0..10) {
            0 => self.progress_lost_and_sent_again(&changes, per_part),
            1 => {
                let broken = self.rng.random_range(0..=parts.len() - 1);
                for part in &parts[..broken] {
                    self.log.append(CHANGES, part.clone());
                }
                self.start();
                self.commit(&changes, per_part);
                if self.rng.random() {
                    // What the killed capture had sent arrives late.
                    for part in parts {
                        self.log.append(CHANGES, part);
                    }
                }
            }
            2 => {
                for part in &parts {
                    self.log.append(CHANGES, part.clone());
                    self.log.append(CHANGES, part.clone());
                }
                self.committed();
            }
            3 => {
                self.commit(&changes, per_part);
                self.progress();
            }
            _ => self.commit(&changes, per_part),
        }
    }

    /// The record is lost, its successor is not; a new capture sends both again.
    fn progress_lost_and_sent_again(&mut self, changes: &[Change], per_part: usize) {
        let lost_from = self.lsn;
        self.lsn = Lsn(lost_from.0 + 50);
        for part in self.parts(&[], 1) {
            self.log.append(CHANGES, part);
        }
        self.lsn = lost_from;
        self.start();
        self.commit(changes, per_part);
        self.commit(&[], 1);
    }
}
