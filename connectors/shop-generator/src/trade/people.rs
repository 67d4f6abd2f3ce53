//! Transactions around customers: reviews, points, loyalty status, telephone numbers.

use chrono::NaiveDateTime;
use rand::{Rng, RngExt};
use sqlx::PgConnection;

use super::{decide, orders, pick, Outcome};
use crate::people::person;
use crate::plan::{gift_points, opinion};

/// About something from a random order, by the one who ordered it.
pub(super) async fn write_review(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    let Some(order) = pick::order(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let (rating, text) = opinion(rng);
    let written = sqlx::query(
        "INSERT INTO reviews (user_id, product_id, rating, review_text, created_at)
         SELECT $1, product_id, $2, $3, $4 FROM orderdetails
         WHERE order_id = $5 ORDER BY order_detail_id LIMIT 1",
    )
    .bind(order.user_id)
    .bind(rating)
    .bind(text)
    .bind(orders::after(order.order_date, now))
    .bind(order.order_id)
    .execute(connection)
    .await?;
    Ok(Outcome::of_rows(written.rows_affected()))
}

pub(super) async fn edit_review(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let Some(review_id) = pick::review(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let (rating, text) = opinion(rng);
    let edited =
        sqlx::query("UPDATE reviews SET rating = $2, review_text = $3 WHERE review_id = $1")
            .bind(review_id)
            .bind(rating)
            .bind(text)
            .execute(connection)
            .await?;
    Ok(Outcome::of_rows(edited.rows_affected()))
}

pub(super) async fn delete_review(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let Some(review_id) = pick::review(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let deleted = sqlx::query("DELETE FROM reviews WHERE review_id = $1")
        .bind(review_id)
        .execute(connection)
        .await?;
    Ok(Outcome::of_rows(deleted.rows_affected()))
}

/// The same points to one to eight users in one statement.
pub(super) async fn give_points(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
    now: NaiveDateTime,
) -> sqlx::Result<Outcome> {
    let (reason, points) = gift_points(rng);
    let amount = rng.random_range(1..=8);
    let given = sqlx::query(concat!(
        "INSERT INTO loyaltypoints (user_id, points, reason, created_at) ",
        "SELECT user_id, $2, $3, greatest($4, registration_date + interval '1 second') ",
        "FROM users WHERE user_id = ANY (",
        pick::keys!("users", "user_id"),
        ")"
    ))
    .bind(pick::points(rng, amount))
    .bind(points)
    .bind(reason.as_str())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(Outcome::of_rows(given.rows_affected()))
}

pub(super) async fn expire_points(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let Some(loyalty_id) = pick::loyalty_points(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let expired = sqlx::query("DELETE FROM loyaltypoints WHERE loyalty_id = $1")
        .bind(loyalty_id)
        .execute(connection)
        .await?;
    Ok(Outcome::of_rows(expired.rows_affected()))
}

pub(super) async fn change_loyalty_status(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let Some((user_id, _, status)) = pick::user(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let changed = sqlx::query("UPDATE users SET loyalty_status = $2 WHERE user_id = $1")
        .bind(user_id)
        .bind(decide::new_loyalty_status(rng, &status).as_str())
        .execute(connection)
        .await?;
    Ok(Outcome::of_rows(changed.rows_affected()))
}

pub(super) async fn change_phone(
    connection: &mut PgConnection,
    rng: &mut impl Rng,
) -> sqlx::Result<Outcome> {
    let Some((user_id, ..)) = pick::user(connection, rng).await? else {
        return Ok(Outcome::Nothing);
    };
    let changed = sqlx::query("UPDATE users SET phone = $2 WHERE user_id = $1")
        .bind(user_id)
        .bind(person(rng, "").phone)
        .execute(connection)
        .await?;
    Ok(Outcome::of_rows(changed.rows_affected()))
}
