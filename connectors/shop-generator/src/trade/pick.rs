//! Picking random rows that exist, at the cost of a few index look-ups however large the table is.
//!
//! A random point between the smallest and the largest key, then the first row at or after it. Rows
//! behind a gap are picked more often, which a shop does not mind.

use chrono::NaiveDateTime;
use rand::{Rng, RngExt};
use sqlx::PgConnection;

use super::decide::Shelf;
use super::orders::Standing;
use crate::money::Cents;
use crate::shop::OrderStatus;

/// Where in the range of keys to look, in billionths.
fn point(rng: &mut impl Rng) -> i64 {
    rng.random_range(0..1_000_000_000)
}

/// One row of `$table` that satisfies `$condition`, which an index on `$key` must cover.
macro_rules! one {
    ($columns:literal, $table:literal, $key:literal, $condition:literal, $lock:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ",
            $table,
            " WHERE ",
            $condition,
            " AND ",
            $key,
            " >= (",
            "SELECT (min(",
            $key,
            ") + floor($1::bigint / 1e9 * (max(",
            $key,
            ")::numeric - min(",
            $key,
            ") + 1)))::bigint FROM ",
            $table,
            " WHERE ",
            $condition,
            ") ",
            "ORDER BY ",
            $key,
            " LIMIT 1 ",
            $lock
        )
    };
}

/// An array of keys of `$table`, one for each point of the array `$1`, repeated ones included.
macro_rules! keys {
    ($table:literal, $key:literal) => {
        concat!(
            "ARRAY(SELECT picked.",
            $key,
            " FROM (SELECT min(",
            $key,
            ") AS low, max(",
            $key,
            ") AS high FROM ",
            $table,
            ") bounds",
            " CROSS JOIN unnest($1::bigint[]) AS points (point)",
            " CROSS JOIN LATERAL (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $key,
            " >= (low + floor(point / 1e9 * (high::numeric - low + 1)))::bigint",
            " ORDER BY ",
            $key,
            " LIMIT 1) picked)"
        )
    };
}
pub(super) use keys;

/// Points for [`keys!`].
pub(super) fn points(rng: &mut impl Rng, amount: usize) -> Vec<i64> {
    (0..amount).map(|_| point(rng)).collect()
}

/// A user: key, registration date, loyalty status. Locked against other changes.
pub(super) async fn user(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Option<(i64, NaiveDateTime, String)>> {
    sqlx::query_as(one!(
        "user_id, registration_date, loyalty_status::text",
        "users",
        "user_id",
        "true",
        "FOR NO KEY UPDATE"
    ))
    .bind(point(rng))
    .fetch_optional(connection)
    .await
}

/// Up to `amount` different products, locked in the order of their keys.
pub(super) async fn shelves(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    amount: usize,
) -> sqlx::Result<Vec<Shelf>> {
    let rows: Vec<(i64, i64, i32)> = sqlx::query_as(concat!(
        "SELECT product_id, (price * 100)::bigint, stock_quantity FROM products ",
        "WHERE product_id = ANY (",
        keys!("products", "product_id"),
        ") ORDER BY product_id FOR NO KEY UPDATE"
    ))
    .bind(points(rng, amount))
    .fetch_all(connection)
    .await?;
    let shelf = |(product_id, price, stock)| Shelf {
        product_id,
        price: Cents(price),
        stock,
    };
    Ok(rows.into_iter().map(shelf).collect())
}

/// Any order, locked.
pub(super) async fn order(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Option<Standing>> {
    let sql = one!(
        "order_id, user_id, order_date, status::text",
        "orders",
        "order_id",
        "true",
        "FOR UPDATE"
    );
    standing(connection, sql, point(rng)).await
}

/// An order that has not yet arrived, locked; by way of the index `orders_open_idx`.
pub(super) async fn open_order(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Option<Standing>> {
    let sql = one!(
        "order_id, user_id, order_date, status::text",
        "orders",
        "order_id",
        "status IN ('Pending', 'Processing', 'Shipped')",
        "FOR UPDATE"
    );
    standing(connection, sql, point(rng)).await
}

async fn standing(
    connection: &mut PgConnection,
    sql: &str,
    point: i64,
) -> sqlx::Result<Option<Standing>> {
    let row: Option<(i64, i64, NaiveDateTime, String)> = sqlx::query_as(sql)
        .bind(point)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|(order_id, user_id, order_date, status)| Standing {
        order_id,
        user_id,
        order_date,
        status: OrderStatus::parse(&status),
    }))
}

/// The key of a review, locked.
pub(super) async fn review(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Option<i64>> {
    let sql = one!("review_id", "reviews", "review_id", "true", "FOR UPDATE");
    sqlx::query_scalar(sql)
        .bind(point(rng))
        .fetch_optional(connection)
        .await
}

/// The key of a row of points, locked.
pub(super) async fn loyalty_points(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Option<i64>> {
    let sql = one!(
        "loyalty_id",
        "loyaltypoints",
        "loyalty_id",
        "true",
        "FOR UPDATE"
    );
    sqlx::query_scalar(sql)
        .bind(point(rng))
        .fetch_optional(connection)
        .await
}
