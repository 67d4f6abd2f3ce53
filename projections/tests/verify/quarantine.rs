//! Values that MySQL cannot hold are neither a difference nor passed over.

use millrace_projections::marts::Marts;
use millrace_projections::verify::{DifferenceKind, Exit, Method, Report};
use sqlx::Executor;

use super::stage::Stage;

const SCRIPT: &str = "
    CREATE TABLE money (id bigint PRIMARY KEY, amount numeric(12,2), note text);
    INSERT INTO money SELECT n, n * 1.25, 'note ' || n FROM generate_series(1, 300) n;";

/// More than are told by name.
const MANY: &str = "
    CREATE TABLE money (id bigint PRIMARY KEY, amount numeric(12,2), note text);
    INSERT INTO money SELECT n, n * 1.25, 'note ' || n FROM generate_series(1, 20500) n;";

/// As the projector would have written it.
const QUARANTINE: &str = "
    CREATE TABLE millrace_quarantine (name VARCHAR(64) NOT NULL, digest CHAR(64) NOT NULL,
        column_name VARCHAR(64) NOT NULL, value LONGTEXT NOT NULL, PRIMARY KEY (name, digest, column_name));
    ALTER TABLE money ADD amount__text LONGTEXT NULL;
    UPDATE millrace_tables SET policies = '{\"amount\":\"text\"}';
    UPDATE money SET amount = NULL, amount__text = 'NaN' WHERE id IN (7, 250)";

/// A row of the quarantine.
fn kept(id: u32, value: &str) -> String {
    kept_of(&format!("'{id}'"), value, "")
}

fn kept_of(id: &str, value: &str, from: &str) -> String {
    let digest = digest_of(id);
    format!("INSERT INTO millrace_quarantine SELECT 'money', {digest}, 'amount', '{value}' {from}")
}

/// It covers the length of the key's text, in eight bytes, and the text.
fn digest_of(id: &str) -> String {
    format!("SHA2(CONCAT(UNHEX(LPAD(HEX(LENGTH({id})), 16, '0')), {id}), 256)")
}

/// Two values stand in quarantine, and everything is as it should be.
async fn stage() -> Stage {
    let mut stage = Stage::of(&[SCRIPT], &["money"], Marts::none()).await;
    let source = "UPDATE money SET amount = 'NaN' WHERE id IN (7, 250)";
    stage.postgres.execute(source).await.expect("values");
    stage.change(QUARANTINE).await;
    for id in [7, 250] {
        stage.change(&kept(id, "NaN")).await;
    }
    stage
}

async fn both_ways(stage: &mut Stage) -> [Report; 2] {
    let mut reports = Vec::new();
    for method in [Method::Sums, Method::Rows] {
        stage.config.method = method;
        reports.push(stage.report().await);
    }
    reports.try_into().expect("two")
}

#[tokio::test]
async fn values_in_quarantine_are_equal_and_counted() {
    let mut stage = stage().await;
    for report in both_ways(&mut stage).await {
        assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
        assert_eq!(report.tables[0].quarantined, 2, "{report:#?}");
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["tables"][0]["quarantined"], 2);
    }
}

#[tokio::test]
async fn whatever_is_not_exactly_so_is_a_difference() {
    let quarantine = DifferenceKind::Quarantine;
    let cases = [
        ("DELETE FROM millrace_quarantine LIMIT 1", quarantine),
        (
            "UPDATE millrace_quarantine SET value = 'Infinity' LIMIT 1",
            quarantine,
        ),
        (
            "UPDATE millrace_quarantine SET column_name = 'note' LIMIT 1",
            quarantine,
        ),
        (&kept(8, "NaN"), quarantine),
        (
            "UPDATE money SET amount = 0 WHERE id = 7",
            DifferenceKind::Value,
        ),
        (
            "UPDATE money SET amount__text = 'nan' WHERE id = 7",
            DifferenceKind::Value,
        ),
        (
            "UPDATE money SET amount__text = NULL WHERE id = 7",
            DifferenceKind::Value,
        ),
        (
            "UPDATE money SET amount__text = 'NaN' WHERE id = 9",
            DifferenceKind::Value,
        ),
        (
            "UPDATE money SET amount = NULL WHERE id = 9",
            DifferenceKind::Value,
        ),
        ("DELETE FROM money WHERE id = 7", DifferenceKind::Missing),
        (
            "ALTER TABLE money DROP amount__text",
            DifferenceKind::Definition,
        ),
    ];
    for (change, kind) in cases {
        let mut stage = stage().await;
        stage.change(change).await;
        for report in both_ways(&mut stage).await {
            assert_eq!(report.exit(), Exit::Different, "{change}");
            let found = &report.tables[0].differences;
            assert!(
                found.iter().any(|it| it.kind == kind),
                "{change}: {found:?}"
            );
        }
    }
}

#[tokio::test]
async fn without_a_policy_such_a_value_is_a_difference() {
    let mut stage = stage().await;
    stage.change("ALTER TABLE money DROP amount__text").await;
    stage
        .change("UPDATE millrace_tables SET policies = '{}'")
        .await;
    for report in both_ways(&mut stage).await {
        assert_eq!(report.tables[0].differences_total, 2, "{report:#?}");
        assert_eq!(report.tables[0].quarantined, 0);
    }
}

#[tokio::test]
async fn of_very_many_values_each_one_counts() {
    let mut stage = Stage::of(&[MANY], &["money"], Marts::none()).await;
    let source = "UPDATE money SET amount = 'NaN'";
    stage.postgres.execute(source).await.expect("values");
    stage.change(QUARANTINE).await;
    stage
        .change("UPDATE millrace_tables SET policies = '{\"amount\":\"null\"}'")
        .await;
    stage.change("ALTER TABLE money DROP amount__text").await;
    stage.change("UPDATE money SET amount = NULL").await;
    stage.change(&kept_of("id", "NaN", "FROM money")).await;
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    assert_eq!(report.tables[0].quarantined, 20_500);
    let digest = digest_of("'20400'");
    let other =
        format!("UPDATE millrace_quarantine SET value = 'Infinity' WHERE digest = {digest}");
    assert_eq!(stage.change(&other).await, 1);
    for report in both_ways(&mut stage).await {
        assert_eq!(report.exit(), Exit::Different);
        let found = &report.tables[0].differences;
        assert_eq!(found[0].kind, DifferenceKind::Quarantine, "{found:?}");
    }
}
