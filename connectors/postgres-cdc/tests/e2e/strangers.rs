//! What others do to the database: their messages, their tables, their settings.

use std::collections::BTreeSet;

use millrace_events::{Record, TableSchema, Value};
use sqlx::Executor;

use crate::model::Model;
use crate::rig::Rig;
use crate::writers::{SETUP, TABLES, USERS};

const SESSIONS: &str = include_str!("../../../../docs/sessions.md");

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_other_applications_pass_by_whatever_their_size() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    let started = running.streaming().await;
    rig.sql("SELECT pg_logical_emit_message(false, 'other_app', repeat('x', 70000000))")
        .await;
    rig.sql(
        "BEGIN; SELECT pg_logical_emit_message(true, 'other_app', repeat('x', 70000000)); \
         INSERT INTO source.users VALUES (1001, 'beside it', NULL); COMMIT; \
         SELECT pg_logical_emit_message(true, 'millrace_too', 'small'); \
         UPDATE source.users SET name = 'after it' WHERE user_id = 1",
    )
    .await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().sessions, started.sessions);
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_its_own_rows_and_not_those_of_its_children() {
    let setup = format!(
        "{SETUP} CREATE TABLE source.users_early (PRIMARY KEY (user_id)) INHERITS (source.users); \
         INSERT INTO source.users_early VALUES (9001, 'early child', NULL)"
    );
    let rig = Rig::new(&setup, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql(
        "CREATE TABLE source.users_late (PRIMARY KEY (user_id)) INHERITS (source.users); \
         INSERT INTO source.users_late VALUES (9002, 'late child', NULL); \
         UPDATE source.users SET name = 'all of them' WHERE user_id IN (1, 9001, 9002); \
         DELETE FROM source.users WHERE user_id IN (2, 9002)",
    )
    .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    let users = model.rows("users");
    let own = rig
        .text("SELECT count(*)::text FROM ONLY source.users")
        .await;
    assert_eq!(users.len().to_string(), own);
    assert!(!users.contains_key(&vec![Value::Int(9001)]));
    assert!(!users.contains_key(&vec![Value::Int(9002)]));
}

/// The definitions that came with transactions.
async fn definitions(rig: &Rig) -> Vec<TableSchema> {
    let log = rig.log().await;
    let parts = log.into_iter().filter_map(|record| match record {
        Record::Transaction(part) => Some(part.schemas),
        _ => None,
    });
    parts.flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_that_a_setting_puts_around_names_are_no_new_definition() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.users VALUES (1001, 'before', NULL)")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    rig.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET quote_all_identifiers = on', current_database()); END $$")
        .await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.users VALUES (1002, 'after', NULL)")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let definitions = definitions(&rig).await;
    let [before, after] = &definitions[..] else {
        panic!("{definitions:?}");
    };
    assert_eq!(before.columns, after.columns);
    assert_eq!(after.column("name").unwrap().type_name, "text");
}

/// Every setting that a session can have is pinned, or `docs/sessions.md` says why not.
#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_a_session_has_a_verdict() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let mut connection = rig.connect().await;
    connection.execute("SELECT 1").await.unwrap();
    let settings: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM pg_settings WHERE context IN ('user', 'superuser') AND name NOT LIKE '%.%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let named: BTreeSet<&str> = SESSIONS.split('`').skip(1).step_by(2).collect();
    let missing: Vec<_> = settings
        .iter()
        .filter(|name| !named.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/sessions.md says nothing of {missing:?}"
    );
    let pinned = millrace_sessions::postgres::settings::SETTINGS;
    for setting in pinned {
        assert!(named.contains(setting.name), "{}", setting.name);
    }
}
