//! One attempt at capturing: from the lock to the first error.
//!
//! Every attempt derives its position anew from the log. Nothing of an earlier attempt is believed
//! but the records that stand in the topic.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use millrace_events::{Baseline, Copies, Epoch, Lsn, Record, Start, TableId};
use millrace_sessions::postgres::replication::{Feedback, Incoming, Wanted};
use millrace_sessions::postgres::PgSession;
use millrace_topic::{Cluster, Offset, RECORD_BYTES_MAX};
use tokio::sync::{mpsc, watch, Mutex};

use crate::append::{self, Appender};
use crate::assemble::{Assembler, Limits};
use crate::begin::Begin;
use crate::catalog::Types;
use crate::checkpoint::Checkpoints;
use crate::config::MESSAGE_BYTES_MAX;
use crate::copy::{self, Copier, Desk, Notes, Request};
use crate::log_scan::{self, LogScan};
use crate::observe::{observe, Scope};
use crate::preflight::{self, Facts};
use crate::provenance::Provenance;
use crate::relations::Relations;
use crate::slot::{self, Slot};
use crate::source::Source;
use crate::start::Found;
use crate::status::Reporter;
use crate::stream::{Comparison, Stream, Wide};
use crate::watch::Watch;
use crate::witness::Overlap;
use crate::{lock, Config, Error};

/// What an attempt works with.
pub(crate) struct Session<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) reporter: &'a Reporter,
    /// How long the stream may be silent before its first commit.
    pub(crate) silence_max: Duration,
    /// What the slot has to bring next cannot be decoded: another one is made, if nothing can be lost by that.
    pub(crate) renews_slot: bool,
}

impl Session<'_> {
    /// Runs until something fails. Whom `again` names had the log begun again, and is told when that is acknowledged.
    pub(crate) async fn run(
        &self,
        scan: &mut LogScan,
        requests: &mut mpsc::Receiver<Request>,
        again: &mut Option<Request>,
    ) -> Result<(), Error> {
        self.reporter.looks();
        let guard = lock::acquire(self.source, self.config).await?;
        let mut guard = lock::keep(guard, self.config);
        tokio::select! {
            result = self.locked(scan, requests, again) => result,
            error = &mut guard => Err(error.unwrap_or_else(|error| Error::Protocol(error.to_string()))),
        }
    }

    async fn locked(
        &self,
        scan: &mut LogScan,
        requests: &mut mpsc::Receiver<Request>,
        again: &mut Option<Request>,
    ) -> Result<(), Error> {
        let mut catalog = self.source.connect().await?;
        let facts = preflight::check(&mut catalog, self.source).await?;
        let found = Found::look(&mut catalog, self.config).await?;
        let slot = slot::release(&mut catalog, &self.config.slot, &facts.database).await?;
        // A connection for each session: an old one would learn nothing of a controller that started anew.
        let cluster = Cluster::new(self.config.fluvio_endpoint.as_str());
        if again.is_some() {
            scan.forget();
        }
        scan.state.sees(copy::now(&mut catalog).await?);
        let own = again.is_none().then_some(&facts);
        let mut log = self.log(&cluster, own, scan).await?;
        let wal_end = slot::wal_end(&mut catalog).await?;
        let renews = match own {
            Some(facts) => self.renews(facts, scan, slot.as_ref(), wal_end)?,
            None => true,
        };
        let epoch = scan.state.chain.epoch().next();
        self.fence(epoch, &cluster, scan, &mut log).await?;
        let slot_is_new = renews || scan.state.baseline.is_none();
        let tables = match &scan.state.baseline {
            Some(_) if again.is_none() => found.published(self.config)?,
            _ => found.first(&mut catalog, self.config).await?,
        };
        if slot_is_new {
            let begin = self.beginning(&facts, epoch, again.is_some());
            self.begin(begin, &mut catalog, slot, &cluster, scan, &mut log)
                .await?;
            self.begun_again(again.take(), scan);
        }
        let provenance = self.provenance(&mut catalog, &facts, scan).await?;
        let tables = found.later(self.config, &provenance, tables)?;
        self.tell(found.not_captured(self.config, &tables));
        let slot = slot::release(&mut catalog, &self.config.slot, &facts.database).await?;
        let wal_end = slot::wal_end(&mut catalog).await?;
        let position = self.judge(&facts, scan, slot.as_ref(), wal_end)?;
        let (Some(position), Some(baseline)) = (position, scan.state.baseline.clone()) else {
            return Err(Error::Protocol(
                "the log has no position after its baseline".into(),
            ));
        };
        let confirmed = slot.and_then(|slot| slot.confirmed).unwrap_or(position);
        let overlap = Overlap::new(position, confirmed, scan.state.last);
        let (desk, asked) = Desk::new();
        let (copies, known) = watch::channel(scan.state.copies.clone());
        let copier = self.copier(epoch, cluster, desk, known, scan, slot_is_new);
        let stream = self.start(overlap.start()).await?;
        let streaming = Stream {
            config: self.config,
            reporter: self.reporter,
            watch: Watch::start(self.source, self.config, provenance.tables()),
            comparison: Comparison::new(provenance, overlap, scan.state.last, facts.timeline),
            relations: Relations::of(&tables, &scan.state.copies),
            copies,
            asked,
            waiting: Vec::new(),
            catalog,
            types: Types::default(),
            assembler: self.assembler(epoch, position, scan.state.notes.clone()),
            appender: log,
            checkpoints: Checkpoints::new(baseline, scan.state.copies.clone(), scan.begin),
            wide: Wide::default(),
        };
        tokio::select! {
            result = streaming.run(stream) => result,
            Err(error) = copier.run(&tables, requests) => Err(error),
        }
    }

    fn beginning<'a>(&'a self, facts: &'a Facts, epoch: Epoch, again: bool) -> Begin<'a> {
        Begin {
            config: self.config,
            source: self.source,
            facts,
            epoch,
            again,
        }
    }

    fn copier(
        &self,
        epoch: Epoch,
        cluster: Cluster,
        desk: Desk,
        copies: watch::Receiver<Copies>,
        scan: &LogScan,
        slot_is_new: bool,
    ) -> Copier {
        Copier {
            config: Arc::new(self.config.clone()),
            source: self.source.clone(),
            cluster,
            reporter: self.reporter.clone(),
            desk,
            epoch,
            copies,
            slot_is_new,
            void: scan.state.void.clone(),
            turn: Mutex::default(),
        }
    }

    /// What the log says that it was taken from; nothing at first. A log that says nothing of its tables is believed to
    /// have been taken from those of now.
    async fn provenance(
        &self,
        catalog: &mut PgSession,
        facts: &Facts,
        scan: &LogScan,
    ) -> Result<Provenance, Error> {
        let publication = &self.config.publication;
        if let Some(source) = &scan.state.source {
            check_database(facts, source)?;
            return Ok(Provenance::of_log(publication, source.clone()));
        }
        let tables: Vec<_> = scan
            .state
            .copies
            .iter()
            .map(|(table, _)| table.clone())
            .collect();
        let seen = observe(catalog, publication, &Scope::named(&tables)).await?;
        let mut provenance = Provenance::begin(publication, facts);
        for table in &tables {
            provenance.renew(table, &seen);
        }
        Ok(provenance)
    }

    /// Says which selected tables are not captured.
    fn tell(&self, not_captured: Vec<TableId>) {
        for table in &not_captured {
            tracing::warn!(
                %table,
                "the table is selected and not captured: it came after the publication was created; \
                 `millrace tables add {table}` adds it, `!{table}` in the selection leaves it out"
            );
        }
        self.reporter
            .update(|status| status.not_captured = not_captured);
    }

    /// Tells whoever has asked for it. Positions may be lower from here on.
    fn begun_again(&self, asked: Option<Request>, scan: &LogScan) {
        if let Some(asked) = asked {
            self.reporter.pending.lock().clear();
            self.reporter.captured(&scan.state.copies);
            asked.done();
        }
    }

    /// The log, read to its end from the newest checkpoint on. Nothing is written to one that is seen not to be that of
    /// `own`, if that is asked.
    async fn log(
        &self,
        cluster: &Cluster,
        own: Option<&Facts>,
        scan: &mut LogScan,
    ) -> Result<Appender, Error> {
        let topic = &self.config.topic_changes;
        log_scan::ensure_topic(cluster, self.config).await?;
        if let Some(facts) = own {
            if let Some(baseline) = scan.look(cluster, topic).await? {
                check_origin(facts, &baseline)?;
            }
        }
        let mut log = append::open(cluster, self.config, topic).await?;
        scan.find_end(cluster, topic, &mut log).await?;
        Ok(log)
    }

    /// Whether log and slot belong together; the position where the log ends, if it has one. `scan` has
    /// read it to its end.
    fn judge(
        &self,
        facts: &Facts,
        scan: &LogScan,
        slot: Option<&Slot>,
        wal_end: Lsn,
    ) -> Result<Option<Lsn>, Error> {
        let name = || self.config.slot.clone();
        let topic = || self.config.topic_changes.clone();
        let Some(baseline) = &scan.state.baseline else {
            return match (scan.first, slot) {
                (Some(first), _) if first > Offset::default() => Err(Error::LogTrimmed {
                    topic: topic(),
                    first,
                }),
                // No capture ever started here, so the slot cannot be one that it left behind.
                (_, Some(_)) if scan.state.chain.epoch() == Epoch::default() => {
                    Err(Error::SlotWithoutLog {
                        slot: name(),
                        topic: topic(),
                    })
                }
                _ => Ok(None),
            };
        };
        check_origin(facts, baseline)?;
        let position = scan.state.chain.position().unwrap_or(baseline.lsn);
        if position > wal_end {
            return Err(Error::LogAhead {
                position,
                current: wal_end,
            });
        }
        let Some(slot) = slot else {
            return Err(Error::SlotMissing {
                slot: name(),
                position,
            });
        };
        if slot.wal_status.as_deref() == Some("lost") {
            return Err(Error::SlotLost {
                slot: name(),
                wal_status: "lost".into(),
            });
        }
        match slot.confirmed {
            Some(confirmed) if confirmed > position => Err(Error::LogLostRecords {
                slot: name(),
                confirmed,
                position,
            }),
            _ => Ok(Some(position)),
        }
    }

    /// Whether the log gets another slot: there is none, or it cannot be read on, or it is one that a start made that did
    /// not come to tell the log; and no table of the log was ever copied. So nothing of it is worth anything but its name,
    /// and all copies begin again behind the new slot's point. Otherwise log and slot have to belong together.
    fn renews(
        &self,
        facts: &Facts,
        scan: &LogScan,
        slot: Option<&Slot>,
        wal_end: Lsn,
    ) -> Result<bool, Error> {
        let Some(baseline) = &scan.state.baseline else {
            return self.judge(facts, scan, slot, wal_end).map(|_| false);
        };
        check_origin(facts, baseline)?;
        let position = scan.state.chain.position().unwrap_or(baseline.lsn);
        let goes_on = |slot: &Slot| slot.confirmed.is_none_or(|confirmed| confirmed <= position);
        let wanted = self.renews_slot || !slot.is_some_and(goes_on);
        let renews = wanted && position <= wal_end && !scan.state.has_copied_tables();
        if !renews {
            self.judge(facts, scan, slot, wal_end)?;
        }
        Ok(renews)
    }

    /// Makes a slot, and tells the log.
    async fn begin(
        &self,
        begin: Begin<'_>,
        catalog: &mut PgSession,
        slot: Option<Slot>,
        cluster: &Cluster,
        scan: &mut LogScan,
        log: &mut Appender,
    ) -> Result<(), Error> {
        let record = begin.run(catalog, slot, &scan.state).await?;
        let topic = &self.config.topic_changes;
        scan.append(cluster, topic, log, record).await?;
        superseded(begin.epoch, scan)
    }

    /// Writes the start record and reads up to it: what counted before it is then agreed with every
    /// reader, because nothing of an earlier start counts behind it.
    async fn fence(
        &self,
        epoch: Epoch,
        cluster: &Cluster,
        scan: &mut LogScan,
        log: &mut Appender,
    ) -> Result<(), Error> {
        let owner = format!("{:016x}", rand::random::<u64>());
        let start = Record::Start(Start {
            epoch,
            owner: Some(owner.clone()),
            at: Utc::now(),
        });
        let topic = &self.config.topic_changes;
        scan.append(cluster, topic, log, start).await?;
        superseded(epoch, scan)?;
        if !scan.state.is_owned_by(&owner) {
            return Err(Error::EpochTaken { epoch: epoch.0 });
        }
        self.reporter.update(|status| status.epoch = epoch);
        Ok(())
    }

    fn assembler(&self, epoch: Epoch, position: Lsn, notes: Notes) -> Assembler {
        let limits = Limits {
            part: self.config.part_bytes,
            record: RECORD_BYTES_MAX,
        };
        let prefix = self.config.message_prefix.clone();
        Assembler::new(epoch, position, limits, prefix, notes)
    }

    async fn start(&self, position: Lsn) -> Result<(Incoming, Feedback), Error> {
        let Config {
            slot, publication, ..
        } = self.config;
        let wanted = Wanted {
            message_prefix: self.config.message_prefix.clone(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            silence_max: self.silence_max,
        };
        let session = self.source.replication().await?;
        Ok(session.start(slot, publication, position, wanted).await?)
    }
}

fn superseded(epoch: Epoch, scan: &LogScan) -> Result<(), Error> {
    let found = scan.state.chain.epoch();
    if found == epoch {
        return Ok(());
    }
    Err(Error::Superseded {
        own: epoch.0,
        found: found.0,
    })
}

fn check_database(facts: &Facts, source: &millrace_events::Source) -> Result<(), Error> {
    if source.database == facts.database_oid {
        return Ok(());
    }
    let place = |oid| format!("the database with OID {oid} of cluster {}", facts.system);
    Err(Error::OtherDatabase {
        expected: place(source.database),
        found: place(facts.database_oid),
    })
}

fn check_origin(facts: &Facts, baseline: &Baseline) -> Result<(), Error> {
    if baseline.system == facts.system && baseline.database == facts.database {
        return Ok(());
    }
    let place = |system: &str, database: &str| format!("database {database:?} of cluster {system}");
    Err(Error::OtherDatabase {
        expected: place(&baseline.system, &baseline.database),
        found: place(&facts.system, &facts.database),
    })
}
