//! Dates of events.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

/// Years that Postgres, MySQL and the text form of four digits all know.
const YEARS: std::ops::RangeInclusive<i32> = 1000..=9999;
const FRACTION_DIGITS_MAX: usize = 9;

/// Reads `YYYY-MM-DD`, which is midnight, or `YYYY-MM-DD HH:MM:SS[.fffffffff][ZONE]`, also with a `T` between date
/// and time. `ZONE` is `Z`, `+02`, `+0200` or `+02:00`, also behind a blank; without one the time is UTC.
///
/// The result is UTC; what is finer than microseconds is cut off.
pub(crate) fn parse(text: &str) -> Option<NaiveDateTime> {
    let (day, rest) = split(text, b"0000-00-00")?;
    let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
    let (time, offset) = match rest.is_empty() {
        true => (NaiveTime::MIN, TimeDelta::zero()),
        false => time_and_offset(rest)?,
    };
    let date = day.and_time(time).checked_sub_signed(offset)?;
    // A leap second, or what became of it, has no place in a timestamp column.
    let is_plain = YEARS.contains(&date.year()) && date.nanosecond() < 1_000_000_000;
    is_plain.then(|| date.with_nanosecond(date.nanosecond() / 1000 * 1000))?
}

fn time_and_offset(text: &str) -> Option<(NaiveTime, TimeDelta)> {
    let text = text.strip_prefix([' ', 'T', 't'])?;
    let (whole, rest) = split(text, b"00:00:00")?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let is_digit = |c: char| c.is_ascii_digit();
            let (digits, zone) = rest.split_at(rest.find(|c| !is_digit(c)).unwrap_or(rest.len()));
            let fits = (1..=FRACTION_DIGITS_MAX).contains(&digits.len());
            fits.then_some((digits, zone))?
        }
    };
    let time = NaiveTime::parse_from_str(&format!("{whole}.{fraction:0<9}"), "%H:%M:%S%.f").ok()?;
    Some((time, offset(zone)?))
}

/// What the local time is ahead of UTC.
fn offset(zone: &str) -> Option<TimeDelta> {
    let zone = zone
        .strip_prefix(' ')
        .filter(|zone| !zone.is_empty())
        .unwrap_or(zone);
    if ["", "Z", "z"].contains(&zone) {
        return Some(TimeDelta::zero());
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = &zone[1..];
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 | 5 => (digits.get(..2)?, digits.get(2..)?.trim_start_matches(':')),
        _ => return None,
    };
    let number = |text: &str, max: i64| -> Option<i64> {
        let (text, _) = split(text, b"00").filter(|(_, rest)| rest.is_empty())?;
        text.parse().ok().filter(|number| *number <= max)
    };
    let minutes = number(hours, 23)? * 60 + number(minutes, 59)?;
    Some(TimeDelta::minutes(sign * minutes))
}

/// What has this shape, where `0` is any digit, and what follows. chrono alone would also take signs, single digits
/// and white space.
fn split<'a>(text: &'a str, shape: &[u8]) -> Option<(&'a str, &'a str)> {
    let begin = text.get(..shape.len())?;
    let fits = begin
        .bytes()
        .zip(shape)
        .all(|(byte, expected)| match expected {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    fits.then(|| (begin, &text[shape.len()..]))
}
