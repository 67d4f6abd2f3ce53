use bytes::Bytes;
use millrace_events::{Chain, Column, PartVerdict, TransactionPart, Value, Verdict, Xid};
use proptest::prelude::*;

use super::*;
use crate::pgoutput::Cell;

const TABLE: u32 = 4711;

fn column(name: &str, oid: u32, type_name: &str, key: bool) -> Column {
    Column {
        name: name.into(),
        type_name: type_name.into(),
        oid,
        type_mod: -1,
        key,
    }
}

fn table(text: &str) -> TableId {
    text.parse().expect(text)
}

fn schema(id: u32, extra: bool) -> TableSchema {
    let mut columns = vec![
        column("id", 23, "integer", true),
        column("name", 25, "text", false),
        column("note", 25, "text", false),
    ];
    if extra {
        columns.push(column("paid", 16, "boolean", false));
    }
    TableSchema {
        id: SchemaId(id),
        table: table("source.users"),
        columns,
    }
}

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
}

fn assembler(part: usize) -> Assembler {
    let limits = Limits {
        part,
        record: part + 10_000,
    };
    let mut assembler = Assembler::new(
        Epoch(7),
        Lsn(1000),
        limits,
        "millrace".into(),
        Notes::default(),
    );
    assembler.define(TABLE, schema(1, false));
    assembler
}

fn begin(commit: u64) -> Message {
    Message::Begin(Begin {
        commit_lsn: Lsn(commit),
        at: at(),
        xid: Xid(99),
    })
}

fn commit(commit: u64, end: u64) -> Message {
    Message::Commit(Commit {
        commit_lsn: Lsn(commit),
        end_lsn: Lsn(end),
    })
}

fn text(text: &str) -> Cell {
    Cell::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn insert(id: i64, name: &str) -> Message {
    Message::Insert {
        relation: TABLE,
        new: vec![text(&id.to_string()), text(name), Cell::Null],
    }
}

fn run(assembler: &mut Assembler, messages: Vec<Message>) -> Result<Vec<Outgoing>, Error> {
    let mut out = Vec::new();
    for message in messages {
        assembler.take(message, &mut out)?;
    }
    Ok(out)
}

fn part(outgoing: &Outgoing) -> TransactionPart {
    match Record::decode(&outgoing.value) {
        Ok(Record::Transaction(part)) => part,
        other => panic!("not a transaction: {other:?}"),
    }
}

/// The changes of a transaction made of one message.
fn change(message: Message) -> Change {
    let mut assembler = assembler(100_000);
    let out = run(
        &mut assembler,
        vec![begin(1000), message, commit(1000, 1100)],
    );
    let out = out.expect("assembled");
    assert_eq!(out.len(), 1);
    part(&out[0]).changes.remove(0)
}

fn row(cells: &[(&str, Value)]) -> Row {
    Row(cells
        .iter()
        .map(|(n, v)| (n.to_string(), v.clone()))
        .collect())
}

fn word(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn the_bytes_of_a_record() {
    let mut assembler = assembler(100_000);
    let messages = vec![begin(1000), insert(5, "Ada"), commit(1000, 1100)];
    let out = run(&mut assembler, messages).expect("assembled");
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].ends, Some(Lsn(1100)));
    let value = String::from_utf8(out[0].value.clone()).expect("text");
    assert_eq!(
        value,
        concat!(
            r#"{"kind":"transaction","epoch":7,"commit_lsn":"0/3E8","end_lsn":"0/44C","prev":"0/3E8","xid":99,"#,
            r#""at":"2025-06-15T15:06:40.123456Z","part":0,"last":true,"#,
            r#""schemas":[{"id":1,"table":"source.users","columns":["#,
            r#"{"name":"id","type":"integer","oid":23,"key":true},"#,
            r#"{"name":"name","type":"text","oid":25},{"name":"note","type":"text","oid":25}]}],"#,
            r#""changes":[{"table":"source.users","op":"insert","schema":1,"after":{"id":5,"name":"Ada","note":null}}]}"#
        )
    );
}

#[test]
fn a_key_change_names_the_old_key_and_leaves_out_an_unchanged_toast_value() {
    let change = change(Message::Update {
        relation: TABLE,
        old: Some(OldTuple::Key(vec![text("1"), Cell::Null, Cell::Null])),
        new: vec![text("2"), text("Ada"), Cell::Unchanged],
    });
    assert_eq!(change.before, Some(row(&[("id", Value::Int(1))])));
    let after = row(&[("id", Value::Int(2)), ("name", word("Ada"))]);
    assert_eq!(change.after, Some(after));
}

#[test]
fn an_update_that_keeps_its_key_has_no_before() {
    let change = change(Message::Update {
        relation: TABLE,
        old: None,
        new: vec![text("1"), Cell::Null, text("x")],
    });
    assert_eq!(change.before, None);
    let after = row(&[
        ("id", Value::Int(1)),
        ("name", Value::Null),
        ("note", word("x")),
    ]);
    assert_eq!(change.after, Some(after));
}

#[test]
fn a_full_identity_gives_key_and_changed_columns() {
    let change = change(Message::Update {
        relation: TABLE,
        old: Some(OldTuple::Full(vec![text("1"), text("Ada"), text("long")])),
        new: vec![text("1"), text("Bob"), Cell::Unchanged],
    });
    let before = row(&[("id", Value::Int(1)), ("name", word("Ada"))]);
    assert_eq!(change.before, Some(before));
    let after = row(&[("id", Value::Int(1)), ("name", word("Bob"))]);
    assert_eq!(change.after, Some(after));
}

#[test]
fn a_delete_gives_the_key_or_the_whole_row() {
    let old = vec![text("1"), text("Ada"), Cell::Null];
    let key = change(Message::Delete {
        relation: TABLE,
        old: OldTuple::Key(old.clone()),
    });
    assert_eq!(key.before, Some(row(&[("id", Value::Int(1))])));
    assert_eq!(key.after, None);
    let whole = change(Message::Delete {
        relation: TABLE,
        old: OldTuple::Full(old),
    });
    let before = row(&[
        ("id", Value::Int(1)),
        ("name", word("Ada")),
        ("note", Value::Null),
    ]);
    assert_eq!(whole.before, Some(before));
}

#[test]
fn a_key_in_toast_storage_is_taken_from_the_old_row() {
    let change = change(Message::Update {
        relation: TABLE,
        old: Some(OldTuple::Key(vec![text("1"), Cell::Null, Cell::Null])),
        new: vec![Cell::Unchanged, text("Ada"), Cell::Unchanged],
    });
    let after = row(&[("id", Value::Int(1)), ("name", word("Ada"))]);
    assert_eq!(change.after, Some(after));
}

#[test]
fn a_row_without_its_key_is_refused() {
    let messages = vec![
        begin(1000),
        Message::Update {
            relation: TABLE,
            old: None,
            new: vec![Cell::Unchanged, text("Ada"), Cell::Null],
        },
    ];
    let error = run(&mut assembler(1000), messages).expect_err("refused");
    assert!(error.to_string().contains("key column id"), "{error}");
}

#[test]
fn a_definition_comes_once_and_again_when_the_table_changes() {
    let mut assembler = assembler(100_000);
    let first = run(
        &mut assembler,
        vec![begin(1000), insert(1, "a"), commit(1000, 1100)],
    );
    let first = first.expect("assembled");
    assembler.define(TABLE, schema(2, false));
    let second = run(
        &mut assembler,
        vec![begin(1100), insert(2, "b"), commit(1100, 1200)],
    );
    let second = second.expect("assembled");
    assembler.define(TABLE, schema(2, true));
    let new = vec![text("3"), text("c"), Cell::Null, text("t")];
    let insert = Message::Insert {
        relation: TABLE,
        new,
    };
    let third = run(
        &mut assembler,
        vec![begin(1200), insert, commit(1200, 1300)],
    );
    let third = third.expect("assembled");
    let ids = |out: &Outgoing| part(out).schemas.iter().map(|s| s.id.0).collect::<Vec<_>>();
    assert_eq!(
        [ids(&first[0]), ids(&second[0]), ids(&third[0])],
        [vec![1], vec![], vec![2]]
    );
    assert_eq!(part(&second[0]).changes[0].schema, SchemaId(1));
    assert_eq!(part(&third[0]).changes[0].schema, SchemaId(2));
}

#[test]
fn a_transaction_that_changed_nothing_is_progress_only() {
    let mut assembler = assembler(1000);
    let out = run(&mut assembler, vec![begin(1000), commit(1000, 1100)]).expect("assembled");
    assert_eq!(out, []);
    let progress = assembler.progress(at()).expect("the source moved");
    assert_eq!(progress.ends, Some(Lsn(1100)));
    assert_eq!(assembler.progress(at()), None);
    let out = run(
        &mut assembler,
        vec![begin(1200), insert(1, "a"), commit(1200, 1300)],
    );
    assert_eq!(part(&out.expect("assembled")[0]).prev, Lsn(1100));
}

#[test]
fn a_message_of_ours_gets_a_record_and_one_of_others_does_not() {
    let message = |prefix: &str, transactional| Message::Logical {
        transactional,
        lsn: Lsn(1050),
        prefix: prefix.into(),
        content: Bytes::new(),
    };
    let mut assembler = assembler(1000);
    let messages = vec![begin(1000), message("other", true), commit(1000, 1100)];
    assert_eq!(run(&mut assembler, messages).expect("assembled"), []);
    let messages = vec![begin(1100), message("millrace", true), commit(1100, 1200)];
    let out = run(&mut assembler, messages).expect("assembled");
    assert_eq!(part(&out[0]).changes, []);
    assert_eq!(out[0].ends, Some(Lsn(1200)));
    let out = run(&mut assembler, vec![message("millrace", false)]).expect("outside is fine");
    assert_eq!(out, []);
}

#[test]
fn a_keepalive_inside_a_transaction_says_nothing() {
    let mut assembler = assembler(1000);
    run(&mut assembler, vec![begin(1000)]).expect("assembled");
    assembler.idle(Lsn(5000));
    assert_eq!(assembler.progress(at()), None);
    run(&mut assembler, vec![commit(1000, 1100)]).expect("assembled");
    assert_eq!(
        assembler.progress(at()).and_then(|p| p.ends),
        Some(Lsn(1100))
    );
}

#[test]
fn of_a_row_larger_than_a_record_the_texts_stand_before_it() {
    let long = "x".repeat(20_000);
    let messages = vec![
        begin(1000),
        insert(1, "short"),
        insert(2, &long),
        commit(1000, 1100),
    ];
    let out = run(&mut assembler(1000), messages).expect("assembled");
    let [short, slices, row] = &out[..] else {
        panic!("{} records", out.len());
    };
    assert_eq!(part(short).changes.len(), 1);
    let (slices, row) = (part(slices), part(row));
    assert_eq!((slices.part, slices.changes), (1, vec![]));
    let [slice] = &slices.slices[..] else {
        panic!("{} slices", slices.slices.len());
    };
    assert_eq!((slice.column.as_str(), slice.text == long), ("name", true));
    let after = row.changes[0].after.as_ref().expect("a row");
    let Some(Value::Sliced(value)) = after.get("name") else {
        panic!("{after:?}");
    };
    assert_eq!((&value.sliced, value.slices), (&slice.value, 1));
}

#[test]
fn a_key_larger_than_a_record_is_named() {
    let mut assembler = assembler(1000);
    let mut keyed = schema(2, false);
    keyed.columns[1].key = true;
    assembler.define(TABLE, keyed);
    let messages = vec![begin(1000), insert(1, &"x".repeat(20_000))];
    let error = run(&mut assembler, messages).expect_err("too large");
    assert_eq!(error.code(), Some("capture-row-too-large"));
    assert!(error.to_string().contains("source.users"), "{error}");
    assert!(error.to_string().contains("0/3E8"), "{error}");
}

#[test]
fn truncate_names_each_table() {
    let change = change(Message::Truncate {
        relations: vec![TABLE],
    });
    assert_eq!(
        (change.op, change.before, change.after),
        (Op::Truncate, None, None)
    );
}

#[test]
fn rows_of_a_renamed_table_are_left_out_and_named() {
    let truncate = Message::Truncate {
        relations: vec![TABLE],
    };
    for message in [insert(1, "a"), truncate] {
        let mut assembler = assembler(1000);
        assembler.leave_out(TABLE, table("source.people"));
        assert!(!assembler.wants(&message));
        let messages = vec![begin(1000), message, commit(1000, 1100)];
        assert_eq!(run(&mut assembler, messages).expect("assembled"), []);
        let left_out = assembler.take_left_out();
        assert_eq!(left_out.get(&TABLE), Some(&table("source.people")));
        assert!(assembler.take_left_out().is_empty(), "they are named once");
    }
}

#[test]
fn a_table_renamed_there_and_back_is_defined_anew() {
    let mut assembler = assembler(1000);
    assembler.leave_out(TABLE, table("source.people"));
    assembler.define(TABLE, schema(2, false));
    let messages = vec![begin(1000), insert(1, "a"), commit(1000, 1100)];
    let out = run(&mut assembler, messages).expect("assembled");
    assert_eq!(part(&out[0]).changes[0].schema, SchemaId(2));
    assert!(assembler.take_left_out().is_empty());
}

#[test]
fn the_last_transaction_is_the_one_that_was_made_last() {
    let mut assembler = assembler(1000);
    assert_eq!(assembler.last(), None);
    let messages = vec![begin(1000), insert(1, "a"), commit(1000, 1100)];
    let out = run(&mut assembler, messages).expect("assembled");
    assert_eq!(assembler.last(), Witness::of(&part(&out[0])));
    run(&mut assembler, vec![begin(1200), commit(1200, 1300)]).expect("assembled");
    assert_eq!(assembler.last().map(|last| last.end_lsn), Some(Lsn(1100)));
}

proptest! {
    /// However transactions are cut: readers put the parts together to what was committed.
    #[test]
    fn parts_join_to_what_was_committed(
        sizes in prop::collection::vec(prop::collection::vec(0usize..300, 0..12), 1..12),
        part_bytes in 50usize..2000,
    ) {
        let mut assembler = assembler(part_bytes);
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for (n, rows) in (0u64..).zip(&sizes) {
            let start = 1000 + n * 100;
            assembler.take(begin(start), &mut out)?;
            for (id, &size) in (0i64..).zip(rows) {
                assembler.take(insert(id, &"x".repeat(size)), &mut out)?;
            }
            assembler.take(commit(start, start + 100), &mut out)?;
            if rows.is_empty() {
                out.extend(assembler.progress(at()));
            }
            expected.push(rows.clone());
        }
        let mut chain = Chain::resume(Lsn(1000), Epoch(7));
        let mut found: Vec<Vec<usize>> = Vec::new();
        for outgoing in &out {
            let record = Record::decode(&outgoing.value)?;
            match (chain.offer(&record), record) {
                (Verdict::Part(PartVerdict::Accepted { first, .. }), Record::Transaction(part)) => {
                    if first { found.push(Vec::new()); }
                    let sizes = part.changes.iter().map(|change| match change.after.as_ref().and_then(|row| row.get("name")) {
                        Some(Value::Text(name)) => name.len(),
                        _ => usize::MAX,
                    });
                    found.last_mut().expect("a first part").extend(sizes);
                }
                (Verdict::Moved, _) => found.push(Vec::new()),
                (verdict, _) => prop_assert!(false, "{:?}", verdict),
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(chain.position(), Some(Lsn(1000 + 100 * sizes.len() as u64)));
    }
}
