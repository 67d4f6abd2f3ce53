//! Random records and plans, and `columns` as one would write it over parsed records.

use chrono::DateTime;
use millrace_events::{
    Change, Chunk, Column, CopyBegun, CopyId, CopyTable, Epoch, Lsn, Op, Record, Row, SchemaId,
    Slice, Sliced, TableId, TableSchema, TransactionPart, Value, Xid,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

const TABLES: [&str; 4] = [
    "source.users",
    "sales.users",
    "source.\"we\"\"ird\"",
    "\"a b\".\"größe\"",
];
const COLUMNS: [&str; 6] = ["id", "name", "a\\b", "tab\t", "größe", "{\"x\":["];

pub(crate) fn apply(plan: &serde_json::Value, record: Record) -> Option<Record> {
    Some(match record {
        Record::Transaction(mut part) => {
            part.schemas = schemas(plan, part.schemas)?;
            part.slices.retain(|slice| wants_slice(plan, slice));
            part.changes
                .retain(|change| plan.get(change.table.to_string()).is_some());
            for change in &mut part.changes {
                let columns = &plan[change.table.to_string()];
                change.before = row(columns, change.before.take())?;
                change.after = row(columns, change.after.take())?;
            }
            Record::Transaction(part)
        }
        Record::Chunk(mut chunk) => {
            chunk.slices.retain(|slice| wants_slice(plan, slice));
            chunk.rows = rows(plan, &chunk.table, chunk.rows)?;
            Record::Chunk(chunk)
        }
        Record::Copy(mut begun) => {
            let of = |table: &CopyTable| plan.get(table.definition.table.to_string()).is_some();
            begun.tables.retain(of);
            for table in &mut begun.tables {
                let kept = schemas(plan, vec![table.definition.clone()])?;
                table.definition = kept.into_iter().next()?;
            }
            Record::Copy(begun)
        }
        other => other,
    })
}

fn wants_slice(plan: &serde_json::Value, slice: &Slice) -> bool {
    let columns = plan.get(slice.table.to_string());
    columns.is_some_and(|columns| wants(columns, &slice.column))
}

fn wants(columns: &serde_json::Value, name: &str) -> bool {
    match columns.as_array() {
        None => true,
        Some(names) => names.iter().any(|wanted| wanted == name),
    }
}

fn schemas(plan: &serde_json::Value, mut all: Vec<TableSchema>) -> Option<Vec<TableSchema>> {
    all.retain(|schema| plan.get(schema.table.to_string()).is_some());
    for schema in &mut all {
        let columns = &plan[schema.table.to_string()];
        if schema.key().any(|column| !wants(columns, &column.name)) {
            return None;
        }
        schema.columns.retain(|column| wants(columns, &column.name));
    }
    Some(all)
}

/// Rows of a table that falls stay countable.
fn rows(plan: &serde_json::Value, table: &TableId, rows: Vec<Row>) -> Option<Vec<Row>> {
    let Some(columns) = plan.get(table.to_string()) else {
        return Some(rows.iter().map(|_| Row::default()).collect());
    };
    let kept = rows.into_iter().map(|one| row(columns, Some(one)));
    kept.collect::<Option<Option<Vec<_>>>>()?
}

/// `None` if nothing is left of a row that had something.
fn row(columns: &serde_json::Value, row: Option<Row>) -> Option<Option<Row>> {
    let Some(mut row) = row else {
        return Some(None);
    };
    let before = row.0.len();
    row.0.retain(|(name, _)| wants(columns, name));
    (before == 0 || !row.0.is_empty()).then_some(Some(row))
}

pub(crate) fn plan() -> impl Strategy<Value = serde_json::Value> {
    let columns = prop_oneof![
        Just(json!("*")),
        proptest::sample::subsequence(COLUMNS.to_vec(), 0..=6)
            .prop_shuffle()
            .prop_map(|mut names| {
                // Most plans keep the key.
                if names.len() % 3 != 0 && !names.contains(&"id") {
                    names.push("id");
                }
                json!(names)
            }),
    ];
    let tables = proptest::sample::subsequence(TABLES.to_vec(), 0..=4);
    (tables, vec(columns, 4)).prop_map(|(tables, columns)| {
        let plan = tables.into_iter().map(str::to_owned).zip(columns);
        serde_json::Value::Object(plan.collect())
    })
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let at = DateTime::from_timestamp(1_700_000_000, 123_456_000).expect("in range");
    let parts = (vec(schema(), 0..3), slices(), vec(change(), 0..6));
    let transaction = (parts, any::<u32>()).prop_map(move |((schemas, slices, changes), xid)| {
        Record::Transaction(TransactionPart {
            epoch: Epoch(3),
            commit_lsn: Lsn(16),
            end_lsn: Some(Lsn(32)),
            prev: Lsn(16),
            xid: Xid(xid),
            at,
            part: 0,
            last: true,
            schemas,
            slices,
            changes,
        })
    });
    let rows = vec(row_of_columns(), 0..4);
    let chunk = (table(), slices(), rows).prop_map(|(table, slices, rows)| {
        Record::Chunk(Chunk {
            epoch: Epoch(3),
            copy: CopyId(1),
            table,
            chunk: 1,
            piece: 0,
            last: true,
            again: false,
            visible: "5:7:6".parse().expect("a snapshot"),
            lsn: Lsn(1),
            schema: SchemaId(1),
            slices,
            rows,
        })
    });
    let copy = vec((schema(), any::<u64>()), 0..4).prop_map(move |tables| {
        let tables = tables.into_iter();
        Record::Copy(CopyBegun {
            epoch: Epoch(3),
            copy: CopyId(1),
            lsn: Lsn(1),
            topic: "t".to_owned(),
            tables: tables
                .map(|(definition, estimated_rows)| CopyTable {
                    definition,
                    estimated_rows,
                    published_lately: false,
                    source: None,
                })
                .collect(),
            at,
        })
    });
    prop_oneof![3 => transaction, 2 => chunk, 1 => copy]
}

fn table() -> impl Strategy<Value = TableId> {
    proptest::sample::select(TABLES.to_vec()).prop_map(|text| text.parse().expect("a table"))
}

fn slices() -> impl Strategy<Value = Vec<Slice>> {
    let column = proptest::sample::select(COLUMNS.to_vec());
    let slice = (table(), column, any::<u32>(), any::<String>());
    let slice = slice.prop_map(|(table, column, slice, text)| Slice {
        table,
        column: column.to_owned(),
        value: "1-1".to_owned(),
        slice,
        text,
    });
    vec(slice, 0..4)
}

fn schema() -> impl Strategy<Value = TableSchema> {
    let columns = proptest::sample::subsequence(COLUMNS.to_vec(), 0..=6);
    (table(), columns, any::<u32>()).prop_map(|(table, names, id)| TableSchema {
        id: SchemaId(id),
        table,
        columns: names.into_iter().map(column).collect(),
    })
}

fn column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_name: "text".to_owned(),
        oid: 25,
        type_mod: -1,
        key: name == "id",
    }
}

fn change() -> impl Strategy<Value = Change> {
    let op = proptest::sample::select(vec![Op::Insert, Op::Update, Op::Delete, Op::Truncate]);
    let row = || proptest::option::of(row_of_columns());
    (table(), op, row(), row()).prop_map(|(table, op, before, after)| Change {
        table,
        op,
        schema: SchemaId(1),
        before,
        after,
    })
}

fn row_of_columns() -> impl Strategy<Value = Row> {
    let names = proptest::sample::subsequence(COLUMNS.to_vec(), 0..=6);
    (names, vec(value(), 6))
        .prop_map(|(names, values)| Row(names.into_iter().map(str::to_owned).zip(values).collect()))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
        (any::<String>(), any::<u32>(), any::<u64>()).prop_map(|(sliced, slices, bytes)| {
            Value::Sliced(Sliced {
                sliced,
                slices,
                bytes,
            })
        }),
        "[\"\\\\{}\\[\\],: a-z]{0,40}".prop_map(Value::Text),
    ]
}

/// The same JSON with white space wherever it is allowed.
pub(crate) fn with_white_space(compact: &[u8]) -> Vec<u8> {
    let (mut spaced, mut in_text, mut escaped) = (Vec::new(), false, false);
    for &byte in compact {
        let structural = !in_text && b"{}[],:".contains(&byte);
        if structural {
            spaced.extend_from_slice(b"\n ");
        }
        spaced.push(byte);
        if structural {
            spaced.extend_from_slice(b"\t\r");
        }
        match byte {
            b'"' if !escaped => in_text = !in_text,
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    spaced
}
