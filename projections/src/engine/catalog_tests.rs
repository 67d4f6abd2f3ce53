use millrace_events::{Column, Epoch, Lsn, SchemaId, TableSchema};

use super::*;

fn id(name: &str) -> TableId {
    TableId::new("s", name)
}

fn place(lsn: u64) -> Place {
    Place {
        offset: Offset(lsn),
        end_lsn: Lsn(lsn),
        epoch: Epoch(1),
    }
}

fn definition(name: &str) -> TableSchema {
    TableSchema {
        id: SchemaId(1),
        table: id(name),
        columns: vec![Column {
            name: "id".into(),
            type_name: "bigint".into(),
            oid: 20,
            type_mod: -1,
            key: true,
        }],
    }
}

fn begun(copy: u64, names: &[&str]) -> CopyBegun {
    let table = |name: &&str| CopyTable {
        definition: definition(name),
        estimated_rows: 3,
        published_lately: false,
        source: None,
    };
    CopyBegun {
        epoch: Epoch(1),
        copy: CopyId(copy),
        topic: format!("t-{copy}"),
        lsn: Lsn(1),
        tables: names.iter().map(table).collect(),
        at: Utc::now(),
    }
}

fn copied(copy: u64, name: &str) -> TableCopied {
    TableCopied {
        epoch: Epoch(1),
        copy: CopyId(copy),
        table: id(name),
        chunks: 1,
        rows: 3,
        lsn: Lsn(9),
        at: Utc::now(),
    }
}

/// A catalog with a mart over `a` and `b`, of which copy 1 was announced.
fn announced() -> Catalog {
    let mut catalog = Catalog::default();
    let row = MartRow {
        state: MartState::Waiting,
        since: Utc::now(),
        reason: None,
        version: String::new(),
        joining: false,
    };
    catalog.marts.insert("m".into(), row);
    let inputs = vec!["a".to_owned(), "b".to_owned()];
    catalog.inputs.insert("m".into(), inputs);
    catalog.begin_copy(&begun(1, &["a", "b"]), place(5), Some("s"), Utc::now());
    catalog
}

fn state(catalog: &Catalog, name: &str) -> TableState {
    catalog.tables[&id(name)].state
}

#[test]
fn a_mart_is_built_when_the_last_of_its_tables_joins_and_whenever_one_is_replaced() {
    let mut catalog = announced();
    assert!(catalog.marts_to_build(&[id("a")]).is_empty());
    catalog.joined(&[id("a")], &[], Utc::now());
    assert!(catalog.marts_to_build(&[]).is_empty());
    assert_eq!(catalog.marts_to_build(&[id("b")]), ["m"]);
    catalog.joined(&[id("b")], &["m".into()], Utc::now());
    assert!(catalog.marts_to_build(&[]).is_empty());
    assert!(catalog.copies.is_empty(), "no topic is needed any more");
    catalog.begin_copy(&begun(2, &["a"]), place(7), Some("s"), Utc::now());
    assert_eq!(state(&catalog, "a"), TableState::Live);
    assert_eq!(catalog.marts_to_build(&[id("a")]), ["m"]);
    catalog.rebuild("m", Utc::now());
    assert_eq!(catalog.marts_to_build(&[]), ["m"]);
}

#[test]
fn a_table_that_is_set_aside_takes_its_marts_with_it_until_a_copy_brings_them_back() {
    let mut catalog = announced();
    catalog.joined(&[id("a"), id("b")], &["m".into()], Utc::now());
    catalog.set_aside(&id("a"), "why".into(), Utc::now());
    assert_eq!(catalog.marts["m"].state, MartState::SetAside);
    assert_eq!(state(&catalog, "b"), TableState::Live);
    catalog.begin_copy(&begun(2, &["a"]), place(7), Some("s"), Utc::now());
    assert_eq!(state(&catalog, "a"), TableState::Loading);
    assert_eq!(catalog.marts_to_build(&[id("a")]), ["m"]);
}

#[test]
fn a_copy_that_comes_to_nothing_leaves_a_live_table_live_and_says_why() {
    let mut catalog = announced();
    catalog.joined(&[id("a")], &[], Utc::now());
    catalog.begin_copy(&begun(2, &["a"]), place(7), Some("s"), Utc::now());
    for name in ["a", "b"] {
        catalog.fail_copy(&id(name), "why".into(), Utc::now());
        assert_eq!(catalog.tables[&id(name)].reason.as_deref(), Some("why"));
    }
    assert_eq!(state(&catalog, "a"), TableState::Live);
    assert_eq!(state(&catalog, "b"), TableState::SetAside);
    // What the log said of them is read again after a restart, and begins nothing.
    catalog.begin_copy(&begun(2, &["a"]), place(7), Some("s"), Utc::now());
    assert!(catalog.in_step(CopyStep::Announced).is_empty());
}

#[test]
fn the_end_of_a_copy_that_a_newer_one_made_void_means_nothing() {
    let mut catalog = announced();
    catalog.begin_copy(&begun(2, &["a"]), place(7), Some("s"), Utc::now());
    catalog.copied(&copied(1, "a"));
    catalog.copied(&copied(1, "b"));
    let whole = |name: &str| {
        let next = catalog.tables[&id(name)].next.as_ref();
        next.and_then(|next| next.copied).is_some()
    };
    assert!(!whole("a") && whole("b"));
}

#[test]
fn a_table_that_was_never_announced_is_named_until_it_is() {
    let mut catalog = announced();
    catalog.unheard_of(&id("c"), Some("s"), Utc::now());
    let row = &catalog.tables[&id("c")];
    assert_eq!((row.name.as_str(), row.state), ("c", TableState::SetAside));
    assert!(row
        .reason
        .as_ref()
        .is_some_and(|reason| reason.contains("MR-P011")));
    catalog.begin_copy(&begun(2, &["c"]), place(7), Some("s"), Utc::now());
    assert_eq!(state(&catalog, "c"), TableState::Loading);
}

#[test]
fn a_removed_table_is_expected_no_longer_and_its_marts_are_set_aside() {
    let mut catalog = announced();
    catalog.joined(&[id("a"), id("b")], &["m".into()], Utc::now());
    catalog.remove(&id("b"), Utc::now());
    assert_eq!(state(&catalog, "b"), TableState::Removed);
    let reason = catalog.marts["m"].reason.as_deref();
    assert_eq!(reason, Some("s.b, which it reads, is captured no longer"));
}
