//! Exact money.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// An amount in hundredths, exact; printed as Postgres prints `NUMERIC(12,2)`: `-3.50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cents(pub i64);

impl Cents {
    /// The price of `quantity` pieces at this price each; saturates far above what a column holds.
    pub fn times(self, quantity: i32) -> Cents {
        Cents(self.0.saturating_mul(i64::from(quantity)))
    }

    /// This amount changed to `permille` thousandths of itself, rounded down.
    pub fn scaled(self, permille: i64) -> Cents {
        Cents(self.0.saturating_mul(permille) / 1000)
    }
}

impl Add for Cents {
    type Output = Cents;
    fn add(self, other: Cents) -> Cents {
        Cents(self.0.saturating_add(other.0))
    }
}

impl Sum for Cents {
    fn sum<I: Iterator<Item = Cents>>(amounts: I) -> Cents {
        amounts.fold(Cents(0), Add::add)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", amount / 100, amount % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::Cents;

    #[test]
    fn printed_as_numeric_with_two_places() {
        let printed: Vec<String> = [0, 5, 100, 123456, -350, -5]
            .map(|c| Cents(c).to_string())
            .into();
        assert_eq!(
            printed,
            ["0.00", "0.05", "1.00", "1234.56", "-3.50", "-0.05"]
        );
    }
}
