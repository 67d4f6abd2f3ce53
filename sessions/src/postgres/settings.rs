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
    /// Reads whole tables in an order, so that Postgres may sort all of one before its first row. Else as [`Work::Copy`].
    Compare,
    /// Writes into the application's tables, where its triggers run in our session.
    Write,
}

impl Work {
    /// How long the next piece of an answer may take. Above what the server itself allows, because its own words
    /// tell more. A copy may have to skip much before its first row, and a comparison to sort a large table, for which
    /// it has as long as at MySQL.
    pub fn silence_max(self) -> Duration {
        match self {
            Work::Ask | Work::Write => STATEMENT_TIME_MAX + Duration::from_secs(15),
            Work::Copy => Duration::from_secs(600),
            Work::Compare => Duration::from_secs(3_600),
        }
    }
}

/// A pinned setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value for [`Work::Ask`], [`Work::Copy`] (and [`Work::Compare`]) and [`Work::Write`]; `None`: as the server
    /// has it.
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

/// For what is read or printed in a session, which those who write do nothing of: the application's triggers run with
/// what its database says.
const fn reading(name: &'static str, value: &'static str, reason: &'static str) -> Setting {
    Setting {
        name,
        values: [Some(value), Some(value), None],
        reason,
    }
}

/// Only raised to its value: the server may have a larger one, in milliseconds, and 0 is below it.
const AT_LEAST: (&str, u32) = ("wal_sender_timeout", 60_000);

/// All of them.
pub const SETTINGS: [Setting; 26] = [
    always("TimeZone", "UTC", "timestamptz is printed in it, and times without zone are read in it"),
    always("DateStyle", "ISO,YMD", "dates are printed in it and read in its order"),
    reading("IntervalStyle", "postgres", "intervals are printed in it"),
    reading("extra_float_digits", "3", "below 1, floating point is printed rounded"),
    reading("bytea_output", "hex", "bytea is printed in it"),
    reading("lc_monetary", "C", "money is printed in it"),
    reading("quote_all_identifiers", "off", "format_type, quote_ident and pg_get_… print quotes where none are needed"),
    always("standard_conforming_strings", "on", "a backslash in a literal of ours would be an escape"),
    reading("row_security", "off", "a policy would hide rows silently; off makes it an error"),
    always("default_transaction_isolation", "read committed", "serializable sessions fail with 40001 now and then"),
    reading("gin_fuzzy_search_limit", "0", "an index may leave out rows at random above it"),
    reading("transform_null_equals", "off", "x = NULL would be true"),
    reading("array_nulls", "on", "NULL in an array literal would be a text"),
    reading("jit", "off", "a server whose compiler is not installed whole fails statements that are costly enough, and ours gain nothing by it"),
    always("exit_on_error", "off", "an error that is dealt with would end the session"),
    always("transaction_timeout", "0", "would end a copy, or the decoding of a long transaction (PostgreSQL 17)"),
    always("lock_timeout", "0", "the role's own would end statements that only have to wait; the statement's limit is enough"),
    always("idle_session_timeout", "0", "sessions of ours are idle for as long as the source is"),
    always("wal_sender_timeout", "60s", "0 keeps the slot of a capture that vanished for ever, a smaller one ends live sessions; a larger one stays"),
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

/// The statement that pins all of it for `work`, as the first of a session. It passes over what the server's version
/// does not know. Startup parameters are not used: sqlx has some of its own, which would win.
pub(super) fn pinning(work: Work) -> String {
    let pairs = pinned(work).map(|(name, value)| format!("('{name}', '{value}')"));
    let (raised, least) = AT_LEAST;
    format!(
        "SELECT pg_catalog.set_config(s.name, v.value, false) FROM pg_catalog.pg_settings s \
         JOIN (VALUES {}) AS v (name, value) ON v.name = s.name \
         WHERE CASE WHEN s.name = '{raised}' THEN s.setting::pg_catalog.int8 < {least} ELSE true END",
        pairs.collect::<Vec<_>>().join(", ")
    )
}

/// Name and value of what a session for `work` pins.
fn pinned(work: Work) -> impl Iterator<Item = (&'static str, &'static str)> {
    let values = SETTINGS.iter().map(move |setting| {
        let [ask, copy, write] = setting.values;
        let value = match work {
            Work::Ask => ask,
            Work::Copy | Work::Compare => copy,
            Work::Write => write,
        };
        (setting.name, value)
    });
    values.filter_map(|(name, value)| Some((name, value?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(work: Work, setting: &str) -> bool {
        pinned(work).any(|(name, _)| name == setting)
    }

    #[test]
    fn the_applications_triggers_keep_what_their_database_says() {
        for setting in [
            "search_path",
            "row_security",
            "lc_monetary",
            "transform_null_equals",
        ] {
            for work in [Work::Ask, Work::Copy, Work::Compare] {
                assert!(pins(work, setting), "{work:?}: {setting}");
            }
            assert!(!pins(Work::Write, setting), "{setting}");
        }
    }

    #[test]
    fn who_writes_is_limited_and_has_its_times_in_utc() {
        for setting in [
            "TimeZone",
            "statement_timeout",
            "lock_timeout",
            "standard_conforming_strings",
        ] {
            assert!(pins(Work::Write, setting), "{setting}");
        }
    }

    #[test]
    fn a_value_that_is_only_raised_is_the_one_of_the_list() {
        let (name, least) = AT_LEAST;
        let seconds = format!("{}s", least / 1000);
        let listed = pinned(Work::Copy).find(|(listed, _)| *listed == name);
        assert_eq!(listed, Some((name, seconds.as_str())));
    }
}
