//! Whether capture does its work, from its status alone.

use millrace_control::NotReady;

use crate::status::{State, Status};

/// `Ok` while it follows the stream of Postgres.
pub(crate) fn ready(status: &Status) -> Result<(), NotReady> {
    let because = |reason: &str| Err(NotReady::new(reason, status.last_error.as_deref()));
    match &status.state {
        State::Streaming => Ok(()),
        State::Preflight => because("it looks where the log ends"),
        State::Snapshot { rows, total, .. } => {
            because(&format!("it copies the tables: {rows} of {total} rows"))
        }
        State::Backoff => because("its session failed; it tries again"),
        State::Stopped => because("it has stopped"),
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
    fn a_copy_says_how_far_it_is() {
        let status = Status {
            state: State::Snapshot {
                table: "orders".to_owned(),
                rows: 3,
                total: 10,
            },
            ..Status::default()
        };
        let because = ready(&status).expect_err("not ready");
        assert_eq!(because.reason, "it copies the tables: 3 of 10 rows");
    }
}
