//! Loading a snapshot beside the live tables, and putting it in their place.
//!
//! Every step is idempotent: a projector that is killed at any instant begins the step again that
//! the position row names, and a chunk commits together with the row that counts it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millrace_events::{
    Chain, Record, SnapshotBegin, SnapshotEnd, SnapshotMark, SnapshotReader, SnapshotRows,
    SnapshotVerdict, TableSchema, Value, Verdict,
};
use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::assemble::Tables;
use super::error::Error;
use super::log::{Log, Offset};
use super::position::{self, NamedTable, Position, Stage};
use super::reader::{Item, Reader};
use super::status::{Shared, SnapshotProgress, State};
use crate::marts::Marts;
use crate::replica::names::{suffixed, RETIRED, SHADOW};
use crate::replica::naming::Naming;
use crate::replica::{ddl, quoted, write, Table};

/// Chunks are committed together up to this many bytes of JSON.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// A snapshot is complete before its mark is written, so its records come without delay.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// What loading needs.
pub(crate) struct Loader<'a> {
    pub(crate) marts: &'a Marts,
    pub(crate) log: &'a Arc<dyn Log>,
    pub(crate) shared: &'a Arc<Shared>,
    /// What the records come through; it may leave out tables and columns, but no rows.
    pub(crate) smartmodule: &'a str,
    /// Tables of this schema keep their names.
    pub(crate) main_schema: Option<&'a str>,
}

impl Loader<'_> {
    /// Waits for the log's snapshot mark and claims the tables for it.
    pub(crate) async fn begin(
        &self,
        conn: &mut Session,
        changes_topic: &str,
        owner: &str,
    ) -> Result<Position, Error> {
        self.shared.enter(State::WaitingForSnapshot);
        let (offset, mark) = looked_after(conn, self.find_mark(changes_topic)).await?;
        let begin = looked_after(conn, self.read_begin(&mark)).await?;
        let named = self.name(begin.schemas);
        let tables = derive(&named)?;
        position::claim(conn, &physical_names(&tables, self.marts)).await?;
        let position = Position {
            stage: Stage::Loading,
            owner: owner.to_owned(),
            incarnation: mark.incarnation,
            offset,
            end_lsn: mark.lsn,
            epoch: mark.epoch,
            source_at: None,
            snapshot_topic: mark.topic,
            snapshot_next: None,
            loaded: SnapshotReader::default(),
            tables: named,
            smartmodule: self.smartmodule.to_owned(),
        };
        position.insert(conn).await?;
        Ok(position)
    }

    /// Takes a projection from whatever stage it is in to the live one.
    pub(crate) async fn finish(
        &self,
        conn: &mut Session,
        position: &mut Position,
    ) -> Result<(), Error> {
        let tables = derive(&position.tables)?;
        if position.stage == Stage::Loading {
            self.shared.enter(State::Loading);
            self.load(conn, position, &tables).await?;
            position.enter(conn, Stage::Building).await?;
        }
        if position.stage == Stage::Building {
            self.shared.enter(State::Building);
            self.build(conn, &tables).await?;
            position.enter(conn, Stage::Swapping).await?;
        }
        if position.stage == Stage::Swapping {
            self.shared.enter(State::Swapping);
            swap(conn, &physical_roots(&tables, self.marts)).await?;
            position.enter(conn, Stage::Live).await?;
        }
        self.shared.update(|status| status.snapshot = None);
        Ok(())
    }

    fn name(&self, definitions: Vec<TableSchema>) -> Vec<NamedTable> {
        let mut naming = Naming::new(self.main_schema, self.marts.tables());
        let names = naming.names(definitions.iter().map(|definition| &definition.table));
        let named = names.into_iter().zip(definitions);
        named
            .map(|(name, definition)| NamedTable { name, definition })
            .collect()
    }

    async fn find_mark(&self, topic: &str) -> Result<(Offset, SnapshotMark), Error> {
        let mut reader = self.read(topic, Offset(0), false);
        let mut chain = Chain::unanchored();
        loop {
            let item = reader.next().await?;
            // A capture that a later start had fenced off may have written its mark all the same.
            if let (Verdict::Moved, Record::Snapshot(mark)) =
                (chain.offer(&item.record), item.record)
            {
                return Ok((item.offset, mark));
            }
        }
    }

    async fn read_begin(&self, mark: &SnapshotMark) -> Result<SnapshotBegin, Error> {
        let fail = |reason: &str| Error::Snapshot {
            topic: mark.topic.clone(),
            reason: reason.to_owned(),
        };
        let mut reader = self.read(&mark.topic, Offset(0), true);
        let first = self.next(&mut reader, &mark.topic, Offset(0)).await?;
        let Record::SnapshotBegin(begin) = first.record else {
            return Err(fail("its first record does not open a snapshot"));
        };
        if begin.incarnation != mark.incarnation || begin.lsn != mark.lsn {
            return Err(fail("it belongs to another log than its mark"));
        }
        self.shared.update(|status| {
            status.snapshot = Some(SnapshotProgress {
                rows: 0,
                rows_estimated: begin.estimated_rows.iter().sum(),
            });
        });
        Ok(begin)
    }

    /// The next record of a snapshot topic. A broker that is away is waited for, a topic that ends
    /// too early is not.
    async fn next(&self, reader: &mut Reader, topic: &str, next: Offset) -> Result<Item, Error> {
        loop {
            if let Ok(item) = tokio::time::timeout(RECORD_TIMEOUT, reader.next()).await {
                return item;
            }
            if self.log.end(topic).await.is_ok_and(|end| end <= next) {
                return Err(Error::Snapshot {
                    topic: topic.to_owned(),
                    reason: "it ends before its seal".into(),
                });
            }
        }
    }

    fn read(&self, topic: &str, from: Offset, expected: bool) -> Reader {
        let (log, shared) = (self.log.clone(), self.shared.clone());
        Reader::start(log, shared, topic.to_owned(), from, expected)
    }

    async fn load(
        &self,
        conn: &mut Session,
        position: &mut Position,
        tables: &Tables,
    ) -> Result<(), Error> {
        let next = match position.snapshot_next {
            Some(next) => next,
            None => self.create_shadows(conn, position, tables).await?,
        };
        let mut reader = self.read(&position.snapshot_topic.clone(), next, true);
        let mut chunks = Chunks::new(position);
        loop {
            let next = self.next(&mut reader, &position.snapshot_topic, chunks.next);
            let item = looked_after(conn, next).await?;
            let next = item.offset.next();
            match item.record {
                Record::SnapshotRows(rows) => {
                    chunks.add(position, rows, next, item.bytes)?;
                    if chunks.bytes >= COMMIT_BYTES {
                        self.commit(conn, position, tables, &mut chunks).await?;
                    }
                }
                Record::SnapshotEnd(end) => {
                    self.commit(conn, position, tables, &mut chunks).await?;
                    return self.check_seal(position, end);
                }
                Record::SnapshotBegin(_) => chunks.next = next,
                _ => return Err(position.broken("it holds a record of another kind")),
            }
        }
    }

    async fn create_shadows(
        &self,
        conn: &mut Session,
        position: &mut Position,
        tables: &Tables,
    ) -> Result<Offset, Error> {
        for (_, table) in tables.values() {
            ddl::recreate(conn, table, SHADOW)
                .await
                .map_err(Error::of_table("the creation of", &table.source))?;
        }
        let first = Offset(1);
        position
            .load(conn, first, SnapshotReader::default())
            .await?;
        Ok(first)
    }

    async fn commit(
        &self,
        conn: &mut Session,
        position: &mut Position,
        tables: &Tables,
        chunks: &mut Chunks,
    ) -> Result<(), Error> {
        run(conn, "BEGIN").await?;
        for rows in chunks.rows.iter().filter(|rows| !rows.rows.is_empty()) {
            let Some((_, table)) = tables.get(&rows.table) else {
                // Of a table that the SmartModule leaves out, empty rows are left to be counted.
                if rows.rows.iter().all(|row| row.0.is_empty()) {
                    continue;
                }
                return Err(
                    position.broken(&format!("it has rows of unknown table {}", rows.table))
                );
            };
            let values = whole_rows(position, table, rows)?;
            let values = values.iter().map(Vec::as_slice);
            write::upsert(conn, table, SHADOW, values).await?;
        }
        position.load(conn, chunks.next, chunks.read).await?;
        run(conn, "COMMIT").await?;
        chunks.rows.clear();
        chunks.bytes = 0;
        self.shared.update(|status| {
            let estimated = status
                .snapshot
                .map_or(0, |progress| progress.rows_estimated);
            status.snapshot = Some(SnapshotProgress {
                rows: position.loaded.rows,
                rows_estimated: estimated,
            });
        });
        Ok(())
    }

    fn check_seal(&self, position: &Position, end: SnapshotEnd) -> Result<(), Error> {
        match position.loaded.seal(&end) {
            SnapshotVerdict::Accept => Ok(()),
            verdict => Err(position.broken(&format!("its seal does not fit: {verdict:?}"))),
        }
    }

    async fn build(&self, conn: &mut Session, tables: &Tables) -> Result<(), Error> {
        for (_, table) in tables.values() {
            ddl::add_indexes(conn, table, SHADOW, &self.marts.indexes_for(&table.name))
                .await
                .map_err(Error::of_table("an index of", &table.source))?;
        }
        self.marts.create(conn, SHADOW).await?;
        run(conn, "BEGIN").await?;
        self.marts.build(conn, SHADOW).await?;
        run(conn, "COMMIT").await
    }
}

/// Chunks that are read but not committed.
struct Chunks {
    rows: Vec<SnapshotRows>,
    bytes: usize,
    read: SnapshotReader,
    next: Offset,
}

impl Chunks {
    fn new(position: &Position) -> Chunks {
        Chunks {
            rows: Vec::new(),
            bytes: 0,
            read: position.loaded,
            next: position.snapshot_next.unwrap_or(Offset(1)),
        }
    }

    fn add(
        &mut self,
        position: &Position,
        rows: SnapshotRows,
        next: Offset,
        bytes: usize,
    ) -> Result<(), Error> {
        match self.read.offer(&rows) {
            SnapshotVerdict::Accept => {
                self.rows.push(rows);
                self.bytes += bytes;
            }
            SnapshotVerdict::Duplicate => {}
            SnapshotVerdict::Hole { expected, found } => {
                let reason = format!("chunk {expected} is missing before chunk {found}");
                return Err(position.broken(&reason));
            }
            SnapshotVerdict::WrongCount { .. } => return Err(position.broken("its count is wrong")),
        }
        self.next = next;
        Ok(())
    }
}

impl Position {
    fn broken(&self, reason: &str) -> Error {
        Error::Snapshot {
            topic: self.snapshot_topic.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// The replica tables of these definitions.
pub(crate) fn derive(tables: &[NamedTable]) -> Result<Tables, Error> {
    let derive = |NamedTable { name, definition }: &NamedTable| {
        let table = Table::of(definition, name)?;
        Ok((definition.table.clone(), (definition.clone(), table)))
    };
    tables.iter().map(derive).collect()
}

fn whole_rows(
    position: &Position,
    table: &Table,
    rows: &SnapshotRows,
) -> Result<Vec<Vec<Value>>, Error> {
    let whole = |row: &millrace_events::Row| {
        super::fold::whole_row(row.clone(), table)
            .map_err(|reason| position.broken(&format!("table {}: {reason}", table.source)))
    };
    rows.rows.iter().map(whole).collect()
}

fn physical_roots(tables: &Tables, marts: &Marts) -> Vec<String> {
    let replica = tables.values().map(|(_, table)| table.name.clone());
    replica.chain(marts.tables()).collect()
}

fn physical_names(tables: &Tables, marts: &Marts) -> Vec<String> {
    let with_suffixes = |name: String| ["", SHADOW, RETIRED].map(|suffix| suffixed(&name, suffix));
    physical_roots(tables, marts)
        .into_iter()
        .flat_map(with_suffixes)
        .collect()
}

/// Puts all shadow tables in the place of the live ones at once. One RENAME is atomic for readers
/// and for crashes, so either all shadows are there afterwards or none.
async fn swap(conn: &mut Session, names: &[String]) -> Result<(), Error> {
    let all =
        |suffix: &str| -> Vec<String> { names.iter().map(|name| suffixed(name, suffix)).collect() };
    let look = Error::sql("a look at the existing tables");
    let shadows = ddl::existing(conn, &all(SHADOW)).await.map_err(look)?;
    if !shadows.is_empty() {
        drop_all(conn, &all(RETIRED)).await?;
        let look = Error::sql("a look at the existing tables");
        let live = ddl::existing(conn, names).await.map_err(look)?;
        let mut renames = Vec::new();
        for name in names {
            let [live_name, shadow, retired] =
                ["", SHADOW, RETIRED].map(|suffix| quoted(&suffixed(name, suffix)));
            if live.contains(name) {
                renames.push(format!("{live_name} TO {retired}"));
            }
            renames.push(format!("{shadow} TO {live_name}"));
        }
        run(conn, &format!("RENAME TABLE {}", renames.join(", "))).await?;
    }
    drop_all(conn, &all(RETIRED)).await
}

async fn drop_all(conn: &mut Session, names: &[String]) -> Result<(), Error> {
    for name in names {
        ddl::drop_table(conn, name)
            .await
            .map_err(Error::of_table("the removal of", name))?;
    }
    Ok(())
}

/// Awaits the log, and looks after the connection to MySQL meanwhile.
pub(super) async fn looked_after<T>(
    conn: &mut Session,
    log: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let waited = conn.meanwhile(log).await;
    waited.map_err(Error::sql("a sign of life"))?
}

async fn run(conn: &mut Session, sql: &str) -> Result<(), Error> {
    conn.on_a_table()
        .execute(sql)
        .await
        .map(|_| ())
        .map_err(Error::sql("a step of the snapshot"))
}
