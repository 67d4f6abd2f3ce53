//! Transactions around products: prices and stock.

use rand::{Rng, RngExt};
use sqlx::PgConnection;

use super::{decide, pick, Outcome};

pub(super) async fn change_prices(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let amount = rng.random_range(1..=3);
    let shelves = pick::shelves(connection, rng, amount).await?;
    let prices: Vec<i64> = shelves
        .iter()
        .map(|shelf| decide::new_price(rng, shelf.price).0)
        .collect();
    let changed = sqlx::query(
        "UPDATE products SET price = new.cents / 100.0
         FROM unnest($1::bigint[], $2::bigint[]) AS new (product_id, cents)
         WHERE products.product_id = new.product_id",
    )
    .bind(
        shelves
            .iter()
            .map(|shelf| shelf.product_id)
            .collect::<Vec<_>>(),
    )
    .bind(prices)
    .execute(connection)
    .await?;
    Ok(Outcome::of_rows(changed.rows_affected()))
}

/// Of ten products looked at, those with little stock get a delivery.
pub(super) async fn restock(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    const LOOKED_AT: usize = 10;
    const LITTLE: i32 = 250;
    let shelves = pick::shelves(connection, rng, LOOKED_AT).await?;
    let low = shelves.iter().filter(|shelf| shelf.stock < LITTLE);
    let filled = sqlx::query(
        "UPDATE products SET stock_quantity = stock_quantity + $2 WHERE product_id = ANY ($1)",
    )
    .bind(low.map(|shelf| shelf.product_id).collect::<Vec<_>>())
    .bind(rng.random_range(50..=250))
    .execute(connection)
    .await?;
    Ok(Outcome::of_rows(filled.rows_affected()))
}
