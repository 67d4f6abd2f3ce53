//! What a projector says about itself, and how it is told to hold still.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_control::time;
use millrace_events::{CopyId, InTransit, Lsn, TableId};
use millrace_sessions::mysql::Answers;
use millrace_topic::Patience;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::catalog::Catalog;
use super::dropping::Wanted;
use super::findings::{Findings, Keeper};
use super::log::Offset;
use super::pause::Pause;
use super::reader::AHEAD_RECORDS;
use super::rows::{CopyStep, MartState, TableRow, TableState};
use super::Config;
use crate::verify::{By, Periodic};

/// A statement that MySQL has not answered for longer is shown.
const SILENT: Duration = Duration::from_secs(5);

/// What the log calls the tables that move together.
pub(crate) const PROJECTIONS: &str = "replica and marts";

/// The stages of a projector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not connected yet.
    #[default]
    Starting,
    /// The log has not begun, or has announced no table.
    WaitingForSnapshot,
    /// Tables are loaded into shadow tables and catch up. What is live already moves with the log.
    Loading,
    /// Indexes and marts of the shadow tables are made, and they take their places.
    Building,
    /// The log is applied as it comes, to all tables but those that are set aside.
    Live,
    /// MySQL is away, lets nobody in, or owes an answer for longer than usual. It is waited for.
    WaitingForMysql,
    /// It has ended.
    Stopped,
}

/// How far the loading of tables is, all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotProgress {
    /// Rows loaded.
    pub rows: u64,
    /// Rows that capture expected.
    pub rows_estimated: u64,
}

/// A table of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// In the source.
    pub table: TableId,
    /// In MySQL.
    pub name: String,
    /// Where it stands.
    pub state: TableState,
    /// Since when.
    #[serde(serialize_with = "time::serialize")]
    pub since: DateTime<Utc>,
    /// Why it is not live, or why its last copy came to nothing.
    pub reason: Option<String>,
    /// Rows of the copy that it began with.
    pub rows: u64,
    /// Values that MySQL cannot hold: they stand in quarantine, and their columns are NULL.
    pub quarantined: u64,
    /// The newest copy of it that the log has announced.
    pub newest_copy: CopyId,
    /// A copy of it that is under way, also while it is live.
    pub copy: Option<CopyStatus>,
}

/// A copy of a table that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CopyStatus {
    /// Its number.
    pub copy: CopyId,
    /// How far it is.
    pub step: CopyStep,
    /// Chunks loaded.
    pub chunks: u32,
    /// Chunks that there are, when that is known.
    pub chunks_total: Option<u32>,
    /// Rows loaded.
    pub rows: u64,
    /// Rows that capture expected.
    pub rows_estimated: u64,
    /// How far it has caught up.
    pub end_lsn: Lsn,
}

/// A mart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MartStatus {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: MartState,
    /// Since when.
    #[serde(serialize_with = "time::serialize")]
    pub since: DateTime<Utc>,
    /// Why it is not live.
    pub reason: Option<String>,
    /// Values in quarantine of the tables that it reads: it takes them for NULL.
    pub quarantined: u64,
}

/// MySQL is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Away {
    /// When it first failed.
    #[serde(serialize_with = "time::serialize")]
    pub since: DateTime<Utc>,
    /// When it is tried again.
    #[serde(serialize_with = "time::serialize")]
    pub next_try_at: DateTime<Utc>,
    /// The last failure.
    pub reason: String,
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "[MR-P002] MySQL has been away since {}, next try at {}: {}",
            time::text(self.since),
            time::text(self.next_try_at),
            self.reason
        )
    }
}

/// A hold in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HoldStatus {
    /// To be named when releasing it.
    pub id: HoldId,
    /// Who holds.
    pub by: By,
    /// Commits before this are still applied.
    pub stop_before: Option<Lsn>,
    /// True as soon as the projector stands still.
    pub reached: bool,
}

/// What a projector keeps in MySQL under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Projection {
    /// `replica`, or the name of the mart.
    pub name: String,
    /// Which of the two.
    pub kind: ProjectionKind,
}

/// Kinds of projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionKind {
    /// The tables of the source.
    Replica,
    /// A mart.
    Mart,
}

/// A projector at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Stage.
    pub state: State,
    /// Log that the tables were built from.
    pub incarnation: Option<String>,
    /// The tables equal the source at this LSN.
    pub end_lsn: Option<Lsn>,
    /// Record that brought it.
    pub offset: Option<Offset>,
    /// Every record before this one is accounted for.
    pub next_offset: Option<Offset>,
    /// Offset that the next record of the log will get.
    pub high_watermark: Option<Offset>,
    /// Records between the two.
    pub lag_records: Option<u64>,
    /// When the last applied transaction was committed, by the source's clock.
    #[serde(serialize_with = "time::serialize_option")]
    pub source_at: Option<DateTime<Utc>>,
    /// When it was committed here.
    #[serde(serialize_with = "time::serialize_option")]
    pub applied_at: Option<DateTime<Utc>>,
    /// When the oldest transaction that was read from the log and is not committed here was committed
    /// in the source. Known from [`Handle::status`] only.
    #[serde(serialize_with = "time::serialize_option")]
    pub oldest_pending_at: Option<DateTime<Utc>>,
    /// How many such transactions there are. Known from [`Handle::status`] only.
    pub pending_transactions: usize,
    /// Since when it is to stand still until it is resumed.
    #[serde(serialize_with = "time::serialize_option")]
    pub paused_since: Option<DateTime<Utc>>,
    /// What it keeps. All of it that is live moves together.
    pub projections: Vec<Projection>,
    /// The tables that the log has announced.
    pub tables: Vec<TableStatus>,
    /// The marts that are configured.
    pub marts: Vec<MartStatus>,
    /// MySQL transactions since the start.
    pub batches: u64,
    /// Source transactions since the start.
    pub transactions: u64,
    /// Row changes since the start, before folding.
    pub changes: u64,
    /// Transactions that had to be repeated, connections that had to be made anew.
    pub retries: u64,
    /// Records that built upon something missing; their re-send is waited for.
    pub holes: u64,
    /// While loading.
    pub snapshot: Option<SnapshotProgress>,
    /// Hold in force.
    pub hold: Option<HoldStatus>,
    /// What is known from verifications; `None` until MySQL was asked.
    pub verify: Option<Findings>,
    /// The verifications that run by themselves, if there are any.
    pub periodic: Option<Periodic>,
    /// What is wrong with MySQL, or why it has stopped.
    pub error: Option<String>,
    /// While MySQL is waited for.
    pub away: Option<Away>,
    /// What is wrong with the log.
    pub log_error: Option<String>,
}

impl Status {
    /// What is not live, and why. Tables that are captured no longer are not expected to be.
    pub fn not_live(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let tables = self
            .tables
            .iter()
            .filter(|table| !matches!(table.state, TableState::Live | TableState::Removed));
        let tables = tables.map(|table| (table.table.to_string(), table.reason.as_deref()));
        let marts = self
            .marts
            .iter()
            .filter(|mart| mart.state != MartState::Live);
        tables.chain(marts.map(|mart| (mart.name.clone(), mart.reason.as_deref())))
    }

    /// True if it is at `lsn` with all tables that are not set aside.
    fn is_at(&self, lsn: Lsn) -> bool {
        let begun = self.tables.iter().all(|table| !table.state.is_coming());
        begun && !self.tables.is_empty() && self.end_lsn.is_some_and(|end| end >= lsn)
    }

    /// An answer that does not come is no sign of life: what applies the log is shown as waiting. Indexes and marts take
    /// their time.
    fn show_silence(&mut self, owed: Duration) {
        if self.state == State::Live {
            self.state = State::WaitingForMysql;
        }
        if self.error.is_none() && self.state == State::WaitingForMysql {
            let seconds = owed.as_secs();
            self.error = Some(format!("MySQL has not answered for {seconds} s"));
        }
    }
}

/// Names a hold, so that nobody ends another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HoldId(pub u64);

/// How far the projector may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// No further than the commit that is being applied.
    Now,
    /// All commits before this LSN, and none after.
    Before(Lsn),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) id: HoldId,
    pub(crate) by: By,
    pub(crate) until: Until,
    /// When it ends by itself.
    pub(crate) deadline: Instant,
}

/// What the projector is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// Ends by itself.
    pub(crate) hold: Option<Hold>,
    /// Ends when somebody resumes it; a hold that was there before comes first.
    pub(crate) paused_since: Option<DateTime<Utc>>,
}

/// A request to hold failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// Somebody else holds the projector.
    #[error("the projector is held by another caller (hold {})", .0.0)]
    Busy(HoldId),
    /// The hold is over: released, or beyond its time limit. What was concluded from it is void.
    #[error("the hold is over; it may have lasted longer than its limit")]
    Lost,
    /// It did not come to a standstill in time.
    #[error("the projector did not come to hold within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It has already applied commits beyond the LSN.
    #[error("the projector is already at {0}")]
    Passed(Lsn),
    /// It stands still without limit, and a hold that moves it would end that.
    #[error("the projector is paused; resume it first")]
    Paused,
}

/// The projector did not get there in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the projector is at {}, {} s were not enough to reach {wanted}{}", .at.map_or("no LSN".to_owned(), |lsn| lsn.to_string()), .waited.as_secs(), if *.paused { "; it is paused, resume it first" } else { "" })]
pub struct WaitError {
    /// Where it should be.
    pub wanted: Lsn,
    /// Where it is.
    pub at: Option<Lsn>,
    /// How long it was waited for.
    pub waited: Duration,
    /// It is paused, so that waiting longer does not help.
    pub paused: bool,
}

/// There is no such mart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the projector keeps no mart {0}; `millrace marts list` names them")]
pub struct UnknownMart(String);

/// Watches and steers a running projector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Shared>);

/// What service, reader and handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    status: watch::Sender<Status>,
    orders: watch::Sender<Orders>,
    /// No hold lasts longer.
    hold_max: Duration,
    /// Marts that somebody wants to be built again.
    rebuilds: Mutex<BTreeSet<String>>,
    /// Tables that somebody wants to be removed from MySQL.
    drops: Mutex<Vec<Wanted>>,
    /// Transactions read from the log and not committed in MySQL.
    pending: Mutex<InTransit>,
    pub(super) pause: Pause,
    /// Whether MySQL owes an answer.
    answers: Answers,
    pub(super) findings: Keeper,
    /// How patiently the streams of the log are waited for.
    pub(super) streams: Patience,
}

impl Handle {
    /// The projector as it is now.
    pub fn status(&self) -> Status {
        let mut status = self.0.status.borrow().clone();
        let pending = self.0.pending();
        status.oldest_pending_at = pending.oldest_at();
        status.pending_transactions = pending.len();
        if let Some(owed) = self.0.answers.owed_for().filter(|owed| *owed > SILENT) {
            status.show_silence(owed);
        }
        status
    }

    /// Follows the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }

    /// Lets the projector stand still between two commits, and returns when it does. It goes on by
    /// itself when the limit of holds is over. A person takes the hold of a verification that runs by itself.
    pub async fn hold(&self, by: By, timeout: Duration) -> Result<HoldId, HoldError> {
        let id = HoldId(rand::random::<u64>() >> 11);
        let mut refused = None;
        self.0.orders.send_if_modified(|orders| {
            refused = match (orders.paused_since, orders.hold) {
                (Some(_), _) => Some(HoldError::Paused),
                (None, Some(other)) if !other.gives_way_to(by) => Some(HoldError::Busy(other.id)),
                (None, _) => None,
            };
            if refused.is_none() {
                orders.hold = Some(Hold {
                    id,
                    by,
                    until: Until::Now,
                    deadline: Instant::now() + self.0.hold_max,
                });
            }
            refused.is_none()
        });
        if let Some(error) = refused {
            return Err(error);
        }
        self.0.show_hold();
        self.standstill(id, timeout).await?;
        Ok(id)
    }

    /// Lets a held projector apply exactly the commits with `commit_lsn < lsn`, and returns when it
    /// has. If the log has none behind `lsn`, write one into the source.
    pub async fn stop_before(
        &self,
        id: HoldId,
        lsn: Lsn,
        timeout: Duration,
    ) -> Result<(), HoldError> {
        let at = self.status().end_lsn.unwrap_or(Lsn::ZERO);
        if at > lsn {
            return Err(HoldError::Passed(at));
        }
        let mut found = false;
        self.0.orders.send_if_modified(|orders| {
            if let Some(hold) = orders.hold.as_mut().filter(|hold| hold.id == id) {
                hold.until = Until::Before(lsn);
                found = true;
            }
            found
        });
        if !found {
            return Err(HoldError::Lost);
        }
        self.0.show_hold();
        self.standstill(id, timeout).await
    }

    /// Lets the projector go on. `Ok` proves that the hold was in force until now.
    pub fn release(&self, id: HoldId) -> Result<(), HoldError> {
        match self.0.end_hold(id) {
            true => Ok(()),
            false => Err(HoldError::Lost),
        }
    }

    /// Ends whatever hold there is; for a person whose tool died.
    pub fn release_any(&self) {
        self.0.orders.send_modify(|orders| orders.hold = None);
        self.0.show_hold();
    }

    /// Says what is known of the verifications that run by themselves.
    pub(crate) fn show_periodic(&self, periodic: Periodic) {
        self.0.update(|status| status.periodic = Some(periodic));
    }

    /// Lets a mart be built again beside the old one, and take its place: between two commits, as soon as all of its
    /// tables are live.
    pub fn rebuild(&self, mart: &str) -> Result<(), UnknownMart> {
        let known = self
            .0
            .status
            .borrow()
            .marts
            .iter()
            .any(|known| known.name == mart);
        if !known {
            return Err(UnknownMart(mart.to_owned()));
        }
        self.0.rebuilds().insert(mart.to_owned());
        self.0.wake();
        Ok(())
    }

    /// Returns when the tables contain everything up to `lsn`.
    pub async fn wait_for(&self, lsn: Lsn, timeout: Duration) -> Result<(), WaitError> {
        let mut status = self.watch();
        let reached =
            tokio::time::timeout(timeout, status.wait_for(|status| status.is_at(lsn))).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(WaitError {
                wanted: lsn,
                at: self.status().end_lsn,
                waited: timeout,
                paused: self.0.orders.borrow().paused_since.is_some(),
            }),
        }
    }

    async fn standstill(&self, id: HoldId, timeout: Duration) -> Result<(), HoldError> {
        let mut status = self.watch();
        let settled = |status: &Status| match status.hold {
            Some(hold) if hold.id == id => hold.reached,
            _ => true,
        };
        let reached = match tokio::time::timeout(timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) => status.hold.is_some_and(|hold| hold.id == id),
            Ok(Err(_)) => false,
            Err(_) => {
                self.0.end_hold(id);
                return Err(HoldError::Timeout(timeout));
            }
        };
        match reached {
            true => Ok(()),
            false => Err(HoldError::Lost),
        }
    }
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Arc<Shared> {
        let status = Status {
            projections: projections(config),
            ..Status::default()
        };
        // What waits for its turn, and what is in the batch or leaving it. More there is only behind a
        // hole, where records come again.
        let pending_max = AHEAD_RECORDS.saturating_add(2 * config.limits.transactions as usize);
        Arc::new(Shared {
            status: watch::Sender::new(status),
            orders: watch::Sender::new(Orders::default()),
            hold_max: config.limits.hold,
            rebuilds: Mutex::default(),
            drops: Mutex::default(),
            pending: Mutex::new(InTransit::new(pending_max)),
            pause: Pause::new(config.mysql_url.clone(), &config.limits),
            answers: Answers::default(),
            findings: Keeper::default(),
            streams: Patience::new(config.limits.silence),
        })
    }

    /// Told by the session whether MySQL owes an answer.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    pub(super) fn known_findings(&self) -> Option<Findings> {
        self.status.borrow().verify.clone()
    }

    /// Transactions on their way from the log to MySQL.
    pub(crate) fn pending(&self) -> MutexGuard<'_, InTransit> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rebuilds(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.rebuilds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drops(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to be done between two commits.
    pub(super) fn wake(&self) {
        self.orders.send_modify(|_| {});
    }

    /// Lets the projector stand still between two commits, or go on.
    pub(super) fn show_pause(&self, since: Option<DateTime<Utc>>) {
        self.orders.send_if_modified(|orders| {
            let changed = orders.paused_since != since;
            orders.paused_since = since;
            changed
        });
        self.update(|status| status.paused_since = since);
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| {
            change(status);
            status.lag_records = match (status.high_watermark, status.next_offset) {
                (Some(end), Some(next)) => Some(end.0.saturating_sub(next.0)),
                _ => None,
            };
        });
    }

    pub(crate) fn enter(&self, state: State) {
        self.update(|status| {
            status.state = state;
            status.error = None;
            status.away = None;
        });
        self.tell("entered another state");
    }

    /// Logs an event with where the projections are.
    pub(crate) fn tell(&self, event: &'static str) {
        let (state, lsn) = {
            let status = self.status.borrow();
            (status.state, status.end_lsn)
        };
        let lsn = lsn.map(tracing::field::display);
        tracing::info!(projection = PROJECTIONS, ?state, lsn, event);
    }

    /// Shows what has become of tables and marts.
    pub(crate) fn show_catalog(&self, catalog: &Catalog) {
        let state = match (catalog.tables.is_empty(), catalog.is_loading()) {
            (true, _) => State::WaitingForSnapshot,
            (_, true) => State::Loading,
            _ => State::Live,
        };
        let before = self.status.borrow().state;
        self.update(|status| {
            status.tables = table_statuses(catalog);
            status.marts = mart_statuses(catalog);
            status.snapshot = (state == State::Loading).then(|| progress(&status.tables));
            status.state = state;
        });
        if state != before {
            self.tell("entered another state");
        }
    }

    pub(crate) fn log_failed(&self, error: String) {
        self.update(|status| status.log_error = Some(error));
    }

    pub(crate) fn log_works(&self) {
        self.update(|status| status.log_error = None);
    }

    /// Follows the orders; the projector obeys.
    pub(crate) fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// Says that the projector stands still as this hold demands.
    pub(crate) fn reached(&self, obeyed: &Hold) {
        self.update(|status| {
            let current = self.orders.borrow().hold;
            if current.is_some_and(|hold| hold.id == obeyed.id && hold.until == obeyed.until) {
                status.hold = Some(obeyed.status(true));
            }
        });
    }

    /// Ends a hold; false if it was over.
    pub(crate) fn end_hold(&self, id: HoldId) -> bool {
        let ended = self.orders.send_if_modified(|orders| {
            let ours = orders.hold.is_some_and(|hold| hold.id == id);
            if ours {
                orders.hold = None;
            }
            ours
        });
        self.show_hold();
        ended
    }

    /// Copies the hold into the status, as not reached unless the projector was faster.
    fn show_hold(&self) {
        self.update(|status| {
            let current = self.orders.borrow().hold;
            let shown = current.map(|hold| hold.status(true));
            if shown != status.hold {
                status.hold = current.map(|hold| hold.status(false));
            }
        });
    }
}

fn table_statuses(catalog: &Catalog) -> Vec<TableStatus> {
    let status = |(table, row): (&TableId, &TableRow)| TableStatus {
        quarantined: catalog.quarantine.values(&row.name),
        ..table_status(table, row)
    };
    catalog.tables.iter().map(status).collect()
}

fn table_status(table: &TableId, row: &TableRow) -> TableStatus {
    let copy = row.next.as_ref().map(|next| CopyStatus {
        copy: row.copy,
        step: next.step,
        chunks: next.chunks,
        chunks_total: next.copied.map(|copied| copied.chunks),
        rows: next.rows,
        rows_estimated: next.estimated_rows,
        end_lsn: next.place.end_lsn,
    });
    TableStatus {
        table: table.clone(),
        name: row.name.clone(),
        state: row.state,
        since: row.since,
        reason: row.reason.clone(),
        rows: row.rows,
        quarantined: 0,
        newest_copy: row.copy,
        copy,
    }
}

fn mart_statuses(catalog: &Catalog) -> Vec<MartStatus> {
    let status = |(name, row): (&String, &super::rows::MartRow)| MartStatus {
        name: name.clone(),
        state: row.state,
        since: row.since,
        reason: row.reason.clone(),
        quarantined: read_by(name, catalog),
    };
    catalog.marts.iter().map(status).collect()
}

/// Values in quarantine of the tables that a mart reads.
fn read_by(mart: &str, catalog: &Catalog) -> u64 {
    let inputs = catalog.inputs.get(mart).map(Vec::as_slice);
    let values = |name: &String| catalog.quarantine.values(name);
    inputs.unwrap_or_default().iter().map(values).sum()
}

/// Tables that are live already count with the rows of their copies.
fn progress(tables: &[TableStatus]) -> SnapshotProgress {
    let of = |table: &TableStatus| match &table.copy {
        Some(copy) => (copy.rows, copy.rows_estimated.max(copy.rows)),
        None => (table.rows, table.rows),
    };
    let sum = |(rows, all): (u64, u64), (row, one): (u64, u64)| (rows + row, all + one);
    let (rows, rows_estimated) = tables.iter().map(of).fold((0, 0), sum);
    SnapshotProgress {
        rows,
        rows_estimated,
    }
}

fn projections(config: &Config) -> Vec<Projection> {
    let replica = Projection {
        name: "replica".to_owned(),
        kind: ProjectionKind::Replica,
    };
    let mart = |name| Projection {
        name,
        kind: ProjectionKind::Mart,
    };
    let marts = config.marts.names().into_iter().map(mart);
    std::iter::once(replica).chain(marts).collect()
}

impl Hold {
    fn gives_way_to(&self, by: By) -> bool {
        self.by == By::Period && by == By::Person
    }

    fn status(&self, reached: bool) -> HoldStatus {
        HoldStatus {
            id: self.id,
            by: self.by,
            stop_before: match self.until {
                Until::Now => None,
                Until::Before(lsn) => Some(lsn),
            },
            reached,
        }
    }
}
