//! Applying the log to tables: collect, fold, and commit together with a position. The live tables do so as one group,
//! tables that catch up do so beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use millrace_events::{Baseline, Lsn, Record, TableId};
use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::apply::Applier;
use super::assemble::Assembler;
use super::catalog::Catalog;
use super::error::{Culprit, Error};
use super::fold::Batch;
use super::position::Advance;
use super::quarantine::Quarantine;
use super::reader::{backoff, Item};
use super::rows::Place;
use super::status::PROJECTIONS;
use super::Limits;
use crate::marts::Marts;
use crate::replica::refusal::is_of_a_value;
use crate::script::{About, Script};

/// A transaction that meets locks is repeated so many times before the connection is made anew.
const CONFLICT_ATTEMPTS: u32 = 5;
/// Pauses between them grow up to this.
const CONFLICT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// What opening a transaction is about.
pub(crate) const TRANSACTION: About = About::Work("a transaction");

/// The connection, and what is known of tables and marts.
pub(crate) struct Desk {
    pub(crate) conn: Session,
    pub(crate) catalog: Catalog,
}

impl Desk {
    /// Begins a transaction in which rows or bookkeeping are written.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.catalog.quarantine.begin();
        self.execute("BEGIN", "a transaction").await
    }

    pub(crate) async fn execute(&mut self, sql: &str, what: &'static str) -> Result<(), Error> {
        let done = self.conn.execute(sql).await;
        done.map(|_| ()).map_err(Error::sql(what))
    }
}

/// A position that moves with what is applied.
pub(crate) trait Stands {
    /// Where it stands, as MySQL has it.
    fn place(&self) -> Place;

    /// The marts that move with the tables.
    fn marts(&self) -> &Marts;

    /// First step of a transaction: takes the position, and moves it if it is to be moved.
    async fn advance(&self, script: &mut Script<'_>, to: Option<&Advance>) -> Result<(), Error>;

    /// Last step before the rows of tables are written down: what has become of them, and of `others`, which have changes
    /// that were not applied.
    fn record(&self, catalog: &mut Catalog, to: Option<&Advance>, others: &BTreeSet<TableId>);

    /// The transaction was committed.
    fn advanced(&mut self, to: &Advance);

    /// Something cannot be kept any more. Tables are followed no longer.
    fn lose(&mut self, catalog: &mut Catalog, culprit: &Culprit, reason: String);
}

/// Applies the log.
pub(crate) struct Follower<S> {
    pub(crate) stands: S,
    pub(crate) assembler: Assembler,
    pub(crate) limits: Limits,
}

/// What a record led to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The record builds upon something that is missing.
    pub(crate) gap: bool,
    /// It says something of tables.
    pub(crate) announced: Option<Record>,
    /// The log begins again with it; what stood before is committed.
    pub(crate) begun_again: Option<Baseline>,
    /// Changes that were applied and are not committed yet.
    pub(crate) applied: u64,
    /// What was committed with it.
    pub(crate) committed: Option<Committed>,
}

/// A MySQL transaction that was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) changes: u64,
    pub(crate) transactions: u64,
    /// How often it had to be repeated.
    pub(crate) retries: u32,
}

impl<S: Stands> Follower<S> {
    /// Where a reader would have to begin that knows nothing of what was collected.
    pub(crate) fn place(&self) -> Place {
        let advance = self.assembler.advance.map(|advance| advance.place);
        advance.unwrap_or_else(|| self.stands.place())
    }

    /// Takes the next record, and applies what is due.
    pub(crate) async fn step(&mut self, desk: &mut Desk, item: Item) -> Result<Outcome, Error> {
        let before = match &item.record {
            Record::Baseline(_) => self.commit(desk).await?,
            _ => None,
        };
        let step = self.assembler.offer(item.offset, item.record, item.bytes);
        let mut outcome = Outcome {
            gap: step.gap,
            announced: step.announced,
            begun_again: step.begun_again,
            committed: before,
            ..Outcome::default()
        };
        if step.voided {
            desk.execute("ROLLBACK", "a rollback").await?;
        }
        if step.finished || self.is_full() {
            outcome.committed = self.commit(desk).await?;
        } else if self.assembler.in_parts() {
            if self.assembler.bytes >= self.limits.part_bytes {
                outcome.applied = self.apply_part(desk).await?;
            }
        } else if self.assembler.pending_bytes() >= self.limits.part_bytes {
            outcome.committed = self.commit(desk).await?;
            outcome.applied = self.begin_in_parts(desk).await?;
        }
        Ok(outcome)
    }

    fn is_full(&self) -> bool {
        let batch = &self.assembler;
        batch.transactions >= self.limits.transactions
            || (batch.transactions > 0
                && (batch.batch.changes >= self.limits.changes || batch.bytes >= self.limits.bytes))
    }

    /// Opens the MySQL transaction of a source transaction that is too large for memory.
    async fn begin_in_parts(&mut self, desk: &mut Desk) -> Result<u64, Error> {
        desk.catalog.quarantine.begin();
        let mut script = Script::on(&mut desk.conn);
        script.push("BEGIN", &TRANSACTION).await?;
        self.stands.advance(&mut script, None).await?;
        script.send().await?;
        self.assembler.go_in_parts();
        self.apply_part(desk).await
    }

    async fn apply_part(&mut self, desk: &mut Desk) -> Result<u64, Error> {
        if let Some((_, error)) = self.assembler.lost.pop() {
            return Err(error);
        }
        let mut batch = std::mem::take(&mut self.assembler.batch);
        let mut script = Script::on(&mut desk.conn).careful(true);
        self.apply(&mut script, &mut desk.catalog.quarantine, &mut batch)
            .await?;
        script.send().await?;
        self.assembler.clear();
        Ok(batch.changes)
    }

    /// Commits what is complete, together with the position that it brings and with what has become known of tables.
    /// What cannot be applied is left out, and lost. `None` if there was nothing to commit.
    pub(crate) async fn commit(&mut self, desk: &mut Desk) -> Result<Option<Committed>, Error> {
        let advance = self.assembler.advance;
        if advance.is_none() && desk.catalog.dirty.is_empty() {
            return Ok(None);
        }
        let mut batch = std::mem::take(&mut self.assembler.batch);
        let mut committed = Committed {
            changes: batch.changes,
            transactions: self.assembler.transactions,
            retries: 0,
        };
        // What went before in this MySQL transaction must not stay in a table that is lost now.
        if self.assembler.in_parts() {
            if let Some((_, error)) = self.assembler.lost.pop() {
                return Err(error);
            }
        }
        let mut careful = false;
        loop {
            self.give_up_lost(desk, &mut batch);
            let tried = self.try_commit(desk, &mut batch, advance.as_ref(), careful);
            let Err(error) = tried.await else {
                break;
            };
            // What went before in this MySQL transaction is only in the log.
            if self.assembler.in_parts() {
                return Err(error);
            }
            if !careful && self.may_be_searched(&error) {
                desk.execute("ROLLBACK", "a rollback").await?;
                careful = true;
                continue;
            }
            self.repeat_without(desk, error, &mut committed.retries)
                .await?;
        }
        desk.conn.ordinary();
        desk.catalog.saved();
        if let Some(advance) = &advance {
            self.stands.advanced(advance);
        }
        self.assembler.committed();
        Ok(Some(committed))
    }

    /// True if the rows of a table can be searched for a value that the server has refused.
    fn may_be_searched(&self, error: &Error) -> bool {
        let Error::Sql {
            table: Some(id),
            source,
            ..
        } = error
        else {
            return false;
        };
        let followed = self.assembler.tables().get(id);
        is_of_a_value(source) && followed.is_some_and(|it| it.table.quarantines())
    }

    /// Whatever the log brought that does not fit a table takes the table out.
    fn give_up_lost(&mut self, desk: &mut Desk, batch: &mut Batch) {
        for (table, error) in std::mem::take(&mut self.assembler.lost) {
            batch.tables.remove(&table);
            let culprit = Culprit::Table(table);
            self.lose(&mut desk.catalog, &culprit, &error);
        }
    }

    fn lose(&mut self, catalog: &mut Catalog, culprit: &Culprit, error: &Error) {
        let reason = millrace_control::in_words(error);
        tracing::error!(
            projection = PROJECTIONS,
            ?culprit,
            reason,
            "set aside; everything else goes on"
        );
        if let Culprit::Table(table) = culprit {
            self.assembler.leave(table);
        }
        self.stands.lose(catalog, culprit, reason);
    }

    /// Makes room for another attempt, if there is to be one.
    async fn repeat_without(
        &mut self,
        desk: &mut Desk,
        error: Error,
        retries: &mut u32,
    ) -> Result<(), Error> {
        let lsn = self.assembler.lsn();
        if error.is_lock_conflict() && *retries < CONFLICT_ATTEMPTS {
            tracing::info!(projection = PROJECTIONS, %lsn, %error, "a batch met locks; repeating it");
            desk.execute("ROLLBACK", "a rollback").await?;
            tokio::time::sleep(backoff(*retries, CONFLICT_PAUSE_MAX)).await;
            *retries += 1;
            return Ok(());
        }
        let Some(culprit) = error.culprit() else {
            return Err(error);
        };
        desk.execute("ROLLBACK", "a rollback").await?;
        self.lose(&mut desk.catalog, &culprit, &error);
        Ok(())
    }

    async fn try_commit(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        advance: Option<&Advance>,
        careful: bool,
    ) -> Result<(), Error> {
        let in_parts = self.assembler.in_parts();
        let mut script = Script::on(&mut desk.conn).careful(in_parts || careful);
        if !in_parts {
            desk.catalog.quarantine.begin();
            script.push("BEGIN", &TRANSACTION).await?;
        }
        self.stands.advance(&mut script, advance).await?;
        self.apply(&mut script, &mut desk.catalog.quarantine, batch)
            .await?;
        script.send().await?;
        let others = &self.assembler.others;
        self.stands.record(&mut desk.catalog, advance, others);
        desk.catalog.save(&mut desk.conn).await?;
        // What was applied in parts may be any size, and so may be what the server still has to do for it.
        let committed = match in_parts {
            true => desk.conn.on_a_table().execute("COMMIT").await,
            false => desk.conn.execute("COMMIT").await,
        };
        committed.map(|_| ()).map_err(Error::sql("a commit"))
    }

    async fn apply(
        &self,
        script: &mut Script<'_>,
        quarantine: &mut Quarantine,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let mut applier = Applier {
            marts: self.stands.marts(),
            quarantine,
        };
        let range: (Lsn, Lsn) = (self.stands.place().end_lsn, self.assembler.lsn());
        let tables = self.assembler.tables();
        applier.apply(script, tables, batch, range).await
    }
}

/// A mart or table is lost outside of a batch.
pub(crate) fn lose(catalog: &mut Catalog, culprit: &Culprit, reason: String) {
    match culprit {
        Culprit::Table(table) => catalog.set_aside(table, reason, Utc::now()),
        Culprit::Mart(mart) => catalog.set_mart_aside(mart, reason, Utc::now()),
    }
}
