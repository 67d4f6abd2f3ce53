//! How a time is written: RFC 3339, UTC, always six digits of a second, so that texts sort as times do.

use chrono::{DateTime, SecondsFormat, Utc};

/// As in `2026-01-02T03:04:05.000006Z`.
pub fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// For `#[serde(serialize_with)]`.
pub fn serialize<S: serde::Serializer>(at: &DateTime<Utc>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&text(*at))
}

/// For `#[serde(serialize_with)]`: null if it is not known.
pub fn serialize_option<S: serde::Serializer>(
    at: &Option<DateTime<Utc>>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serialize(at, out),
        None => out.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_have_six_digits_too() {
        let at = DateTime::from_timestamp_micros(1_750_000_000_000_000).expect("a valid time");
        assert_eq!(text(at), "2025-06-15T15:06:40.000000Z");
    }
}
