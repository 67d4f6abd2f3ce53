//! Following the replication stream: messages → records → topic, bounded at each step.

mod attend;
mod checkpoint;
mod compare;

use bytes::Bytes;
use chrono::Utc;
use millrace_events::{Copies, Lsn};
use millrace_sessions::postgres::replication::{Feedback, Incoming, ReplicationError};
use millrace_sessions::postgres::PgSession;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, MissedTickBehavior};

use crate::append::{Acknowledged, Appender};
use crate::assemble::{Assembler, Outgoing};
use crate::catalog::Types;
use crate::checkpoint::Checkpoints;
use crate::copy::Asked;
use crate::pgoutput::{self, Message, Relation};
use crate::receive::{Received, Receiver};
use crate::relations::{Relations, Standing};
use crate::status::Reporter;
use crate::watch::Watch;
use crate::wide::WideRow;
use crate::witness::Passage;
use crate::{relation, Config, Error};

pub(crate) use compare::Comparison;

/// A session that streams. Ends with an error only.
pub(crate) struct Stream<'a> {
    pub(crate) config: &'a Config,
    pub(crate) reporter: &'a Reporter,
    /// What the log is taken from, and whether that is still so.
    pub(crate) comparison: Comparison,
    pub(crate) watch: Watch,
    /// The captured tables.
    pub(crate) relations: Relations,
    /// Those who copy follow this: what the log says of tables.
    pub(crate) copies: watch::Sender<Copies>,
    /// What copies ask for.
    pub(crate) asked: mpsc::Receiver<Asked>,
    /// What cannot be answered yet.
    pub(crate) waiting: Vec<Asked>,
    pub(crate) catalog: PgSession,
    pub(crate) types: Types,
    pub(crate) assembler: Assembler,
    pub(crate) appender: Appender,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) wide: Wide,
}

/// Rows that come in fragments.
#[derive(Default)]
pub(crate) struct Wide {
    /// How many there were in this session.
    rows: u64,
    /// The one that is being received.
    open: Option<WideRow>,
}

impl Stream<'_> {
    /// Follows a stream that has started at the position of the assembler.
    pub(crate) async fn run(mut self, stream: (Incoming, Feedback)) -> Result<(), Error> {
        let mut acknowledged = self.appender.acknowledged();
        let pending = self.reporter.pending.clone();
        // What an earlier session received is in the log by now, or comes again.
        pending.lock().arrived(self.assembler.position());
        let mut events = Receiver::start(
            stream,
            self.assembler.position(),
            self.comparison.proven(),
            self.config,
            acknowledged.clone(),
            pending,
        );
        let mut seen = Acknowledged::default();
        let ended = self.follow(&mut events, &mut acknowledged, &mut seen).await;
        // Until the next session nobody else says how far the log has come.
        let now = *acknowledged.borrow();
        self.report(&mut seen, now);
        ended
    }

    async fn follow(
        &mut self,
        events: &mut Receiver,
        acknowledged: &mut watch::Receiver<Acknowledged>,
        seen: &mut Acknowledged,
    ) -> Result<(), Error> {
        let mut seen_catalog = self.watch.seen.clone();
        let mut ticks = interval(self.config.progress_period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Before anything of this epoch, so that the next start does not have to look behind it.
        self.checkpoint().await?;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Received::Data(data, _room) => self.data(data).await?,
                    Received::Fragment { data, last, .. } => self.fragment(&data, last).await?,
                    Received::Idle(lsn) => self.idle(lsn)?,
                    Received::Failed(error) => return Err(self.explain(error)),
                },
                changed = acknowledged.changed() => {
                    if changed.is_err() {
                        return Err(self.appender.failure().await.into());
                    }
                    let now = *acknowledged.borrow_and_update();
                    self.report(seen, now);
                }
                Ok(()) = seen_catalog.changed() => {
                    let seen = seen_catalog.borrow_and_update().clone();
                    self.compare(&seen).await?;
                }
                Some(asked) = self.asked.recv() => self.waiting.push(asked),
                _ = ticks.tick() => self.progress().await?,
            }
            self.attend().await?;
            self.checkpoint().await?;
        }
    }

    /// Changes are decoded with the catalog of their time. A publication that was dropped and made
    /// anew does not exist there, and never will.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Replication(ReplicationError::Server { sqlstate, message })
                if sqlstate == "42704" && message.contains(&self.config.publication) =>
            {
                self.publication_gone()
            }
            Error::Replication(source) if source.is_unmapped_file() => Error::SlotUnreadable {
                slot: self.config.slot.clone(),
                source,
            },
            Error::Replication(source) if source.is_unsendable_row() => Error::RowUnsendable {
                slot: self.config.slot.clone(),
                source,
            },
            other => other,
        }
    }

    async fn data(&mut self, data: Bytes) -> Result<(), Error> {
        self.message(pgoutput::decode(data)?).await
    }

    /// Slices leave as they come; the row follows with the last fragment.
    async fn fragment(&mut self, data: &[u8], last: bool) -> Result<(), Error> {
        let mut row = match self.wide.open.take() {
            Some(row) => row,
            None => {
                self.wide.rows += 1;
                WideRow::new(format!("{}-{}", self.assembler.epoch().0, self.wide.rows))
            }
        };
        let is_key = |relation, column| self.assembler.is_key(relation, column);
        for slice in row.take(data, is_key)? {
            self.message(slice).await?;
        }
        if last {
            return self.message(row.finish()?).await;
        }
        self.wide.open = Some(row);
        Ok(())
    }

    async fn message(&mut self, message: Message) -> Result<(), Error> {
        if let Message::Relation(relation) = &message {
            return self.relation(relation).await;
        }
        if self.passage(&message)? == Passage::Old {
            return self.note().await;
        }
        let ended = match &message {
            Message::Commit(commit) => Some(*commit),
            _ => None,
        };
        if let Some(commit) = ended {
            // Before its last record: what the log does not say by then would never be said after a kill.
            self.note_left_out().await?;
            self.received(commit.end_lsn);
        }
        let mut out = Vec::new();
        if let Some(message) = self.relations.admit(message) {
            self.assembler.take(message, &mut out)?;
        }
        if let (Some(commit), true) = (ended, out.is_empty()) {
            self.reporter.pending.lock().dropped(commit.commit_lsn);
        }
        for record in out {
            self.appender.append(record).await?;
        }
        Ok(())
    }

    /// The source has sent everything that committed before `lsn`.
    fn idle(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.check_idle(lsn)?;
        self.assembler.idle(lsn);
        self.received(lsn);
        Ok(())
    }

    async fn relation(&mut self, relation: &Relation) -> Result<(), Error> {
        let table = relation::table(relation);
        let standing = self.relations.describe(relation.oid, &table);
        if standing == Standing::Removed {
            // It may be added again, and Postgres does not describe it twice.
            self.comparison.leave_out(relation);
            return Ok(());
        }
        if standing == Standing::Stranger || self.comparison.contradicts(relation) {
            self.comparison.leave_out(relation);
            self.assembler.leave_out(relation.oid, table);
            return Ok(());
        }
        let id = self.assembler.next_schema();
        let schema = relation::resolve(&mut self.catalog, &mut self.types, id, relation).await?;
        self.assembler.define(relation.oid, schema);
        Ok(())
    }

    async fn progress(&mut self) -> Result<(), Error> {
        if !self.comparison.is_proven() {
            return Ok(());
        }
        self.ask_for_witness().await;
        let record: Option<Outgoing> = self.assembler.progress(Utc::now());
        match record {
            Some(record) => Ok(self.appender.append(record).await?),
            None => Ok(()),
        }
    }

    fn say_what_is_needed(&mut self) {
        let from = self.checkpoints.needed();
        self.reporter.needs(&self.config.topic_changes, Some(from));
    }

    fn received(&self, lsn: Lsn) {
        self.reporter
            .update(|status| status.received_lsn = status.received_lsn.max(lsn));
    }

    fn report(&mut self, seen: &mut Acknowledged, now: Acknowledged) {
        // First, so that whoever sees the log there does not see older transactions on their way.
        self.reporter.pending.lock().arrived(now.lsn);
        self.reporter.update(|status| {
            status.transactions += now.transactions - seen.transactions;
            status.last_lsn = status.last_lsn.max(now.lsn);
        });
        if let Some(place) = now.checkpoint {
            self.checkpoints.stands_at(place);
        }
        self.say_what_is_needed();
        *seen = now;
    }
}
