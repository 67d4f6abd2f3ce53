//! The shop's marts against their definitions, on a real server.

mod costs;
mod random;
mod shop;
#[path = "../support/mod.rs"]
mod support;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::mysql::MySqlRow;

use random::{seed, Random};
use shop::{
    create_replica, definitions, delete, inputs, rows, text, truncate, write, Shop, Turn, TABLES,
};

#[tokio::test]
async fn random_transactions_leave_every_mart_equal_to_its_definition() {
    let seed = seed();
    let mut shop = Shop::new().await;
    let mut random = Random::new(seed);
    for number in 0..300 {
        let turns = random.transaction();
        shop.transaction(&turns).await;
        shop.assert_exact(&format!("SEED={seed}, transaction {number}: {turns:?}"))
            .await;
    }
}

#[tokio::test]
async fn a_mart_built_from_scratch_equals_the_maintained_one() {
    let seed = seed();
    let mut shop = Shop::new().await;
    let mut random = Random::new(seed);
    for _ in 0..40 {
        let turns = random.transaction();
        shop.transaction(&turns).await;
    }
    create_replica(&mut shop.conn, "__shadow").await;
    for (table, ..) in TABLES {
        shop.run(&format!(
            "INSERT INTO `{table}__shadow` SELECT * FROM `{table}`"
        ))
        .await;
    }
    for _ in 0..2 {
        shop.marts
            .create(&mut shop.conn, "__shadow", &inputs())
            .await
            .expect("shadow tables");
        shop.marts
            .build(&mut shop.conn, "__shadow", &inputs())
            .await
            .expect("filled");
    }
    for table in shop.marts.tables() {
        let live = rows(&mut shop.conn, &format!("SELECT * FROM `{table}`")).await;
        let built = rows(&mut shop.conn, &format!("SELECT * FROM `{table}__shadow`")).await;
        assert_eq!(built, live, "{table}, SEED={seed}");
    }
}

#[tokio::test]
async fn a_dimension_row_that_arrives_after_its_facts_makes_them_visible() {
    let mut shop = Shop::new().await;
    let order: &[&str] = &["1", "'Pending'", "10.00", "NULL"];
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    shop.transaction(&[write("orders", &[(1, order)])]).await;
    shop.assert_exact("an order without user").await;
    shop.transaction(&[write("users", &[(1, user)])]).await;
    shop.assert_exact("its user in a later transaction").await;
    let check = rows(&mut shop.conn, "SELECT * FROM mart_average_check").await;
    assert_eq!(
        check,
        [[
            Some("Pending".into()),
            Some("Gold".into()),
            Some("10.000000".into())
        ]]
    );
    let other: &[&str] = &["2", "'Pending'", "20.00", "NULL"];
    shop.transaction(&[write("orders", &[(2, other)]), write("users", &[(2, user)])])
        .await;
    shop.assert_exact("its user in the same transaction, behind it")
        .await;
}

#[tokio::test]
async fn an_order_that_changes_hands_moves_between_users() {
    let mut shop = Shop::new().await;
    let gold: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let silver: &[&str] = &["'Bob'", "'Ray'", "'Silver'"];
    shop.transaction(&[write("users", &[(1, gold), (2, silver)])])
        .await;
    for owner in ["1", "2", "NULL", "3", "1"] {
        let order: &[&str] = &[owner, "'Pending'", "10.00", "NULL"];
        shop.transaction(&[write("orders", &[(1, order)])]).await;
        shop.assert_exact(owner).await;
    }
    shop.transaction(&[delete("users", &[1])]).await;
    shop.assert_exact("its user is gone").await;
    shop.transaction(&[
        write("users", &[(3, gold)]),
        write("orders", &[(1, &["3", "''", "NULL", "NULL"])]),
    ])
    .await;
    shop.assert_exact("user and order under a new key").await;
}

#[tokio::test]
async fn truncates_empty_what_they_stand_behind_and_later_rows_start_afresh() {
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let order: &[&str] = &["1", "'Pending'", "10.00", "NULL"];
    let points: &[&str] = &["1", "5"];
    let all = [
        write("users", &[(1, user)]),
        write("orders", &[(1, order), (2, order)]),
        write("loyaltypoints", &[(1, points)]),
    ];
    shop.transaction(&all).await;
    for table in ["orders", "users"] {
        shop.transaction(&[truncate(table)]).await;
        shop.assert_exact(table).await;
        shop.transaction(&all).await;
        shop.assert_exact(table).await;
        let refill = Turn {
            truncate: true,
            ..write(table, &[(1, if table == "orders" { order } else { user })])
        };
        shop.transaction(&[refill]).await;
        shop.assert_exact(table).await;
    }
}

#[tokio::test]
async fn a_rolled_back_batch_leaves_nothing_behind() {
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let order: &[&str] = &["1", "'Pending'", "10.00", "NULL"];
    shop.transaction(&[write("users", &[(1, user)]), write("orders", &[(1, order)])])
        .await;
    shop.run("START TRANSACTION").await;
    shop.turn(&write(
        "orders",
        &[(1, &["1", "'Sent'", "1.00", "NULL"]), (2, order)],
    ))
    .await;
    shop.run("ROLLBACK").await;
    shop.assert_exact("rolled back").await;
    shop.transaction(&[write("orders", &[(3, order)])]).await;
    shop.assert_exact("the next batch").await;
}

/// Averages whose exact value lies on, just below and just above a rounding edge.
#[tokio::test]
async fn averages_round_as_the_definition_rounds() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let mut turns = vec![write("users", &[(1, user)])];
    let mut orders = Turn {
        table: "orders",
        ..Turn::default()
    };
    let mut key = 0;
    for group in 0..150 {
        for _ in 0..rng.random_range(1..70) {
            key += 1;
            let cents =
                rng.random_range(-300..300i64) * if group % 3 == 0 { 33_333_333 } else { 1 };
            let amount = format!(
                "{}{}.{:02}",
                if cents < 0 { "-" } else { "" },
                cents.abs() / 100,
                cents.abs() % 100
            );
            orders.rows.insert(
                key,
                Some(vec![
                    "1".into(),
                    format!("'{group}'"),
                    amount,
                    "NULL".into(),
                ]),
            );
        }
    }
    turns.push(orders);
    shop.transaction(&turns).await;
    shop.assert_exact(&format!("SEED={seed}")).await;
}

#[tokio::test]
async fn mart_columns_have_the_types_of_their_definitions() {
    let mut shop = Shop::new().await;
    let definitions = definitions(&shop.marts);
    for (name, definition) in definitions {
        shop.run(&format!("CREATE TABLE derived_{name} AS {definition}"))
            .await;
        let columns = |table: String| {
            format!(
                "SELECT column_name, data_type, numeric_scale, collation_name \
                 FROM information_schema.columns \
                 WHERE table_schema = DATABASE() AND table_name = '{table}' AND extra NOT LIKE '%INVISIBLE%' \
                 ORDER BY ordinal_position"
            )
        };
        let wanted = sqlx::raw_sql(&columns(format!("derived_{name}")))
            .fetch_all(&mut shop.conn)
            .await
            .expect("columns");
        let found = sqlx::raw_sql(&columns(name.to_owned()))
            .fetch_all(&mut shop.conn)
            .await
            .expect("columns");
        let texts = |rows: &[MySqlRow]| -> Vec<Vec<Option<String>>> {
            rows.iter()
                .map(|row| (0..4).map(|i| text(row, i)).collect())
                .collect()
        };
        assert_eq!(texts(&found), texts(&wanted), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_a_mart_has_a_primary_key() {
    let mut shop = Shop::new().await;
    shop.transaction(&[write("orders", &[(1, &["1", "'paid'", "7.00", "NULL"])])])
        .await;
    let without: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables t WHERE table_schema = DATABASE() \
         AND NOT EXISTS (SELECT 1 FROM information_schema.statistics s WHERE s.table_schema = DATABASE() \
         AND s.table_name = t.table_name AND s.index_name = 'PRIMARY')",
    )
    .fetch_one(&mut shop.conn)
    .await
    .expect("tables");
    assert_eq!(without, 0, "every table has a primary key");
}
