//! Loading the chunks of a copy into shadow tables, in whatever order they come.
//!
//! Rows commit together with the row that says how much of the topic they were, so that a projector that is killed goes
//! on where it was.

use std::time::Duration;

use chrono::Utc;
use millrace_events::{Chunk, ChunkVerdict, CopyId, Record, Slice, TableId, Value};
use millrace_topic::Offset;
use sqlx::Executor;
use tokio::time::Instant;

use super::again::save_again;
use super::bookkeeping::claim;
use super::catalog::Catalog;
use super::catch_up::Source;
use super::contained::AgainKeys;
use super::error::Error;
use super::fold::whole_row;
use super::follower::Desk;
use super::quarantine::{of_last_rows, Written};
use super::reader::{Item, Reader};
use super::rows::{CopyStep, TableState};
use crate::marts::Marts;
use crate::replica::names::{suffixed, RETIRED, SHADOW};
use crate::replica::write::WriteError;
use crate::replica::{ddl, fill, slices, upsert, Table, Unfit};
use crate::script::Script;

/// Chunks are committed together up to this many bytes of JSON; their rows and statements take many times that in memory.
const COMMIT_BYTES: usize = 2 * 1024 * 1024;
/// After so much silence of a topic that should have everything it is asked whether it does.
const SILENCE: Duration = Duration::from_secs(30);

/// A topic that is loaded.
pub(crate) struct Loading {
    copy: CopyId,
    reader: Reader,
    next: Option<Result<Item, Error>>,
    heard_at: Instant,
}

/// Rows that are read and not written.
#[derive(Default)]
struct Staged {
    tables: Vec<StagedTable>,
    bytes: usize,
    next: Option<Offset>,
}

struct StagedTable {
    id: TableId,
    table: Table,
    slices: Vec<Slice>,
    rows: Vec<Vec<Value>>,
    again: AgainKeys,
}

impl Loading {
    /// Goes on where the copy's row says.
    pub(crate) fn begin(source: &Source<'_>, topic: &str, copy: CopyId, next: Offset) -> Loading {
        let (log, shared) = (source.log.clone(), source.shared.clone());
        Loading {
            copy,
            reader: Reader::start(log, shared, topic.to_owned(), next, true),
            next: None,
            heard_at: Instant::now(),
        }
    }

    /// Returns when there is something to load.
    pub(crate) async fn fill(&mut self) {
        if self.next.is_none() {
            self.next = Some(self.reader.next().await);
        }
    }

    /// Loads what has come, by one transaction at most.
    pub(crate) async fn load(&mut self, desk: &mut Desk, source: &Source<'_>) -> Result<(), Error> {
        let mut staged = Staged::default();
        while staged.bytes < COMMIT_BYTES {
            match self.next.take().or_else(|| self.reader.ready()) {
                Some(Ok(item)) => self.stage(&mut desk.catalog, item, &mut staged),
                Some(Err(error)) => return self.fail(desk, &error).await,
                None => break,
            }
        }
        if staged.next.is_none() {
            return self.ask_whether_it_is_whole(desk, source).await;
        }
        self.heard_at = Instant::now();
        self.commit(desk, staged).await
    }

    fn stage(&self, catalog: &mut Catalog, item: Item, staged: &mut Staged) {
        staged.bytes += item.bytes;
        let next = item.offset.next();
        staged.next = Some(next);
        let Some(row) = catalog.copy(self.copy) else {
            return;
        };
        row.next = next;
        let verdict = row.reader.offer(&item.record);
        match (verdict, item.record) {
            (ChunkVerdict::Accepted { .. }, Record::Chunk(chunk)) => {
                self.stage_chunk(catalog, chunk, staged);
            }
            (ChunkVerdict::MissingPiece { expected, found }, _) => {
                tracing::warn!(copy = self.copy.0, %next, expected, found, "pieces are missing before this one; waiting for their re-send");
            }
            _ => {}
        }
    }

    /// A table that is not loaded from this copy is passed over: it failed, a newer copy takes its place, or the
    /// SmartModule leaves it out.
    fn stage_chunk(&self, catalog: &mut Catalog, chunk: Chunk, staged: &mut Staged) {
        let id = chunk.table.clone();
        let found = catalog.tables.get(&id).filter(|row| row.copy == self.copy);
        let Some((name, next)) =
            found.and_then(|row| Some((&row.name, row.in_step(CopyStep::Loading)?)))
        else {
            return;
        };
        let at = match staged.tables.iter().position(|table| table.id == id) {
            Some(at) => at,
            None => match Table::of(&next.definition, &suffixed(name, SHADOW), &next.policies) {
                Ok(table) => {
                    staged.tables.push(StagedTable {
                        id: id.clone(),
                        table,
                        slices: Vec::new(),
                        rows: Vec::new(),
                        again: AgainKeys::new(),
                    });
                    staged.tables.len() - 1
                }
                Err(error) => {
                    return catalog.fail_copy(&id, millrace_control::in_words(&error), Utc::now())
                }
            },
        };
        if let Err(reason) = staged.tables[at].add(chunk) {
            staged.tables.remove(at);
            let topic = catalog.copies.get(&self.copy).map(|row| row.topic.clone());
            let error = Error::Snapshot {
                topic: topic.unwrap_or_default(),
                reason: format!("table {id}: {reason}"),
            };
            catalog.fail_copy(&id, millrace_control::in_words(&error), Utc::now());
        }
    }

    async fn commit(&self, desk: &mut Desk, mut staged: Staged) -> Result<(), Error> {
        loop {
            let Err(error) = self.try_commit(desk, &staged).await else {
                desk.catalog.saved();
                return Ok(());
            };
            let Some(super::Culprit::Table(table)) = error.culprit() else {
                return Err(error);
            };
            desk.execute("ROLLBACK", "a rollback").await?;
            staged.tables.retain(|staged| staged.id != table);
            let reason = millrace_control::in_words(&error);
            tracing::error!(%table, reason, "its copy cannot be loaded; everything else goes on");
            desk.catalog.fail_copy(&table, reason, Utc::now());
        }
    }

    async fn try_commit(&self, desk: &mut Desk, staged: &Staged) -> Result<(), Error> {
        desk.begin().await?;
        for staged in &staged.tables {
            staged.write(desk).await?;
            save_again(&mut desk.conn, self.copy, &staged.id, &staged.again).await?;
            desk.catalog.count_loaded(&staged.id);
        }
        desk.catalog.save(&mut desk.conn).await?;
        desk.execute("COMMIT", "a commit").await
    }

    /// The topic cannot be read: nothing more comes of it.
    async fn fail(&self, desk: &mut Desk, error: &Error) -> Result<(), Error> {
        let reason = millrace_control::in_words(error);
        for table in self.tables(&desk.catalog) {
            tracing::error!(%table, reason, "its copy cannot be read; everything else goes on");
            desk.catalog.fail_copy(&table, reason.clone(), Utc::now());
        }
        save(desk).await
    }

    /// Once the log says that a table is copied, its chunks are all in the topic.
    async fn ask_whether_it_is_whole(
        &mut self,
        desk: &mut Desk,
        source: &Source<'_>,
    ) -> Result<(), Error> {
        let Some(row) = desk.catalog.copies.get(&self.copy) else {
            return Ok(());
        };
        let is_owed = |id: &TableId| {
            let next = desk
                .catalog
                .tables
                .get(id)
                .and_then(|row| row.next.as_ref());
            next.is_some_and(|next| next.copied.is_some())
        };
        let owed = self.tables(&desk.catalog).iter().any(is_owed);
        if !owed || self.heard_at.elapsed() < SILENCE {
            return Ok(());
        }
        self.heard_at = Instant::now();
        let end = source.log.end(&row.topic).await;
        if end.is_ok_and(|end| end <= row.next) {
            let error = Error::Snapshot {
                topic: row.topic.clone(),
                reason: "it lacks chunks that the log counts".into(),
            };
            return self.fail(desk, &error).await;
        }
        Ok(())
    }

    fn tables(&self, catalog: &Catalog) -> Vec<TableId> {
        let mut tables = catalog.in_step(CopyStep::Loading);
        let of_copy = |id: &TableId| {
            catalog
                .tables
                .get(id)
                .is_some_and(|row| row.copy == self.copy)
        };
        tables.retain(of_copy);
        tables
    }
}

impl StagedTable {
    fn add(&mut self, chunk: Chunk) -> Result<(), String> {
        self.slices.extend(chunk.slices);
        for row in chunk.rows {
            let values = whole_row(row, &self.table)?;
            if chunk.again {
                let key = self.table.key.iter().map(|&i| values[i].clone()).collect();
                self.again.insert(key, chunk.chunk);
            }
            self.rows.push(values);
        }
        Ok(())
    }

    async fn write_rows(
        &self,
        script: &mut Script<'_>,
        rows: &[&[Value]],
    ) -> Result<Vec<Unfit>, WriteError> {
        for slice in &self.slices {
            slices::stage(script, &self.table, slice).await?;
        }
        let mut unfit = upsert(script, &self.table, rows).await?;
        let columns: Vec<usize> = (0..self.table.columns.len()).collect();
        fill(script, &self.table, &columns, rows, &mut unfit).await?;
        Ok(unfit)
    }

    async fn write(&self, desk: &mut Desk) -> Result<(), Error> {
        let Desk { conn, catalog } = desk;
        let next = catalog
            .tables
            .get(&self.id)
            .and_then(|row| row.next.as_ref());
        let lsn = next.map(|next| next.place.end_lsn).unwrap_or_default();
        let rows: Vec<&[Value]> = self.rows.iter().map(Vec::as_slice).collect();
        let mut script = Script::on(conn).careful(true);
        let unfit = self.write_rows(&mut script, &rows).await;
        let unfit = unfit.map_err(Error::written)?;
        let unfit = of_last_rows(&self.table, &rows, &unfit)?;
        let keys: Vec<Vec<Value>> = match catalog.quarantine.concerns(&self.table, &unfit) {
            true => rows.iter().map(|row| self.table.key_of(row)).collect(),
            false => Vec::new(),
        };
        let written = Written { unfit: &unfit, lsn };
        let keys = keys.iter().map(Vec::as_slice);
        let quarantine = &mut catalog.quarantine;
        let replaced = quarantine.replace(&mut script, &self.table, keys, written);
        replaced.await?;
        slices::clear(&mut script, rows.iter().copied().flat_map(slices::names)).await?;
        script.send().await?;
        Ok(())
    }
}

impl Catalog {
    fn count_loaded(&mut self, table: &TableId) {
        let row = self.tables.get(table);
        let copy = row.and_then(|row| self.copies.get(&row.copy));
        let loaded = copy.and_then(|copy| copy.reader.table(table));
        let Some((chunks, rows)) = loaded.map(|it| (it.complete(), it.rows())) else {
            return;
        };
        if let Some(next) = self.table(table).and_then(|row| row.next.as_mut()) {
            (next.chunks, next.rows) = (chunks, rows);
        }
    }

    /// Tables of which all chunks are loaded begin to catch up; false if there are none.
    pub(crate) fn end_loading(&mut self) -> bool {
        let is_whole = |id: &TableId| {
            let row = self.tables.get(id)?;
            let chunks = self.copies.get(&row.copy)?.reader.table(id)?;
            let copied = row.next.as_ref()?.copied?;
            Some((1..=copied.chunks).all(|chunk| chunks.has(chunk)))
        };
        let mut loaded = self.in_step(CopyStep::Loading);
        loaded.retain(|id| is_whole(id) == Some(true));
        for id in &loaded {
            let Some(row) = self.table(id) else { continue };
            if row.state == TableState::Loading {
                row.state = TableState::CatchingUp;
                row.since = Utc::now();
            }
            if let Some(next) = &mut row.next {
                next.step = CopyStep::CatchingUp;
            }
        }
        !loaded.is_empty()
    }
}

/// Makes the shadow tables of copies that were announced. Tables of ours only take the place of tables of ours.
pub(crate) async fn make_shadows(desk: &mut Desk, marts: &Marts) -> Result<(), Error> {
    let announced = desk.catalog.in_step(CopyStep::Announced);
    if announced.is_empty() {
        return Ok(());
    }
    let mut foreign = claim_all(desk, &announced, marts).await?;
    for id in announced {
        let Some(row) = desk.catalog.tables.get(&id) else {
            continue;
        };
        let found = foreign.iter().position(|name| *name == row.name);
        let made = match found.map(|at| foreign.swap_remove(at)) {
            Some(name) => Err(Error::ForeignTables(vec![name])),
            None => make_shadow(desk, &id).await,
        };
        match made {
            Ok(()) => {
                let next = desk.catalog.table(&id).and_then(|row| row.next.as_mut());
                if let Some(next) = next {
                    next.step = CopyStep::Loading;
                }
            }
            Err(error @ Error::ForeignTables(_)) => {
                desk.catalog
                    .fail_copy(&id, millrace_control::in_words(&error), Utc::now());
            }
            Err(error) if error.culprit().is_some() => {
                desk.catalog
                    .fail_copy(&id, millrace_control::in_words(&error), Utc::now());
            }
            Err(error) => return Err(error),
        }
    }
    save(desk).await
}

/// Claims the names of tables; returns those that others have. Where nothing has been loaded yet, one that others have is
/// enough to stop: it is the wrong database.
async fn claim_all(
    desk: &mut Desk,
    tables: &[TableId],
    marts: &Marts,
) -> Result<Vec<String>, Error> {
    let names = |id: &TableId| desk.catalog.tables.get(id).map(|row| row.name.clone());
    let names: Vec<String> = tables.iter().filter_map(names).collect();
    let first = desk
        .catalog
        .tables
        .values()
        .all(|row| row.definition.is_none());
    if first {
        let all = names.iter().cloned().chain(marts.tables());
        let all: Vec<String> = all.flat_map(with_suffixes).collect();
        let foreign = claim(&mut desk.conn, &all).await?;
        return match foreign.is_empty() {
            true => Ok(foreign),
            false => Err(Error::ForeignTables(foreign)),
        };
    }
    let mut taken = Vec::new();
    for name in names {
        let foreign = claim(&mut desk.conn, &with_suffixes(name.clone())).await?;
        if !foreign.is_empty() {
            taken.push(name);
        }
    }
    Ok(taken)
}

/// A table's name and those that it has on its way.
pub(crate) fn with_suffixes(name: String) -> Vec<String> {
    let suffixes = ["", SHADOW, RETIRED];
    suffixes.map(|suffix| suffixed(&name, suffix)).to_vec()
}

async fn make_shadow(desk: &mut Desk, id: &TableId) -> Result<(), Error> {
    let Some((name, next)) =
        (desk.catalog.tables.get(id)).and_then(|row| Some((&row.name, row.next.as_ref()?)))
    else {
        return Ok(());
    };
    let table = Table::of(&next.definition, name, &next.policies)?;
    let made = ddl::recreate(&mut desk.conn, &table, SHADOW).await;
    made.map_err(Error::of_table("the creation of", id))
}

/// Writes down what has become known of tables and marts.
pub(crate) async fn save(desk: &mut Desk) -> Result<(), Error> {
    if desk.catalog.dirty.is_empty() {
        return Ok(());
    }
    desk.begin().await?;
    desk.catalog.save(&mut desk.conn).await?;
    let committed = desk.conn.execute("COMMIT").await;
    committed.map_err(Error::sql("a commit"))?;
    desk.catalog.saved();
    Ok(())
}
