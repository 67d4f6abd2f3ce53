//! Dates of events.

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

/// Years that Postgres, MySQL and the text form of four digits all know.
const YEARS: std::ops::RangeInclusive<i32> = 1000..=9999;

/// Reads RFC 3339, or `YYYY-MM-DD HH:MM:SS[.ffffff]` (also with a `T`), which is taken as UTC.
/// The result is UTC; what is finer than microseconds is cut off.
pub(crate) fn parse(text: &str) -> Option<NaiveDateTime> {
    if !begins_like_a_date(text) {
        return None;
    }
    let date = match DateTime::parse_from_rfc3339(text) {
        Ok(date) => date.naive_utc(),
        Err(_) => plain(text)?,
    };
    // A leap second, or what became of it, has no place in a timestamp column.
    let is_plain = YEARS.contains(&date.year()) && date.nanosecond() < 1_000_000_000;
    is_plain.then(|| date.with_nanosecond(date.nanosecond() / 1000 * 1000))?
}

fn plain(text: &str) -> Option<NaiveDateTime> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let fraction = time.get(8..)?;
    let is_fraction = fraction.is_empty()
        || fraction.strip_prefix('.').is_some_and(|digits| {
            (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
    if !is_fraction {
        return None;
    }
    let joined = format!("{date} {time}");
    NaiveDateTime::parse_from_str(&joined, "%Y-%m-%d %H:%M:%S%.f").ok()
}

/// chrono alone would also take signs, single digits and white space.
fn begins_like_a_date(text: &str) -> bool {
    let shape = b"0000-00-00 00:00:00";
    let bytes = text.as_bytes();
    bytes.len() >= shape.len()
        && shape
            .iter()
            .zip(bytes)
            .all(|(expected, byte)| match expected {
                b'0' => byte.is_ascii_digit(),
                b' ' => matches!(byte, b' ' | b'T' | b't'),
                other => byte == other,
            })
}
