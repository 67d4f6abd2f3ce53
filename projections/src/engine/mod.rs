//! The projector: reads the log and commits its net effects together with the position they bring.
//!
//! ```text
//! Log ─▶ Reader (connections, gaps, decoding) ─▶ Follower (Chain, fold, one MySQL transaction: position, marts −, replica, marts +)
//! ```
//!
//! The tables that are live move together, as one group. A table that is copied, for the first time or again, is loaded
//! into a shadow table, catches up through the log beside the group, between whose commits all of that happens
//! (`Copier`), and joins it when both stand at one place (`Joiner`). What cannot be applied, a table or a mart, is set
//! aside alone.
//!
//! Any trouble with MySQL ends the session: the next one kills the old connection, reads the position
//! and goes on from there. So there is one way to recover, whatever happened, COMMIT included. A server that
//! does not answer within a statement's time limit is such trouble; one that is away is waited for without end.

mod again;
mod altered;
mod apply;
mod assemble;
mod begin;
pub(crate) mod bookkeeping;
pub(crate) mod catalog;
mod catch_up;
mod contained;
mod copier;
mod dropping;
mod error;
mod findings;
pub mod fold;
mod follower;
mod group;
mod handle;
mod hooks;
mod join;
mod live;
mod loading;
pub mod log;
mod owner;
mod pause;
mod position;
pub(crate) mod quarantine;
mod quarantined;
mod reader;
mod rows;
mod session;
mod shared;
mod status;
mod stock;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millrace_control::{in_words, Running};
use millrace_sessions::mysql;
use millrace_topic::{SmartModule, TopicError};
use tokio_util::sync::CancellationToken;

use crate::marts::Marts;
use crate::replica::Policies;
use log::{FluvioLog, Log};
use shared::Shared;

pub use dropping::DropError;
pub use error::{Culprit, Error};
pub use findings::{Findings, Found, NotWritten, Past};
pub use handle::{Handle, HoldError, HoldId, UnknownMart, WaitError};
pub use hooks::{Asked, Hooks, Point};
pub use pause::PauseError;
pub use quarantined::{Page, QuarantinedError, QuarantinedValue, Wanted};
pub use rows::{CopyStep, MartState, TableState};
pub use status::{
    Away, CopyStatus, HoldStatus, MartStatus, Needed, Projection, ProjectionKind, SnapshotProgress,
    State, Status, TableStatus,
};

/// How often the end of the log is asked for.
const END_INTERVAL: Duration = Duration::from_millis(500);

/// What a projector needs to know.
#[derive(Clone)]
pub struct Config {
    /// `mysql://user:password@host:port/database`.
    pub mysql_url: String,
    /// `host:port` of the Fluvio controller or the embedded broker.
    pub fluvio: String,
    /// Topic of the change log.
    pub changes_topic: String,
    /// Applied by the broker to the log and the snapshot; maps one to one.
    pub smartmodule: Option<SmartModule>,
    /// Tables of this Postgres schema keep their names in MySQL; those of others are called `schema__table`.
    pub main_schema: Option<String>,
    /// What becomes of values that MySQL cannot hold, in tables whose copies are announced from now on.
    pub values: Policies,
    /// Marts to keep.
    pub marts: Marts,
    /// Sizes and times.
    pub limits: Limits,
    /// For tests.
    pub hooks: Hooks,
}

/// Leaves out the MySQL URL, which holds a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("fluvio", &self.fluvio)
            .field("changes_topic", &self.changes_topic)
            .field("smartmodule", &self.smartmodule)
            .field("main_schema", &self.main_schema)
            .field("values", &self.values)
            .field("marts", &self.marts.names())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Sizes and times of a projector.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Source transactions in one MySQL transaction. More take longer to become visible.
    pub transactions: u64,
    /// Row changes in one MySQL transaction, as far as whole source transactions allow.
    pub changes: u64,
    /// JSON bytes in one MySQL transaction, as far as whole source transactions allow.
    pub bytes: usize,
    /// JSON bytes of one source transaction that are kept in memory. Beyond, its parts are applied
    /// as they come and committed with the last one.
    pub part_bytes: usize,
    /// MySQL answers a statement within so long, or the connection is replaced; work on whole tables may take longer.
    pub statement: Duration,
    /// A stream of the log that has records to bring and brings none for so long is dead. Its first answer, which may
    /// include the compilation of its module, gets twice as long at each attempt.
    pub silence: Duration,
    /// No hold lasts longer: a verify that died does not stop the pipeline.
    pub hold: Duration,
    /// MySQL answers within so long whether a pause is written down; else that is found out later.
    pub pause_answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transactions: 2_000,
            changes: 20_000,
            bytes: 8 * 1024 * 1024,
            part_bytes: 8 * 1024 * 1024,
            statement: mysql::STATEMENT,
            silence: Duration::from_secs(15),
            hold: Duration::from_secs(60),
            pause_answer: Duration::from_secs(15),
        }
    }
}

/// A projector that is not running yet.
pub struct Service {
    config: Config,
    log: Arc<dyn Log>,
    shared: Arc<Shared>,
}

impl Service {
    /// A projector of a Fluvio topic.
    pub fn new(config: Config) -> Service {
        let log = FluvioLog::new(&config.fluvio, config.smartmodule.clone());
        Service::over(config, Arc::new(log))
    }

    /// A projector of any log; `fluvio` and `smartmodule` of the configuration are not used.
    pub fn over(config: Config, log: Arc<dyn Log>) -> Service {
        let shared = Shared::new(&config);
        Service {
            config,
            log,
            shared,
        }
    }

    /// Watches and steers it, while it runs and after.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Runs until `shutdown`, or until it cannot go on. May be ended at any instant by dropping it:
    /// an open MySQL transaction is then rolled back.
    pub fn run(self, shutdown: CancellationToken) -> Running<Error> {
        Box::pin(self.run_until(shutdown))
    }

    async fn run_until(self, shutdown: CancellationToken) -> Result<(), Error> {
        let shared = self.shared.clone();
        let ended = tokio::select! {
            ended = self.project() => ended,
            never = self.follow_end() => never,
            () = shutdown.cancelled() => Ok(()),
        };
        shared.update(|status| {
            status.state = State::Stopped;
            status.error = ended.as_ref().err().map(|error| in_words(error));
        });
        shared.tell("entered another state");
        ended
    }

    /// Keeps the known end of the log up to date.
    async fn follow_end(&self) -> Result<(), Error> {
        let mut tick = tokio::time::interval(END_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.log.end(&self.config.changes_topic).await {
                Ok(end) => self.shared.update(|status| {
                    // What was read is there, whatever the controller has heard of it.
                    status.high_watermark = Some(end.max(status.next_offset.unwrap_or_default()));
                }),
                Err(TopicError::NoTopic { .. }) => {}
                // After a restart of the controller the old connection never answers again. Streams
                // keep their own.
                Err(_) => self.log.reset().await,
            }
        }
    }
}
