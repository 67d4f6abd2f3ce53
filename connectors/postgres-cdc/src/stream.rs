//! Following the replication stream: messages → records → topic, bounded at each step.

use bytes::Bytes;
use chrono::Utc;
use millrace_events::{Lsn, Witness};
use millrace_sessions::postgres::replication::{Feedback, Incoming, Oversized, ReplicationError};
use millrace_sessions::postgres::PgSession;
use tokio::sync::watch;
use tokio::time::{interval, MissedTickBehavior};

use crate::append::{Acknowledged, Appender};
use crate::assemble::{Assembler, Outgoing};
use crate::catalog::Types;
use crate::observe::Observed;
use crate::pgoutput::{self, Message, Relation};
use crate::provenance::Provenance;
use crate::receive::{Received, Receiver};
use crate::status::Reporter;
use crate::watch::Watch;
use crate::witness::{HistoryDiffers, Overlap, Passage};
use crate::{relation, Config, Error};

/// A session that streams. Ends with an error only.
pub(crate) struct Stream<'a> {
    pub(crate) config: &'a Config,
    pub(crate) reporter: &'a Reporter,
    /// What the log is taken from.
    pub(crate) provenance: Provenance,
    /// What of the stream the log has already.
    pub(crate) overlap: Overlap,
    /// The last transaction that the log had when the stream began.
    pub(crate) last: Option<Witness>,
    pub(crate) timeline: u32,
    pub(crate) watch: Watch,
    pub(crate) catalog: PgSession,
    pub(crate) types: Types,
    pub(crate) assembler: Assembler,
    pub(crate) appender: Appender,
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
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Received::Data(data, _room) => self.data(data).await?,
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
                _ = ticks.tick() => self.progress().await?,
            }
        }
    }

    /// Changes are decoded with the catalog of their time. A publication that was dropped and made
    /// anew does not exist there, and never will. A row that is too large is one of a known table.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Replication(ReplicationError::Server { sqlstate, message })
                if sqlstate == "42704" && message.contains(&self.config.publication) =>
            {
                self.publication_gone()
            }
            Error::Replication(ReplicationError::TooLarge {
                what: Oversized::Row(relation),
                bytes,
                limit,
            }) => match self.assembler.table_name(relation) {
                Some(table) => Error::RowTooLarge {
                    table: table.clone(),
                    place: "the replication stream".into(),
                    bytes,
                    limit,
                },
                None => Error::Protocol("a row of a table that was not defined before".into()),
            },
            other => other,
        }
    }

    async fn data(&mut self, data: Bytes) -> Result<(), Error> {
        let message = pgoutput::decode(data)?;
        if let Message::Relation(relation) = &message {
            return self.relation(relation).await;
        }
        let wanted = || self.assembler.wants(&message);
        let passage = self.overlap.take(&message, wanted);
        if passage.map_err(|differs| self.differs(differs))? == Passage::Old {
            return self.proven().await;
        }
        let ended = match &message {
            Message::Commit(commit) => Some(*commit),
            _ => None,
        };
        if let Some(commit) = ended {
            self.received(commit.end_lsn);
        }
        let mut out = Vec::new();
        self.assembler.take(message, &mut out)?;
        if let (Some(commit), true) = (ended, out.is_empty()) {
            self.reporter.pending.lock().dropped(commit.commit_lsn);
        }
        for record in out {
            self.appender.append(record).await?;
        }
        if ended.is_some() {
            self.note_left_out().await?;
        }
        Ok(())
    }

    /// The source has sent everything that committed before `lsn`.
    fn idle(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.overlap
            .idle(lsn)
            .map_err(|differs| self.differs(differs))?;
        self.assembler.idle(lsn);
        self.received(lsn);
        Ok(())
    }

    /// Compares the log with the catalog of now.
    async fn compare(&mut self, seen: &Observed) -> Result<(), Error> {
        if seen.publication.is_none() {
            return Err(self.publication_gone());
        }
        let not_live = self.provenance.compare(seen);
        self.reporter.compared(not_live);
        self.note().await
    }

    /// Rows of a captured table that has another name now were left out.
    async fn note_left_out(&mut self) -> Result<(), Error> {
        for (relation, table) in self.assembler.take_left_out() {
            let reason = format!("rows were left out while it was {table}");
            self.provenance.leave_out(relation, &reason);
        }
        self.note().await
    }

    /// The history is the same, whoever is the primary now.
    async fn proven(&mut self) -> Result<(), Error> {
        if self.overlap.is_proven() {
            self.provenance.promoted(self.timeline);
        }
        self.note().await
    }

    /// Tells the log what it is taken from, if it has something else.
    async fn note(&mut self) -> Result<(), Error> {
        let last = self.assembler.last().or(self.last);
        let epoch = self.assembler.epoch();
        match self.provenance.record(epoch, last, Utc::now()) {
            Some(record) => Ok(self
                .appender
                .append(Outgoing::aside(record.encode()))
                .await?),
            None => Ok(()),
        }
    }

    fn publication_gone(&self) -> Error {
        Error::PublicationGone {
            publication: self.config.publication.clone(),
            slot: self.config.slot.clone(),
            topic: self.config.topic_changes.clone(),
        }
    }

    fn differs(&self, HistoryDiffers(last): HistoryDiffers) -> Error {
        Error::HistoryDiffers {
            xid: last.xid.0,
            commit_lsn: last.commit_lsn,
            at: last.at,
            slot: self.config.slot.clone(),
            topic: self.config.topic_changes.clone(),
        }
    }

    async fn relation(&mut self, relation: &Relation) -> Result<(), Error> {
        let table = relation::table(relation);
        if !self.provenance.captures(relation.oid, &table) {
            self.assembler.leave_out(relation.oid, table);
            return Ok(());
        }
        let id = self.assembler.next_schema();
        let schema = relation::resolve(&mut self.catalog, &mut self.types, id, relation).await?;
        self.assembler.define(relation.oid, schema);
        Ok(())
    }

    async fn progress(&mut self) -> Result<(), Error> {
        if !self.overlap.is_proven() {
            return Ok(());
        }
        let record: Option<Outgoing> = self.assembler.progress(Utc::now());
        match record {
            Some(record) => Ok(self.appender.append(record).await?),
            None => Ok(()),
        }
    }

    fn received(&self, lsn: Lsn) {
        self.reporter
            .update(|status| status.received_lsn = status.received_lsn.max(lsn));
    }

    fn report(&self, seen: &mut Acknowledged, now: Acknowledged) {
        // First, so that whoever sees the log there does not see older transactions on their way.
        self.reporter.pending.lock().arrived(now.lsn);
        self.reporter.update(|status| {
            status.transactions += now.transactions - seen.transactions;
            status.last_lsn = status.last_lsn.max(now.lsn);
        });
        *seen = now;
    }
}
