//! Applying the log: collect, fold, commit, and obey holds between two commits.

use std::sync::Arc;
use std::time::Duration;

use millrace_events::{Lsn, Record};
use millrace_sessions::mysql::{self, Session};
use sqlx::Executor;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::apply::Applier;
use super::assemble::{Assembler, Step};
use super::error::Error;
use super::log::Offset;
use super::position::Position;
use super::reader::{backoff, Item, Reader};
use super::status::{Hold, Orders, Shared, Until, PROJECTIONS};
use super::{Hooks, Limits};

/// A transaction that meets locks is repeated so many times before the connection is made anew.
const CONFLICT_ATTEMPTS: u32 = 5;
/// Pauses between them grow up to this.
const CONFLICT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// When nothing but the source's LSN moves, the position follows after this time.
const PROGRESS_DELAY: Duration = Duration::from_millis(250);

/// A projection in its live stage, on one connection.
pub(crate) struct Live<'a> {
    pub(crate) conn: Session,
    pub(crate) applier: Applier<'a>,
    pub(crate) position: Position,
    pub(crate) reader: Reader,
    pub(crate) assembler: Assembler,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) limits: &'a Limits,
    pub(crate) hooks: &'a Hooks,
    pub(crate) orders: watch::Receiver<Orders>,
    /// A record that must wait until a hold is over.
    pub(crate) stash: Option<Item>,
    /// The next record to be taken.
    pub(crate) next: Offset,
    /// Since when only the source's LSN has moved.
    pub(crate) idle_since: Option<Instant>,
}

impl Live<'_> {
    /// Applies the log until something goes wrong.
    pub(crate) async fn run(&mut self) -> Result<(), Error> {
        loop {
            self.obey().await?;
            match self.take().await? {
                Some(item) => self.step(item).await?,
                None => self.commit_if_due().await?,
            }
        }
    }

    /// The next record; `None` when it is time to look after other things.
    async fn take(&mut self) -> Result<Option<Item>, Error> {
        let item = match self.stash.take() {
            Some(item) => item,
            None => match self.reader.ready() {
                Some(item) => item?,
                None if self.assembler.transactions > 0 => return Ok(None),
                None => match self.wait().await? {
                    Some(item) => item,
                    None => return Ok(None),
                },
            },
        };
        if self.is_barred(&item.record) {
            self.stash = Some(item);
            return Ok(None);
        }
        Ok(Some(item))
    }

    async fn wait(&mut self) -> Result<Option<Item>, Error> {
        let due = self
            .assembler
            .advance
            .map(|_| *self.idle_since.get_or_insert_with(Instant::now) + PROGRESS_DELAY);
        let deadline = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            item = self.reader.next() => item.map(Some),
            _ = self.orders.changed() => Ok(None),
            () = deadline => Ok(None),
            () = tokio::time::sleep(mysql::PING_EVERY) => self.ping().await.map(|()| None),
        }
    }

    /// Nothing else tells that the connection of an idle projector is dead.
    async fn ping(&mut self) -> Result<(), Error> {
        let answered = self.conn.ping().await;
        answered.map_err(Error::sql("a sign of life"))
    }

    async fn commit_if_due(&mut self) -> Result<(), Error> {
        let idle = self
            .idle_since
            .is_some_and(|since| since.elapsed() >= PROGRESS_DELAY);
        if self.assembler.transactions > 0 || (idle && self.assembler.advance.is_some()) {
            self.commit().await?;
        }
        Ok(())
    }

    async fn step(&mut self, item: Item) -> Result<(), Error> {
        self.next = item.offset.next();
        let step = self.assembler.offer(item.offset, item.record, item.bytes)?;
        self.note(step);
        if step.voided {
            self.execute("ROLLBACK", "a rollback").await?;
        }
        if step.finished || self.is_full() {
            return self.commit().await;
        }
        if self.assembler.in_parts() {
            if self.assembler.bytes >= self.limits.part_bytes {
                self.apply_part().await?;
            }
        } else if self.assembler.pending_bytes() >= self.limits.part_bytes {
            self.commit().await?;
            self.begin_in_parts().await?;
        }
        Ok(())
    }

    fn note(&self, step: Step) {
        // What only moves the source's LSN is accounted for as soon as it is read.
        let idle = self.assembler.transactions == 0 && !self.assembler.has_pending();
        if step.hole || idle {
            self.shared.update(|status| {
                status.holes += u64::from(step.hole);
                if idle {
                    status.next_offset = Some(self.next);
                }
            });
        }
    }

    fn is_full(&self) -> bool {
        let batch = &self.assembler;
        batch.transactions >= self.limits.transactions
            || (batch.transactions > 0
                && (batch.batch.changes >= self.limits.changes || batch.bytes >= self.limits.bytes))
    }

    /// Opens the MySQL transaction of a source transaction that is too large for memory.
    async fn begin_in_parts(&mut self) -> Result<(), Error> {
        self.execute("BEGIN", "a transaction").await?;
        self.position.lock(&mut self.conn).await?;
        self.assembler.go_in_parts()?;
        self.apply_part().await
    }

    async fn apply_part(&mut self) -> Result<(), Error> {
        let mut batch = std::mem::take(&mut self.assembler.batch);
        let changes = batch.changes;
        let (tables, lsn) = (self.assembler.tables(), self.assembler.lsn());
        self.applier
            .apply(&mut self.conn, tables, &mut batch, lsn)
            .await?;
        self.assembler.clear();
        self.shared.update(|status| status.changes += changes);
        Ok(())
    }

    /// Commits what is complete, together with the position that it brings.
    async fn commit(&mut self) -> Result<(), Error> {
        let Some(advance) = self.assembler.advance else {
            return Ok(());
        };
        let mut batch = std::mem::take(&mut self.assembler.batch);
        let (changes, transactions) = (batch.changes, self.assembler.transactions);
        let mut conflicts = 0;
        loop {
            match self.try_commit(&mut batch, advance.end_lsn).await {
                Ok(()) => break,
                // What went before in this MySQL transaction is only in the log.
                Err(error) if self.assembler.in_parts() => return Err(error),
                Err(error) if error.is_lock_conflict() && conflicts < CONFLICT_ATTEMPTS => {
                    let lsn = advance.end_lsn;
                    tracing::info!(projection = PROJECTIONS, %lsn, %error, "a batch met locks; repeating it");
                    self.execute("ROLLBACK", "a rollback").await?;
                    tokio::time::sleep(backoff(conflicts, CONFLICT_PAUSE_MAX)).await;
                    conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.conn.ordinary();
        self.position.offset = advance.offset;
        self.position.end_lsn = advance.end_lsn;
        self.position.epoch = advance.epoch;
        self.position.source_at = advance.source_at;
        self.assembler.committed();
        self.shared.pending().arrived(advance.end_lsn);
        self.idle_since = None;
        self.publish(changes, transactions, u64::from(conflicts));
        self.hooked(advance.end_lsn).await;
        Ok(())
    }

    async fn try_commit(&mut self, batch: &mut super::fold::Batch, lsn: Lsn) -> Result<(), Error> {
        let Some(advance) = self.assembler.advance else {
            return Ok(());
        };
        if !self.assembler.in_parts() {
            self.execute("BEGIN", "a transaction").await?;
        }
        self.position.advance(&mut self.conn, &advance).await?;
        let tables = self.assembler.tables();
        self.applier
            .apply(&mut self.conn, tables, batch, lsn)
            .await?;
        // What was applied in parts may be any size, and so may be what the server still has to do for it.
        let committed = match self.assembler.in_parts() {
            true => self.conn.on_a_table().execute("COMMIT").await,
            false => self.conn.execute("COMMIT").await,
        };
        committed.map(|_| ()).map_err(Error::sql("a commit"))
    }

    fn publish(&self, changes: u64, transactions: u64, retries: u64) {
        let position = &self.position;
        self.shared.update(|status| {
            status.end_lsn = Some(position.end_lsn);
            status.offset = Some(position.offset);
            let pending = self.assembler.has_pending();
            status.next_offset = Some(if pending {
                position.offset.next()
            } else {
                self.next
            });
            status.source_at = position.source_at;
            status.applied_at = Some(chrono::Utc::now());
            status.batches += 1;
            status.transactions += transactions;
            status.changes += changes;
            status.retries += retries;
            status.error = None;
        });
    }

    /// Stands still while a hold or a pause demands it. A hold comes first: a pause that arrives
    /// during it begins when it is over, so that nobody's comparison is cut short.
    async fn obey(&mut self) -> Result<(), Error> {
        loop {
            let orders = *self.orders.borrow_and_update();
            if self.assembler.in_parts() {
                return Ok(());
            }
            match orders.hold {
                Some(hold) if self.is_due(&hold) => self.stand_for(&hold).await?,
                None if orders.paused_since.is_some() => self.stand_paused().await?,
                _ => return Ok(()),
            }
        }
    }

    async fn stand_for(&mut self, hold: &Hold) -> Result<(), Error> {
        self.commit().await?;
        self.shared.reached(hold);
        let told = tokio::time::timeout_at(hold.deadline, self.orders.changed());
        let told = self.conn.meanwhile(told).await;
        if told.map_err(Error::sql("a sign of life"))?.is_err() && self.shared.end_hold(hold.id) {
            self.shared
                .tell("a hold was beyond its time limit; going on");
        }
        Ok(())
    }

    /// A pause has no end of its own: the connection is looked after meanwhile, so that it is there
    /// afterwards, and so that a projector that was replaced leaves.
    async fn stand_paused(&mut self) -> Result<(), Error> {
        self.commit().await?;
        self.shared.pause.standing(true);
        let resumed = self.conn.meanwhile(self.orders.changed()).await;
        self.shared.pause.standing(false);
        resumed.map(|_| ()).map_err(Error::sql("a sign of life"))
    }

    fn is_due(&self, hold: &Hold) -> bool {
        match hold.until {
            Until::Now => true,
            // The stash may stem from an earlier hold that did not let it go as far.
            Until::Before(lsn) => {
                let barred = |item: &Item| self.is_beyond(&item.record, lsn);
                self.assembler.lsn() >= lsn || self.stash.as_ref().is_some_and(barred)
            }
        }
    }

    /// True if the record belongs to a commit that a hold keeps out.
    fn is_barred(&self, record: &Record) -> bool {
        match self.orders.borrow().hold {
            Some(Hold {
                until: Until::Before(lsn),
                ..
            }) if !self.assembler.in_parts() => self.is_beyond(record, lsn),
            _ => false,
        }
    }

    fn is_beyond(&self, record: &Record, lsn: Lsn) -> bool {
        let commit = self.assembler.commit_lsn_of(record);
        commit.is_some_and(|commit| commit >= lsn)
    }

    /// Tests look at the tables after every commit.
    async fn hooked(&self, lsn: Lsn) {
        if let Some(after_commit) = &self.hooks.after_commit {
            let (go_on, answer) = oneshot::channel();
            if after_commit.send((lsn, go_on)).await.is_ok() {
                let _ = answer.await;
            }
        }
    }

    async fn execute(&mut self, sql: &str, what: &'static str) -> Result<(), Error> {
        let done = self.conn.execute(sql).await;
        done.map(|_| ()).map_err(Error::sql(what))
    }
}
