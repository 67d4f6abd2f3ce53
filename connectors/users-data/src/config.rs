use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millrace_topic::Retention;

use crate::Error;

/// Where users come from and where they go.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of Fluvio.
    pub endpoint: String,
    /// `postgres://user:password@host:port/database`. The user may create schema `millrace`, or it
    /// exists and the user may create tables in it.
    pub postgres_url: String,
    /// Postgres schema of table `users`, which exists.
    pub schema: String,
    /// Topic of the events, one partition; created if missing.
    pub topic: String,
    /// Topic of rejected events; created with one partition if missing.
    pub rejected_topic: String,
    /// Retention of the topics that are created here.
    pub retention: Retention,
    /// Name under which the broker knows SmartModule `user-event`. Ingest waits until it does.
    pub smartmodule: String,
    /// Its parameters, such as `max_bytes`.
    pub smartmodule_params: BTreeMap<String, String>,
    /// Events in one Postgres transaction at most.
    pub batch_events_max: usize,
    /// How long a transaction waits for more events after the first.
    pub batch_wait_max: Duration,
    /// Bytes of a rejected event that are kept in its dead letter; what is longer is cut.
    pub original_bytes_max: usize,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint)
            .field("schema", &self.schema)
            .field("topic", &self.topic)
            .field("rejected_topic", &self.rejected_topic)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint: "127.0.0.1:9003".to_owned(),
            postgres_url: "postgres://db_user:qwerty@127.0.0.1:5432/postgres_db".to_owned(),
            schema: "source".to_owned(),
            topic: "users-data".to_owned(),
            rejected_topic: "users-data-rejected".to_owned(),
            retention: Retention {
                age: Duration::from_secs(7 * 86_400),
                bytes: Retention::BYTES_DEFAULT,
            },
            smartmodule: "user-event".to_owned(),
            smartmodule_params: BTreeMap::new(),
            batch_events_max: 500,
            batch_wait_max: Duration::from_millis(50),
            original_bytes_max: 64 * 1024,
        }
    }
}

/// Escaped as JSON an event may grow sixfold; the dead letter stays below the client's limit.
const ORIGINAL_BYTES_LIMIT: usize = 1024 * 1024;
/// Below this a batch would be no batch; above, its transaction would hold locks for long.
const BATCH_EVENTS_LIMIT: usize = 10_000;

impl Config {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Config(reason));
        if !(1..=BATCH_EVENTS_LIMIT).contains(&self.batch_events_max) {
            return refuse(format!(
                "batch_events_max must be between 1 and {BATCH_EVENTS_LIMIT}"
            ));
        }
        if self.original_bytes_max > ORIGINAL_BYTES_LIMIT {
            return refuse(format!(
                "original_bytes_max must not exceed {ORIGINAL_BYTES_LIMIT}"
            ));
        }
        if let Err(error) = self.retention.check() {
            return refuse(error.to_string());
        }
        if self.topic == self.rejected_topic {
            return refuse("topic and rejected_topic must differ".to_owned());
        }
        Ok(())
    }
}
