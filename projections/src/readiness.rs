//! Whether a projector does its work, from its status alone.

use millrace_control::{time, NotReady};

use crate::engine::{State, Status};

/// `Ok` while all tables and marts are in place and follow the log. A pause is no reason against it: the projector then does
/// what it was told, and how old the tables are is said by the lag.
pub(crate) fn ready(status: &Status) -> Result<(), NotReady> {
    let (error, log_error) = (status.error.as_deref(), status.log_error.as_deref());
    let because = |reason: &str| Err(NotReady::new(reason, error.or(log_error)));
    match status.state {
        State::Live if error.is_some() => because("MySQL fails"),
        State::Live if log_error.is_some() => because("the log cannot be read"),
        State::Live => match status.not_live().next() {
            Some((name, why)) => Err(NotReady::new(format!("{name} is not live"), why)),
            None => Ok(()),
        },
        State::Starting if error.is_some() => because("MySQL fails"),
        State::Starting => because("it has not connected yet"),
        State::WaitingForSnapshot => because("the log has announced no table yet"),
        State::Loading => because("it loads tables"),
        State::Building => because("it makes indexes and marts"),
        State::WaitingForMysql => because(&waiting(status)),
        State::Stopped => because("it has stopped"),
    }
}

fn waiting(status: &Status) -> String {
    match &status.away {
        Some(away) => format!("it waits for MySQL since {}", time::text(away.since)),
        None => "it waits for MySQL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State) -> Status {
        Status {
            state,
            ..Status::default()
        }
    }

    #[test]
    fn a_live_projector_is_ready_and_a_paused_one_too() {
        assert_eq!(ready(&status(State::Live)), Ok(()));
        let paused = Status {
            paused_since: Some(chrono::Utc::now()),
            ..status(State::Live)
        };
        assert_eq!(ready(&paused), Ok(()));
    }

    #[test]
    fn before_its_tables_are_in_place_it_is_not_ready() {
        for state in [
            State::Starting,
            State::WaitingForSnapshot,
            State::Loading,
            State::Building,
            State::WaitingForMysql,
        ] {
            let because = ready(&status(state)).expect_err("not ready");
            assert_eq!(because.code, None, "{because}");
        }
    }

    #[test]
    fn without_mysql_or_the_log_it_is_not_ready_and_names_the_code() {
        let mut status = status(State::Live);
        status.log_error = Some("[MR-P009] the records from offset 5 on are gone".into());
        let because = ready(&status).expect_err("not ready");
        assert_eq!(because.reason, "the log cannot be read");
        assert_eq!(because.code.as_deref(), Some("MR-P009"));
        status.error = Some("[MR-P001] away".into());
        let because = ready(&status).expect_err("not ready");
        assert_eq!(because.reason, "MySQL fails");
        assert_eq!(because.code.as_deref(), Some("MR-P001"));
        status.state = State::Stopped;
        assert!(ready(&status).is_err());
    }
}
