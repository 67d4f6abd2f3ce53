//! What happens next in the shop: pure decisions of a random stream.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use crate::money::Cents;
use crate::shop::{LoyaltyStatus, OrderStatus};

/// One kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// An order with 1 to 10 details: stock goes down, points are given.
    PlaceOrder,
    /// The same, rolled back at the till: nothing of it may ever be seen.
    AbandonOrder,
    /// An open order moves on: processed, shipped, delivered, or canceled or failed and restocked.
    AdvanceOrder,
    /// A delivered order is completed, or returned and restocked.
    SettleOrder,
    /// A pending order changes: another quantity, or one line less.
    AmendOrder,
    /// A buyer reviews something bought.
    WriteReview,
    /// A review gets another rating and text.
    EditReview,
    /// A review disappears.
    DeleteReview,
    /// Points for several users at once.
    GivePoints,
    /// A row of points disappears.
    ExpirePoints,
    /// One to three products get another price.
    ChangePrices,
    /// Several products are filled up.
    Restock,
    /// A user rises or falls.
    ChangeLoyaltyStatus,
    /// A user gets another telephone number.
    ChangePhone,
    /// An old order that is settled disappears with its details.
    DeleteOldOrder,
}

/// How often each action happens, out of the sum. An order needs about three advances, so that the
/// number of open orders stays level.
pub const WEIGHTS: [(Action, u32); 15] = [
    (Action::PlaceOrder, 170),
    (Action::AbandonOrder, 10),
    (Action::AdvanceOrder, 470),
    (Action::SettleOrder, 60),
    (Action::AmendOrder, 30),
    (Action::WriteReview, 60),
    (Action::EditReview, 20),
    (Action::DeleteReview, 20),
    (Action::GivePoints, 30),
    (Action::ExpirePoints, 20),
    (Action::ChangePrices, 30),
    (Action::Restock, 20),
    (Action::ChangeLoyaltyStatus, 30),
    (Action::ChangePhone, 10),
    (Action::DeleteOldOrder, 20),
];

/// The next action.
pub fn action(rng: &mut impl Rng) -> Action {
    WEIGHTS
        .choose_weighted(rng, |(_, weight)| *weight)
        .map_or(Action::PlaceOrder, |(action, _)| *action)
}

/// Where an order goes from `status`; None if it stays there for good.
pub fn next_status(rng: &mut impl Rng, status: OrderStatus) -> Option<OrderStatus> {
    let chance = rng.random_range(0..100);
    match status {
        OrderStatus::Pending if chance < 5 => Some(OrderStatus::Failed),
        OrderStatus::Pending | OrderStatus::Processing if chance < 12 => {
            Some(OrderStatus::Canceled)
        }
        OrderStatus::Pending => Some(OrderStatus::Processing),
        OrderStatus::Processing => Some(OrderStatus::Shipped),
        OrderStatus::Shipped => Some(OrderStatus::Delivered),
        OrderStatus::Delivered if chance < 15 => Some(OrderStatus::Returned),
        OrderStatus::Delivered => Some(OrderStatus::Completed),
        OrderStatus::Completed
        | OrderStatus::Returned
        | OrderStatus::Canceled
        | OrderStatus::Failed => None,
    }
}

/// A product as it stands on the shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shelf {
    /// Which product.
    pub product_id: i64,
    /// Its price now.
    pub price: Cents,
    /// Pieces there.
    pub stock: i32,
}

/// A line of a new order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Which product.
    pub product_id: i64,
    /// How many: at least one, never more than are on the shelf.
    pub quantity: i32,
    /// Price of one.
    pub price_per_unit: Cents,
    /// `quantity × price_per_unit`.
    pub total_price: Cents,
}

/// One line for each of `shelves` that is not empty.
pub fn basket(rng: &mut impl Rng, shelves: &[Shelf]) -> Vec<Line> {
    shelves
        .iter()
        .filter(|shelf| shelf.stock > 0)
        .map(|shelf| {
            let quantity = rng.random_range(1..=5).min(shelf.stock);
            Line {
                product_id: shelf.product_id,
                quantity,
                price_per_unit: shelf.price,
                total_price: shelf.price.times(quantity),
            }
        })
        .collect()
}

const PRICE_MIN: Cents = Cents(100);
const PRICE_MAX: Cents = Cents(500_000);

/// Another price than `price`: at most 15 % away, between 1.00 and 5000.00.
pub fn new_price(rng: &mut impl Rng, price: Cents) -> Cents {
    let proposed = price
        .scaled(rng.random_range(850..=1150))
        .clamp(PRICE_MIN, PRICE_MAX);
    if proposed != price {
        return proposed;
    }
    if price < PRICE_MAX {
        price + Cents(1)
    } else {
        price + Cents(-1)
    }
}

/// Another quantity than `quantity`, 1 to 5.
pub fn new_quantity(rng: &mut impl Rng, quantity: i32) -> i32 {
    let proposed = rng.random_range(1..=4);
    if proposed < quantity {
        proposed
    } else {
        proposed + 1
    }
}

/// Another status than `status`, which may be unknown.
pub fn new_loyalty_status(rng: &mut impl Rng, status: &str) -> LoyaltyStatus {
    let others: Vec<_> = LoyaltyStatus::ALL
        .into_iter()
        .filter(|other| other.as_str() != status)
        .collect();
    others.choose(rng).copied().unwrap_or(LoyaltyStatus::Bronze)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::stream;

    const SEEDS: std::ops::Range<u64> = 0..500;

    #[test]
    fn every_order_comes_to_rest_and_delivery_precedes_completion() {
        for seed in SEEDS {
            let rng = &mut stream(seed, "life of an order");
            let mut life = vec![OrderStatus::Pending];
            while let Some(next) = life.last().and_then(|status| next_status(rng, *status)) {
                life.push(next);
            }
            assert!(life.len() <= 5, "seed {seed}: {life:?}");
            let delivered = life.iter().any(|status| status.has_delivery_date());
            assert_eq!(
                delivered,
                life.contains(&OrderStatus::Delivered),
                "seed {seed}: {life:?}"
            );
        }
    }

    #[test]
    fn advances_suffice_for_the_orders_placed() {
        let weight = |wanted| {
            WEIGHTS
                .iter()
                .find(|(action, _)| *action == wanted)
                .map_or(0, |(_, weight)| *weight)
        };
        assert!(weight(Action::AdvanceOrder) * 100 >= weight(Action::PlaceOrder) * 270);
    }

    #[test]
    fn all_actions_happen() {
        let rng = &mut stream(1, "actions");
        let seen: std::collections::HashSet<_> = (0..5_000).map(|_| action(rng)).collect();
        assert_eq!(seen.len(), WEIGHTS.len());
    }

    #[test]
    fn baskets_never_take_more_than_there_is() {
        for seed in SEEDS {
            let rng = &mut stream(seed, "basket");
            let shelves: Vec<_> = (0..10)
                .map(|product_id| Shelf {
                    product_id,
                    price: Cents(rng.random_range(1..100_000)),
                    stock: rng.random_range(0..4),
                })
                .collect();
            for line in basket(rng, &shelves) {
                let shelf = shelves
                    .iter()
                    .find(|shelf| shelf.product_id == line.product_id)
                    .unwrap();
                assert!((1..=shelf.stock).contains(&line.quantity), "seed {seed}");
                assert_eq!(
                    line.total_price.0,
                    line.price_per_unit.0 * i64::from(line.quantity)
                );
            }
        }
    }

    #[test]
    fn changes_change_something_and_stay_in_bounds() {
        for seed in SEEDS {
            let rng = &mut stream(seed, "changes");
            let price = Cents(rng.random_range(0..600_000));
            let changed = new_price(rng, price);
            assert!(
                changed != price && changed >= PRICE_MIN && changed <= PRICE_MAX,
                "seed {seed}"
            );
            for quantity in 1..=5 {
                let changed = new_quantity(rng, quantity);
                assert!(
                    changed != quantity && (1..=5).contains(&changed),
                    "seed {seed}"
                );
            }
            assert_ne!(
                new_loyalty_status(rng, "Gold"),
                LoyaltyStatus::Gold,
                "seed {seed}"
            );
        }
    }
}
