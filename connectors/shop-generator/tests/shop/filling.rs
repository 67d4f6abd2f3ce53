//! Creating and filling: complete, repeatable, and never at the expense of somebody else's tables.

use millrace_shop_generator::plan::{Config, Counts};
use millrace_shop_generator::{
    create_schema, fill, prepare, Created, Error, Filled, Progress, SchemaName,
};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::postgres::Postgres;

pub(crate) const BROKEN_PROMISES: &str = "
    SELECT 'total_price' FROM orderdetails WHERE total_price <> quantity * price_per_unit
    UNION ALL
    SELECT 'total_amount' FROM orders LEFT JOIN (
        SELECT order_id, sum(total_price) AS total FROM orderdetails GROUP BY order_id) d USING (order_id)
    WHERE total_amount <> coalesce(total, 0)
    UNION ALL
    SELECT 'order_date' FROM orders JOIN users USING (user_id) WHERE order_date <= registration_date
    UNION ALL
    SELECT 'delivery_date' FROM orders
    WHERE (delivery_date IS NOT NULL) <> (status IN ('Delivered', 'Completed', 'Returned'))
    UNION ALL
    SELECT 'review' FROM reviews JOIN users USING (user_id) WHERE created_at <= registration_date
    UNION ALL
    SELECT 'points' FROM loyaltypoints JOIN users USING (user_id) WHERE created_at <= registration_date";

pub(crate) fn schema(name: &str) -> SchemaName {
    name.parse().unwrap()
}

fn unwatched() -> watch::Sender<Progress> {
    watch::Sender::new(Progress::default())
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    sqlx::query_scalar(&format!("SELECT count(*) FROM {table}"))
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

async fn digest(pool: &PgPool, table: &str) -> String {
    let sql = format!("SELECT md5(string_agg(t::text, chr(10) ORDER BY t)) FROM {table} t");
    sqlx::query_scalar(&sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_shop_is_filled_once_and_goes_on_from_there() {
    let postgres = Postgres::start();
    let pool = postgres.pool().await;
    let progress = unwatched();
    let filled = prepare(&pool, &schema("source"), &Config::default(), &progress)
        .await
        .unwrap();
    let Progress { done, total, .. } = *progress.borrow();
    assert_eq!(filled, Filled::Now { rows: total });
    assert_eq!(done, total);
    for (table, rows) in [
        ("users", 500),
        ("products", 800),
        ("productcategories", 20),
        ("orders", 3000),
        ("reviews", 2000),
        ("loyaltypoints", 3000),
    ] {
        assert_eq!(
            count(&pool, &format!("source.{table}")).await,
            rows,
            "{table}"
        );
    }
    run(&pool, "SET search_path TO source").await;
    run(
        &pool,
        "INSERT INTO source.users (first_name, last_name, email) VALUES ('A', 'B', 'c')",
    )
    .await;
    assert_eq!(count(&pool, "source.users WHERE user_id = 501").await, 1);
    let again = prepare(&pool, &schema("source"), &Config::default(), &unwatched())
        .await
        .unwrap();
    assert_eq!(again, Filled::Before);
    assert_eq!(count(&pool, "source.users").await, 501);
}

#[tokio::test]
async fn equal_seeds_fill_equal_tables_and_every_promise_holds() {
    let postgres = Postgres::start();
    let pool = postgres.pool().await;
    let config = Config::default();
    let other = Config {
        seed: 43,
        ..Config::default()
    };
    for (name, config) in [("a", &config), (r#"b"'; --"#, &config), ("c", &other)] {
        create_schema(&pool, &schema(name)).await.unwrap();
        fill(&pool, &schema(name), config, &unwatched())
            .await
            .unwrap();
    }
    for table in millrace_shop_generator::shop::TABLES {
        let first = digest(&pool, &format!("a.{table}")).await;
        assert_eq!(
            first,
            digest(&pool, &format!(r#""b""'; --".{table}"#)).await,
            "{table}"
        );
        let differs = first != digest(&pool, &format!("c.{table}")).await;
        assert_eq!(differs, table != "productcategories", "{table}");
    }
    run(&pool, "ALTER ROLE shop SET search_path TO a").await;
    let broken: Vec<String> = sqlx::query_scalar(BROKEN_PROMISES)
        .fetch_all(&postgres.pool().await)
        .await
        .unwrap();
    assert!(broken.is_empty(), "{broken:?}");
}

#[tokio::test]
async fn a_fill_cut_off_in_the_middle_leaves_nothing_and_starts_over() {
    let postgres = Postgres::start();
    let pool = postgres.pool().await;
    let progress = unwatched();
    let mut watched = progress.subscribe();
    let counts = Counts {
        orders: 30_000,
        ..Counts::default()
    };
    let config = Config {
        counts,
        ..Config::default()
    };
    let source = schema("source");
    tokio::select! {
        _ = prepare(&pool, &source, &config, &progress) => panic!("not cut off"),
        _ = watched.wait_for(|progress| progress.phase == "orderdetails" && progress.done > 40_000) => {}
    }
    let nothing = count(&pool, "pg_namespace WHERE nspname = 'source'").await;
    assert_eq!(nothing, 0);
    let filled = prepare(&pool, &source, &Config::default(), &unwatched())
        .await
        .unwrap();
    assert!(matches!(filled, Filled::Now { .. }));
    assert_eq!(count(&pool, "source.orders").await, 3000);
}

#[tokio::test]
async fn two_at_once_create_and_fill_one_shop() {
    let postgres = Postgres::start();
    let pool = postgres.pool().await;
    let (source, config, progress) = (schema("source"), Config::default(), unwatched());
    let (one, two) = tokio::join!(
        prepare(&pool, &source, &config, &progress),
        prepare(&pool, &source, &config, &progress)
    );
    let filled = [one.unwrap(), two.unwrap()];
    assert!(
        filled.contains(&Filled::Before) && filled[0] != filled[1],
        "{filled:?}"
    );
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_refused_and_left_as_it_was() {
    let postgres = Postgres::start();
    let pool = postgres.pool().await;
    run(
        &pool,
        "CREATE SCHEMA foreigners; CREATE TABLE foreigners.ledger (id int)",
    )
    .await;
    let error = create_schema(&pool, &schema("foreigners"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Foreign { table, .. } if table == "ledger"),
        "{error}"
    );
    assert_eq!(count(&pool, "pg_class WHERE relname = 'users'").await, 0);

    run(
        &pool,
        "CREATE SCHEMA alike; CREATE TABLE alike.users (user_id int PRIMARY KEY)",
    )
    .await;
    let error = create_schema(&pool, &schema("alike")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("column user_id is int4, not int8"),
        "{error}"
    );
    assert_eq!(count(&pool, "pg_class WHERE relname = 'orders'").await, 0);

    assert_eq!(
        create_schema(&pool, &schema("source")).await.unwrap(),
        Created::Now
    );
    run(
        &pool,
        "ALTER TABLE source.users ADD nickname text; CREATE TABLE source.extra (id int)",
    )
    .await;
    assert_eq!(
        create_schema(&pool, &schema("source")).await.unwrap(),
        Created::Before
    );
    run(
        &pool,
        "INSERT INTO source.users (first_name, last_name, email) VALUES ('A', 'B', 'c')",
    )
    .await;
    let error = prepare(&pool, &schema("source"), &Config::default(), &unwatched())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::NotEmpty { table: "users", .. }),
        "{error}"
    );
    run(&pool, "DROP TABLE source.reviews").await;
    let error = create_schema(&pool, &schema("source")).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Differs {
                table: "reviews",
                ..
            }
        ),
        "{error}"
    );
}
