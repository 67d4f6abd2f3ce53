//! Newcomers: every few seconds somebody registers, announced as a JSON event on a topic.
//!
//! `{"first_name", "last_name", "email", "phone", "registration_date", "loyalty_status"}`, all of
//! them strings; `registration_date` is RFC 3339 in UTC with microseconds.
//!
//! The people are those of the seed, in its sequence, each time anew. Only their addresses differ:
//! each start of the service puts ten random hex digits into them (`ada.king.5f02c81b9e-7@…`), so
//! that a restart brings newcomers and not the same people again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::future::BoxFuture;
use millrace_control::in_words;
use millrace_topic::{AppendLimits, Appender, Cluster, Retention, RetentionError, TopicError};
use rand::rngs::StdRng;
use rand::RngExt;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backoff::{pause, pause_until, Backoff};
use crate::people::person;
use crate::plan::stream;

/// Who arrives, how often, and where that is announced.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` of Fluvio.
    pub endpoint: String,
    /// Created with one partition if missing; left as it is otherwise.
    pub topic: String,
    /// How long Fluvio keeps the events, if the topic is created here.
    pub retention: Retention,
    /// From one newcomer to the next; zero: none come.
    pub period: Duration,
    /// The sequence of people.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint: "127.0.0.1:9003".to_owned(),
            topic: "users-data".to_owned(),
            retention: Retention {
                age: Duration::from_secs(7 * 86_400),
                bytes: Retention::BYTES_DEFAULT,
            },
            period: Duration::from_secs(5),
            seed: 42,
        }
    }
}

/// A configuration that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fluvio would refuse the topic.
    #[error("topic {topic}")]
    Retention {
        /// Its name.
        topic: String,
        /// Why.
        source: RetentionError,
    },
}

/// An acknowledgement may take so long.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// A new user, as it stands in the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserEvent {
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Unique, also across restarts.
    pub email: String,
    /// `+1 ddd ddd dddd`.
    pub phone: String,
    /// `2026-01-31T12:00:00.000000Z`.
    pub registration_date: String,
    /// `Gold`, `Silver` or `Bronze`.
    pub loyalty_status: &'static str,
}

/// The endless sequence of newcomers of one seed and one start.
#[derive(Debug)]
pub struct Newcomers {
    rng: StdRng,
    start: String,
    number: u64,
}

impl Newcomers {
    /// `start` distinguishes the addresses of this sequence from those of others of the same seed.
    pub fn new(seed: u64, start: String) -> Newcomers {
        Newcomers {
            rng: stream(seed, "newcomers"),
            start,
            number: 0,
        }
    }

    /// Who registers at `now`.
    pub fn next(&mut self, now: DateTime<Utc>) -> UserEvent {
        self.number += 1;
        let person = person(&mut self.rng, &format!("{}-{}", self.start, self.number));
        UserEvent {
            first_name: person.first_name,
            last_name: person.last_name,
            email: person.email,
            phone: person.phone,
            registration_date: now.to_rfc3339_opts(SecondsFormat::Micros, true),
            loyalty_status: person.loyalty_status.as_str(),
        }
    }
}

/// Ten random hex digits.
fn distinct_start() -> String {
    format!("{:010x}", rand::rng().random_range(0..1_u64 << 40))
}

/// What has been announced so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Acknowledged by Fluvio.
    pub sent: u64,
    /// Attempts to connect or send that failed; what failed is sent again.
    pub errors: u64,
    /// The last failure since the last success.
    pub last_error: Option<String>,
}

/// Reads the counters of a running [`UserEvents`]; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Handle {
    /// The counters now.
    pub fn status(&self) -> Status {
        Status {
            sent: self.0.sent.load(Relaxed),
            errors: self.0.errors.load(Relaxed),
            last_error: self
                .0
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    fn succeeded(&self) {
        self.0.sent.fetch_add(1, Relaxed);
        *self
            .0
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn failed(&self, failure: &Failure) {
        let text = in_words(failure);
        warn!(error = text, "no user event");
        self.0.errors.fetch_add(1, Relaxed);
        *self
            .0
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// Why an event was not acknowledged. None of them ends the service.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("Fluvio")]
    Topic(#[from] TopicError),
    #[error("encoding an event")]
    Encode(#[from] serde_json::Error),
}

/// The service that announces newcomers.
#[derive(Debug)]
pub struct UserEvents {
    config: Config,
    handle: Handle,
}

impl UserEvents {
    /// Checks the configuration; does not connect yet.
    pub fn new(config: Config) -> Result<UserEvents, Error> {
        if let Err(source) = config.retention.check() {
            let topic = config.topic;
            return Err(Error::Retention { topic, source });
        }
        Ok(UserEvents {
            config,
            handle: Handle::default(),
        })
    }

    /// To be kept before [`UserEvents::run`].
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Announces newcomers until `shutdown`, then ends within two seconds.
    ///
    /// An event counts as sent when Fluvio has acknowledged it. After an error its fate is unknown:
    /// it is sent again over a new connection, so it may be in the topic twice, never not at all.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
        // Boxed here, so that it is compiled with this crate only (ADR 14).
        Box::pin(self.run_until(shutdown))
    }

    async fn run_until(self, shutdown: CancellationToken) -> Result<(), Error> {
        if self.config.period.is_zero() {
            shutdown.cancelled().await;
            return Ok(());
        }
        let grace = async {
            shutdown.cancelled().await;
            tokio::time::sleep(CLOSING_TIME).await;
        };
        tokio::select! {
            () = self.announce(&shutdown) => {}
            () = grace => info!("closing time: an event was left unacknowledged"),
        }
        Ok(())
    }

    async fn announce(&self, shutdown: &CancellationToken) {
        let mut newcomers = Newcomers::new(self.config.seed, distinct_start());
        let mut unsent = None;
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let served = self
                .serve(&mut newcomers, &mut unsent, &mut backoff, shutdown)
                .await;
            if let Err(failure) = served {
                self.handle.failed(&failure);
                pause(backoff.next_delay(), shutdown).await;
            }
        }
    }

    /// One connection, until it fails or the service ends.
    async fn serve(
        &self,
        newcomers: &mut Newcomers,
        unsent: &mut Option<UserEvent>,
        backoff: &mut Backoff,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut topic = self.connect().await?;
        let mut due = Instant::now();
        loop {
            pause_until(due, shutdown).await;
            if shutdown.is_cancelled() {
                return Ok(());
            }
            let event = unsent.get_or_insert_with(|| newcomers.next(Utc::now()));
            topic.append_and_wait(serde_json::to_vec(event)?).await?;
            *unsent = None;
            backoff.reset();
            self.handle.succeeded();
            due = (due + self.config.period).max(Instant::now());
        }
    }

    async fn connect(&self) -> Result<Appender, TopicError> {
        let (cluster, topic) = (
            Cluster::new(self.config.endpoint.as_str()),
            &self.config.topic,
        );
        cluster.ensure(topic, &self.config.retention).await?;
        let limits = AppendLimits {
            acknowledge_timeout: SEND_TIMEOUT,
            ..AppendLimits::default()
        };
        cluster.appender(topic, limits).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::time::timeout;

    use super::*;

    fn newcomers(start: &str, amount: usize) -> Vec<UserEvent> {
        let mut newcomers = Newcomers::new(7, start.to_owned());
        (0..amount)
            .map(|_| newcomers.next(DateTime::UNIX_EPOCH))
            .collect()
    }

    #[test]
    fn the_same_people_with_other_addresses_after_a_restart() {
        let (first, second) = (newcomers("a", 2_000), newcomers("b", 2_000));
        let names = |events: &[UserEvent]| -> Vec<(String, String, String)> {
            let name = |event: &UserEvent| {
                (
                    event.first_name.clone(),
                    event.last_name.clone(),
                    event.phone.clone(),
                )
            };
            events.iter().map(name).collect()
        };
        assert_eq!(names(&first), names(&second));
        let emails: HashSet<_> = first
            .iter()
            .chain(&second)
            .map(|event| &event.email)
            .collect();
        assert_eq!(emails.len(), 4_000);
        assert_ne!(distinct_start(), distinct_start());
    }

    #[test]
    fn an_event_is_one_flat_object_of_strings() {
        let event = serde_json::to_value(&newcomers("0123456789", 1)[0]).unwrap();
        let fields = event.as_object().unwrap();
        let mut names: Vec<_> = fields.keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = [
            "email",
            "first_name",
            "last_name",
            "loyalty_status",
            "phone",
            "registration_date",
        ];
        assert_eq!(names, expected);
        assert!(fields.values().all(serde_json::Value::is_string), "{event}");
        assert_eq!(fields["registration_date"], "1970-01-01T00:00:00.000000Z");
        assert!(fields["email"].as_str().unwrap().is_ascii(), "{event}");
    }

    #[test]
    fn impossible_configurations_are_refused() {
        for seconds in [0, 9, 1 << 40] {
            let retention = Retention {
                age: Duration::from_secs(seconds),
                ..Config::default().retention
            };
            let config = Config {
                retention,
                ..Config::default()
            };
            let refused = UserEvents::new(config);
            assert!(matches!(refused, Err(Error::Retention { .. })));
        }
    }

    #[tokio::test]
    async fn without_fluvio_it_keeps_trying_and_still_ends_when_told() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = free.local_addr().unwrap().to_string();
        drop(free);
        let service = UserEvents::new(Config {
            endpoint,
            ..Config::default()
        })
        .unwrap();
        let (handle, shutdown) = (service.handle(), CancellationToken::new());
        let running = tokio::spawn(service.run(shutdown.clone()));
        let trying = async {
            while handle.status().errors < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), trying).await.unwrap();
        assert!(handle.status().last_error.is_some());
        shutdown.cancel();
        timeout(Duration::from_secs(5), running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
