//! The one table of types: Postgres type → how a value stands in a record → what holds it in MySQL → what is lost. Pure.
//!
//! `docs/types.md` is printed from it.

use super::types::Kind;

/// InnoDB: no index entry is longer (3072 bytes of utf8mb4).
pub(super) const KEY_CHARS_MAX: u32 = 768;
pub(super) const KEY_BYTES_MAX: usize = 3072;
/// What `DECIMAL(65,30)` has before and behind the point.
pub(super) const DIGITS_BEFORE_MAX: i64 = 35;
pub(super) const DIGITS_BEHIND_MAX: i64 = 30;

/// How a value stands in a record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Boolean,
    Integer,
    /// The text that Postgres prints.
    Text,
}

/// Types that are held alike.
struct Known {
    /// As `format_type()` prints them, without modifiers. None: all that no other entry names.
    names: &'static [&'static str],
    /// By modifiers, and whether the column is part of a key.
    kind: fn(&[i64], bool) -> Kind,
    event: Event,
    /// For the documentation: names that are held alike, with commas between them, and what of a value is not in MySQL.
    shown: &'static [(&'static str, &'static str)],
}

const TYPES: &[Known] = &[
    Known {
        names: &["boolean"],
        kind: |_, _| Kind::Bool,
        event: Event::Boolean,
        shown: &[("boolean", "nothing: 0 and 1")],
    },
    Known {
        names: &["smallint"],
        kind: |_, _| Kind::SmallInt,
        event: Event::Integer,
        shown: &[("smallint", "nothing")],
    },
    Known {
        names: &["integer"],
        kind: |_, _| Kind::Int,
        event: Event::Integer,
        shown: &[("integer", "nothing")],
    },
    Known {
        names: &["bigint"],
        kind: |_, _| Kind::BigInt,
        event: Event::Integer,
        shown: &[("bigint", "nothing")],
    },
    Known {
        names: &["numeric"],
        kind: |modifiers, key| decimal(modifiers).unwrap_or(long_text(key)),
        event: Event::Text,
        shown: &[
            ("numeric(12,2)", "`NaN` does not fit"),
            (
                "numeric, numeric(3,-2), numeric(3,5)",
                "the number of zeros at its end; `NaN`, infinities, and more than 35 digits before or 30 behind the point do not fit",
            ),
            (
                "numeric(80,2)",
                "nothing: more digits than MySQL's 65, or more than 30 behind the point, are kept as the exact text",
            ),
        ],
    },
    Known {
        names: &["real", "double precision"],
        kind: |_, _| Kind::Double,
        event: Event::Text,
        shown: &[("real, double precision", "`NaN` and infinities do not fit; −0 and denormals stay")],
    },
    Known {
        names: &["character varying"],
        kind: |modifiers, key| short(modifiers, key, Kind::VarChar),
        event: Event::Text,
        shown: &[
            ("character varying(100)", "nothing; what is too wide for a row of MySQL becomes LONGTEXT"),
            ("character varying", "nothing"),
        ],
    },
    Known {
        names: &["character"],
        kind: |modifiers, key| short(modifiers, key, Kind::BlankPadded),
        event: Event::Text,
        shown: &[
            ("character(10)", "the blanks that Postgres fills it up with, which mean nothing there either"),
            ("character(300)", "the same; what is too wide for a row of MySQL becomes LONGTEXT"),
        ],
    },
    Known {
        names: &["uuid"],
        kind: |_, _| Kind::Uuid,
        event: Event::Text,
        shown: &[("uuid", "nothing")],
    },
    Known {
        names: &["date"],
        kind: |_, _| Kind::Date,
        event: Event::Text,
        shown: &[("date", "infinities, years before 1 and after 9999 do not fit")],
    },
    Known {
        names: &["timestamp without time zone", "timestamp with time zone"],
        kind: |_, _| Kind::DateTime,
        event: Event::Text,
        shown: &[
            ("timestamp without time zone", "infinities, years before 1 and after 9999 do not fit"),
            ("timestamp with time zone", "it is the same instant, in UTC; infinities, years before 1 and after 9999 do not fit"),
        ],
    },
    Known {
        names: &["time without time zone"],
        kind: |_, _| Kind::Time,
        event: Event::Text,
        shown: &[("time without time zone", "nothing, 24:00:00 included")],
    },
    Known {
        names: &["bytea"],
        kind: |_, key| match key {
            true => Kind::VarBinary(KEY_BYTES_MAX as u32),
            false => Kind::LongBlob,
        },
        event: Event::Text,
        shown: &[("bytea", "nothing; in a record it is Postgres' hexadecimal text")],
    },
    Known {
        names: &["json", "jsonb"],
        kind: |_, key| long_text(key),
        event: Event::Text,
        shown: &[("json, jsonb", "nothing: as text its numbers keep all digits, and MySQL's JSON functions read it. A `json` keeps its blanks and the \
               order of its fields")],
    },
    Known {
        names: &["text"],
        kind: |_, key| long_text(key),
        event: Event::Text,
        shown: &[("text", "nothing: capitals, accents and blanks at the end count, also in keys")],
    },
    Known {
        names: &[],
        kind: |_, key| long_text(key),
        event: Event::Text,
        shown: &[("time with time zone, interval, bit(8), bit varying, money, inet, cidr, macaddr, xml, tsvector, point, int4range, integer[], an enum, a composite type, a type of an extension, any other type", "nothing of the text that Postgres prints, with `IntervalStyle` postgres, `lc_monetary` C and `TimeZone` UTC")],
    },
];

/// The rows of the table in `docs/types.md`.
pub fn types_as_markdown() -> String {
    TYPES.iter().map(Known::as_markdown).collect()
}

impl Known {
    fn holds(&self, type_name: &str) -> bool {
        let (base, _) = split_modifiers(type_name);
        self.names.is_empty() || self.names.contains(&base.as_str())
    }

    fn as_markdown(&self) -> String {
        let json = match self.event {
            Event::Boolean => "`true`, `false`",
            Event::Integer => "integer",
            Event::Text => "string",
        };
        let row = |(names, lost): &(&str, &str)| {
            let first = names.split(", ").next().unwrap_or_default();
            let [plain, key] = [false, true].map(|key| kind_of(first, key).sql_type());
            format!("| {names} | {json} | {plain} | {key} | {lost} |\n")
        };
        self.shown.iter().map(row).collect()
    }
}

/// What holds a column of a type, which is written as `format_type()` prints it.
pub(super) fn kind_of(type_name: &str, key: bool) -> Kind {
    let (_, modifiers) = split_modifiers(type_name);
    let known = TYPES.iter().find(|known| known.holds(type_name));
    known.map_or(long_text(key), |known| (known.kind)(&modifiers, key))
}

fn long_text(key: bool) -> Kind {
    match key {
        true => Kind::VarChar(KEY_CHARS_MAX),
        false => Kind::LongText,
    }
}

fn short(modifiers: &[i64], key: bool, kind: fn(u32) -> Kind) -> Kind {
    match modifiers.first().map(|&n| u16::try_from(n)) {
        Some(Ok(n)) if n > 0 => kind(u32::from(n)),
        _ => long_text(key),
    }
}

/// None where MySQL's digits are too few for all values of the type; `numeric` alone has no limit that could be kept.
fn decimal(modifiers: &[i64]) -> Option<Kind> {
    let (precision, scale) = match *modifiers {
        [] => return Some(Kind::DecimalAny),
        [precision] => (precision, 0),
        [precision, scale, ..] => (precision, scale),
    };
    match (u32::try_from(precision), u32::try_from(scale)) {
        (Ok(digits @ 1..=65), Ok(behind @ 0..=30)) if behind <= digits => Some(Kind::Decimal {
            precision: digits,
            scale: behind,
        }),
        _ if precision - scale <= DIGITS_BEFORE_MAX && scale <= DIGITS_BEHIND_MAX => {
            Some(Kind::DecimalAny)
        }
        _ => None,
    }
}

/// `timestamp(3) without time zone` becomes (`timestamp without time zone`, [3]).
fn split_modifiers(type_name: &str) -> (String, Vec<i64>) {
    let whole = || (type_name.to_owned(), Vec::new());
    if type_name.ends_with("[]") {
        return whole();
    }
    let Some((before, rest)) = type_name.split_once('(') else {
        return whole();
    };
    let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
    let modifiers = inside.split(',').map(|m| m.trim().parse()).collect();
    match modifiers {
        Ok(modifiers) => (format!("{before}{after}"), modifiers),
        Err(_) => whole(),
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
