//! The tables as a reader of snapshot and log makes them out to be.

use std::collections::BTreeMap;

use millrace_events::{
    Chain, Change, Lsn, Op, PartVerdict, Record, Row, SnapshotReader, SnapshotVerdict, TableId,
    TableSchema, Value, Verdict,
};

use crate::rig::Rig;

pub type Rows = BTreeMap<Vec<Value>, BTreeMap<String, Value>>;

/// Tables by name; rows by key.
#[derive(Debug, Default, PartialEq)]
pub struct Model {
    pub tables: BTreeMap<TableId, Rows>,
    schemas: BTreeMap<(u64, u32), TableSchema>,
    /// Transactions that counted: xid and the changes as (table, op).
    pub transactions: Vec<(u32, Vec<(TableId, Op)>)>,
    /// The most parts that one transaction had.
    pub parts_max: u32,
    pub starts: u64,
    pub marks: u64,
}

impl Model {
    /// Reads all there is.
    pub async fn read(rig: &Rig) -> Model {
        let mut model = Model::default();
        let mut chain = Chain::unanchored();
        let mut parts: Vec<Change> = Vec::new();
        for record in rig.log().await {
            let verdict = chain.offer(&record);
            match (record, verdict) {
                (Record::Snapshot(mark), Verdict::Moved) => {
                    model.marks += 1;
                    model.load(mark.epoch.0, rig.records(&mark.topic).await);
                }
                (Record::Start(_), _) => model.starts += 1,
                (
                    Record::Transaction(part),
                    Verdict::Part(PartVerdict::Accepted { first, complete }),
                ) => {
                    if first {
                        parts.clear();
                    }
                    for schema in part.schemas {
                        model.schemas.insert((part.epoch.0, schema.id.0), schema);
                    }
                    model.parts_max = model.parts_max.max(part.part + 1);
                    parts.extend(part.changes);
                    if complete {
                        model.apply(part.epoch.0, part.xid.0, std::mem::take(&mut parts));
                    }
                }
                (_, Verdict::Hole { .. } | Verdict::Part(PartVerdict::Hole { .. })) => {}
                _ => {}
            }
        }
        model
    }

    /// Where the log ends.
    pub async fn position(rig: &Rig) -> Lsn {
        let mut chain = Chain::unanchored();
        for record in rig.log().await {
            chain.offer(&record);
        }
        chain.position().unwrap()
    }

    fn load(&mut self, epoch: u64, records: Vec<Record>) {
        let mut reader = SnapshotReader::default();
        let mut sealed = false;
        for record in records {
            match record {
                Record::SnapshotBegin(begin) => {
                    for schema in begin.schemas {
                        self.tables.insert(schema.table.clone(), Rows::new());
                        self.schemas.insert((epoch, schema.id.0), schema);
                    }
                }
                Record::SnapshotRows(rows) => {
                    assert_eq!(reader.offer(&rows), SnapshotVerdict::Accept);
                    for row in rows.rows {
                        let previous = self.put(epoch, rows.schema.0, row);
                        assert_eq!(previous, None, "a row twice in the snapshot");
                    }
                }
                Record::SnapshotEnd(end) => {
                    assert_eq!(reader.seal(&end), SnapshotVerdict::Accept);
                    sealed = true;
                }
                other => panic!("in a snapshot topic: {other:?}"),
            }
        }
        assert!(sealed, "a mark names an unsealed snapshot");
    }

    fn apply(&mut self, epoch: u64, xid: u32, changes: Vec<Change>) {
        let ops = changes.iter().map(|c| (c.table.clone(), c.op)).collect();
        self.transactions.push((xid, ops));
        for change in changes {
            self.change(epoch, change);
        }
    }

    fn change(&mut self, epoch: u64, change: Change) {
        let schema = self.schemas[&(epoch, change.schema.0)].clone();
        assert_eq!(schema.table, change.table);
        let rows = self.tables.entry(change.table.clone()).or_default();
        match change.op {
            Op::Insert => {
                let row = change.after.expect("a row");
                assert_eq!(row.0.len(), schema.columns.len());
                assert_eq!(
                    self.put(epoch, change.schema.0, row),
                    None,
                    "inserted twice"
                );
            }
            Op::Update => {
                let after = change.after.expect("a row");
                let new_key = key(&schema, &after);
                let old_key = change
                    .before
                    .map_or_else(|| new_key.clone(), |row| key(&schema, &row));
                let mut row = rows.remove(&old_key).expect("an updated row exists");
                row.extend(after.0);
                assert_eq!(rows.insert(new_key, row), None, "the new key was free");
            }
            Op::Delete => {
                let key = key(&schema, &change.before.expect("a key"));
                rows.remove(&key).expect("a deleted row exists");
            }
            Op::Truncate => rows.clear(),
        }
    }

    fn put(&mut self, epoch: u64, schema: u32, row: Row) -> Option<BTreeMap<String, Value>> {
        let schema = &self.schemas[&(epoch, schema)];
        let rows = self.tables.entry(schema.table.clone()).or_default();
        rows.insert(key(schema, &row), row.0.into_iter().collect())
    }

    /// The rows of a table of schema `source`.
    pub fn rows(&self, table: &str) -> &Rows {
        &self.tables[&TableId::new("source", table)]
    }

    /// Compares a table of schema `source` with the database, cell by cell as text.
    pub async fn assert_equals(&self, rig: &Rig, table: &str, columns: &str) {
        let mut connection = rig.connect().await;
        let sql = format!("SELECT to_jsonb(array(SELECT coalesce(v, '\\N') FROM unnest(ARRAY[{columns}]) v))::text FROM source.{table}");
        let rows: Vec<String> = sqlx::query_scalar(&sql)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let mut expected: Vec<Vec<String>> = rows
            .iter()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect();
        let names: Vec<_> = columns
            .split(',')
            .map(|c| c.trim().trim_end_matches("::text"))
            .collect();
        let mut found: Vec<Vec<String>> = self
            .rows(table)
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
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => r"\N".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(value) => value.clone(),
    }
}

fn key(schema: &TableSchema, row: &Row) -> Vec<Value> {
    schema
        .key()
        .map(|column| row.get(&column.name).expect("the key is there").clone())
        .collect()
}
