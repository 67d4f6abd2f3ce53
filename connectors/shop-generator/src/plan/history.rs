//! What happened in the shop: orders with their details, reviews, loyalty points.

use chrono::NaiveDateTime;
use fake::faker::lorem::en::Paragraph;
use fake::Fake;
use rand::seq::{index, IndexedRandom};
use rand::{Rng, RngExt};

use super::{days, instant, stream, Config};
use crate::shop::{
    points_for, LoyaltyPoints, Order, OrderDetail, OrderStatus, Product, Reason, Review, User,
};

/// One order in ten is recent and may still be open; the others were decided long ago.
const RECENT_ONE_IN: u32 = 10;
const RECENT_DAYS: i64 = 5;
const DELIVERY_DAYS_MAX: i64 = 10;

/// Orders by date, and their details in the same sequence.
pub(super) fn orders(
    config: &Config,
    users: &[User],
    products: &[Product],
) -> (Vec<Order>, Vec<OrderDetail>) {
    let rng = &mut stream(config.seed, "orders");
    let mut orders: Vec<Order> = (0..config.counts.orders)
        .filter_map(|_| users.choose(rng).map(|user| order(rng, config.as_of, user)))
        .collect();
    orders.sort_by_key(|order| order.order_date);
    let mut details = Vec::new();
    for (order_id, order) in (1..).zip(&mut orders) {
        order.order_id = order_id;
        let first = details.len();
        let amount = config.counts.details.draw(rng).min(products.len());
        add_details(rng, order_id, products, amount, &mut details);
        order.total_amount = details[first..]
            .iter()
            .map(|detail| detail.total_price)
            .sum();
    }
    (orders, details)
}

/// An order without number and details. Users register at least 30 days before `as_of`.
fn order(rng: &mut impl Rng, as_of: NaiveDateTime, user: &User) -> Order {
    let first_moment = user.registration_date + days(1);
    let (order_date, status) = if rng.random_ratio(1, RECENT_ONE_IN) {
        (
            instant(rng, as_of - days(RECENT_DAYS), as_of),
            recent_status(rng),
        )
    } else {
        (
            instant(rng, first_moment, as_of - days(DELIVERY_DAYS_MAX + 1)),
            settled_status(rng),
        )
    };
    let delivery_date = status.has_delivery_date().then(|| {
        instant(
            rng,
            order_date + days(1),
            order_date + days(DELIVERY_DAYS_MAX),
        )
    });
    Order {
        order_id: 0,
        user_id: user.user_id,
        order_date,
        total_amount: Default::default(),
        status,
        delivery_date,
    }
}

fn recent_status(rng: &mut impl Rng) -> OrderStatus {
    match rng.random_range(0..100) {
        0..=29 => OrderStatus::Pending,
        30..=59 => OrderStatus::Processing,
        60..=89 => OrderStatus::Shipped,
        90..=95 => OrderStatus::Canceled,
        _ => OrderStatus::Failed,
    }
}

fn settled_status(rng: &mut impl Rng) -> OrderStatus {
    match rng.random_range(0..100) {
        0..=49 => OrderStatus::Completed,
        50..=79 => OrderStatus::Delivered,
        80..=86 => OrderStatus::Returned,
        87..=94 => OrderStatus::Canceled,
        _ => OrderStatus::Failed,
    }
}

fn add_details(
    rng: &mut impl Rng,
    order_id: i64,
    products: &[Product],
    amount: usize,
    details: &mut Vec<OrderDetail>,
) {
    for at in index::sample(rng, products.len(), amount) {
        let product = &products[at];
        let quantity = rng.random_range(1..=5);
        details.push(OrderDetail {
            order_detail_id: details.len() as i64 + 1,
            order_id,
            product_id: product.product_id,
            quantity,
            price_per_unit: product.price,
            total_price: product.price.times(quantity),
        });
    }
}

/// Reviews by date, of things that were bought, where anything was.
pub(super) fn reviews(
    config: &Config,
    users: &[User],
    products: &[Product],
    orders: &[Order],
    details: &[OrderDetail],
) -> Vec<Review> {
    let rng = &mut stream(config.seed, "reviews");
    let mut reviews: Vec<Review> = (0..config.counts.reviews)
        .filter_map(|_| {
            let (user_id, product_id, since) = purchase(rng, users, products, orders, details)?;
            Some(review(rng, user_id, product_id, since, config.as_of))
        })
        .collect();
    reviews.sort_by_key(|review| review.created_at);
    for (review_id, review) in (1..).zip(&mut reviews) {
        review.review_id = review_id;
    }
    reviews
}

/// A user, a product of theirs, and since when they may have an opinion of it.
fn purchase(
    rng: &mut impl Rng,
    users: &[User],
    products: &[Product],
    orders: &[Order],
    details: &[OrderDetail],
) -> Option<(i64, i64, NaiveDateTime)> {
    if let Some(detail) = details.choose(rng) {
        let order = &orders[usize::try_from(detail.order_id - 1).ok()?];
        return Some((order.user_id, detail.product_id, order.order_date));
    }
    let user = users.choose(rng)?;
    Some((
        user.user_id,
        products.choose(rng)?.product_id,
        user.registration_date + days(1),
    ))
}

fn review(
    rng: &mut impl Rng,
    user_id: i64,
    product_id: i64,
    since: NaiveDateTime,
    as_of: NaiveDateTime,
) -> Review {
    let (rating, review_text) = opinion(rng);
    let created_at = instant(rng, since, as_of);
    Review {
        review_id: 0,
        user_id,
        product_id,
        rating,
        review_text,
        created_at,
    }
}

/// A rating, mostly a good one, and a text.
pub(crate) fn opinion(rng: &mut impl Rng) -> (i32, String) {
    let rating = *[1, 2, 3, 3, 4, 4, 4, 5, 5, 5].choose(rng).unwrap_or(&5);
    (rating, Paragraph(1..4).fake_with_rng(rng))
}

/// Points by date: half of them for an order, the others given away.
pub(super) fn loyalty_points(
    config: &Config,
    users: &[User],
    orders: &[Order],
) -> Vec<LoyaltyPoints> {
    let rng = &mut stream(config.seed, "loyalty points");
    let mut rows: Vec<LoyaltyPoints> = (0..config.counts.loyalty_points)
        .filter_map(
            |_| match orders.choose(rng).filter(|_| rng.random_bool(0.5)) {
                Some(order) => Some(for_order(order)),
                None => users.choose(rng).map(|user| gift(rng, user, config.as_of)),
            },
        )
        .collect();
    rows.sort_by_key(|row| row.created_at);
    for (loyalty_id, row) in (1..).zip(&mut rows) {
        row.loyalty_id = loyalty_id;
    }
    rows
}

fn for_order(order: &Order) -> LoyaltyPoints {
    LoyaltyPoints {
        loyalty_id: 0,
        user_id: order.user_id,
        points: points_for(order.total_amount),
        reason: Reason::Order,
        created_at: order.order_date,
    }
}

fn gift(rng: &mut impl Rng, user: &User, as_of: NaiveDateTime) -> LoyaltyPoints {
    let (reason, points) = gift_points(rng);
    let created_at = instant(rng, user.registration_date + days(1), as_of);
    LoyaltyPoints {
        loyalty_id: 0,
        user_id: user.user_id,
        points,
        reason,
        created_at,
    }
}

/// Points that are not for an order.
pub(crate) fn gift_points(rng: &mut impl Rng) -> (Reason, i32) {
    let reason = *[Reason::Promotion, Reason::EventParticipation]
        .choose(rng)
        .unwrap_or(&Reason::Promotion);
    (reason, 10 * rng.random_range(1..=20))
}
