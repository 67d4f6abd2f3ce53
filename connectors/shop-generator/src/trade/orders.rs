//! Transactions around orders. In each of them the sums of money hold from its begin to its end.

use chrono::{NaiveDateTime, TimeDelta};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use sqlx::PgConnection;

use super::decide::{self, Line, Shelf};
use super::{pick, Outcome};
use crate::money::Cents;
use crate::plan::Details;
use crate::shop::{points_for, OrderStatus, Reason};

/// Where an order stands, as read under its lock.
pub(super) struct Standing {
    pub(super) order_id: i64,
    pub(super) user_id: i64,
    pub(super) order_date: NaiveDateTime,
    /// None for a status this shop does not know.
    pub(super) status: Option<OrderStatus>,
}

/// How often to look for a row in the right state before giving up.
const LOOKS_MAX: usize = 4;
/// Settled orders older than this may be deleted.
const KEPT_DAYS: i64 = 7;

/// `now`, unless that is not after `earlier`: clocks and histories may disagree.
pub(super) fn after(earlier: NaiveDateTime, now: NaiveDateTime) -> NaiveDateTime {
    now.max(earlier + TimeDelta::seconds(1))
}

pub(super) async fn place(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    details: Details,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    let Some((user_id, registered, _)) = pick::user(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let amount = details.draw(rng);
    let shelves = pick::shelves(connection, rng, amount).await?;
    let lines = decide::basket(rng, &filled_up(connection, shelves).await?);
    if lines.is_empty() {
        return Ok(Outcome::Nothing);
    }
    let total = lines.iter().map(|line| line.total_price).sum();
    let date = after(registered, now);
    let order_id = insert_order(connection, user_id, date, total).await?;
    insert_details(connection, order_id, &lines).await?;
    take_from_stock(connection, &lines).await?;
    insert_points(connection, user_id, total, date).await?;
    Ok(Outcome::Done)
}

/// A customer never meets a shop with nothing in it: if all shelves are empty, they are filled.
async fn filled_up(
    connection: &mut PgConnection,
    mut shelves: Vec<Shelf>,
) -> sqlx::Result<Vec<Shelf>> {
    const PIECES: i32 = 100;
    if shelves.iter().any(|shelf| shelf.stock > 0) {
        return Ok(shelves);
    }
    let ids: Vec<i64> = shelves.iter().map(|shelf| shelf.product_id).collect();
    sqlx::query("UPDATE products SET stock_quantity = $2 WHERE product_id = ANY ($1)")
        .bind(ids)
        .bind(PIECES)
        .execute(connection)
        .await?;
    shelves.iter_mut().for_each(|shelf| shelf.stock = PIECES);
    Ok(shelves)
}

async fn insert_order(
    connection: &mut PgConnection,
    user_id: i64,
    order_date: NaiveDateTime,
    total: Cents,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "INSERT INTO orders (user_id, order_date, total_amount, status)
         VALUES ($1, $2, $3::bigint / 100.0, 'Pending') RETURNING order_id",
    )
    .bind(user_id)
    .bind(order_date)
    .bind(total.0)
    .fetch_one(connection)
    .await
}

async fn insert_details(
    connection: &mut PgConnection,
    order_id: i64,
    lines: &[Line],
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO orderdetails (order_id, product_id, quantity, price_per_unit, total_price)
         SELECT $1, product_id, quantity, price_cents / 100.0, total_cents / 100.0
         FROM unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[])
              AS line (product_id, quantity, price_cents, total_cents)",
    )
    .bind(order_id)
    .bind(lines.iter().map(|line| line.product_id).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.quantity).collect::<Vec<_>>())
    .bind(
        lines
            .iter()
            .map(|line| line.price_per_unit.0)
            .collect::<Vec<_>>(),
    )
    .bind(
        lines
            .iter()
            .map(|line| line.total_price.0)
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn take_from_stock(connection: &mut PgConnection, lines: &[Line]) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE products SET stock_quantity = stock_quantity - line.quantity
         FROM unnest($1::bigint[], $2::int[]) AS line (product_id, quantity)
         WHERE products.product_id = line.product_id",
    )
    .bind(lines.iter().map(|line| line.product_id).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.quantity).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_points(
    connection: &mut PgConnection,
    user_id: i64,
    total: Cents,
    date: NaiveDateTime,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO loyaltypoints (user_id, points, reason, created_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(user_id)
    .bind(points_for(total))
    .bind(Reason::Order.as_str())
    .bind(date)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn advance(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    match pick::open_order(connection, rng).await? {
        Some(order) => move_on(connection, rng, now, &order).await,
        None => Ok(Outcome::Nothing),
    }
}

pub(super) async fn settle(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    for _ in 0..LOOKS_MAX {
        let Some(order) = pick::order(connection, rng).await? else {
            break;
        };
        if order.status == Some(OrderStatus::Delivered) {
            return move_on(connection, rng, now, &order).await;
        }
    }
    Ok(Outcome::Nothing)
}

async fn move_on(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    now: NaiveDateTime,
    order: &Standing,
) -> sqlx::Result<Outcome> {
    let Some(next) = order
        .status
        .and_then(|status| decide::next_status(rng, status))
    else {
        return Ok(Outcome::Nothing);
    };
    let delivered = (next == OrderStatus::Delivered).then(|| after(order.order_date, now));
    sqlx::query(
        "UPDATE orders SET status = $2, delivery_date = coalesce($3, delivery_date) WHERE order_id = $1",
    )
    .bind(order.order_id)
    .bind(next.as_str())
    .bind(delivered)
    .execute(&mut *connection)
    .await?;
    if next.restocks() {
        put_back(connection, order.order_id).await?;
    }
    Ok(Outcome::Done)
}

/// The goods of an order go back to the shelf, locked in the order of their keys.
async fn put_back(connection: &mut PgConnection, order_id: i64) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT FROM products
         WHERE product_id = ANY (ARRAY(SELECT product_id FROM orderdetails WHERE order_id = $1))
         ORDER BY product_id FOR NO KEY UPDATE",
    )
    .bind(order_id)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE products SET stock_quantity = least(stock_quantity + line.quantity, 1000000)::int
         FROM (SELECT product_id, sum(quantity) AS quantity FROM orderdetails
               WHERE order_id = $1 GROUP BY product_id) line
         WHERE products.product_id = line.product_id",
    )
    .bind(order_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// A line of an existing order.
struct Detail {
    order_detail_id: i64,
    product_id: i64,
    quantity: i32,
}

async fn details(connection: &mut PgConnection, order_id: i64) -> sqlx::Result<Vec<Detail>> {
    let rows: Vec<(i64, i64, i32)> = sqlx::query_as(
        "SELECT order_detail_id, product_id, quantity FROM orderdetails
         WHERE order_id = $1 ORDER BY order_detail_id",
    )
    .bind(order_id)
    .fetch_all(connection)
    .await?;
    let detail = |(order_detail_id, product_id, quantity)| Detail {
        order_detail_id,
        product_id,
        quantity,
    };
    Ok(rows.into_iter().map(detail).collect())
}

pub(super) async fn amend(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let order = pick::open_order(connection, rng).await?;
    let Some(order) = order.filter(|order| order.status == Some(OrderStatus::Pending)) else {
        return Ok(Outcome::Nothing);
    };
    let details = details(connection, order.order_id).await?;
    let Some(detail) = details.choose(rng) else {
        return Ok(Outcome::Nothing);
    };
    let remove = details.len() > 1 && rng.random_bool(0.3);
    let quantity = if remove {
        0
    } else {
        decide::new_quantity(rng, detail.quantity)
    };
    if !change_quantity(connection, detail, quantity).await? {
        return Ok(Outcome::Nothing);
    }
    recompute_total(connection, order.order_id).await?;
    Ok(Outcome::Done)
}

/// Takes the difference from the shelf, or puts it back; false if there is not enough.
/// A line without pieces is deleted.
async fn change_quantity(
    connection: &mut PgConnection,
    detail: &Detail,
    quantity: i32,
) -> sqlx::Result<bool> {
    let taken = sqlx::query(
        "UPDATE products SET stock_quantity = stock_quantity - $2
         WHERE product_id = $1 AND stock_quantity >= $2",
    )
    .bind(detail.product_id)
    .bind(quantity.saturating_sub(detail.quantity))
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() == 0 {
        return Ok(false);
    }
    let change = if quantity == 0 {
        sqlx::query("DELETE FROM orderdetails WHERE order_detail_id = $1")
            .bind(detail.order_detail_id)
    } else {
        sqlx::query(
            "UPDATE orderdetails SET quantity = $2, total_price = $2 * price_per_unit
             WHERE order_detail_id = $1",
        )
        .bind(detail.order_detail_id)
        .bind(quantity)
    };
    change.execute(connection).await?;
    Ok(true)
}

async fn recompute_total(connection: &mut PgConnection, order_id: i64) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE orders SET total_amount = coalesce(
             (SELECT sum(total_price) FROM orderdetails WHERE order_id = $1), 0)
         WHERE order_id = $1",
    )
    .bind(order_id)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete_old(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    let kept_since = now - TimeDelta::days(KEPT_DAYS);
    for _ in 0..LOOKS_MAX {
        let Some(order) = pick::order(connection, rng).await? else {
            break;
        };
        let settled = order
            .status
            .and_then(|status| decide::next_status(rng, status))
            .is_none();
        if settled && order.order_date < kept_since {
            return delete(connection, order.order_id).await;
        }
    }
    Ok(Outcome::Nothing)
}

async fn delete(connection: &mut PgConnection, order_id: i64) -> sqlx::Result<Outcome> {
    for sql in [
        "DELETE FROM orderdetails WHERE order_id = $1",
        "DELETE FROM orders WHERE order_id = $1",
    ] {
        sqlx::query(sql)
            .bind(order_id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(Outcome::Done)
}
