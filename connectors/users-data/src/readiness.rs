//! Whether ingest does its work, from its status alone.

use millrace_control::NotReady;

use crate::status::{State, Status};

/// `Ok` while it reads its topic and stores what it reads.
pub(crate) fn ready(status: &Status) -> Result<(), NotReady> {
    let because = |reason: &str| Err(NotReady::new(reason, status.last_error.as_deref()));
    match status.state {
        State::Running => Ok(()),
        State::Connecting if status.failures == 0 => because("it has not connected yet"),
        State::Connecting => because("its session failed; it tries again"),
        State::Stopped | State::Failed => because("it has stopped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_reads_the_topic_is_ready() {
        let mut status = Status::default();
        let because = ready(&status).expect_err("not ready");
        assert_eq!(because.reason, "it has not connected yet");
        status.failures = 1;
        status.last_error = Some("ingest-topic-recreated: read up to 5".to_owned());
        for state in [State::Connecting, State::Stopped, State::Failed] {
            status.state = state;
            let because = ready(&status).expect_err("not ready");
            assert_eq!(because.code.as_deref(), Some("ingest-topic-recreated"));
        }
        status.state = State::Running;
        assert_eq!(ready(&status), Ok(()));
    }
}
