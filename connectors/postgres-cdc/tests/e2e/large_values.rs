//! Values that no record can hold travel in slices, from the stream and from copies.

use millrace_events::{Record, Value};

use crate::model::Model;
use crate::rig::Rig;
use crate::writers::{SETUP, TABLES, USERS};

const DOCUMENTS: &str = "
    CREATE TABLE source.documents (id bigint PRIMARY KEY, body text, raw bytea, data jsonb, tags text[], state text);
    ALTER TABLE source.documents ALTER body SET STORAGE EXTERNAL;";
const COLUMNS: &str = "id::text, body::text, raw::text, data::text, tags::text, state";
/// Of every kind of value one that is larger than a message that is received whole.
const LARGE: &str = "repeat('x\t\\ä€😀\"', 200000), decode(repeat('00ff', 1500000), 'hex'), \
    jsonb_build_object('a', repeat('é', 900000)), ARRAY[repeat('q', 1200000), NULL, 'y']";

async fn rig() -> Rig {
    let mut rig = Rig::new(
        &format!("{SETUP}{DOCUMENTS}"),
        &[&TABLES[..], &["documents"]].concat(),
    )
    .await;
    // Large enough to be read beside each other.
    rig.config.snapshot_readers = 2;
    rig.sql(&format!(
        "INSERT INTO source.documents SELECT i, {LARGE}, 'copied' FROM generate_series(1, 3) i"
    ))
    .await;
    rig.sql("INSERT INTO source.documents VALUES (4, 'small', NULL, NULL, NULL, 'copied'), (5, repeat('z', 900000), '\\x00', NULL, NULL, 'copied')")
        .await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_of_every_kind_are_copied_and_streamed() {
    let rig = rig().await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql(&format!(
        "INSERT INTO source.documents SELECT i, {LARGE}, 'streamed' FROM generate_series(10, 11) i"
    ))
    .await;
    // Unchanged, changed, and changed beside an unchanged one; moved with an unchanged one; gone.
    rig.sql("UPDATE source.documents SET state = 'kept' WHERE id IN (1, 10)")
        .await;
    rig.sql("UPDATE source.documents SET body = repeat('new', 1000000) WHERE id = 2")
        .await;
    rig.sql("UPDATE source.documents SET id = 33 WHERE id = 3")
        .await;
    rig.sql("BEGIN; DELETE FROM source.documents WHERE id = 11; INSERT INTO source.users VALUES (70001, 'after', NULL); COMMIT").await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "documents", COLUMNS).await;
    model.assert_equals(&rig, "users", USERS).await;
    let log = rig.log().await;
    let sizes = log.iter().map(|record| record.encode().len());
    assert!(sizes.max() < Some(4 << 20), "records stay small");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_old_row_of_a_full_identity_is_passed_over() {
    let rig = rig().await;
    rig.sql("ALTER TABLE source.documents REPLICA IDENTITY FULL")
        .await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("UPDATE source.documents SET state = 'kept' WHERE id = 1")
        .await;
    rig.sql("UPDATE source.documents SET body = repeat('new', 1000000) WHERE id = 2")
        .await;
    rig.sql("DELETE FROM source.documents WHERE id = 3").await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    Model::read(&rig)
        .await
        .assert_equals(&rig, "documents", COLUMNS)
        .await;
}

/// A table with a key and `columns` texts, and a row in which each has `bytes`; another such row, and an update of its
/// texts and one of its key.
struct Texts {
    name: &'static str,
    columns: usize,
    bytes: usize,
}

impl Texts {
    fn list(&self, of: impl Fn(usize) -> String) -> String {
        (0..self.columns).map(of).collect::<Vec<_>>().join(", ")
    }

    fn texts(&self) -> String {
        self.list(|n| format!("repeat(chr(97 + {n} % 26), {})", self.bytes))
    }

    fn create(&self) -> String {
        let (name, columns) = (self.name, self.list(|n| format!("t{n} text")));
        let texts = self.texts();
        format!("CREATE TABLE source.{name} (id text PRIMARY KEY, {columns}); INSERT INTO source.{name} SELECT 'copied', {texts};")
    }

    fn insert(&self) -> String {
        format!(
            "INSERT INTO source.{} SELECT 'x', {}",
            self.name,
            self.texts()
        )
    }

    fn change_all(&self) -> String {
        let texts = self.list(|n| format!("t{n} = repeat('{n}x', {} / 4)", self.bytes));
        format!(
            "UPDATE source.{} SET {texts} WHERE id = 'copied'",
            self.name
        )
    }

    fn move_one(&self) -> String {
        format!(
            "UPDATE source.{} SET id = repeat('key', 50000), t1 = 'changed' WHERE id = 'x'",
            self.name
        )
    }
}

/// None of their values is too large, but all of a row together are.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_very_many_values_are_copied_and_streamed() {
    let texts = |name, columns, bytes| Texts {
        name,
        columns,
        bytes,
    };
    let tables = [
        // Together above what a record holds: in cells of ordinary size, and in cells that leave the line of COPY.
        texts("ordinary", 250, 60_000),
        texts("long", 120, 100_000),
        // Postgres selects no more than 1,664 things, and makes no table of more than 1,600 columns.
        texts("broad", 1_000, 1),
    ];
    let names = tables.each_ref().map(|table| table.name);
    let setup = tables.each_ref().map(Texts::create).concat();
    let mut rig = Rig::new(&format!("{SETUP}{setup}"), &[&TABLES[..], &names].concat()).await;
    rig.config.snapshot_readers = 2;
    rig.sql("ALTER TABLE source.ordinary REPLICA IDENTITY FULL")
        .await;
    let mut running = rig.start();
    running.streaming().await;
    for table in &tables {
        rig.sql(&table.insert()).await;
        rig.sql(&table.change_all()).await;
        rig.sql(&table.move_one()).await;
    }
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    for table in names {
        model.assert_equals(&rig, table, "id, t0, t1, t100").await;
    }
}

/// The parts of a transaction that a killed capture leaves behind are void.
#[tokio::test(flavor = "multi_thread")]
async fn capture_ends_in_the_middle_of_a_value() {
    let rig = rig().await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql(&format!(
        "INSERT INTO source.documents SELECT i, {LARGE}, 'streamed' FROM generate_series(10, 25) i"
    ))
    .await;
    let end = rig.end().await;
    let has_begun = |record: &Record| matches!(record, Record::Transaction(part) if !part.slices.is_empty() && !part.last);
    while !rig.log().await.iter().any(has_begun) {
        tokio::task::yield_now().await;
    }
    running.kill().await;
    let mut running = rig.start();
    running.reaches(end).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "documents", COLUMNS).await;
    let sliced = model.rows("documents")[&vec![Value::Int(10)]].len();
    assert_eq!(sliced, 6);
}
