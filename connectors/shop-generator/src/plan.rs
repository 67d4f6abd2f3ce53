//! The shop's history as a pure function of its configuration.
//!
//! Every table draws from a random stream of its own, so asking for more reviews does not change
//! the orders. Equal configurations give equal rows, byte for byte, whenever and wherever they run.

mod catalog;
mod history;

pub(crate) use history::{gift_points, opinion};

use chrono::{DateTime, NaiveDateTime, TimeDelta};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::people::person;
use crate::shop::{Shop, User};

/// How large the shop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Rows of `users`.
    pub users: usize,
    /// Rows of `productcategories`, a quarter of them above and the others below those.
    pub categories: usize,
    /// Rows of `products`, all in the lower categories.
    pub products: usize,
    /// Rows of `orders`.
    pub orders: usize,
    /// Rows of `orderdetails` for one order.
    pub details: Details,
    /// Rows of `reviews`.
    pub reviews: usize,
    /// Rows of `loyaltypoints`.
    pub loyalty_points: usize,
}

/// How many details an order has: any number between the two. Each is of another product, so that
/// there are never more than products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Details {
    /// At least so many, and at least one.
    pub min: usize,
    /// At most so many.
    pub max: usize,
}

impl Default for Details {
    fn default() -> Self {
        Details { min: 1, max: 10 }
    }
}

impl Details {
    pub(crate) fn draw(self, rng: &mut impl Rng) -> usize {
        rng.random_range(self.min..=self.max.max(self.min))
    }

    pub(crate) fn check(self) -> Result<(), Invalid> {
        if self.min == 0 || self.min > self.max {
            return Err(Invalid::Details(self.min, self.max));
        }
        Ok(())
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            users: 500,
            categories: 20,
            products: 800,
            orders: 3000,
            details: Details::default(),
            reviews: 2000,
            loyalty_points: 3000,
        }
    }
}

/// What the history is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Equal seeds give equal rows.
    pub seed: u64,
    /// UTC; the history ends here. Nothing depends on the clock of the machine.
    pub as_of: NaiveDateTime,
    /// How many rows.
    pub counts: Counts,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 42,
            as_of: default_as_of(),
            counts: Counts::default(),
        }
    }
}

/// 2026-01-01 00:00:00.
fn default_as_of() -> NaiveDateTime {
    const SECONDS_SINCE_1970: i64 = 1_767_225_600;
    DateTime::from_timestamp(SECONDS_SINCE_1970, 0)
        .unwrap_or_default()
        .naive_utc()
}

/// A configuration that no shop can be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Orders, reviews and points belong to somebody.
    #[error("orders, reviews and loyalty points need at least one user")]
    NoUsers,
    /// Orders and reviews are about something.
    #[error("orders and reviews need at least one product")]
    NoProducts,
    /// Products stand in the lower of two levels.
    #[error("products need at least 2 categories, one above and one below, not {0}")]
    Categories(usize),
    /// An order is of something.
    #[error("an order has from {0} to {1} details: it needs at least 1, and the largest number must not be below the smallest")]
    Details(usize, usize),
    /// The history reaches back [`YEARS_BACK`] years and must stay within what Postgres and MySQL hold.
    #[error("as_of must lie between the years 1010 and 9000, not {0}")]
    AsOf(NaiveDateTime),
}

/// The shop opened this many years before `as_of`.
pub const YEARS_BACK: i64 = 4;

/// The whole history. Invariants, for every valid `config`:
/// counts as configured; keys from 1 without gap; references within the shop; products only in the
/// lower of two category levels; `total_price = quantity × price_per_unit`; `total_amount` the sum
/// over its details; nothing of a user before their registration, nothing after `as_of`;
/// a delivery date after the order date exactly where the status is a delivered one.
pub fn plan(config: &Config) -> Result<Shop, Invalid> {
    check(config)?;
    let users = users(config);
    let categories = catalog::categories(config.counts.categories);
    let products = catalog::products(config);
    let (orders, details) = history::orders(config, &users, &products);
    let reviews = history::reviews(config, &users, &products, &orders, &details);
    let loyalty_points = history::loyalty_points(config, &users, &orders);
    Ok(Shop {
        users,
        categories,
        products,
        orders,
        details,
        reviews,
        loyalty_points,
    })
}

fn check(config: &Config) -> Result<(), Invalid> {
    use chrono::Datelike;
    let Counts {
        users,
        categories,
        products,
        orders,
        details,
        reviews,
        loyalty_points,
    } = config.counts;
    details.check()?;
    if products > 0 && categories < 2 {
        return Err(Invalid::Categories(categories));
    }
    if users == 0 && orders + reviews + loyalty_points > 0 {
        return Err(Invalid::NoUsers);
    }
    if products == 0 && orders + reviews > 0 {
        return Err(Invalid::NoProducts);
    }
    if !(1010..=9000).contains(&config.as_of.year()) {
        return Err(Invalid::AsOf(config.as_of));
    }
    Ok(())
}

fn users(config: &Config) -> Vec<User> {
    let rng = &mut stream(config.seed, "users");
    let opening = config.as_of - days(365 * (YEARS_BACK - 1));
    let mut dates: Vec<_> = (0..config.counts.users)
        .map(|_| instant(rng, opening, config.as_of - days(30)))
        .collect();
    dates.sort_unstable();
    (1..)
        .zip(dates)
        .map(|(id, registered)| user(rng, id, registered))
        .collect()
}

fn user(rng: &mut impl Rng, user_id: i64, registration_date: NaiveDateTime) -> User {
    let person = person(rng, &user_id.to_string());
    User {
        user_id,
        first_name: person.first_name,
        last_name: person.last_name,
        email: person.email,
        phone: person.phone,
        registration_date,
        loyalty_status: person.loyalty_status,
    }
}

/// The random stream of one purpose: independent of all others of the same seed.
pub(crate) fn stream(seed: u64, purpose: &str) -> StdRng {
    // FNV-1a, because the standard library's hash may change between releases.
    let tag = purpose
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&tag.to_le_bytes());
    StdRng::from_seed(bytes)
}

/// A random instant, to the microsecond, in `[from, to)`; `from` if that is empty.
fn instant(rng: &mut impl Rng, from: NaiveDateTime, to: NaiveDateTime) -> NaiveDateTime {
    match (to - from).num_microseconds() {
        Some(span) if span > 0 => from + TimeDelta::microseconds(rng.random_range(0..span)),
        _ => from,
    }
}

fn days(n: i64) -> TimeDelta {
    TimeDelta::days(n)
}
