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

mod checksum;
mod descent;
mod fence;
mod finding;
mod key;
mod marts;
mod merge;
mod order;
mod pace;
mod pair;
pub mod period;
mod position;
mod projector;
mod ranges;
mod report;
mod sides;
mod tables;
mod turn;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use millrace_control::in_words;
use millrace_events::{Lsn, TableId};
use millrace_sessions::mysql::{self, ConnectError, Purpose, Session};
use millrace_sessions::postgres::replication::ReplicationError;
use millrace_sessions::postgres::PgSession;
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use crate::engine::position::NamedTable;
use crate::marts::Marts;
use descent::{Both, Gone};
use fence::Fence;
pub use finding::{Answer, By, Compared, Finding};
pub use pace::Pace;
pub use period::Periodic;
use position::Position;
use projector::{Held, Projector};
pub use report::{Difference, DifferenceKind, Exit, Report, Subject};
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
    /// Its bearer token.
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

/// No answer to the question whether all is equal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL or name cannot be used.
    #[error("[MR-V001] {0}")]
    Config(String),
    /// The projector does not answer, or refuses.
    #[error("[MR-V002] the projector's control API: {0}")]
    Projector(String),
    /// Postgres cannot make a slot while an older transaction is open.
    #[error("[MR-V003] Postgres made no slot within {seconds} s: {blocker}; end that transaction or try again later")]
    SlotBlocked {
        /// The limit.
        seconds: u64,
        /// Who is in the way.
        blocker: String,
    },
    /// A question to Postgres failed.
    #[error("[MR-V004] Postgres, {doing}")]
    Postgres {
        /// What was asked.
        doing: &'static str,
        /// Answer.
        source: sqlx::Error,
    },
    /// The replication connection failed.
    #[error("[MR-V004] Postgres, replication connection")]
    Replication(#[from] ReplicationError),
    /// A question to MySQL failed.
    #[error("[MR-V005] MySQL, {doing}")]
    MySql {
        /// What was asked.
        doing: &'static str,
        /// Answer.
        source: sqlx::Error,
    },
    /// No session with MySQL.
    #[error("[MR-V005] MySQL, connecting")]
    Connect(#[from] ConnectError),
    /// The bookkeeping of the projector cannot be read.
    #[error("[MR-V006] the projector's bookkeeping: {0}")]
    Bookkeeping(String),
    /// Tables change their files faster than they can be compared.
    #[error("[MR-V008] {} was truncated or rewritten each time before its turn came, {ROUNDS_MAX} times: run verify again when that is over", in_a_row(.0))]
    Rewritten(Vec<TableId>),
    /// Another verification of this replica runs.
    #[error("[MR-V009] another verification is running; run verify again when it has ended")]
    Running,
    /// Somebody asked to stop.
    #[error("[MR-V007] verify was interrupted")]
    Interrupted,
}

impl Error {
    /// Nothing is wrong but the moment: the next attempt may give an answer, without anybody doing anything about us.
    fn is_of_the_moment(&self) -> bool {
        matches!(
            self,
            Error::Projector(_)
                | Error::SlotBlocked { .. }
                | Error::Rewritten(_)
                | Error::Running
                | Error::Interrupted
        )
    }
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
    if !is_live(config).await? {
        return Ok(Report::nothing_live(config));
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
    check_position(&mut report, &round.position, round.log_end);
    let (chosen, absent) = tables::chosen(config, &round.position);
    report
        .not_live
        .extend(absent.iter().map(TableId::to_string));
    let [mut mysql, mut other] = round.mysql;
    let rewritten = compare(config, round.postgres, &mut mysql, &chosen, &mut report).await?;
    for mart in config.marts.iter() {
        let began = Instant::now();
        match marts::compare(config, &mut mysql, &mut other, mart).await? {
            Some(subject) => report.marts.push(subject),
            None => report.not_live.push(mart.name().to_owned()),
        }
        config.pace.rest(began.elapsed()).await;
    }
    again(config, projector, rewritten, &mut report).await?;
    Ok(report.finish())
}

/// Compares tables that changed their files at further consistent points.
async fn again(
    config: &Config,
    projector: &Projector,
    mut rewritten: Vec<TableId>,
    report: &mut Report,
) -> Result<(), Error> {
    for _ in 1..ROUNDS_MAX {
        if rewritten.is_empty() {
            return Ok(());
        }
        tracing::info!(
            tables = in_a_row(&rewritten),
            "truncated or rewritten before their turn: they are compared at a point of their own"
        );
        let round = Round::begin(config, projector).await?;
        let (named, absent) = tables::named(&rewritten, &round.position);
        report
            .not_live
            .extend(absent.iter().map(TableId::to_string));
        let [mut mysql, _] = round.mysql;
        rewritten = compare(config, round.postgres, &mut mysql, &named, report).await?;
    }
    match rewritten.is_empty() {
        true => Ok(()),
        false => Err(Error::Rewritten(rewritten)),
    }
}

/// Both databases as of one consistent point.
struct Round {
    lsn: Lsn,
    log_end: Lsn,
    position: Position,
    postgres: PgSession,
    mysql: [Session; 2],
}

impl Round {
    /// Steps 1 to 4.
    async fn begin(config: &Config, projector: &Projector) -> Result<Round, Error> {
        fence::wait_for_old_transactions(config).await?;
        let held = projector.hold(config.by, config.hold_timeout).await?;
        let frozen = freeze(config, &held).await;
        let released = held.release().await;
        let (mut fence, sessions) = frozen?;
        // A hold that ended by itself before the snapshots were open proves nothing.
        released?;
        Ok(Round {
            lsn: fence.lsn(),
            log_end: fence.log_end().await?,
            position: sessions.position,
            postgres: fence.into_session(),
            mysql: sessions.mysql,
        })
    }
}

/// Compares tables, and returns those that cannot be read as of the consistent point any more. The session with
/// Postgres ends with that, and its locks on the tables.
async fn compare(
    config: &Config,
    mut postgres: PgSession,
    mysql: &mut Session,
    tables: &[NamedTable],
    report: &mut Report,
) -> Result<Vec<TableId>, Error> {
    let mut rewritten = Vec::new();
    let mut both = Both {
        postgres: &mut postgres,
        mysql,
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

/// Two sessions that see MySQL at the same commit.
struct Sessions {
    mysql: [Session; 2],
    position: Position,
}

/// Steps 2 to 4, with the projector held.
async fn freeze(config: &Config, held: &Held) -> Result<(Fence, Sessions), Error> {
    let fence = Fence::create(config).await?;
    fence.emit_message(config).await?;
    held.stop_before(fence.lsn(), config.catch_up_timeout)
        .await?;
    let mut mysql = [snapshot(config).await?, snapshot(config).await?];
    let [first, _] = &mut mysql;
    let position = Position::read(first)
        .await?
        .ok_or_else(|| Error::Bookkeeping("the position row is gone".into()))?;
    Ok((fence, Sessions { mysql, position }))
}

/// True if the projector's tables are in place.
async fn is_live(config: &Config) -> Result<bool, Error> {
    let mut conn = mysql::connect(&config.mysql_url, Purpose::Compare).await?;
    let position = Position::read(&mut conn).await?;
    Ok(position.is_some_and(|position| position.live))
}

/// A read-only session that sees one state.
async fn snapshot(config: &Config) -> Result<Session, Error> {
    let mut conn = mysql::connect(&config.mysql_url, Purpose::Compare).await?;
    conn.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .await
        .map_err(mysql("opening a consistent snapshot"))?;
    Ok(conn)
}

/// The position row is still that of a live projector of this source. It may stand behind the
/// consistent point, where nothing was committed in between, but never behind the end of the log.
fn check_position(report: &mut Report, position: &Position, log_end: Lsn) {
    if !position.live {
        report.not_live.push("millrace_position".into());
    }
    if position.end_lsn > log_end {
        let found = position.end_lsn.to_string();
        report.wrong_position(format!("at most {log_end}"), found);
    }
}

fn in_a_row(tables: &[TableId]) -> String {
    let names: Vec<String> = tables.iter().map(TableId::to_string).collect();
    names.join(", ")
}

fn mysql(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::MySql { doing, source }
}

fn postgres(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::Postgres { doing, source }
}
