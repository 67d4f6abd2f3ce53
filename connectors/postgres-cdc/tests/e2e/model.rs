//! The tables as a reader of log and copies makes them out to be.
//!
//! It loads the chunks of the copy that counts, catches up from the record that began it, and joins where the log has
//! passed the end of the copy. From there on it is strict: a change that does not fit its row is a failure.

use std::collections::BTreeMap;

use millrace_events::{
    CapturedTable, Chain, Change, ChunkVerdict, Copied, Copies, CopyId, CopyReader, Lsn, Op,
    PartVerdict, Record, Row, Slice, TableChunks, TableCopied, TableId, TableSchema, Value,
    Verdict, Xid,
};

use crate::rig::Rig;

pub type Rows = BTreeMap<Vec<Value>, BTreeMap<String, Value>>;

/// Tables by name; rows by key.
#[derive(Debug, Default, PartialEq)]
pub struct Model {
    pub tables: BTreeMap<TableId, Rows>,
    /// Transactions that counted: xid and the changes as (table, op).
    pub transactions: Vec<(u32, Vec<(TableId, Op)>)>,
    /// The most parts that one transaction had.
    pub parts_max: u32,
    pub starts: u64,
    pub baselines: u64,
    /// How often the log was begun again.
    pub begun_again: u64,
    /// Tables that are captured no longer.
    pub removed: Vec<TableId>,
    /// What was read of the copies that count, over all tables.
    pub copied: Tally,
    /// Every copy that was ever completed, as if it were the one that counts.
    pub every_copy: Vec<(CopyId, TableId, Rows)>,
    schemas: BTreeMap<(u64, u32), TableSchema>,
}

/// Rows and chunks of copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows of all pieces that count, those of readings that were given up included.
    pub rows_read: u64,
    /// Rows of complete chunks.
    pub rows: u64,
    pub chunks: u32,
    /// Rows whose keys were changed while they were copied, and which were read again.
    pub again: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.rows_read += other.rows_read;
        self.rows += other.rows;
        self.chunks += other.chunks;
        self.again += other.again;
    }
}

/// What the log says.
#[derive(Default)]
struct Log {
    copies: Copies,
    /// Each copy of a table when it was completed.
    copied: Vec<CapturedTable>,
    transactions: Vec<Transaction>,
}

/// A transaction that counted.
struct Transaction {
    /// Of its last part.
    offset: i64,
    prev: Lsn,
    epoch: u64,
    xid: Xid,
    changes: Vec<Change>,
}

/// A table that catches up, or has.
struct Reader {
    table: CapturedTable,
    copied: Copied,
    chunks: TableChunks,
    /// Keys that were read again, with their chunk.
    again: BTreeMap<Vec<Value>, u32>,
    rows: Rows,
}

impl Model {
    /// The rows of a table of schema `source`.
    pub fn rows(&self, table: &str) -> &Rows {
        &self.tables[&TableId::new("source", table)]
    }

    /// Reads all there is. Every table has to be copied.
    pub async fn read(rig: &Rig) -> Model {
        Model::of(rig, |_, _| true).await
    }

    /// The same without copies that do not count any more: the log does not have all changes behind them.
    pub async fn read_newest(rig: &Rig) -> Model {
        let newest = |copies: &Copies, table: &CapturedTable| {
            copies.table(&table.definition.table) == Some(table)
        };
        Model::of(rig, newest).await
    }

    async fn of(rig: &Rig, wanted: impl Fn(&Copies, &CapturedTable) -> bool) -> Model {
        let mut model = Model::default();
        let log = model.read_log(rig.log().await);
        let copied = log.copied.iter();
        for table in copied.filter(|table| wanted(&log.copies, table)) {
            let records = rig.records(&table.topic).await;
            let mut tally = Tally::default();
            let mut reader = Reader::load(table.clone(), records, &mut tally);
            for transaction in &log.transactions {
                reader.apply(transaction, &model.schemas);
            }
            let name = &table.definition.table;
            if log.copies.table(name) == Some(table) {
                model.copied.add(tally);
                model.tables.insert(name.clone(), reader.rows.clone());
            }
            model
                .every_copy
                .push((table.copy, name.clone(), reader.rows));
        }
        model.removed = log.copies.removed().cloned().collect();
        for (name, table) in log.copies.iter() {
            assert!(table.copied.is_some(), "{name} is not copied");
        }
        let shown = |transaction: Transaction| {
            let ops = transaction.changes.iter().map(|c| (c.table.clone(), c.op));
            (transaction.xid.0, ops.collect())
        };
        model.transactions = log.transactions.into_iter().map(shown).collect();
        model
    }

    fn read_log(&mut self, records: Vec<Record>) -> Log {
        let mut log = Log::default();
        let (mut chain, mut parts) = (Chain::unanchored(), Vec::new());
        let mut slices = Slices::default();
        for (offset, record) in (0..).zip(records) {
            let verdict = chain.offer(&record);
            log.copies.offer(offset, &record, verdict);
            match (record, verdict) {
                (Record::Baseline(_), Verdict::Moved) => self.baselines += 1,
                (Record::Baseline(_), Verdict::BegunAgain) => {
                    self.begun_again += 1;
                    parts.clear();
                    log = Log {
                        copies: log.copies,
                        ..Log::default()
                    };
                }
                (Record::Start(_), _) => self.starts += 1,
                (Record::Copy(begun), Verdict::Announced) => {
                    assert!(parts.is_empty(), "inside a transaction");
                    assert_eq!(chain.position(), Some(begun.lsn));
                }
                // What follows of it is not in the log any more.
                (Record::Removed(removed), Verdict::Announced) => {
                    let stays = |table: &CapturedTable| table.definition.table != removed.table;
                    log.copied.retain(stays);
                }
                (Record::Copied(copied), Verdict::Announced) => {
                    let table = log.copies.table(&copied.table);
                    let table = table.filter(|table| table.copy == copied.copy);
                    log.copied.extend(table.cloned());
                }
                (
                    Record::Transaction(part),
                    Verdict::Part(PartVerdict::Accepted { first, complete }),
                ) => {
                    if first {
                        parts.clear();
                    }
                    for schema in part.schemas {
                        self.schemas.insert((part.epoch.0, schema.id.0), schema);
                    }
                    self.parts_max = self.parts_max.max(part.part + 1);
                    slices.take(part.slices);
                    let rows = |mut change: Change| {
                        let rows = [&mut change.before, &mut change.after];
                        rows.into_iter()
                            .flatten()
                            .for_each(|row| slices.complete(row));
                        change
                    };
                    parts.extend(part.changes.into_iter().map(rows));
                    if complete {
                        log.transactions.push(Transaction {
                            offset,
                            prev: part.prev,
                            epoch: part.epoch.0,
                            xid: part.xid,
                            changes: std::mem::take(&mut parts),
                        });
                    }
                }
                _ => {}
            }
        }
        log
    }

    /// Where the log ends.
    pub async fn position(rig: &Rig) -> Lsn {
        let mut chain = Chain::unanchored();
        for record in rig.log().await {
            chain.offer(&record);
        }
        chain.position().unwrap()
    }

    /// Compares a table of schema `source` with the database, cell by cell as text.
    pub async fn assert_equals(&self, rig: &Rig, table: &str, columns: &str) {
        assert_rows_equal(self.rows(table), rig, table, columns).await;
    }

    /// The same for every copy of the table. Returns how many there were.
    pub async fn assert_every_copy_equals(&self, rig: &Rig, table: &str, columns: &str) -> usize {
        let name = TableId::new("source", table);
        let copies = self
            .every_copy
            .iter()
            .filter(|(_, copied, _)| *copied == name);
        let copies: Vec<_> = copies.collect();
        for (copy, _, rows) in &copies {
            println!("copy {} of {name}: {} rows", copy.0, rows.len());
            assert_rows_equal(rows, rig, table, columns).await;
        }
        copies.len()
    }
}

async fn assert_rows_equal(rows: &Rows, rig: &Rig, table: &str, columns: &str) {
    let mut connection = rig.connect().await;
    let sql = format!("SELECT to_jsonb(array(SELECT coalesce(v, '\\N') FROM unnest(ARRAY[{columns}]) v))::text FROM source.{table}");
    let stored: Vec<String> = sqlx::query_scalar(&sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let mut expected: Vec<Vec<String>> = stored
        .iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    let names: Vec<_> = columns
        .split(',')
        .map(|c| c.trim().trim_end_matches("::text"))
        .collect();
    let mut found: Vec<Vec<String>> = rows
        .values()
        .map(|row| names.iter().map(|name| plain(&row[*name])).collect())
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found.len(), expected.len(), "rows of {table}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{table}");
    }
}

impl Reader {
    fn load(table: CapturedTable, records: Vec<Record>, tally: &mut Tally) -> Reader {
        let copied = table.copied.expect("it is copied");
        let name = &table.definition.table;
        let mut reader = CopyReader::new(table.copy);
        let (mut rows, mut again) = (Rows::new(), BTreeMap::new());
        let mut slices = Slices::default();
        for record in records {
            let verdict = reader.offer(&record);
            assert_ne!(verdict, ChunkVerdict::Foreign, "{record:?}");
            let (Record::Chunk(chunk), ChunkVerdict::Accepted { .. }) = (record, verdict) else {
                continue;
            };
            if chunk.table != *name {
                continue;
            }
            assert_eq!(chunk.schema, table.definition.id);
            tally.rows_read += chunk.rows.len() as u64;
            slices.take(chunk.slices);
            for mut row in chunk.rows {
                slices.complete(&mut row);
                assert_eq!(row.0.len(), table.definition.columns.len());
                let key = key(&table.definition, &row);
                if chunk.again {
                    tally.again += 1;
                    again.insert(key.clone(), chunk.chunk);
                }
                rows.insert(key, row.0.into_iter().collect());
            }
        }
        assert!(reader.is_complete(&as_record(&table, copied)), "{name}");
        let chunks = reader.table(name).unwrap().clone();
        tally.rows += chunks.rows();
        tally.chunks += chunks.complete();
        assert!(chunks.lsn() <= copied.lsn);
        Reader {
            table,
            copied,
            chunks,
            again,
            rows,
        }
    }

    fn apply(&mut self, transaction: &Transaction, schemas: &BTreeMap<(u64, u32), TableSchema>) {
        let name = self.table.definition.table.clone();
        let live = transaction.prev >= self.copied.lsn;
        if transaction.offset <= self.table.copy_offset {
            return;
        }
        if !live && self.chunks.contains(transaction.xid) {
            return;
        }
        for change in transaction.changes.iter().filter(|c| c.table == name) {
            let schema = &schemas[&(transaction.epoch, change.schema.0)];
            assert_eq!(schema.table, change.table);
            if live {
                self.change(schema, change.clone());
            } else {
                self.catch_up(schema, change.clone(), transaction.xid);
            }
        }
    }

    /// The state of a key that was read again is known to contain more than that of the others.
    fn is_contained(&self, key: &[Value], xid: Xid) -> bool {
        let chunk = self.again.get(key);
        chunk.is_some_and(|chunk| self.chunks.again_contains(*chunk, xid))
    }

    fn catch_up(&mut self, schema: &TableSchema, change: Change, xid: Xid) {
        if change.op == Op::Truncate {
            let spared: Vec<_> = self
                .again
                .keys()
                .filter(|key| self.is_contained(key, xid))
                .collect();
            let spared: Rows = (spared.into_iter())
                .filter_map(|key| Some((key.clone(), self.rows.get(key)?.clone())))
                .collect();
            self.rows = spared;
            return;
        }
        let new_key = change.after.as_ref().map(|row| key(schema, row));
        let old_key = change.before.as_ref().map(|row| key(schema, row));
        let base_key = old_key.clone().or(new_key.clone()).unwrap();
        let base = self.rows.get(&base_key).cloned();
        if !self.is_contained(&base_key, xid) && (change.op != Op::Insert) {
            self.rows.remove(&base_key);
        }
        let (Some(new_key), Some(after)) = (new_key, change.after) else {
            return;
        };
        if self.is_contained(&new_key, xid) {
            return;
        }
        let whole = after.0.len() == schema.columns.len();
        let mut row = match (whole, base) {
            (true, _) => BTreeMap::new(),
            (false, Some(base)) => base,
            // Its base was deleted by a change that the copy contains; so will it be.
            (false, None) => return,
        };
        row.extend(after.0);
        self.rows.insert(new_key, row);
    }

    fn change(&mut self, schema: &TableSchema, change: Change) {
        let rows = &mut self.rows;
        match change.op {
            Op::Insert => {
                let row = change.after.expect("a row");
                assert_eq!(row.0.len(), schema.columns.len());
                let key = key(schema, &row);
                let previous = rows.insert(key, row.0.into_iter().collect());
                assert_eq!(previous, None, "inserted twice");
            }
            Op::Update => {
                let after = change.after.expect("a row");
                let new_key = key(schema, &after);
                let old_key = change
                    .before
                    .map_or_else(|| new_key.clone(), |row| key(schema, &row));
                let mut row = rows.remove(&old_key).expect("an updated row exists");
                row.extend(after.0);
                assert_eq!(rows.insert(new_key, row), None, "the new key was free");
            }
            Op::Delete => {
                let key = key(schema, &change.before.expect("a key"));
                rows.remove(&key).expect("a deleted row exists");
            }
            Op::Truncate => rows.clear(),
        }
    }
}

/// Values whose rows have not come.
#[derive(Default)]
struct Slices(BTreeMap<String, Vec<String>>);

impl Slices {
    fn take(&mut self, slices: Vec<Slice>) {
        for slice in slices {
            let value = self.0.entry(slice.value).or_default();
            assert_eq!(value.len() as u32, slice.slice, "without gap");
            value.push(slice.text);
        }
    }

    fn complete(&mut self, row: &mut Row) {
        for (_, value) in &mut row.0 {
            if let Value::Sliced(sliced) = value {
                let slices = self.0.remove(&sliced.sliced).expect("its slices came");
                assert_eq!(slices.len() as u32, sliced.slices);
                let text = slices.concat();
                assert_eq!(text.len() as u64, sliced.bytes);
                *value = Value::Text(text);
            }
        }
    }
}

fn as_record(table: &CapturedTable, copied: Copied) -> TableCopied {
    TableCopied {
        epoch: millrace_events::Epoch(0),
        copy: table.copy,
        table: table.definition.table.clone(),
        chunks: copied.chunks,
        rows: copied.rows,
        lsn: copied.lsn,
        at: chrono::DateTime::UNIX_EPOCH,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => r"\N".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(value) => value.clone(),
        Value::Sliced(value) => panic!("{value:?} is not complete"),
    }
}

fn key(schema: &TableSchema, row: &Row) -> Vec<Value> {
    schema
        .key()
        .map(|column| row.get(&column.name).expect("the key is there").clone())
        .collect()
}
