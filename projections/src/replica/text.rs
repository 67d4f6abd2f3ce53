//! The canonical text of a value: what is written to MySQL and what verify compares.

use std::borrow::Cow;

use millrace_events::Value;

use super::known::{DIGITS_BEFORE_MAX, DIGITS_BEHIND_MAX};
use super::{Column, Kind};

/// MySQL has no such value. It is never replaced by another one, and never printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unrepresentable(pub &'static str);

type Text<'a> = Result<Option<Cow<'a, str>>, Unrepresentable>;

/// The canonical text of a source value in `column`; `None` is NULL.
///
/// Equal source values give equal texts, and the text read back from MySQL through
/// [`Column::select_expression`] and [`from_server`] is the same again. `bytea` gives upper-case
/// hexadecimal digits.
pub fn canonical<'a>(value: &'a Value, column: &Column) -> Text<'a> {
    match value {
        Value::Null if column.key => Err(Unrepresentable("NULL in a primary key")),
        Value::Null => Ok(None),
        Value::Bool(value) => of_bool(*value, column.kind).map(Some),
        Value::Int(value) => of_int(*value, column.kind).map(Some),
        Value::Text(text) => of_text(text, column.kind).map(Some),
        Value::Sliced(_) => Err(Unrepresentable("a value whose text is elsewhere")),
    }
}

/// Turns what MySQL printed for [`Column::select_expression`] into the canonical text.
pub fn from_server<'a>(text: &'a str, column: &Column) -> Cow<'a, str> {
    match column.kind {
        Kind::DecimalAny => Cow::Borrowed(without_trailing_zeros(text)),
        // A replica that an earlier version built may hold it with its blanks.
        Kind::BlankPadded(_) | Kind::LongBlankPadded => Cow::Borrowed(without_padding(text)),
        Kind::Double => match text.parse::<f64>() {
            Ok(number) => Cow::Owned(format!("{number:?}")),
            Err(_) => Cow::Borrowed(text),
        },
        _ => Cow::Borrowed(text),
    }
}

/// The text by which Postgres prints a value; `None` is NULL, or a text that came in slices.
pub fn exact(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "t" } else { "f" })),
        Value::Int(value) => Some(Cow::Owned(value.to_string())),
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Sliced(_) => None,
    }
}

fn of_bool(value: bool, kind: Kind) -> Result<Cow<'static, str>, Unrepresentable> {
    match kind {
        Kind::Bool => Ok(Cow::Borrowed(if value { "1" } else { "0" })),
        _ => Err(Unrepresentable("a boolean in a column of another type")),
    }
}

fn of_int(value: i64, kind: Kind) -> Result<Cow<'static, str>, Unrepresentable> {
    let fits = match kind {
        Kind::SmallInt => i16::try_from(value).is_ok(),
        Kind::Int => i32::try_from(value).is_ok(),
        Kind::BigInt => true,
        _ => return Err(Unrepresentable("an integer in a column of another type")),
    };
    if fits {
        Ok(Cow::Owned(value.to_string()))
    } else {
        Err(Unrepresentable("an integer beyond its type"))
    }
}

fn of_text(text: &str, kind: Kind) -> Result<Cow<'_, str>, Unrepresentable> {
    match kind {
        Kind::SmallInt | Kind::Int | Kind::BigInt | Kind::Bool => {
            Err(Unrepresentable("text in a column of integers or booleans"))
        }
        Kind::Decimal { precision, scale } => fixed(text, precision, scale),
        Kind::DecimalAny => any_decimal(text),
        Kind::Double => double(text),
        Kind::VarChar(n) => limited(text, n),
        Kind::BlankPadded(n) => limited(without_padding(text), n),
        Kind::LongBlankPadded => Ok(Cow::Borrowed(without_padding(text))),
        Kind::LongText => Ok(Cow::Borrowed(text)),
        Kind::Uuid if text.len() == 36 => Ok(Cow::Borrowed(text)),
        Kind::Uuid => Err(Unrepresentable("not a UUID")),
        Kind::Date => date(text).map(Cow::Borrowed),
        Kind::DateTime => date_time(text).map(Cow::Owned),
        Kind::Time => time(text).map(Cow::Owned),
        Kind::LongBlob => bytes(text, usize::MAX),
        Kind::VarBinary(n) => bytes(text, n as usize),
    }
}

/// The blanks that Postgres fills a `char(n)` up with mean nothing, whatever type holds it here.
fn without_padding(text: &str) -> &str {
    text.trim_end_matches(' ')
}

fn limited(text: &str, chars_max: u32) -> Result<Cow<'_, str>, Unrepresentable> {
    if text.len() <= chars_max as usize || text.chars().count() <= chars_max as usize {
        Ok(Cow::Borrowed(text))
    } else {
        Err(Unrepresentable("longer than a MySQL key can hold"))
    }
}

/// Splits `-12.50` into (digits before the point, digits behind it).
fn decimal_parts(text: &str) -> Result<(&str, &str), Unrepresentable> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) {
        return Err(Unrepresentable("NaN or infinity in a numeric column"));
    }
    Ok((whole.trim_start_matches('0'), fraction))
}

fn fixed(text: &str, precision: u32, scale: u32) -> Result<Cow<'_, str>, Unrepresentable> {
    let (whole, fraction) = decimal_parts(text)?;
    if whole.len() > (precision - scale) as usize || fraction.len() != scale as usize {
        return Err(Unrepresentable("a number beyond its column's precision"));
    }
    Ok(Cow::Borrowed(text))
}

fn any_decimal(text: &str) -> Result<Cow<'_, str>, Unrepresentable> {
    let (whole, fraction) = decimal_parts(text)?;
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > DIGITS_BEFORE_MAX as usize || fraction.len() > DIGITS_BEHIND_MAX as usize {
        return Err(Unrepresentable(
            "a number with more than 35 digits before or 30 behind the point",
        ));
    }
    Ok(Cow::Borrowed(without_trailing_zeros(text)))
}

fn without_trailing_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

fn double(text: &str) -> Result<Cow<'_, str>, Unrepresentable> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Cow::Owned(format!("{number:?}"))),
        _ => Err(Unrepresentable("NaN or infinity")),
    }
}

fn date(text: &str) -> Result<&str, Unrepresentable> {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    if shape && !text.starts_with("0000") {
        Ok(text)
    } else {
        Err(Unrepresentable(
            "a date that is infinite, before Christ or after the year 9999",
        ))
    }
}

fn date_time(text: &str) -> Result<String, Unrepresentable> {
    let refused = Unrepresentable("a time that is infinite, before Christ or after the year 9999");
    let (day, clock) = text.split_once(' ').ok_or(refused)?;
    let day = date(day).map_err(|_| refused)?;
    // Sessions of capture run in UTC, so that is the only offset Postgres prints.
    let clock = clock.strip_suffix("+00").unwrap_or(clock);
    let clock = time(clock).map_err(|_| refused)?;
    Ok(format!("{day} {clock}"))
}

fn time(text: &str) -> Result<String, Unrepresentable> {
    let refused = Unrepresentable("not a time of day");
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let shape = clock.len() == 8
        && clock.bytes().enumerate().all(|(i, b)| match i {
            2 | 5 => b == b':',
            _ => b.is_ascii_digit(),
        })
        && fraction.len() <= 6
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if shape {
        Ok(format!("{clock}.{fraction:0<6}"))
    } else {
        Err(refused)
    }
}

fn bytes(text: &str, bytes_max: usize) -> Result<Cow<'_, str>, Unrepresentable> {
    let digits = text
        .strip_prefix("\\x")
        .filter(|digits| digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .ok_or(Unrepresentable("bytes that are not in hexadecimal form"))?;
    if digits.len() / 2 > bytes_max {
        return Err(Unrepresentable("longer than a MySQL key can hold"));
    }
    Ok(Cow::Owned(digits.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind) -> Column {
        Column {
            source: "c".into(),
            name: "c".into(),
            key: false,
            kind,
            policy: crate::replica::Policy::Stop,
        }
    }

    fn text_of(kind: Kind, value: &str) -> Result<String, &'static str> {
        canonical(&Value::Text(value.into()), &column(kind))
            .map(|text| text.unwrap_or_default().into_owned())
            .map_err(|error| error.0)
    }

    #[test]
    fn values_take_the_form_that_mysql_prints() {
        let money = Kind::Decimal {
            precision: 12,
            scale: 2,
        };
        let cases = [
            (money, "-0.50", "-0.50"),
            (Kind::DecimalAny, "1.500", "1.5"),
            (Kind::DecimalAny, "100", "100"),
            (Kind::DecimalAny, "0.000", "0"),
            (Kind::Double, "1e+20", "1e20"),
            (Kind::Double, "1", "1.0"),
            (Kind::BlankPadded(5), "ab   ", "ab"),
            (Kind::LongBlankPadded, "ab   ", "ab"),
            (Kind::Date, "2024-02-29", "2024-02-29"),
            (
                Kind::DateTime,
                "2024-02-29 12:00:01",
                "2024-02-29 12:00:01.000000",
            ),
            (
                Kind::DateTime,
                "2024-02-29 12:00:01.25+00",
                "2024-02-29 12:00:01.250000",
            ),
            (Kind::Time, "24:00:00", "24:00:00.000000"),
            (Kind::LongBlob, "\\x00ff", "00FF"),
            (Kind::LongText, "a ", "a "),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(text_of(kind, value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn values_that_mysql_lacks_are_refused_without_showing_them() {
        let money = Kind::Decimal {
            precision: 12,
            scale: 2,
        };
        let cases = [
            (money, "NaN"),
            (money, "12345678901.00"),
            (money, "1.234"),
            (Kind::DecimalAny, "Infinity"),
            (Kind::DecimalAny, "1234567890123456789012345678901234567890"),
            (Kind::Double, "NaN"),
            (Kind::Double, "-Infinity"),
            (Kind::Date, "infinity"),
            (Kind::Date, "0044-03-15 BC"),
            (Kind::Date, "10000-01-01"),
            (Kind::DateTime, "10000-01-01 00:00:00"),
            (Kind::DateTime, "0044-03-15 00:00:00 BC"),
            (Kind::DateTime, "-infinity"),
            (Kind::DateTime, "2024-01-01 00:00:00+02"),
            (Kind::VarChar(3), "abcd"),
            (Kind::Int, "1"),
        ];
        for (kind, value) in cases {
            let error = text_of(kind, value).expect_err(value);
            // What is refused for being NaN may say NaN; nothing else of a value may show.
            assert!(
                value == "NaN" || value == "1" || !error.contains(value),
                "{error}"
            );
        }
    }

    #[test]
    fn what_the_server_prints_becomes_canonical_again() {
        let any = "1.500000000000000000000000000000";
        assert_eq!(from_server(any, &column(Kind::DecimalAny)), "1.5");
        assert_eq!(from_server("1e20", &column(Kind::Double)), "1e20");
        assert_eq!(from_server("1", &column(Kind::Double)), "1.0");
        assert_eq!(from_server("a ", &column(Kind::LongText)), "a ");
        for padded in [Kind::BlankPadded(2), Kind::LongBlankPadded] {
            assert_eq!(from_server("a ", &column(padded)), "a", "{padded:?}");
        }
    }
}
