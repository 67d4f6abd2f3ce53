//! The order in which both sides bring their rows.

use std::cmp::Ordering;

use crate::replica::Kind;

/// One column of a row's key, comparable as both servers compare it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// Numbers without fraction, booleans.
    Int(i64),
    /// Decimal text with sign and point.
    Decimal(String),
    /// Floating point.
    Double(f64),
    /// Text, times and digests, by their bytes.
    Bytes(Vec<u8>),
}

impl Key {
    /// From the canonical text of a key column.
    pub(super) fn of(text: &str, kind: Kind) -> Key {
        match kind {
            Kind::SmallInt | Kind::Int | Kind::BigInt | Kind::Bool => match text.parse() {
                Ok(number) => Key::Int(number),
                Err(_) => Key::Bytes(text.into()),
            },
            Kind::Decimal { .. } | Kind::DecimalAny => Key::Decimal(text.to_owned()),
            Kind::Double => Key::Double(text.parse().unwrap_or(f64::NAN)),
            _ => Key::Bytes(text.into()),
        }
    }

    fn compare(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Int(a), Key::Int(b)) => a.cmp(b),
            (Key::Decimal(a), Key::Decimal(b)) => compare_decimals(a, b),
            (Key::Double(a), Key::Double(b)) => a.total_cmp(b),
            (Key::Bytes(a), Key::Bytes(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Key::Int(_) => 0,
            Key::Decimal(_) => 1,
            Key::Double(_) => 2,
            Key::Bytes(_) => 3,
        }
    }
}

/// Compares whole keys, column by column.
pub(super) fn compare(left: &[Key], right: &[Key]) -> Ordering {
    let pairs = left
        .iter()
        .zip(right)
        .map(|(left, right)| left.compare(right));
    pairs
        .fold(Ordering::Equal, Ordering::then)
        .then(left.len().cmp(&right.len()))
}

fn compare_decimals(left: &str, right: &str) -> Ordering {
    let (left, left_negative) = magnitude(left);
    let (right, right_negative) = magnitude(right);
    match (left_negative, right_negative) {
        (false, false) => compare_magnitudes(left, right),
        (true, true) => compare_magnitudes(right, left),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

type Magnitude<'a> = (&'a str, &'a str);

/// Digits before and behind the point without padding, and whether the number is below zero.
fn magnitude(text: &str) -> (Magnitude<'_>, bool) {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let magnitude = (
        whole.trim_start_matches('0'),
        fraction.trim_end_matches('0'),
    );
    (magnitude, text.starts_with('-') && magnitude != ("", ""))
}

fn compare_magnitudes(left: Magnitude, right: Magnitude) -> Ordering {
    (left.0.len().cmp(&right.0.len()))
        .then_with(|| left.0.cmp(right.0))
        .then_with(|| left.1.cmp(right.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_as_numbers() {
        let ascending = [
            "-10", "-9.5", "-9.49", "-0.01", "0.00", "0.005", "0.01", "9.99", "10", "100.5",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(
                compare_decimals(pair[0], pair[1]),
                Ordering::Less,
                "{pair:?}"
            );
        }
        assert_eq!(compare_decimals("-0.0", "0"), Ordering::Equal);
        assert_eq!(compare_decimals("1.50", "1.5"), Ordering::Equal);
    }

    #[test]
    fn integers_compare_as_numbers_and_text_by_bytes() {
        assert_eq!(
            compare(
                &[Key::of("9", Kind::BigInt)],
                &[Key::of("10", Kind::BigInt)]
            ),
            Ordering::Less
        );
        assert_eq!(
            compare(
                &[Key::of("9", Kind::LongText)],
                &[Key::of("10", Kind::LongText)]
            ),
            Ordering::Greater
        );
        assert_eq!(
            compare(
                &[Key::of("a", Kind::LongText)],
                &[Key::of("a ", Kind::LongText)]
            ),
            Ordering::Less
        );
        assert_eq!(
            compare(
                &[Key::of("Z", Kind::LongText)],
                &[Key::of("a", Kind::LongText)]
            ),
            Ordering::Less
        );
    }
}
