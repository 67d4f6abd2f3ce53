//! Newcomers: every few seconds somebody registers, announced as a JSON event on a topic.
//!
//! `{"first_name", "last_name", "email", "phone", "registration_date", "loyalty_status"}`, all of
//! them strings; `registration_date` is RFC 3339 in UTC with microseconds.
//!
//! The people are those of the seed, in its sequence, each time anew. Only their addresses differ:
//! each start of the service puts ten random hex digits into them (`ada.king.5f02c81b9e-7@…`), so
//! that a restart brings newcomers and not the same people again.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use fluvio::{Fluvio, RecordKey, TopicProducerPool};
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::RngExt;
use serde::Serialize;
use tokio::time::{timeout, Instant};
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
    /// How long Fluvio keeps the events, if the topic is created here. Whole seconds, at least 10.
    pub retention: Duration,
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
            retention: Duration::from_secs(7 * 86_400),
            period: Duration::from_secs(5),
            seed: 42,
        }
    }
}

/// A configuration that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fluvio's own lower limit is 10 seconds, its upper one 32 bits.
    #[error("the retention of topic {0} must be between 10 seconds and 136 years, not {1:?}")]
    Retention(String, Duration),
}

const RETENTION_MIN_SECS: u32 = 10;
/// The client's readers ask for 32 MiB at a time; a segment that fits can be read whole.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
/// The client itself may wait a minute for metadata.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
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
        warn!(error = %failure, "no user event");
        self.0.errors.fetch_add(1, Relaxed);
        let text = failure.to_string();
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
    #[error("Fluvio did not answer within {0:?}")]
    Timeout(Duration),
    #[error("connecting to Fluvio: {0}")]
    Connect(Box<dyn StdError + Send + Sync>),
    #[error("creating topic {topic}: {error}")]
    Topic {
        topic: String,
        error: Box<dyn StdError + Send + Sync>,
    },
    #[error("sending to topic {topic}: {error}")]
    Send {
        topic: String,
        error: Box<dyn StdError + Send + Sync>,
    },
    #[error("encoding an event: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The service that announces newcomers.
#[derive(Debug)]
pub struct UserEvents {
    config: Config,
    retention_secs: u32,
    handle: Handle,
}

impl UserEvents {
    /// Checks the configuration; does not connect yet.
    pub fn new(config: Config) -> Result<UserEvents, Error> {
        let retention_secs = u32::try_from(config.retention.as_secs())
            .ok()
            .filter(|seconds| *seconds >= RETENTION_MIN_SECS)
            .ok_or_else(|| Error::Retention(config.topic.clone(), config.retention))?;
        Ok(UserEvents {
            config,
            retention_secs,
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
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let (_fluvio, producer) = connected.map_err(|_| Failure::Timeout(CONNECT_TIMEOUT))??;
        let mut due = Instant::now();
        loop {
            pause_until(due, shutdown).await;
            if shutdown.is_cancelled() {
                return Ok(());
            }
            let event = unsent.get_or_insert_with(|| newcomers.next(Utc::now()));
            let sent = timeout(SEND_TIMEOUT, self.send(&producer, event)).await;
            sent.map_err(|_| Failure::Timeout(SEND_TIMEOUT))??;
            *unsent = None;
            backoff.reset();
            self.handle.succeeded();
            due = (due + self.config.period).max(Instant::now());
        }
    }

    async fn connect(&self) -> Result<(Fluvio, TopicProducerPool), Failure> {
        let cluster = millrace_topic::cluster(&self.config.endpoint);
        let fluvio = Fluvio::connect_with_config(&cluster)
            .await
            .map_err(|error| Failure::Connect(error.into()))?;
        self.ensure_topic(&fluvio).await?;
        let producer = fluvio
            .topic_producer(&self.config.topic)
            .await
            .map_err(|error| Failure::Connect(error.into()))?;
        Ok((fluvio, producer))
    }

    /// Somebody else may create the topic in the same moment; then it is there, too.
    async fn ensure_topic(&self, fluvio: &Fluvio) -> Result<(), Failure> {
        let topic = &self.config.topic;
        let failed = |error: Box<dyn StdError + Send + Sync>| Failure::Topic {
            topic: topic.clone(),
            error,
        };
        if topic_exists(fluvio, topic).await.map_err(failed)? {
            return Ok(());
        }
        let created = fluvio
            .admin()
            .await
            .create(topic.clone(), false, self.topic_spec())
            .await;
        match created {
            Ok(()) => Ok(()),
            Err(_) if topic_exists(fluvio, topic).await.map_err(failed)? => Ok(()),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn topic_spec(&self) -> TopicSpec {
        let mut spec = TopicSpec::new_computed(1, 1, None);
        let policy = SegmentBasedPolicy {
            time_in_seconds: self.retention_secs,
        };
        spec.set_cleanup_policy(CleanupPolicy::Segment(policy));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(SEGMENT_BYTES),
            ..TopicStorageConfig::default()
        });
        spec
    }

    async fn send(&self, producer: &TopicProducerPool, event: &UserEvent) -> Result<(), Failure> {
        let value = serde_json::to_vec(event)?;
        let acknowledged = async {
            let output = producer.send(RecordKey::NULL, value).await?;
            output.wait().await?;
            Ok::<_, Box<dyn StdError + Send + Sync>>(())
        };
        let topic = &self.config.topic;
        acknowledged.await.map_err(|error| Failure::Send {
            topic: topic.clone(),
            error,
        })
    }
}

async fn topic_exists(
    fluvio: &Fluvio,
    topic: &str,
) -> Result<bool, Box<dyn StdError + Send + Sync>> {
    let topics = fluvio
        .admin()
        .await
        .list::<TopicSpec, _>(vec![topic.to_owned()])
        .await?;
    Ok(topics.iter().any(|found| found.name == topic))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
            let retention = Config {
                retention: Duration::from_secs(seconds),
                ..Config::default()
            };
            assert!(matches!(
                UserEvents::new(retention),
                Err(Error::Retention(..))
            ));
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
