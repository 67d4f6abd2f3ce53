//! Sessions, one after the other.

use std::time::Duration;

use millrace_control::Running;
use rand::RngExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::SessionError;
use crate::status::{Board, Handle, State};
use crate::{session, Config, Error};

const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// A person who repairs something does not want to wait longer to see it work.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// What looks like a lost topic may be a server that is still starting; so often in a row it is not.
const SUSPICIONS_MAX: u32 = 5;

/// Ingest, ready to run.
#[derive(Debug)]
pub struct Service {
    config: Config,
    board: Board,
}

impl Service {
    /// Does no IO yet.
    pub fn new(config: Config) -> Result<(Service, Handle), Error> {
        config.check()?;
        let (board, handle) = Board::new();
        Ok((Service { config, board }, handle))
    }

    /// Runs until `shutdown`, or until an error that needs a person. Failures of Postgres and
    /// Fluvio, also at the start, are waited out. Stops at once: what was not committed is read
    /// again at the next start.
    pub fn run(self, shutdown: CancellationToken) -> Running<Error> {
        Box::pin(self.run_until(shutdown))
    }

    async fn run_until(self, shutdown: CancellationToken) -> Result<(), Error> {
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = self.sessions() => Err(error),
        };
        self.board.update(|status| {
            status.state = if result.is_ok() {
                State::Stopped
            } else {
                State::Failed
            };
        });
        result
    }

    async fn sessions(&self) -> Error {
        let mut attempts = Attempts::default();
        loop {
            let events = self.board.events();
            let Err(error) = session::run(&self.config, &self.board).await else {
                continue;
            };
            let progress = self.board.events() > events;
            self.board.update(|status| {
                status.state = State::Connecting;
                status.failures += 1;
                status.last_error = Some(error.text());
            });
            match attempts.after(error, progress) {
                Next::Stop(error) => return error,
                Next::RetryAfter(delay) => sleep(jittered(delay)).await,
            }
        }
    }
}

/// What to do after a failed session.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Stop(Error),
    RetryAfter(Duration),
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    suspicions: u32,
}

impl Attempts {
    fn after(&mut self, error: SessionError, progress: bool) -> Next {
        if progress {
            *self = Attempts::default();
        }
        self.failures += 1;
        let delay = BACKOFF_MIN * 2_u32.saturating_pow(self.failures - 1).min(1 << 10);
        match error {
            SessionError::Fatal(error) => return Next::Stop(error),
            SessionError::Suspicious(error) => {
                self.suspicions += 1;
                if self.suspicions >= SUSPICIONS_MAX {
                    return Next::Stop(error);
                }
                tracing::warn!(%error, "ingest tries again");
            }
            error => {
                self.suspicions = 0;
                tracing::warn!(%error, "ingest tries again");
            }
        }
        Next::RetryAfter(delay.min(BACKOFF_MAX))
    }
}

/// Half to one and a half times as long, so that services do not come back in step.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage() -> SessionError {
        SessionError::Fluvio("gone".to_owned())
    }

    fn recreated() -> Error {
        Error::TopicRecreated {
            topic: "t".to_owned(),
            next_offset: 5,
        }
    }

    #[test]
    fn delays_grow_to_a_cap_and_start_anew_after_progress() {
        let mut attempts = Attempts::default();
        let mut delays = Vec::new();
        for _ in 0..40 {
            let Next::RetryAfter(delay) = attempts.after(outage(), false) else {
                panic!("an outage passes");
            };
            delays.push(delay);
        }
        assert_eq!(
            (delays[0], delays[1], delays[39]),
            (BACKOFF_MIN, BACKOFF_MIN * 2, BACKOFF_MAX)
        );
        assert_eq!(
            attempts.after(outage(), true),
            Next::RetryAfter(BACKOFF_MIN)
        );
    }

    #[test]
    fn a_suspicion_becomes_an_error_only_if_it_lasts() {
        let mut attempts = Attempts::default();
        for round in 1..SUSPICIONS_MAX {
            let next = attempts.after(SessionError::Suspicious(recreated()), false);
            assert!(matches!(next, Next::RetryAfter(_)), "round {round}");
        }
        let next = attempts.after(SessionError::Suspicious(recreated()), false);
        assert_eq!(next, Next::Stop(recreated()));
    }

    #[test]
    fn what_needs_a_person_stops_at_once() {
        let next = Attempts::default().after(recreated().into(), true);
        assert_eq!(next, Next::Stop(recreated()));
    }
}
