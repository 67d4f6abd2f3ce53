//! The proof that replica and marts are what they should be, sound while traffic goes on.
//!
//! 1. What has been open for long in Postgres ends; nobody is held meanwhile. Then the projector holds after a commit.
//! 2. A temporary logical slot with an exported snapshot gives a consistent point F: the snapshot
//!    contains exactly the commits before F. No other way of asking Postgres does (a plain snapshot is
//!    not a prefix of the log).
//! 3. A transactional message makes sure that the log has a commit behind F; the projector applies
//!    exactly the commits before F and holds again.
//! 4. Consistent snapshots of MySQL are opened, and the projector goes on.
//! 5. Every row and column is compared at leisure: both databases sum up digests of their rows, range by range, and the
//!    rows themselves are read, in the order of the key, where the sums of a range differ ([`Method`], ADR 23). Marts are
//!    compared with their SQL over the replica, and their state with what it stands for.
//! 6. A table that was truncated or rewritten between F and its turn cannot be read as of F any more: TRUNCATE and
//!    rewrites are not MVCC-safe. It is recognised by its file, and compared at a consistent point of its own.
//!
//! One verification runs at a time ([`turn`]); the projector runs one by itself every so often ([`period`]), which gives
//! way to everybody else. Neither database is written to, but for the message. Memory is bounded by a few rows and by the
//! differences that are kept.

mod capture;
mod checksum;
mod definition;
mod descent;
mod error;
mod fence;
mod finding;
mod key;
mod long;
mod marts;
mod merge;
mod order;
mod pace;
mod pair;
pub mod period;
mod position;
mod projector;
mod quarantine;
mod ranges;
mod report;
mod round;
mod sides;
mod tables;
mod turn;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use millrace_control::in_words;
use millrace_events::TableId;
use millrace_sessions::mysql::Session;
use millrace_sessions::postgres::PgSession;
use tokio_util::sync::CancellationToken;

use crate::marts::Marts;
use descent::{Both, Gone};
pub use error::Error;
pub use finding::{Answer, By, Compared, Finding};
pub use pace::Pace;
pub use period::Periodic;
use position::{LiveTable, Position};
use projector::Projector;
pub use report::{Difference, DifferenceKind, Exit, Report, Subject};
use round::Round;
use turn::Turn;

/// Consistent points that one run may take for tables that are truncated or rewritten meanwhile.
const ROUNDS_MAX: usize = 5;

/// What to compare, and how long to wait.
#[derive(Clone, Debug)]
pub struct Config {
    /// `postgres://` URL of a role that may replicate and read the tables.
    pub postgres_url: String,
    /// `mysql://` URL, database included.
    pub mysql_url: String,
    /// Tables to compare; empty: all that the projector has.
    pub tables: Vec<TableId>,
    /// The plan of the SmartModule `columns`: where it has a list for a table (`schema.table`), other columns of the
    /// source are not compared.
    pub columns: serde_json::Map<String, serde_json::Value>,
    /// Marts to compare.
    pub marts: Marts,
    /// Base URL of the projector's control API, such as `http://127.0.0.1:9101`.
    pub control_url: String,
    /// Base URL of capture's control API, which knows the tables that no longer get all changes. `None`: nobody asks.
    pub capture_url: Option<String>,
    /// The bearer token of both.
    pub control_token: String,
    /// How long the projector may take to hold.
    pub hold_timeout: Duration,
    /// How long Postgres may take to make a slot; it waits for older transactions.
    pub slot_timeout: Duration,
    /// How long the projector may take to reach the consistent point.
    pub catch_up_timeout: Duration,
    /// Who asks.
    pub by: By,
    /// How tables are compared.
    pub method: Method,
    /// Whether both databases are given rests.
    pub pace: Pace,
    /// Differences kept in the report, per table or mart. All are counted.
    pub differences_max: usize,
}

/// How a table is compared with its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Both databases say a sum of digests for each range of rows; the rows of a range are read where the sums differ.
    #[default]
    Sums,
    /// All rows are read.
    Rows,
}

/// Compares Postgres with replica and marts. The projector is released in every case, also when
/// `shutdown` is cancelled or the future is dropped. The projector is told what was found, so that status, page and
/// metrics know it whoever asked; not if only some tables were compared, as that says nothing of the others, and not
/// if somebody asked to stop. Of two verifications the second one waits.
pub fn verify<'a>(
    config: &'a Config,
    shutdown: &'a CancellationToken,
) -> BoxFuture<'a, Result<Report, Error>> {
    // Boxed here, so that it is compiled with this crate only (ADR 14).
    Box::pin(async move {
        let began = Instant::now();
        let outcome = tokio::select! {
            report = run(config) => report,
            () = shutdown.cancelled() => return Err(Error::Interrupted),
        };
        if config.tables.is_empty() && is_to_be_told(config, &outcome) {
            tell(
                config,
                &Finding::of(&outcome).after(config.by, began.elapsed()),
            )
            .await;
        }
        outcome
    })
}

/// What runs by itself tries again soon where only the moment was wrong; a person will not.
fn is_to_be_told(config: &Config, outcome: &Result<Report, Error>) -> bool {
    match (outcome, config.by) {
        (Err(Error::Running), _) => false,
        (Err(error), By::Period) => !error.is_of_the_moment(),
        _ => true,
    }
}

async fn tell(config: &Config, finding: &Finding) {
    let told = async { Projector::new(config)?.found(finding).await };
    if let Err(error) = told.await {
        let error = in_words(&error);
        tracing::warn!(
            error,
            "status, page and metrics do not know what verify found"
        );
    }
}

async fn run(config: &Config) -> Result<Report, Error> {
    let known = round::known(config).await?;
    if known
        .as_ref()
        .is_none_or(|position| position.live.is_empty())
    {
        return Ok(Report::nothing_live(config, known.as_ref()));
    }
    let projector = Projector::new(config)?;
    let turn = Turn::take(config, &projector).await?;
    let compared = compare_all(config, &projector).await;
    turn.end().await;
    compared
}

async fn compare_all(config: &Config, projector: &Projector) -> Result<Report, Error> {
    let round = Round::begin(config, projector).await?;
    let mut report = Report::new(round.lsn);
    round.check_position(&mut report);
    let (chosen, absent) = tables::chosen(config, &round.position);
    report
        .not_live
        .extend(absent.iter().map(TableId::to_string));
    report.not_compared = unknown_marts(config, &round.position);
    let mut mysql = round.mysql;
    let mut moved = Moved {
        tables: compare(
            config,
            (round.postgres, &mut mysql[0]),
            &round.position,
            &chosen,
            &mut report,
        )
        .await?,
        marts: compare_marts(config, &mut mysql, &round.position, None, &mut report).await?,
    };
    again(config, projector, &mut moved, &mut report).await?;
    // Last, so that what was noticed meanwhile counts.
    report.are_not_live(capture::not_live(config).await?);
    Ok(report.finish())
}

/// The marts that the projector keeps and the caller does not know.
fn unknown_marts(config: &Config, position: &Position) -> Vec<String> {
    let known = config.marts.names();
    let unknown = position.marts.iter().filter(|mart| !known.contains(mart));
    unknown.cloned().collect()
}

/// What cannot be read as of a consistent point any more: tables that were truncated or rewritten in Postgres, tables and
/// marts that others have taken the place of in MySQL.
struct Moved {
    tables: Vec<TableId>,
    marts: Vec<String>,
}

impl Moved {
    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.marts.is_empty()
    }

    fn names(&self) -> Vec<String> {
        let tables = self.tables.iter().map(TableId::to_string);
        tables.chain(self.marts.iter().cloned()).collect()
    }
}

/// Compares what has moved at further consistent points.
async fn again(
    config: &Config,
    projector: &Projector,
    moved: &mut Moved,
    report: &mut Report,
) -> Result<(), Error> {
    for _ in 1..ROUNDS_MAX {
        if moved.is_empty() {
            return Ok(());
        }
        tracing::info!(
            names = moved.names().join(", "),
            "rewritten or replaced before their turn: they are compared at a point of their own"
        );
        let mut round = Round::begin(config, projector).await?;
        let position = &round.position;
        let (named, absent) = tables::named(&moved.tables, position);
        // One that was removed meanwhile is not missed, unless somebody asked for it.
        let is_missed =
            |id: &&TableId| position.not_live.contains(id) || config.tables.contains(id);
        let missed = absent.iter().filter(is_missed).map(TableId::to_string);
        report.not_live.extend(missed);
        let mysql = &mut round.mysql;
        moved.tables = compare(
            config,
            (round.postgres, &mut mysql[0]),
            position,
            &named,
            report,
        )
        .await?;
        let marts = std::mem::take(&mut moved.marts);
        moved.marts = compare_marts(config, mysql, position, Some(&marts), report).await?;
    }
    match moved.is_empty() {
        true => Ok(()),
        false => Err(Error::Rewritten(moved.names())),
    }
}

/// Compares marts, all of them or those of these names, and returns those that have been replaced meanwhile.
async fn compare_marts(
    config: &Config,
    [mysql, other]: &mut [Session; 2],
    position: &Position,
    named: Option<&[String]>,
    report: &mut Report,
) -> Result<Vec<String>, Error> {
    let mut replaced = Vec::new();
    for mart in config.marts.iter() {
        let name = mart.name();
        if named.is_some_and(|named| !named.iter().any(|n| n == name)) {
            continue;
        }
        if !position.live_marts.contains(name) {
            report.not_live.push(name.to_owned());
            continue;
        }
        let began = Instant::now();
        match marts::compare(config, mysql, other, mart).await {
            Ok(Some(subject)) => report.marts.push(subject),
            Ok(None) => report.not_live.push(name.to_owned()),
            // One that it reads is gone, and told by itself.
            Err(error) if error.is_of_a_missing_table() => report.not_live.push(name.to_owned()),
            Err(error) if error.is_of_a_replaced_table() => replaced.push(name.to_owned()),
            Err(error) => return Err(error),
        }
        config.pace.rest(began.elapsed()).await;
    }
    Ok(replaced)
}

/// Compares tables, and returns those that cannot be read as of the consistent point any more. The session with
/// Postgres ends with that, and its locks on the tables.
async fn compare(
    config: &Config,
    (mut postgres, mysql): (PgSession, &mut Session),
    position: &Position,
    tables: &[LiveTable],
    report: &mut Report,
) -> Result<Vec<TableId>, Error> {
    let mut rewritten = Vec::new();
    let mut both = Both {
        postgres: &mut postgres,
        mysql,
        existing: &position.existing,
    };
    for table in tables {
        match tables::compare(config, &mut both, table).await? {
            Ok(subject) => report.tables.push(subject),
            Err(Gone) => rewritten.push(table.definition.table.clone()),
        }
    }
    let _ = postgres.close().await;
    Ok(rewritten)
}

fn mysql(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::MySql { doing, source }
}

fn postgres(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::Postgres { doing, source }
}
