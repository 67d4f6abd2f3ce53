//! What a projector says about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_control::time;
use millrace_events::{CopyId, Lsn, TableId};
use millrace_topic::Offset;
use serde::Serialize;

use super::catalog::Catalog;
use super::findings::Findings;
use super::handle::HoldId;
use super::rows::{CopyStep, MartRow, MartState, TableRow, TableState};
use super::Config;
use crate::verify::{By, Periodic};

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
    /// What copies still need of topics.
    #[serde(skip)]
    pub needed: Needed,
}

/// What copies that have not joined still need of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// From where on they will follow the log, or do.
    pub log: Option<Offset>,
    /// For each topic that is loaded, the last record that was, or its first one.
    pub copies: BTreeMap<String, Offset>,
}

impl Needed {
    fn of(catalog: &Catalog) -> Needed {
        let next = catalog.tables.values().filter_map(|row| row.next.as_ref());
        let loaded = catalog.copies.iter();
        let loaded = loaded.filter(|(copy, _)| catalog.loads(**copy));
        Needed {
            log: next.map(|next| next.place.offset).min(),
            copies: loaded
                .map(|(_, row)| (row.topic.clone(), Offset(row.next.0.saturating_sub(1))))
                .collect(),
        }
    }
}

impl Status {
    /// Before anything is known but what is configured.
    pub(super) fn of(config: &Config) -> Status {
        Status {
            projections: projections(config),
            ..Status::default()
        }
    }

    /// Takes over what has become of tables and marts.
    pub(super) fn show_catalog(&mut self, catalog: &Catalog) {
        self.state = match (catalog.tables.is_empty(), catalog.is_loading()) {
            (true, _) => State::WaitingForSnapshot,
            (_, true) => State::Loading,
            _ => State::Live,
        };
        self.tables = table_statuses(catalog);
        self.marts = mart_statuses(catalog);
        self.snapshot = (self.state == State::Loading).then(|| progress(&self.tables));
        self.needed = Needed::of(catalog);
    }

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
    pub(super) fn is_at(&self, lsn: Lsn) -> bool {
        let begun = self.tables.iter().all(|table| !table.state.is_coming());
        begun && !self.tables.is_empty() && self.end_lsn.is_some_and(|end| end >= lsn)
    }

    /// An answer that does not come is no sign of life: what applies the log is shown as waiting. Indexes and marts take
    /// their time.
    pub(super) fn show_silence(&mut self, owed: Duration) {
        if self.state == State::Live {
            self.state = State::WaitingForMysql;
        }
        if self.error.is_none() && self.state == State::WaitingForMysql {
            let seconds = owed.as_secs();
            self.error = Some(format!("MySQL has not answered for {seconds} s"));
        }
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
    let status = |(name, row): (&String, &MartRow)| MartStatus {
        name: name.clone(),
        state: row.state,
        since: row.since,
        reason: row.reason.clone().or_else(|| waits_for(name, row, catalog)),
        quarantined: read_by(name, catalog),
    };
    catalog.marts.iter().map(status).collect()
}

/// The tables that keep a mart from being built.
fn waits_for(mart: &str, row: &MartRow, catalog: &Catalog) -> Option<String> {
    if row.state != MartState::Waiting {
        return None;
    }
    let live: BTreeSet<&String> = catalog.live().map(|(_, row)| &row.name).collect();
    let inputs = catalog.inputs.get(mart).map(Vec::as_slice);
    let missing = inputs.unwrap_or_default().iter();
    let missing: Vec<&str> = missing
        .filter(|name| !live.contains(name))
        .map(String::as_str)
        .collect();
    (!missing.is_empty()).then(|| format!("it waits for {}", missing.join(", ")))
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
