use super::*;
use crate::{Baseline, Chain, CopyTable, Epoch, SchemaId, Start, TableRemoved};

fn at() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
}

fn table(name: &str) -> TableId {
    TableId::new("s", name)
}

fn start(epoch: u64) -> Record {
    Record::Start(Start {
        epoch: Epoch(epoch),
        owner: None,
        at: at(),
    })
}

fn baseline(epoch: u64) -> Record {
    Record::Baseline(Baseline {
        epoch: Epoch(epoch),
        incarnation: "a".into(),
        lsn: Lsn(100),
        system: "1".into(),
        database: "db".into(),
        at: at(),
        again: None,
    })
}

fn copy(epoch: u64, copy: u64, tables: &[&str]) -> Record {
    let of = |name: &&str| CopyTable {
        definition: TableSchema {
            id: SchemaId(1),
            table: table(name),
            columns: Vec::new(),
        },
        estimated_rows: 10,
        published_lately: false,
        source: None,
    };
    Record::Copy(CopyBegun {
        epoch: Epoch(epoch),
        copy: CopyId(copy),
        lsn: Lsn(200),
        topic: format!("shop-snapshot-{copy}"),
        tables: tables.iter().map(of).collect(),
        at: at(),
    })
}

fn copied(epoch: u64, copy: u64, name: &str) -> Record {
    Record::Copied(TableCopied {
        epoch: Epoch(epoch),
        copy: CopyId(copy),
        table: table(name),
        chunks: 3,
        rows: 30,
        lsn: Lsn(500),
        at: at(),
    })
}

fn removed(epoch: u64, name: &str) -> Record {
    Record::Removed(TableRemoved {
        epoch: Epoch(epoch),
        table: table(name),
        at: at(),
    })
}

fn read(log: &[Record]) -> Copies {
    let mut chain = Chain::unanchored();
    let mut copies = Copies::new();
    for (offset, record) in (0..).zip(log) {
        let verdict = chain.offer(record);
        copies.offer(offset, record, verdict);
    }
    copies
}

/// Name, number of the copy, offset of its record, complete.
fn shown(copies: &Copies) -> Vec<(String, u64, i64, bool)> {
    let shown = |(name, table): (&TableId, &CapturedTable)| {
        (
            name.name.clone(),
            table.copy.0,
            table.copy_offset,
            table.copied.is_some(),
        )
    };
    copies.iter().map(shown).collect()
}

#[test]
fn a_table_that_is_copied_again_forgets_its_older_copy() {
    let mut log = vec![
        start(1),
        baseline(1),
        copy(1, 1, &["a", "b"]),
        copied(1, 1, "a"),
    ];
    let both = |a: (u64, i64, bool), b: (u64, i64, bool)| {
        vec![
            ("a".to_owned(), a.0, a.1, a.2),
            ("b".to_owned(), b.0, b.1, b.2),
        ]
    };
    assert_eq!(shown(&read(&log)), both((1, 2, true), (1, 2, false)));
    log.extend([copy(1, 2, &["a"]), copied(1, 1, "a"), copied(1, 1, "b")]);
    assert_eq!(shown(&read(&log)), both((2, 4, false), (1, 2, true)));
    log.push(copied(1, 2, "a"));
    let copies = read(&log);
    assert_eq!(shown(&copies), both((2, 4, true), (1, 2, true)));
    let a = copies.table(&table("a")).expect("captured");
    assert_eq!(a.copied.map(|copied| copied.lsn), Some(Lsn(500)));
    assert_eq!(a.topic, "shop-snapshot-2");
}

#[test]
fn a_log_that_is_begun_again_knows_of_its_tables_only_that_they_were() {
    let mut log = vec![
        start(1),
        baseline(1),
        copy(1, 1, &["a", "b"]),
        copied(1, 1, "a"),
    ];
    log.push(start(2));
    let Record::Baseline(first) = baseline(2) else {
        unreachable!()
    };
    log.push(Record::Baseline(Baseline {
        again: Some(crate::BegunAgain::after(Some(&first), Some(Lsn(100)))),
        lsn: Lsn(50),
        ..first
    }));
    let copies = read(&log);
    let former = |copies: &Copies| copies.former().cloned().collect::<Vec<_>>();
    assert_eq!(copies.iter().count(), 0);
    assert_eq!(former(&copies), [table("a"), table("b")]);
    assert_eq!(through_a_checkpoint(&copies), copies);
    log.push(copy(2, 2, &["b"]));
    let copies = read(&log);
    assert_eq!(former(&copies), [table("a")]);
    assert!(copies
        .table(&table("b"))
        .is_some_and(|b| b.copied.is_none()));
    log.push(Record::Removed(TableRemoved {
        epoch: Epoch(2),
        table: table("a"),
        at: at(),
    }));
    let copies = read(&log);
    assert_eq!(former(&copies), []);
    assert!(copies.is_removed(&table("a")));
}

fn through_a_checkpoint(copies: &Copies) -> Copies {
    let tables: Vec<_> = copies.iter().map(|(_, table)| table.clone()).collect();
    let removed: Vec<_> = copies.removed().cloned().collect();
    let former: Vec<_> = copies.former().cloned().collect();
    Copies::of(&tables, &removed, &former)
}

#[test]
fn a_removed_table_is_gone_until_it_is_copied_anew() {
    let mut log = vec![
        start(1),
        baseline(1),
        copy(1, 1, &["a"]),
        removed(1, "a"),
        copied(1, 1, "a"),
    ];
    assert_eq!(shown(&read(&log)), []);
    assert!(read(&log).is_removed(&table("a")) && !read(&log).is_removed(&table("b")));
    // Who begins at a checkpoint knows it too: its capture may have been killed before the publication was told.
    assert_eq!(through_a_checkpoint(&read(&log)), read(&log));
    log.push(copy(1, 2, &["a"]));
    assert_eq!(shown(&read(&log)), [("a".to_owned(), 2, 5, false)]);
    assert!(!read(&log).is_removed(&table("a")));
}

#[test]
fn what_a_fenced_capture_says_of_tables_does_not_count() {
    let log = [
        copy(1, 1, &["early"]),
        start(1),
        baseline(1),
        copy(1, 2, &["a"]),
        start(2),
        copied(1, 2, "a"),
        removed(1, "a"),
        copy(1, 3, &["b"]),
    ];
    assert_eq!(shown(&read(&log)), [("a".to_owned(), 2, 3, false)]);
    let mut log = log.to_vec();
    log.push(copied(2, 2, "a"));
    assert_eq!(shown(&read(&log)), [("a".to_owned(), 2, 3, true)]);
}
