//! Invented people: names, addresses and numbers that look real and reach nobody.

use fake::faker::name::en::{FirstName, LastName};
use fake::faker::number::en::NumberWithFormat;
use fake::Fake;
use rand::{Rng, RngExt};

use crate::shop::LoyaltyStatus;

/// A person before they have an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// `first.last.<distinction>@example.com`, ASCII lower case; unique if the distinction is.
    pub email: String,
    /// `+1 ddd ddd dddd`.
    pub phone: String,
    /// One in ten is Gold, three in ten are Silver.
    pub loyalty_status: LoyaltyStatus,
}

/// The next person of `rng`. `distinction` makes the address unique among people of the same name.
pub fn person(rng: &mut impl Rng, distinction: &str) -> Person {
    let first_name: String = FirstName().fake_with_rng(rng);
    let last_name: String = LastName().fake_with_rng(rng);
    let email = email(&first_name, &last_name, distinction);
    let phone = NumberWithFormat("+1 ^## ^## ####").fake_with_rng(rng);
    Person {
        first_name,
        last_name,
        email,
        phone,
        loyalty_status: loyalty_status(rng),
    }
}

/// Domain `example.com` is reserved (RFC 2606): no message to it ever reaches anyone.
fn email(first_name: &str, last_name: &str, distinction: &str) -> String {
    let plain = |name: &str| -> String {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase()
    };
    format!(
        "{}.{}.{distinction}@example.com",
        plain(first_name),
        plain(last_name)
    )
}

fn loyalty_status(rng: &mut impl Rng) -> LoyaltyStatus {
    match rng.random_range(0..10) {
        0 => LoyaltyStatus::Gold,
        1..=3 => LoyaltyStatus::Silver,
        _ => LoyaltyStatus::Bronze,
    }
}
