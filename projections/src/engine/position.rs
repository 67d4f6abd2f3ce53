//! The position row: how far the tables are, and whose they are.
//!
//! Position and data commit together; that is what makes every transaction count exactly once.

use chrono::{DateTime, NaiveDateTime, Utc};
use millrace_events::{Epoch, Lsn, SnapshotReader, TableSchema};
use millrace_sessions::mysql::Session;
use serde::{Deserialize, Serialize};
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};

use super::error::Error;
use super::log::Offset;
use crate::replica::{ddl, texts};

/// Names of the bookkeeping tables.
const TABLES: [&str; 4] = [
    "millrace_position",
    "millrace_tables",
    "millrace_paused",
    "millrace_verified",
];
/// Their comment, by which we know them again.
const FORMAT: &str = "millrace bookkeeping, format 3";

/// The stages of a projection. Each ends with one statement on the position row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Shadow tables are filled from the snapshot topic.
    Loading,
    /// They are full: indexes and marts are made.
    Building,
    /// They take the place of the live tables.
    Swapping,
    /// The log is applied.
    Live,
}

/// A row of `millrace_position`.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) stage: Stage,
    pub(crate) owner: String,
    pub(crate) incarnation: String,
    /// Record that brought `end_lsn`.
    pub(crate) offset: Offset,
    pub(crate) end_lsn: Lsn,
    /// Highest epoch up to that record.
    pub(crate) epoch: Epoch,
    /// Commit time of the last transaction, as the source's clock had it.
    pub(crate) source_at: Option<DateTime<Utc>>,
    pub(crate) snapshot_topic: String,
    /// Next record of the snapshot topic to load; `None` until the shadow tables exist.
    pub(crate) snapshot_next: Option<Offset>,
    pub(crate) loaded: SnapshotReader,
    pub(crate) tables: Vec<NamedTable>,
    /// The SmartModule that the records came through, with its parameters: what it leaves out is
    /// missing from the tables for good.
    pub(crate) smartmodule: String,
}

/// A table of the replica: its name is chosen once and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedTable {
    /// In MySQL.
    pub(crate) name: String,
    /// In the source.
    pub(crate) definition: TableSchema,
}

/// How far one transaction moves the position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advance {
    pub(crate) offset: Offset,
    pub(crate) end_lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) source_at: Option<DateTime<Utc>>,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Loading => "loading",
            Stage::Building => "building",
            Stage::Swapping => "swapping",
            Stage::Live => "live",
        }
    }

    fn parse(text: &str) -> Option<Stage> {
        [
            Stage::Loading,
            Stage::Building,
            Stage::Swapping,
            Stage::Live,
        ]
        .into_iter()
        .find(|stage| stage.as_str() == text)
    }
}

/// Creates the bookkeeping tables; refuses tables of those names that are not ours.
pub(crate) async fn prepare(conn: &mut Session) -> Result<(), Error> {
    let foreign = sqlx::query(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name IN (?, ?, ?, ?) AND table_comment <> ?",
    )
    .bind(TABLES[0])
    .bind(TABLES[1])
    .bind(TABLES[2])
    .bind(TABLES[3])
    .bind(FORMAT)
    .fetch_all(&mut *conn)
    .await
    .and_then(|rows| texts(&rows))
    .map_err(Error::sql("a look at the existing tables"))?;
    if !foreign.is_empty() {
        return Err(Error::ForeignTables(foreign));
    }
    let collation = conn.server().collation();
    let tail = format!(
        "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation} COMMENT='{FORMAT}'"
    );
    for definition in [
        "millrace_position (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, \
         stage VARCHAR(16) NOT NULL, owner VARCHAR(64) NOT NULL, \
         incarnation VARCHAR(190) NOT NULL, log_offset BIGINT UNSIGNED NOT NULL, \
         end_lsn BIGINT UNSIGNED NOT NULL, epoch BIGINT UNSIGNED NOT NULL, \
         source_at DATETIME(6) NULL, snapshot_topic VARCHAR(64) NOT NULL, \
         snapshot_next BIGINT UNSIGNED NULL, snapshot_chunk BIGINT UNSIGNED NOT NULL, \
         snapshot_rows BIGINT UNSIGNED NOT NULL, tables LONGTEXT NOT NULL, \
         smartmodule LONGTEXT NOT NULL)",
        "millrace_tables (name VARCHAR(64) NOT NULL PRIMARY KEY)",
        "millrace_paused (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, since DATETIME(6) NOT NULL)",
        "millrace_verified (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, at DATETIME(6) NOT NULL, \
         incarnation VARCHAR(190) NULL, lsn BIGINT UNSIGNED NULL, answer VARCHAR(16) NOT NULL, \
         detail LONGTEXT NOT NULL)",
    ] {
        conn.execute(format!("CREATE TABLE IF NOT EXISTS {definition} {tail}").as_str())
            .await
            .map_err(Error::sql("its bookkeeping tables"))?;
    }
    Ok(())
}

/// Claims table names; refuses those that exist without a claim of ours.
pub(crate) async fn claim(conn: &mut Session, names: &[String]) -> Result<(), Error> {
    let owned = sqlx::query("SELECT name FROM millrace_tables")
        .fetch_all(&mut *conn)
        .await
        .and_then(|rows| texts(&rows))
        .map_err(Error::sql("a look at its tables"))?;
    let foreign: Vec<String> = ddl::existing(conn, names)
        .await
        .map_err(Error::sql("a look at the existing tables"))?
        .into_iter()
        .filter(|name| !owned.contains(name))
        .collect();
    if !foreign.is_empty() {
        return Err(Error::ForeignTables(foreign));
    }
    for name in names.iter().filter(|name| !owned.contains(name)) {
        sqlx::query("INSERT IGNORE INTO millrace_tables (name) VALUES (?)")
            .bind(name)
            .execute(&mut *conn)
            .await
            .map_err(Error::sql("a claim on a table"))?;
    }
    Ok(())
}

impl Position {
    /// Reads the row, and with `lock` keeps it until the transaction ends.
    pub(crate) async fn read(conn: &mut Session, lock: bool) -> Result<Option<Position>, Error> {
        let lock = if lock { "FOR UPDATE" } else { "" };
        let sql = format!(
            "SELECT stage, owner, incarnation, log_offset, end_lsn, epoch, source_at, \
             snapshot_topic, snapshot_next, snapshot_chunk, snapshot_rows, tables, smartmodule \
             FROM millrace_position WHERE id = 1 {lock}"
        );
        let row = sqlx::query(&sql)
            .fetch_optional(conn)
            .await
            .map_err(Error::sql("the position"))?;
        row.map(|row| Position::from_row(&row)).transpose()
    }

    fn from_row(row: &MySqlRow) -> Result<Position, Error> {
        let broken = |error: sqlx::Error| Error::Bookkeeping(error.to_string());
        let text = |name: &str| row.try_get_unchecked::<String, _>(name).map_err(broken);
        let number = |name: &str| row.try_get::<u64, _>(name).map_err(broken);
        let stage = text("stage")?;
        let tables = text("tables")?;
        Ok(Position {
            stage: Stage::parse(&stage)
                .ok_or_else(|| Error::Bookkeeping(format!("unknown stage {stage:?}")))?,
            owner: text("owner")?,
            incarnation: text("incarnation")?,
            offset: Offset(number("log_offset")?),
            end_lsn: Lsn(number("end_lsn")?),
            epoch: Epoch(number("epoch")?),
            source_at: row
                .try_get::<Option<NaiveDateTime>, _>("source_at")
                .map_err(broken)?
                .map(|at| at.and_utc()),
            snapshot_topic: text("snapshot_topic")?,
            snapshot_next: row
                .try_get::<Option<u64>, _>("snapshot_next")
                .map_err(broken)?
                .map(Offset),
            loaded: SnapshotReader {
                chunk: number("snapshot_chunk")?,
                rows: number("snapshot_rows")?,
            },
            tables: serde_json::from_str(&tables)
                .map_err(|error| Error::Bookkeeping(error.to_string()))?,
            smartmodule: text("smartmodule")?,
        })
    }

    /// Writes the row of a projection that begins.
    pub(crate) async fn insert(&self, conn: &mut Session) -> Result<(), Error> {
        let tables = serde_json::to_string(&self.tables)
            .map_err(|error| Error::Bookkeeping(error.to_string()))?;
        sqlx::query(
            "INSERT INTO millrace_position (id, stage, owner, incarnation, log_offset, end_lsn, \
             epoch, source_at, snapshot_topic, snapshot_next, snapshot_chunk, snapshot_rows, tables, \
             smartmodule) VALUES (1, ?, ?, ?, ?, ?, ?, NULL, ?, NULL, 0, 0, ?, ?)",
        )
        .bind(self.stage.as_str())
        .bind(&self.owner)
        .bind(&self.incarnation)
        .bind(self.offset.0)
        .bind(self.end_lsn.0)
        .bind(self.epoch.0)
        .bind(&self.snapshot_topic)
        .bind(tables)
        .bind(&self.smartmodule)
        .execute(conn)
        .await
        .map_err(Error::sql("its first position"))?;
        Ok(())
    }

    /// Takes the row over from whoever had it; their next commit fails.
    pub(crate) async fn take(&mut self, conn: &mut Session, owner: &str) -> Result<(), Error> {
        sqlx::query("UPDATE millrace_position SET owner = ? WHERE id = 1")
            .bind(owner)
            .execute(conn)
            .await
            .map_err(Error::sql("the ownership of the position"))?;
        owner.clone_into(&mut self.owner);
        Ok(())
    }

    /// Moves to the next stage. The compare-and-set fails if another projector has taken over.
    pub(crate) async fn enter(&mut self, conn: &mut Session, stage: Stage) -> Result<(), Error> {
        let done = sqlx::query(
            "UPDATE millrace_position SET stage = ? WHERE id = 1 AND owner = ? AND stage = ?",
        )
        .bind(stage.as_str())
        .bind(&self.owner)
        .bind(self.stage.as_str())
        .execute(conn)
        .await
        .map_err(Error::sql("the next stage"))?;
        matched(done.rows_affected())?;
        self.stage = stage;
        Ok(())
    }

    /// Records, in the transaction that loads it, how much of the snapshot is loaded.
    pub(crate) async fn load(
        &mut self,
        conn: &mut Session,
        next: Offset,
        loaded: SnapshotReader,
    ) -> Result<(), Error> {
        let done = sqlx::query(
            "UPDATE millrace_position SET snapshot_next = ?, snapshot_chunk = ?, snapshot_rows = ? \
             WHERE id = 1 AND owner = ? AND stage = 'loading' AND snapshot_chunk = ?",
        )
        .bind(next.0)
        .bind(loaded.chunk)
        .bind(loaded.rows)
        .bind(&self.owner)
        .bind(self.loaded.chunk)
        .execute(conn)
        .await
        .map_err(Error::sql("the progress of the snapshot"))?;
        matched(done.rows_affected())?;
        self.snapshot_next = Some(next);
        self.loaded = loaded;
        Ok(())
    }

    /// Moves the row, in the open transaction, if it still is where we left it. The caller updates
    /// its own copy after COMMIT.
    pub(crate) async fn advance(&self, conn: &mut Session, to: &Advance) -> Result<(), Error> {
        let done = sqlx::query(
            "UPDATE millrace_position SET log_offset = ?, end_lsn = ?, epoch = ?, source_at = ? \
             WHERE id = 1 AND owner = ? AND end_lsn = ? AND stage = 'live'",
        )
        .bind(to.offset.0)
        .bind(to.end_lsn.0)
        .bind(to.epoch.0)
        .bind(to.source_at.map(|at| at.naive_utc()))
        .bind(&self.owner)
        .bind(self.end_lsn.0)
        .execute(conn)
        .await
        .map_err(Error::sql("the position"))?;
        matched(done.rows_affected())
    }

    /// Locks the row for a transaction that is applied in several steps.
    pub(crate) async fn lock(&self, conn: &mut Session) -> Result<(), Error> {
        let found: Option<i32> = sqlx::query_scalar(
            "SELECT 1 FROM millrace_position \
             WHERE id = 1 AND owner = ? AND end_lsn = ? AND stage = 'live' FOR UPDATE",
        )
        .bind(&self.owner)
        .bind(self.end_lsn.0)
        .fetch_optional(conn)
        .await
        .map_err(Error::sql("the position"))?;
        found.map(|_| ()).ok_or(Error::Superseded)
    }
}

/// The session counts rows that match, not rows that change (CLIENT_FOUND_ROWS).
fn matched(rows: u64) -> Result<(), Error> {
    match rows {
        1 => Ok(()),
        _ => Err(Error::Superseded),
    }
}
