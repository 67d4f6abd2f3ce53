//! Sessions, one after the other.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_control::Running;
use rand::RngExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::SessionError;
use crate::reader::FirstAnswer;
use crate::status::{Board, Handle, State};
use crate::{session, Config, Error};

const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// A person who repairs something does not want to wait longer to see it work.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A gap that a new connection does not close so many times is one in the topic.
const GAP_ATTEMPTS: u32 = 5;
/// The same for events that retention has removed.
const EXPIRED_ATTEMPTS: u32 = 3;
/// The same for a topic that ends before the position, over half a minute at least: a server that has just started may
/// say so before it knows better, and what the error advises reads the whole topic again.
const BEYOND_ATTEMPTS: u32 = 12;

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

    /// Runs until `shutdown`, or until an error that no waiting mends. Failures of Postgres and Fluvio, also at the
    /// start, are waited out, refusals of Postgres that a person has to mend included. Stops at once: what was not committed is read
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
        let mut first = FirstAnswer::default();
        loop {
            let Err(error) = session::run(&self.config, &self.board, &mut first).await else {
                continue;
            };
            let worked = self.board.is_working();
            let since = self.board.failed();
            let text = error.text();
            match attempts.after(error, worked) {
                Next::Stop(error) => {
                    self.board.update(|status| status.last_error = Some(text));
                    return error;
                }
                Next::RetryAfter(delay) => self.wait(jittered(delay), &text, since).await,
            }
        }
    }

    /// Says why and since when ingest waits, and when it tries again.
    async fn wait(&self, delay: Duration, text: &str, since: DateTime<Utc>) {
        let retry_in_s = delay.as_secs_f64();
        let at = since.format("%Y-%m-%d %H:%M:%S UTC");
        tracing::warn!(error = text, failing_since = %at, retry_in_s, "ingest waits and tries again");
        self.board.update(|status| {
            let waits = format!("{text} (failing since {at}, next attempt in {retry_in_s:.1} s)");
            status.last_error = Some(waits);
        });
        sleep(delay).await;
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
    /// The code of what was suspected last, and how often in a row.
    suspected: Option<(&'static str, u32)>,
}

/// How often in a row fresh connections have to say what needs a person before it is believed.
fn attempts_for(error: &Error) -> u32 {
    match error {
        Error::TopicRecreated { .. } => BEYOND_ATTEMPTS,
        Error::EventsExpired { .. } => EXPIRED_ATTEMPTS,
        _ => GAP_ATTEMPTS,
    }
}

impl Attempts {
    fn after(&mut self, error: SessionError, worked: bool) -> Next {
        if worked {
            *self = Attempts::default();
        }
        self.failures += 1;
        let delay = BACKOFF_MIN * 2_u32.saturating_pow(self.failures - 1).min(1 << 10);
        match error {
            SessionError::Fatal(error) => return Next::Stop(error),
            SessionError::Suspicious(error) => {
                let before = self.suspected.filter(|(code, _)| *code == error.code());
                let times = before.map_or(0, |(_, times)| times) + 1;
                self.suspected = Some((error.code(), times));
                if times >= attempts_for(&error) {
                    return Next::Stop(error);
                }
            }
            _ => self.suspected = None,
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
    fn what_the_operator_mends_is_waited_for_without_end() {
        let mut attempts = Attempts::default();
        for round in 0..1000 {
            let (sqlstate, reason) = ("28P01".to_owned(), "no".to_owned());
            let refused = Error::LoginRefused { sqlstate, reason };
            let next = attempts.after(SessionError::Operator(refused), false);
            assert!(matches!(next, Next::RetryAfter(_)), "round {round}");
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

    fn expired() -> Error {
        Error::EventsExpired {
            topic: "t".to_owned(),
            next_offset: 5,
            available: 9,
        }
    }

    /// How long a suspicion lasts until it is believed, without jitter.
    fn believed_after(attempts: &mut Attempts, error: &Error) -> Duration {
        let mut waited = Duration::ZERO;
        for _ in 1..attempts_for(error) {
            match attempts.after(SessionError::Suspicious(error.clone()), false) {
                Next::RetryAfter(delay) => waited += delay,
                Next::Stop(_) => panic!("too early"),
            }
        }
        let next = attempts.after(SessionError::Suspicious(error.clone()), false);
        assert_eq!(next, Next::Stop(error.clone()));
        waited
    }

    #[test]
    fn a_suspicion_becomes_an_error_only_if_it_lasts() {
        // Jitter may halve it.
        let waited = believed_after(&mut Attempts::default(), &recreated());
        assert!(waited >= Duration::from_secs(60), "{waited:?}");
        believed_after(&mut Attempts::default(), &expired());
    }

    #[test]
    fn suspicions_of_different_things_do_not_add_up() {
        let mut attempts = Attempts::default();
        for round in 1..BEYOND_ATTEMPTS {
            let next = attempts.after(SessionError::Suspicious(recreated()), false);
            assert!(matches!(next, Next::RetryAfter(_)), "round {round}");
        }
        believed_after(&mut attempts, &expired());
    }

    #[test]
    fn what_needs_a_person_stops_at_once() {
        let next = Attempts::default().after(recreated().into(), true);
        assert_eq!(next, Next::Stop(recreated()));
    }
}
