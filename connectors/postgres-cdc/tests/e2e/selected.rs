//! Which tables are captured, and what becomes of those that come later.

use millrace_events::{Record, TableId};

use crate::model::Model;
use crate::rig::{Rig, Running};

const SETUP: &str = "
    CREATE SCHEMA sales;
    CREATE SCHEMA \"My shop\";
    CREATE TABLE source.users (id int PRIMARY KEY, name text);
    CREATE TABLE source.audit_log (id int PRIMARY KEY);
    CREATE TABLE source.visits (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE source.visits_1 PARTITION OF source.visits FOR VALUES FROM (0) TO (100);
    CREATE VIEW source.look AS SELECT 1 AS id;
    CREATE TABLE sales.users (id int PRIMARY KEY, name text);
    CREATE TABLE sales.\"Order lines\" (id int PRIMARY KEY, name text);
    CREATE TABLE sales.other (id int PRIMARY KEY);
    CREATE TABLE \"My shop\".\"a.b\" (id int PRIMARY KEY, name text);
    INSERT INTO source.users VALUES (1, 'source');
    INSERT INTO sales.users VALUES (1, 'sales');";

async fn several_schemas() -> Rig {
    let mut rig = Rig::new(SETUP, &[]).await;
    let text = "source.*,sales.users,sales.\"Order\"*,\"My shop\".*,!source.audit_*";
    rig.config.tables = text.parse().unwrap();
    rig
}

async fn begun(rig: &Rig) -> Running {
    let mut running = rig.start();
    running.streaming().await;
    running
}

fn names(tables: &[TableId]) -> Vec<String> {
    tables.iter().map(TableId::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_one_name_in_several_schemas_stay_apart() {
    let rig = several_schemas().await;
    let mut running = begun(&rig).await;
    rig.sql(
        "INSERT INTO source.users VALUES (2, 'source too'); \
         UPDATE sales.users SET name = 'sales too'; \
         INSERT INTO sales.\"Order lines\" VALUES (1, 'one'); \
         INSERT INTO \"My shop\".\"a.b\" VALUES (1, 'dot'); \
         INSERT INTO source.visits VALUES (7); \
         INSERT INTO sales.other VALUES (1); INSERT INTO source.audit_log VALUES (1)",
    )
    .await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().not_captured, []);
    running.stop().await;
    let model = Model::read(&rig).await;
    let found: Vec<_> = model.tables.keys().cloned().collect();
    assert_eq!(
        names(&found),
        [
            "\"My shop\".\"a.b\"",
            "sales.\"Order lines\"",
            "sales.users",
            "source.users",
            "source.visits_1"
        ]
    );
    let sizes: Vec<_> = model.tables.values().map(|rows| rows.len()).collect();
    assert_eq!(sizes, [1, 1, 1, 2, 1]);
    let sales = &model.tables[&TableId::new("sales", "users")];
    let row = sales.values().next().unwrap();
    assert_eq!(
        row["name"],
        millrace_events::Value::Text("sales too".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_comes_later_is_said_and_not_captured() {
    let rig = several_schemas().await;
    let running = begun(&rig).await;
    running.stop().await;
    rig.sql("CREATE TABLE source.later (id int); CREATE TABLE source.audit_later (id int)")
        .await;
    let mut running = begun(&rig).await;
    let status = running.handle.status();
    assert_eq!(names(&status.not_captured), ["source.later"]);
    rig.sql("INSERT INTO source.later VALUES (1); INSERT INTO source.users VALUES (3, 'x')")
        .await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let parts = rig
        .log()
        .await
        .into_iter()
        .filter_map(|record| match record {
            Record::Transaction(part) => Some(part),
            _ => None,
        });
    let tables: Vec<_> = parts
        .flat_map(|part| part.changes)
        .map(|change| change.table.to_string())
        .collect();
    assert_eq!(tables, ["source.users"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_table_that_is_not_selected_any_more_is_an_error() {
    let mut rig = several_schemas().await;
    begun(&rig).await.stop().await;
    rig.config.tables = "source.*".parse().unwrap();
    let error = rig.failure(rig.config.clone()).await;
    assert_eq!(error.code(), Some("capture-publication-differs"), "{error}");
    for word in ["sales.users", "source.* does not select"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_added_to_the_publication_behind_our_back_is_captured_with_its_rows_or_not_at_all()
{
    let setup = format!("{SETUP} CREATE TABLE source.audit_too (id int PRIMARY KEY)");
    let mut rig = Rig::new(&setup, &["users"]).await;
    let mut running = begun(&rig).await;
    rig.sql("ALTER PUBLICATION millrace ADD TABLE source.audit_too; INSERT INTO source.audit_too VALUES (1)")
        .await;
    rig.sql("INSERT INTO source.users VALUES (2, 'x')").await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    let found: Vec<_> = model.tables.keys().cloned().collect();
    assert_eq!(names(&found), ["source.users"]);
    assert_eq!(model.rows("users").len(), 2);
    // A restart that selects it copies it first.
    rig.config.tables = "source.users,source.audit_too".parse().unwrap();
    let mut running = begun(&rig).await;
    assert_eq!(running.handle.status().not_captured, []);
    rig.sql("INSERT INTO source.audit_too VALUES (2)").await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "audit_too", "id::text").await;
    assert_eq!(model.rows("audit_too").len(), 2);
}
