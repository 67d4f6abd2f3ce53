//! The loop of a projector: apply the log to what is live, copy tables in between, and obey requests between two commits.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use millrace_events::{Baseline, Lsn, Record, TableId};
use millrace_sessions::mysql;
use millrace_topic::Offset;
use tokio::sync::watch;
use tokio::time::Instant;

use super::assemble::Followed;
use super::begin;
use super::copier::Copier;
use super::error::Error;
use super::follower::{lose, Committed, Desk, Follower, Outcome};
use super::group::Group;
use super::handle::{Hold, Orders, Until};
use super::join::Joiner;
use super::loading::save;
use super::reader::{Item, Reader};
use super::rows::Place;
use super::shared::Shared;
use super::status::State;
use super::Config;
use crate::replica::Table;

/// When nothing but the source's LSN moves, the position follows after this time.
const PROGRESS_DELAY: Duration = Duration::from_millis(250);

/// Where somebody's open transaction keeps tables from taking their names, it is tried again after this time.
const JOIN_PAUSE: Duration = Duration::from_secs(20);

/// A projector at work, on one connection.
pub(crate) struct Live<'a> {
    pub(crate) desk: Desk,
    pub(crate) group: Follower<Group>,
    pub(crate) reader: Reader,
    pub(crate) copier: Copier<'a>,
    pub(crate) config: &'a Config,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) orders: watch::Receiver<Orders>,
    /// A record that must wait until a hold is over.
    pub(crate) stash: Option<Item>,
    /// The next record to be taken.
    pub(crate) next: Offset,
    /// Since when only the source's LSN has moved.
    pub(crate) idle_since: Option<Instant>,
    /// When it was last seen which tables there are.
    pub(crate) stock_at: Option<Instant>,
    /// No table joins before.
    pub(crate) joins_at: Instant,
}

impl<'a> Live<'a> {
    /// Applies the log until something goes wrong.
    pub(crate) async fn run(&mut self) -> Result<(), Error> {
        self.joiner().finish(&mut self.desk).await?;
        self.joiner().clear(&mut self.desk).await?;
        self.drop_former_marts().await?;
        self.follow_live()?;
        self.take_stock().await?;
        self.show();
        loop {
            let Err(error) = self.turn().await else {
                continue;
            };
            return Err(self.put_aside(error).await);
        }
    }

    async fn turn(&mut self) -> Result<(), Error> {
        self.obey().await?;
        if !self.group.assembler.in_parts() && self.group.assembler.transactions == 0 {
            self.copy().await?;
        }
        match self.take().await? {
            Some(item) => self.step(item).await,
            None => self.commit_if_due().await,
        }
    }

    fn joiner(&self) -> Joiner<'a> {
        Joiner {
            marts: &self.config.marts,
            hooks: &self.config.hooks,
        }
    }

    /// In the middle of a large transaction nothing can be left out: it begins again, without what cannot be applied.
    async fn put_aside(&mut self, error: Error) -> Error {
        let Some(culprit) = error.culprit() else {
            return error;
        };
        let reason = millrace_control::in_words(&error);
        lose(&mut self.desk.catalog, &culprit, reason);
        let rolled_back = self.desk.execute("ROLLBACK", "a rollback").await;
        match rolled_back {
            Ok(()) => match save(&mut self.desk).await {
                Ok(()) => Error::PutAside(culprit),
                Err(error) => error,
            },
            Err(error) => error,
        }
    }

    /// Loads and catches up; lets tables join that are there, and builds marts that wait for nothing.
    async fn copy(&mut self) -> Result<(), Error> {
        self.take_stock().await?;
        for mart in std::mem::take(&mut *self.shared.rebuilds()) {
            self.desk.catalog.rebuild(&mart, Utc::now());
            self.group.stands.marts = self.config.marts.only(&self.desk.catalog.live_marts());
        }
        let drops = std::mem::take(&mut *self.shared.drops());
        self.desk.drop_removed(drops).await?;
        // What has become known of tables is written down first; and tables join at a position that MySQL has.
        let moving = self.copier.is_catching_up() && self.group.assembler.advance.is_some();
        if moving || !self.desk.catalog.dirty.is_empty() {
            self.commit().await?;
        }
        let until = self.group.stands.position.place.end_lsn;
        let may_join = Instant::now() >= self.joins_at;
        let tables = self.copier.turn(&mut self.desk, until, may_join).await?;
        let due = may_join && !self.desk.catalog.marts_to_build(&[]).is_empty();
        if !tables.is_empty() || due {
            self.join(&tables).await?;
        }
        self.show_changes();
        Ok(())
    }

    async fn join(&mut self, tables: &[TableId]) -> Result<(), Error> {
        // What is collected was collected without them. They will be there again.
        if self.group.assembler.advance.is_some() {
            return self.commit().await;
        }
        let joiner = self.joiner();
        if self.desk.catalog.is_loading() {
            self.shared.enter(State::Building);
        }
        let position = &self.group.stands.position;
        if !joiner.join(&mut self.desk, position, tables).await? {
            self.joins_at = Instant::now() + JOIN_PAUSE;
        }
        self.follow_live()?;
        self.show_changes();
        joiner.clear(&mut self.desk).await
    }

    /// The live tables and marts are those of the catalog.
    fn follow_live(&mut self) -> Result<(), Error> {
        for (id, row) in self.desk.catalog.live() {
            let Some(definition) = &row.definition else {
                continue;
            };
            let followed = Followed {
                table: Table::of(definition, &row.name, &row.policies)?,
                definition: definition.clone(),
                contained: None,
            };
            self.group.assembler.follow(id.clone(), followed);
        }
        let live = self.desk.catalog.live_marts();
        self.group.stands.marts = self.config.marts.only(&live);
        Ok(())
    }

    /// The next record; `None` when it is time to look after other things.
    async fn take(&mut self) -> Result<Option<Item>, Error> {
        let item = match self.stash.take() {
            Some(item) => item,
            None => match self.reader.ready() {
                Some(item) => item?,
                None if self.group.assembler.transactions > 0 => return Ok(None),
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
            .group
            .assembler
            .advance
            .map(|_| *self.idle_since.get_or_insert_with(Instant::now) + PROGRESS_DELAY);
        let deadline = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let (until, in_parts) = (
            self.group.stands.position.place.end_lsn,
            self.group.assembler.in_parts(),
        );
        let copier = &mut self.copier;
        let copying = async {
            match in_parts {
                true => std::future::pending().await,
                false => copier.fill(until).await,
            }
        };
        tokio::select! {
            biased;
            item = self.reader.next() => item.map(Some),
            _ = self.orders.changed() => Ok(None),
            () = deadline => Ok(None),
            () = copying => Ok(None),
            () = tokio::time::sleep(mysql::PING_EVERY) => self.ping().await.map(|()| None),
        }
    }

    /// Nothing else tells that the connection of an idle projector is dead.
    async fn ping(&mut self) -> Result<(), Error> {
        let answered = self.desk.conn.ping().await;
        answered.map_err(Error::sql("a sign of life"))
    }

    async fn commit_if_due(&mut self) -> Result<(), Error> {
        let idle = self
            .idle_since
            .is_some_and(|since| since.elapsed() >= PROGRESS_DELAY);
        let assembler = &self.group.assembler;
        if assembler.transactions > 0 || (idle && assembler.advance.is_some()) {
            self.commit().await?;
        }
        Ok(())
    }

    async fn step(&mut self, item: Item) -> Result<(), Error> {
        self.next = item.offset.next();
        let (offset, place) = (item.offset, self.group.place());
        let outcome = self.group.step(&mut self.desk, item).await?;
        self.note(&outcome);
        if let Some(committed) = outcome.committed {
            self.committed(committed).await;
        }
        if let Some(record) = outcome.announced {
            self.announced(&record, offset, place).await?;
        }
        match outcome.begun_again {
            Some(baseline) => self.begin_again(offset, baseline).await,
            None => Ok(()),
        }
    }

    /// Everything that was live stays as it is, and waits for new copies. What this connection has read is void.
    async fn begin_again(&mut self, offset: Offset, baseline: Baseline) -> Result<(), Error> {
        let place = Place {
            offset,
            end_lsn: baseline.lsn,
            epoch: baseline.epoch,
        };
        let position = &self.group.stands.position;
        self.desk.catalog.begin_again(Utc::now());
        begin::again(&mut self.desk, position, place, baseline.incarnation).await?;
        self.show();
        Err(Error::BegunAgain)
    }

    /// What the log says of tables. It is written down before the position passes it.
    async fn announced(
        &mut self,
        record: &Record,
        offset: Offset,
        place: Place,
    ) -> Result<(), Error> {
        let position = &mut self.group.stands.position;
        if offset <= position.heard {
            return Ok(());
        }
        position.heard = offset;
        let (catalog, now) = (&mut self.desk.catalog, Utc::now());
        match record {
            Record::Copy(begun) => {
                catalog.begin_copy(begun, place, self.config.main_schema.as_deref(), now);
            }
            Record::Copied(copied) => catalog.copied(copied),
            Record::Removed(removed) => {
                catalog.remove(&removed.table, now);
                self.group.assembler.leave(&removed.table);
                self.follow_live()?;
            }
            _ => {}
        }
        match self.group.assembler.in_parts() {
            // It is written with the transaction that is being applied.
            true => Ok(()),
            false => self.commit().await,
        }
    }

    fn note(&self, outcome: &Outcome) {
        // What only moves the source's LSN is accounted for as soon as it is read.
        let assembler = &self.group.assembler;
        let idle = assembler.transactions == 0 && !assembler.has_pending();
        if outcome.gap || idle || outcome.applied > 0 {
            self.shared.update(|status| {
                status.holes += u64::from(outcome.gap);
                status.changes += outcome.applied;
                if idle {
                    status.next_offset = Some(self.next);
                }
            });
        }
    }

    /// Commits what is complete, together with the position that it brings.
    async fn commit(&mut self) -> Result<(), Error> {
        if let Some(committed) = self.group.commit(&mut self.desk).await? {
            self.committed(committed).await;
        }
        Ok(())
    }

    async fn committed(&mut self, committed: Committed) {
        self.idle_since = None;
        let lsn = self.group.stands.position.place.end_lsn;
        self.shared.pending().arrived(lsn);
        self.publish(committed);
        self.show_changes();
        self.config.hooks.committed(lsn).await;
    }

    fn publish(&self, committed: Committed) {
        let position = &self.group.stands.position;
        self.shared.update(|status| {
            status.end_lsn = Some(position.place.end_lsn);
            status.offset = Some(position.place.offset);
            let pending = self.group.assembler.has_pending();
            status.next_offset = Some(match pending {
                true => position.place.offset.next(),
                false => self.next,
            });
            status.source_at = position.source_at;
            status.applied_at = Some(Utc::now());
            status.batches += 1;
            status.transactions += committed.transactions;
            status.changes += committed.changes;
            status.retries += u64::from(committed.retries);
            status.error = None;
        });
    }

    fn show_changes(&mut self) {
        if std::mem::take(&mut self.desk.catalog.changed) {
            self.show();
        }
    }

    fn show(&self) {
        self.shared.show_catalog(&self.desk.catalog);
    }

    /// Stands still while a hold or a pause demands it. A hold comes first: a pause that arrives
    /// during it begins when it is over, so that nobody's comparison is cut short.
    async fn obey(&mut self) -> Result<(), Error> {
        loop {
            let orders = *self.orders.borrow_and_update();
            if self.group.assembler.in_parts() {
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
        let told = self.desk.conn.meanwhile(told).await;
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
        let resumed = self.desk.conn.meanwhile(self.orders.changed()).await;
        self.shared.pause.standing(false);
        resumed.map(|_| ()).map_err(Error::sql("a sign of life"))
    }

    fn is_due(&self, hold: &Hold) -> bool {
        match hold.until {
            Until::Now => true,
            // The stash may stem from an earlier hold that did not let it go as far.
            Until::Before(lsn) => {
                let barred = |item: &Item| self.is_beyond(&item.record, lsn);
                self.group.assembler.lsn() >= lsn || self.stash.as_ref().is_some_and(barred)
            }
        }
    }

    /// True if the record belongs to a commit that a hold keeps out.
    fn is_barred(&self, record: &Record) -> bool {
        match self.orders.borrow().hold {
            Some(Hold {
                until: Until::Before(lsn),
                ..
            }) if !self.group.assembler.in_parts() => self.is_beyond(record, lsn),
            _ => false,
        }
    }

    fn is_beyond(&self, record: &Record, lsn: Lsn) -> bool {
        let commit = self.group.assembler.commit_lsn_of(record);
        commit.is_some_and(|commit| commit >= lsn)
    }
}
