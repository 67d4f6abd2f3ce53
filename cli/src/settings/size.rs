//! Sizes in bytes, with a unit.

use super::value::Value;

/// Bytes, at least `MIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<const MIN: u64>(u64);

/// What a topic keeps. Four segments: in less, what is written would remove itself.
pub type TopicSize = Size<{ 64 << 20 }>;

/// By name in small letters. A number without a unit is nobody's guess: it is refused.
const UNITS: &[(&str, u64)] = &[
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

impl<const MIN: u64> Size<MIN> {
    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64> Value for Size<MIN> {
    fn expected() -> String {
        let min = MIN >> 20;
        format!(
            "a whole number of MB, MiB, GB, GiB, TB or TiB, such as 32GiB, and at least {min}MiB"
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start().to_ascii_lowercase();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let bytes = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        // What the protocol counts bytes in.
        let possible = bytes >= MIN && i64::try_from(bytes).is_ok();
        possible.then_some(Size(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        for (text, bytes) in [
            ("32GiB", 32 << 30),
            (" 64 mib ", 64 << 20),
            ("100GB", 100_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            let size = TopicSize::parse(text);
            assert_eq!(size.map(TopicSize::bytes), Some(bytes), "{text}");
        }
        for refused in [
            "32",
            "GiB",
            "32G",
            "-1GiB",
            "1.5GiB",
            "63MiB",
            "32GiB/s",
            "9999999TiB",
            "",
        ] {
            assert_eq!(TopicSize::parse(refused), None, "{refused}");
        }
    }
}
