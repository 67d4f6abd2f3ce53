//! The settings that every session with Postgres pins, whatever server, database or role have set.
//!
//! One list, one reason each. `docs/sessions.md` has a verdict on every other setting that a session can have; a test
//! of capture asks a real server for settings that neither names.

use std::time::Duration;

/// How long a short statement may take before the server ends it.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Short questions and bookkeeping.
    Ask,
    /// Reads whole tables, or the replication stream. May take hours, if it makes progress.
    Copy,
    /// Writes into the application's tables, where its triggers run in our session.
    Write,
}

impl Work {
    /// How long the next piece of an answer may take. Above what the server itself allows, because its own words
    /// tell more. A copy may have to sort or to skip much before its first row.
    pub fn silence_max(self) -> Duration {
        match self {
            Work::Ask | Work::Write => STATEMENT_TIME_MAX + Duration::from_secs(15),
            Work::Copy => Duration::from_secs(600),
        }
    }
}

/// A pinned setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value for [`Work::Ask`], [`Work::Copy`] and [`Work::Write`]; `None`: as the server has it.
    pub values: [Option<&'static str>; 3],
    /// What could go wrong otherwise.
    pub reason: &'static str,
}

const fn always(name: &'static str, value: &'static str, reason: &'static str) -> Setting {
    Setting {
        name,
        values: [Some(value); 3],
        reason,
    }
}

/// Known to every supported version: part of connecting.
pub const SETTINGS: [Setting; 23] = [
    always("TimeZone", "UTC", "timestamptz is printed in it, and times without zone are read in it"),
    always("DateStyle", "ISO,YMD", "dates are printed in it and read in its order"),
    always("IntervalStyle", "postgres", "intervals are printed in it"),
    always("extra_float_digits", "3", "below 1, floating point is printed rounded"),
    always("bytea_output", "hex", "bytea is printed in it"),
    always("lc_monetary", "C", "money is printed in it"),
    always("quote_all_identifiers", "off", "format_type, quote_ident and pg_get_… print quotes where none are needed"),
    always("standard_conforming_strings", "on", "a backslash in a literal of ours would be an escape"),
    always("row_security", "off", "a policy would hide rows silently; off makes it an error"),
    always("default_transaction_isolation", "read committed", "serializable sessions fail with 40001 now and then"),
    always("gin_fuzzy_search_limit", "0", "an index may leave out rows at random above it"),
    always("transform_null_equals", "off", "x = NULL would be true"),
    always("array_nulls", "on", "NULL in an array literal would be a text"),
    always("lock_timeout", "0", "the role's own would end statements that only have to wait; the statement's limit is enough"),
    always("idle_session_timeout", "0", "sessions of ours are idle for as long as the source is"),
    always("wal_sender_timeout", "60s", "0 keeps the slot of a capture that vanished for ever, a small one ends live sessions"),
    always("tcp_keepalives_idle", "30", "the server has to notice that we have vanished, and free locks and slot"),
    always("tcp_keepalives_interval", "10", "as tcp_keepalives_idle"),
    always("tcp_keepalives_count", "3", "as tcp_keepalives_idle"),
    always("tcp_user_timeout", "60000", "as tcp_keepalives_idle, while it has something to send"),
    Setting {
        name: "search_path",
        values: [Some("pg_catalog"), Some("pg_catalog"), None],
        reason: "a function or type of the same name could stand before the system's; the application's triggers need the role's own",
    },
    Setting {
        name: "statement_timeout",
        values: [Some("30s"), Some("0"), Some("30s")],
        reason: "a short statement that hangs is ended by the server, and a long copy is not",
    },
    Setting {
        name: "idle_in_transaction_session_timeout",
        values: [Some("0"), Some("0"), Some("60s")],
        reason: "a copy waits for its topic inside a transaction; a writer that vanished must not keep its locks",
    },
];

/// Known to later versions only, which is why they are set behind connecting and only where they exist.
pub const LATER_SETTINGS: [Setting; 1] = [always(
    "transaction_timeout",
    "0",
    "would end a copy, or the decoding of a long transaction (PostgreSQL 17)",
)];

/// Name and value of what a session for `work` pins.
pub(super) fn pinned(work: Work) -> impl Iterator<Item = (&'static str, &'static str)> {
    let values = SETTINGS.iter().map(move |setting| {
        let [ask, copy, write] = setting.values;
        let value = match work {
            Work::Ask => ask,
            Work::Copy => copy,
            Work::Write => write,
        };
        (setting.name, value)
    });
    values.filter_map(|(name, value)| Some((name, value?)))
}

/// The same for the `options` of a startup packet, where a blank has to be escaped.
pub(super) fn startup_options(work: Work) -> String {
    let options = pinned(work).map(|(name, value)| {
        let value = value.replace(' ', "\\ ");
        format!("-c {name}={value}")
    });
    options.collect::<Vec<_>>().join(" ")
}

/// The statement that pins [`LATER_SETTINGS`].
pub(super) fn later() -> String {
    let cases = LATER_SETTINGS.iter().map(|setting| {
        let value = setting.values[0].unwrap_or_default();
        format!("('{}', '{value}')", setting.name)
    });
    format!(
        "SELECT set_config(s.name, v.value, false) FROM pg_settings s \
         JOIN (VALUES {}) AS v (name, value) USING (name)",
        cases.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_does_not_end_a_value_of_the_startup_packet() {
        let options = startup_options(Work::Copy);
        assert!(
            options.contains("-c default_transaction_isolation=read\\ committed "),
            "{options}"
        );
        assert!(options.contains("-c statement_timeout=0"), "{options}");
    }

    #[test]
    fn the_applications_triggers_keep_their_search_path() {
        let pins_path = |work| pinned(work).any(|(name, _)| name == "search_path");
        assert!(pins_path(Work::Ask) && pins_path(Work::Copy) && !pins_path(Work::Write));
    }
}
