//! Sessions, one after the other.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_control::Running;
use millrace_topic::Patience;
use rand::RngExt;
use tokio::time::{sleep, Instant};
use tokio_util::sync::CancellationToken;

use crate::error::SessionError;
use crate::status::{Board, Handle, State};
use crate::{session, Config, Error};

/// A stream that has events to bring and brings none for so long is dead.
const SILENCE: Duration = Duration::from_secs(15);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// A person who repairs something does not want to wait longer to see it work.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// What new connections say so many times in a row is so: a gap in the topic, or another topic.
const SUSPICIONS_MAX: u32 = 5;
/// The same for events that retention has removed.
const EXPIRED_MAX: u32 = 3;
/// And a topic that ends before the position has to end there for so long: a server that has just started may say so
/// before it knows better, and what the error advises reads the whole topic again.
const BEYOND_FOR: Duration = Duration::from_secs(40);

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
        let patience = Arc::new(Patience::new(SILENCE));
        loop {
            let Err(error) = session::run(&self.config, &self.board, &patience).await else {
                continue;
            };
            let worked = self.board.is_working();
            let since = self.board.failed();
            let text = error.text();
            match attempts.after(error, worked, Instant::now()) {
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
    suspected: Option<Suspicion>,
}

/// What fresh connections have said several times in a row.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    code: &'static str,
    times: u32,
    since: Instant,
}

impl Suspicion {
    fn is_believed(self, error: &Error, now: Instant) -> bool {
        let (times, lasts) = match error {
            Error::TopicRecreated { .. } => (SUSPICIONS_MAX, BEYOND_FOR),
            Error::EventsExpired { .. } => (EXPIRED_MAX, Duration::ZERO),
            _ => (SUSPICIONS_MAX, Duration::ZERO),
        };
        self.times >= times && now.duration_since(self.since) >= lasts
    }
}

impl Attempts {
    fn after(&mut self, error: SessionError, worked: bool, now: Instant) -> Next {
        if worked {
            *self = Attempts::default();
        }
        self.failures += 1;
        let delay = BACKOFF_MIN * 2_u32.saturating_pow(self.failures - 1).min(1 << 10);
        match error {
            SessionError::Fatal(error) => return Next::Stop(error),
            SessionError::Suspicious(error) => {
                let code = error.code();
                let before = self.suspected.filter(|before| before.code == code);
                let suspicion = Suspicion {
                    code,
                    times: before.map_or(0, |before| before.times) + 1,
                    since: before.map_or(now, |before| before.since),
                };
                self.suspected = Some(suspicion);
                if suspicion.is_believed(&error, now) {
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
            let next = attempts.after(SessionError::Operator(refused), false, Instant::now());
            assert!(matches!(next, Next::RetryAfter(_)), "round {round}");
        }
    }

    #[test]
    fn delays_grow_to_a_cap_and_start_anew_after_progress() {
        let mut attempts = Attempts::default();
        let mut delays = Vec::new();
        for _ in 0..40 {
            let Next::RetryAfter(delay) = attempts.after(outage(), false, Instant::now()) else {
                panic!("an outage passes");
            };
            delays.push(delay);
        }
        assert_eq!(
            (delays[0], delays[1], delays[39]),
            (BACKOFF_MIN, BACKOFF_MIN * 2, BACKOFF_MAX)
        );
        assert_eq!(
            attempts.after(outage(), true, Instant::now()),
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

    /// How long it takes until a suspicion is believed, if the delays are as short as jitter may make them.
    fn believed_after(attempts: &mut Attempts, error: &Error) -> (u32, Duration) {
        let start = Instant::now();
        let (mut now, mut times) = (start, 0);
        loop {
            times += 1;
            match attempts.after(SessionError::Suspicious(error.clone()), false, now) {
                Next::RetryAfter(delay) => now += delay / 2,
                Next::Stop(stopped) => {
                    assert_eq!(&stopped, error);
                    return (times, now.duration_since(start));
                }
            }
        }
    }

    #[test]
    fn a_suspicion_becomes_an_error_only_if_it_lasts() {
        let (times, waited) = believed_after(&mut Attempts::default(), &recreated());
        assert!(
            times >= SUSPICIONS_MAX && waited >= BEYOND_FOR,
            "{waited:?}"
        );
        let (times, _) = believed_after(&mut Attempts::default(), &expired());
        assert_eq!(times, EXPIRED_MAX);
    }

    #[test]
    fn suspicions_of_different_things_do_not_add_up() {
        let mut attempts = Attempts::default();
        for _ in 0..10 {
            let suspicion = SessionError::Suspicious(recreated());
            attempts.after(suspicion, false, Instant::now());
        }
        let (times, _) = believed_after(&mut attempts, &expired());
        assert_eq!(times, EXPIRED_MAX);
    }

    #[test]
    fn what_needs_a_person_stops_at_once() {
        let next = Attempts::default().after(recreated().into(), true, Instant::now());
        assert_eq!(next, Next::Stop(recreated()));
    }
}
