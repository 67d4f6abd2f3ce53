//! The JSON form of the records.

use millrace_events::*;
use proptest::prelude::*;

fn at() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
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
    ]
}

fn row() -> impl Strategy<Value = Row> {
    prop::collection::vec((any::<String>(), value()), 0..6).prop_map(Row)
}

fn slices() -> impl Strategy<Value = Vec<Slice>> {
    let slice = (any::<String>(), any::<u32>()).prop_map(|(text, slice)| Slice {
        table: TableId::new("source", "users"),
        column: "note".into(),
        value: "1-1".into(),
        slice,
        text,
    });
    prop::collection::vec(slice, 0..3)
}

proptest! {
    #[test]
    fn a_part_reads_back_as_it_was_written(rows in prop::collection::vec(row(), 0..8), slices in slices()) {
        let mut writer = PartWriter::new(PartHeader {
            epoch: Epoch(3), prev: Lsn(5), commit_lsn: Lsn(7), xid: Xid(9), at: at(),
        });
        let changes: Vec<Change> = rows.into_iter().map(|row| Change {
            table: TableId::new("source", "users"), op: Op::Insert, schema: SchemaId(1), before: None, after: Some(row),
        }).collect();
        slices.iter().for_each(|slice| writer.push_slice(slice));
        changes.iter().for_each(|change| writer.push(change));
        let bytes = writer.finish(Lsn(8));
        let record = Record::decode(&bytes).expect("decodes");
        let expected = Record::Transaction(TransactionPart {
            epoch: Epoch(3), commit_lsn: Lsn(7), end_lsn: Some(Lsn(8)), prev: Lsn(5), xid: Xid(9),
            at: at(), part: 0, last: true, schemas: vec![], slices, changes,
        });
        prop_assert_eq!(&record, &expected);
        prop_assert_eq!(Record::decode(&expected.encode()).expect("decodes"), expected);
    }

    #[test]
    fn pieces_of_a_chunk_read_back_as_they_were_written(pieces in prop::collection::vec((slices(), prop::collection::vec(row(), 0..4)), 1..4)) {
        let chunk = Chunk {
            epoch: Epoch(1), copy: CopyId(2), table: TableId::new("source", "users"), chunk: 3, piece: 0, last: true,
            again: false, visible: "5:7:5".parse().expect("a snapshot"), lsn: Lsn(9), schema: SchemaId(1),
            slices: vec![], rows: pieces[0].1.clone(),
        };
        let mut writer = ChunkWriter::new(chunk.clone());
        let mut values = Vec::new();
        for (number, (slices, rows)) in pieces.iter().enumerate() {
            if number > 0 {
                values.push(writer.cut());
            }
            slices.iter().for_each(|slice| writer.push_slice(slice));
            rows.iter().for_each(|row| writer.push(row));
        }
        values.push(writer.finish());
        for ((number, (slices, rows)), value) in (0..).zip(&pieces).zip(&values) {
            let last = number + 1 == pieces.len() as u32;
            let expected = Record::Chunk(Chunk {
                piece: number, last, slices: slices.clone(), rows: rows.clone(), ..chunk.clone()
            });
            prop_assert_eq!(Record::decode(value).expect("decodes"), expected);
            let counted = Chunk { piece: number, last, rows: vec![Row::default(); rows.len()], ..chunk.clone() };
            prop_assert_eq!(Record::decode_counting_rows(value).expect("decodes"), Record::Chunk(counted));
        }
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Record::decode(&bytes).is_err());
    }
}

#[test]
fn errors_never_show_values() {
    let error = Record::decode(br#"{"kind":"start","epoch":"secret","at":"secret"}"#)
        .expect_err("not a start");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn an_unknown_kind_is_named() {
    let error = Record::decode(br#"{"kind":"flux"}"#).expect_err("unknown");
    assert!(error.to_string().contains("flux"));
}

#[test]
fn a_part_looks_like_this() {
    let mut writer = PartWriter::new(PartHeader {
        epoch: Epoch(1),
        prev: Lsn(0x16B3700),
        commit_lsn: Lsn(0x16B3748),
        xid: Xid(742),
        at: at(),
    });
    writer.define(TableSchema {
        id: SchemaId(1),
        table: TableId::new("source", "users"),
        columns: vec![Column {
            name: "user_id".into(),
            type_name: "integer".into(),
            oid: 23,
            type_mod: -1,
            key: true,
        }],
    });
    writer.push(&Change {
        table: TableId::new("source", "users"),
        op: Op::Delete,
        schema: SchemaId(1),
        before: Some(Row(vec![("user_id".into(), Value::Int(7))])),
        after: None,
    });
    let text = String::from_utf8(writer.finish(Lsn(0x16B3778))).expect("UTF-8");
    assert_eq!(
        text,
        concat!(
            r#"{"kind":"transaction","epoch":1,"commit_lsn":"0/16B3748","end_lsn":"0/16B3778","#,
            r#""prev":"0/16B3700","xid":742,"at":"2025-06-15T15:06:40.123456Z","part":0,"last":true,"#,
            r#""schemas":[{"id":1,"table":"source.users","columns":[{"name":"user_id","type":"integer","oid":23,"key":true}]}],"#,
            r#""changes":[{"table":"source.users","op":"delete","schema":1,"before":{"user_id":7}}]}"#,
        )
    );
}

#[test]
fn the_records_of_a_copy_look_like_this() {
    let definition = TableSchema {
        id: SchemaId(1),
        table: TableId::new("source", "users"),
        columns: vec![Column {
            name: "user_id".into(),
            type_name: "integer".into(),
            oid: 23,
            type_mod: -1,
            key: true,
        }],
    };
    let (epoch, copy, table) = (Epoch(2), CopyId(3), TableId::new("source", "users"));
    let visible: Visibility = "742:745:743".parse().expect("a snapshot");
    let records = [
        (
            Record::Baseline(Baseline {
                epoch,
                incarnation: "5f".into(),
                lsn: Lsn(0x16B3700),
                system: "7".into(),
                database: "shop".into(),
                at: at(),
                again: None,
            }),
            r#"{"kind":"baseline","epoch":2,"incarnation":"5f","lsn":"0/16B3700","system":"7","database":"shop","at":"2025-06-15T15:06:40.123456Z"}"#,
        ),
        (
            Record::Copy(CopyBegun {
                epoch,
                copy,
                lsn: Lsn(0x16B3700),
                topic: "shop-snapshot-3".into(),
                tables: vec![CopyTable {
                    definition,
                    estimated_rows: 9,
                    published_lately: false,
                    source: None,
                }],
                at: at(),
            }),
            r#"{"kind":"copy","epoch":2,"copy":3,"lsn":"0/16B3700","topic":"shop-snapshot-3","tables":[{"definition":{"id":1,"table":"source.users","columns":[{"name":"user_id","type":"integer","oid":23,"key":true}]},"estimated_rows":9,"published_lately":false}],"at":"2025-06-15T15:06:40.123456Z"}"#,
        ),
        (
            Record::Plan(ChunkPlanned {
                epoch,
                copy,
                table: table.clone(),
                chunk: 1,
                up_to: Some(vec!["50000".into()]),
            }),
            r#"{"kind":"plan","epoch":2,"copy":3,"table":"source.users","chunk":1,"up_to":["50000"]}"#,
        ),
        (
            Record::Chunk(Chunk {
                epoch,
                copy,
                table: table.clone(),
                chunk: 1,
                piece: 0,
                last: true,
                again: false,
                visible,
                lsn: Lsn(0x16B3748),
                schema: SchemaId(1),
                slices: vec![],
                rows: vec![Row(vec![("user_id".into(), Value::Int(7))])],
            }),
            r#"{"kind":"chunk","epoch":2,"copy":3,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"742:745:743","lsn":"0/16B3748","schema":1,"rows":[{"user_id":7}]}"#,
        ),
        (
            Record::Copied(TableCopied {
                epoch,
                copy,
                table: table.clone(),
                chunks: 1,
                rows: 1,
                lsn: Lsn(0x16B3748),
                at: at(),
            }),
            r#"{"kind":"copied","epoch":2,"copy":3,"table":"source.users","chunks":1,"rows":1,"lsn":"0/16B3748","at":"2025-06-15T15:06:40.123456Z"}"#,
        ),
        (
            Record::Removed(TableRemoved {
                epoch,
                table,
                at: at(),
            }),
            r#"{"kind":"removed","epoch":2,"table":"source.users","at":"2025-06-15T15:06:40.123456Z"}"#,
        ),
    ];
    for (record, text) in records {
        assert_eq!(String::from_utf8(record.encode()).expect("UTF-8"), text);
        assert_eq!(Record::decode(text.as_bytes()).expect("decodes"), record);
    }
}
