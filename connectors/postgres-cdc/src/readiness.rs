//! Whether capture does its work, from its status alone.

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_control::NotReady;

use crate::status::{State, Status};

/// `Ok` while it follows the stream of Postgres, whatever it copies meanwhile.
pub(crate) fn ready(status: &Status) -> Result<(), NotReady> {
    let because = |reason: &str| Err(NotReady::new(reason, status.last_error.as_deref()));
    match &status.state {
        State::Streaming => Ok(()),
        State::Preflight | State::Backoff | State::Void if status.failing_since.is_some() => {
            because(&waits(status))
        }
        State::Void => because("the log cannot go on"),
        State::Preflight => because("it looks where the log ends"),
        State::Backoff => because("its session failed; it tries again"),
        State::Stopped => because("it has stopped"),
    }
}

/// Since when, and what comes next.
fn waits(status: &Status) -> String {
    let shown = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let since = status.failing_since.map(shown).unwrap_or_default();
    match status.next_attempt_at.map(shown) {
        Some(next) => {
            format!("nothing has been captured since {since}; the next attempt is at {next}")
        }
        None => format!("nothing has been captured since {since}; it tries again now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_follows_the_stream_is_ready() {
        let mut status = Status {
            last_error: Some("capture-wal-level: it is replica".to_owned()),
            ..Status::default()
        };
        for state in [State::Preflight, State::Backoff, State::Stopped] {
            status.state = state;
            let because = ready(&status).expect_err("not ready");
            assert_eq!(because.code.as_deref(), Some("capture-wal-level"));
        }
        // What went wrong before does not matter any more.
        status.state = State::Streaming;
        assert_eq!(ready(&status), Ok(()));
    }

    #[test]
    fn who_waits_says_since_when_and_for_what() {
        let status = Status {
            state: State::Backoff,
            failing_since: DateTime::from_timestamp(1_750_000_000, 0),
            next_attempt_at: DateTime::from_timestamp(1_750_000_015, 0),
            ..Status::default()
        };
        let because = ready(&status).expect_err("not ready");
        assert_eq!(
            because.reason,
            "nothing has been captured since 2025-06-15T15:06:40Z; the next attempt is at 2025-06-15T15:06:55Z"
        );
    }
}
