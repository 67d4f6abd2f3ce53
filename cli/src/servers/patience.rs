//! How long a server is waited for until it answers.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;

/// Two limits, both counted from the beginning of the wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a server that does not say what it does.
    answers_within: Duration,
    /// For one that lives and is known to be starting up, crash recovery for example. To stop it would only make it
    /// begin again.
    starts_within: Duration,
}

impl Patience {
    /// With a server that was just started.
    pub(super) const START: Patience = Patience {
        answers_within: Duration::from_secs(90),
        starts_within: Duration::from_secs(30 * 60),
    };
    /// With one that an earlier run left behind: if it does not answer by then it is started anew.
    pub(super) const ADOPT: Patience = Patience {
        answers_within: Duration::from_secs(10),
        starts_within: Duration::from_secs(10),
    };
}

/// One wait.
#[derive(Debug)]
pub(super) struct Wait {
    server: &'static str,
    patience: Patience,
    began: Instant,
    is_told: bool,
}

impl Wait {
    pub(super) fn begin(server: &'static str, patience: Patience) -> Wait {
        Wait {
            server,
            patience,
            began: Instant::now(),
            is_told: false,
        }
    }

    /// Goes on, or fails with [`Error::NotReady`] if that took too long. `last` is what the server answered, and
    /// `is_starting` says that it lives and is starting up. A long start is told once.
    pub(super) fn go_on(&mut self, last: String, is_starting: bool) -> Result<(), Error> {
        self.after(self.began.elapsed(), last, is_starting)
    }

    fn after(&mut self, waited: Duration, last: String, is_starting: bool) -> Result<(), Error> {
        let Patience {
            answers_within,
            starts_within,
        } = self.patience;
        let within = match is_starting {
            true => starts_within,
            false => answers_within,
        };
        if waited >= within {
            return Err(Error::NotReady {
                server: self.server,
                seconds: waited.as_secs(),
                last,
            });
        }
        if waited >= answers_within && !self.is_told {
            self.is_told = true;
            tracing::warn!(
                server = self.server,
                last,
                within_min = starts_within.as_secs() / 60,
                "still starting, as after a crash; it is waited for"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many seconds of a start.
    fn goes_on(seconds: u64, is_starting: bool) -> bool {
        let mut wait = Wait::begin("Postgres", Patience::START);
        let waited = Duration::from_secs(seconds);
        wait.after(waited, String::new(), is_starting).is_ok()
    }

    #[test]
    fn a_server_that_recovers_is_waited_for_longer_but_not_for_ever() {
        assert!(goes_on(89, false) && !goes_on(91, false));
        assert!(goes_on(91, true) && goes_on(1_799, true) && !goes_on(1_801, true));
    }
}
