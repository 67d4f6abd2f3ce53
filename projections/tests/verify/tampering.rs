//! Whatever is changed by hand in a replica table, a mart or a mart's state is found, and named.

use millrace_projections::marts::Marts;
use millrace_projections::verify::{Difference, DifferenceKind, Exit, Report};

use crate::stage::{shop_marts, Stage, TABLES};
use crate::{columns, differences, names};

/// One cell, one row less, one row more: in each replica table, each mart and each mart's state.
/// Replica tables and the others take turns, because a mart also differs when its inputs do.
#[tokio::test]
async fn every_tampering_is_found_and_named() {
    let mut stage = Stage::shop().await;
    let replica: Vec<String> = TABLES.iter().map(|table| table.to_string()).collect();
    for tables in [replica, shop_marts().tables()] {
        changed_cells_are_found(&mut stage, &tables).await;
        deleted_rows_are_found(&mut stage, &tables).await;
        added_rows_are_found(&mut stage, &tables).await;
    }
    assert_eq!(stage.report().await.exit(), Exit::Equal);
}

/// In turn, the first column of each table, the second of each table, …
async fn changed_cells_are_found(stage: &mut Stage, tables: &[String]) {
    for number in 0.. {
        let mut changed = Vec::new();
        for table in tables {
            let Some((column, data_type)) = columns(stage, table).await.into_iter().nth(number)
            else {
                continue;
            };
            let value = other_value(&column, &data_type);
            keep(stage, table).await;
            let rows = stage
                .change(&format!(
                    "UPDATE `{table}` SET `{column}` = {value} LIMIT 1"
                ))
                .await;
            assert_eq!(rows, 1, "{table}.{column}");
            changed.push((table, column));
        }
        if changed.is_empty() {
            return;
        }
        let report = stage.report().await;
        assert_eq!(report.exit(), Exit::Different);
        for (table, column) in changed {
            assert_named(&report, table, &column);
            restore(stage, table).await;
        }
    }
}

/// Table, key, column and both values are there. A changed key is a row less and a row more.
fn assert_named(report: &Report, table: &str, column: &str) {
    let differences = differences(report, table);
    let here = |difference: &&Difference| difference.column == column || difference.column == "*";
    assert!(
        differences.iter().any(|difference| here(&difference)),
        "{table}.{column}: {report:#?}"
    );
    for difference in &differences {
        assert!(!difference.key.is_empty(), "{difference:?}");
        assert_ne!(difference.expected, difference.found, "{difference:?}");
    }
}

fn other_value(column: &str, data_type: &str) -> String {
    let value = match data_type.to_lowercase().as_str() {
        "bigint" | "int" | "decimal" => "COALESCE(`{}`, 0) + 100000",
        "datetime" => "COALESCE(`{}`, '2001-01-01') + INTERVAL 1 MICROSECOND",
        "binary" => "REPEAT('x', 32)",
        _ => "CONCAT(LEFT(COALESCE(`{}`, ''), 4), ' ')",
    };
    value.replace("{}", column)
}

async fn deleted_rows_are_found(stage: &mut Stage, tables: &[String]) {
    for table in tables {
        keep(stage, table).await;
        assert_eq!(
            stage
                .change(&format!("DELETE FROM `{table}` LIMIT 1"))
                .await,
            1
        );
    }
    let report = stage.report().await;
    for table in tables {
        let found = differences(&report, table);
        assert_eq!(found.len(), 1, "{table}: {report:#?}");
        assert_eq!(found[0].kind, DifferenceKind::Missing);
        assert!(
            found[0].expected.is_object() && found[0].found.is_null() && !found[0].key.is_empty()
        );
        restore(stage, table).await;
    }
}

async fn added_rows_are_found(stage: &mut Stage, tables: &[String]) {
    for table in tables {
        keep(stage, table).await;
        let mut fresh = false;
        let mut values = Vec::new();
        for (column, data_type) in columns(stage, table).await {
            values.push(match data_type.to_lowercase().as_str() {
                "binary" => "REPEAT('x', 32)".to_owned(),
                "bigint" | "varchar" if !fresh => {
                    fresh = true;
                    "'987654'".to_owned()
                }
                _ => format!("`{column}`"),
            });
        }
        let (names, values) = (names(stage, table).await, values.join(", "));
        let insert =
            format!("INSERT INTO `{table}` ({names}) SELECT {values} FROM `kept_{table}` LIMIT 1");
        assert_eq!(stage.change(&insert).await, 1);
    }
    let report = stage.report().await;
    for table in tables {
        let found = differences(&report, table);
        assert_eq!(found.len(), 1, "{table}: {report:#?}");
        assert_eq!(found[0].kind, DifferenceKind::Unexpected);
        assert!(
            found[0].found.is_object() && found[0].expected.is_null() && !found[0].key.is_empty()
        );
        restore(stage, table).await;
    }
}

async fn keep(stage: &mut Stage, table: &str) {
    let names = names(stage, table).await;
    stage
        .change(&format!(
            "CREATE TABLE `kept_{table}` AS SELECT {names} FROM `{table}`"
        ))
        .await;
}

async fn restore(stage: &mut Stage, table: &str) {
    let names = names(stage, table).await;
    stage.change(&format!("DELETE FROM `{table}`")).await;
    stage
        .change(&format!(
            "INSERT INTO `{table}` ({names}) SELECT {names} FROM `kept_{table}`"
        ))
        .await;
    stage.change(&format!("DROP TABLE `kept_{table}`")).await;
}

#[tokio::test]
async fn a_key_that_was_added_dropped_or_changed_by_hand_is_a_difference() {
    let mut stage = Stage::new(&["users", "orders", "products", "reviews"], Marts::none()).await;
    for change in [
        "ALTER TABLE users ADD UNIQUE KEY by_hand (email)",
        "ALTER TABLE orders DROP PRIMARY KEY",
        "ALTER TABLE products DROP PRIMARY KEY, ADD PRIMARY KEY (product_id, name(10))",
        "ALTER TABLE reviews ADD KEY for_people (rating)",
    ] {
        stage.change(change).await;
    }
    let report = stage.report().await;
    for table in ["users", "orders", "products"] {
        let found = differences(&report, table);
        assert_eq!(found.len(), 1, "{table}: {found:#?}");
        assert_eq!(found[0].kind, DifferenceKind::Definition);
        assert_ne!(found[0].expected, found[0].found);
    }
    assert!(differences(&report, "reviews").is_empty(), "{report:#?}");
    let users = report.tables.iter().find(|it| it.name == "source.users");
    assert_eq!(
        users.map(|users| users.rows),
        Some(50),
        "its rows are compared all the same"
    );
}

#[tokio::test]
async fn a_row_that_occurs_twice_in_a_mart_is_unexpected() {
    let mut stage = Stage::shop().await;
    stage
        .change("INSERT INTO mart_average_check SELECT * FROM mart_average_check LIMIT 1")
        .await;
    let report = stage.report().await;
    let found = differences(&report, "mart_average_check");
    // The copy has no key of its own: of the two, which are alike in what the mart shows, one may be told by its key.
    let (unexpected, keys): (Vec<_>, Vec<_>) = found
        .iter()
        .partition(|difference| difference.kind == DifferenceKind::Unexpected);
    assert_eq!(unexpected.len(), 1, "{found:#?}");
    assert!(
        keys.iter()
            .all(|difference| difference.column == "millrace_key"),
        "{keys:#?}"
    );
}

#[tokio::test]
async fn differences_beyond_the_limit_are_counted() {
    let mut stage = Stage::shop().await;
    stage.config.differences_max = 3;
    stage
        .change("UPDATE orderdetails SET quantity = quantity + 1")
        .await;
    let report = stage.report().await;
    let details = report
        .tables
        .iter()
        .find(|table| table.name == "source.orderdetails")
        .expect("reported");
    assert_eq!(
        (details.differences.len(), details.differences_total),
        (3, 900)
    );
}
