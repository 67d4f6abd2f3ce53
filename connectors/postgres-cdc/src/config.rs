//! What capture is told.

use std::time::Duration;

use millrace_topic::Retention;

use crate::Selection;

/// Bytes of a message of the replication stream that is received whole. Larger rows come in fragments. Whatever JSON makes
/// of its characters, six bytes of one at most, it fits into a record.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of messages that were received and wait to be encoded.
pub(crate) const RECEIVED_BYTES_MAX: usize = 32 << 20;

/// Where capture reads and writes. `Config::new` fills in defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// `postgres://user:password@host:port/database`; the user needs REPLICATION, and must own the
    /// tables or be a superuser to create the publication.
    pub postgres_url: String,
    /// Which tables are captured. It is resolved when the publication is created; from then on the tables of the
    /// publication are captured, each of which it has to select.
    pub tables: Selection,
    /// Publication; created if missing.
    pub publication: String,
    /// Replication slot: lower-case letters, digits and underscores.
    pub slot: String,
    /// `host:port` of Fluvio's controller.
    pub fluvio_endpoint: String,
    /// Topic of the change log.
    pub topic_changes: String,
    /// Prefix of snapshot topics; `-N` follows.
    pub topic_snapshot_prefix: String,
    /// How long the topics that are created here keep their records.
    pub retention: Retention,
    /// The same of the snapshots' topics, each of which is needed whole until it is loaded.
    pub retention_of_snapshots: Retention,
    /// Prefix of the logical messages that get a record of their own although they change nothing.
    pub message_prefix: String,
    /// Bytes of changes at which a transaction is cut into parts, and of rows in a snapshot chunk.
    pub part_bytes: usize,
    /// Bytes of records sent and not yet acknowledged.
    pub in_flight_bytes_max: usize,
    /// Records sent and not yet acknowledged.
    pub in_flight_records_max: usize,
    /// How long Fluvio's client waits for more records before it sends a batch.
    pub linger: Duration,
    /// How long an acknowledgement may take before the session is given up.
    pub acknowledge_timeout: Duration,
    /// At most one `progress` record in this time, and only if the source moved.
    pub progress_period: Duration,
    /// How often the catalog is compared with what the log was taken from.
    pub watch_period: Duration,
    /// How often Postgres is told what is durable.
    pub feedback_period: Duration,
    /// A transactional message into the WAL in this period; `None`: never.
    pub heartbeat_period: Option<Duration>,
    /// Sessions with Postgres that copy tables at once.
    pub snapshot_readers: usize,
    /// Rows of a chunk of a copy, at most; a chunk of wide rows has fewer.
    pub chunk_rows_max: u64,
    /// How long the slot may wait for transactions that are older than it.
    pub slot_timeout: Duration,
    /// How long to wait for locks that another capture, or a change of a table, holds.
    pub lock_timeout: Duration,
    /// Delay before the second attempt; doubled up to `backoff_max`, with jitter.
    pub backoff_min: Duration,
    /// Longest delay between two attempts.
    pub backoff_max: Duration,
}

impl Config {
    /// Captures `tables` under the default names.
    pub fn new(
        postgres_url: impl Into<String>,
        fluvio_endpoint: impl Into<String>,
        tables: Selection,
    ) -> Self {
        let retention = Retention {
            age: Duration::from_secs(30 * 24 * 3600),
            bytes: Retention::BYTES_DEFAULT,
        };
        Config {
            postgres_url: postgres_url.into(),
            tables,
            publication: "millrace".into(),
            slot: "millrace".into(),
            fluvio_endpoint: fluvio_endpoint.into(),
            topic_changes: "millrace-changes".into(),
            topic_snapshot_prefix: "millrace-snapshot".into(),
            retention,
            retention_of_snapshots: retention,
            message_prefix: "millrace".into(),
            part_bytes: 512 << 10,
            in_flight_bytes_max: 16 << 20,
            in_flight_records_max: 16_384,
            linger: Duration::from_millis(5),
            acknowledge_timeout: Duration::from_secs(30),
            progress_period: Duration::from_secs(1),
            watch_period: Duration::from_secs(3),
            feedback_period: Duration::from_secs(1),
            heartbeat_period: None,
            snapshot_readers: 4,
            chunk_rows_max: 50_000,
            slot_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(15),
        }
    }
}
