//! One attempt at capturing: from the lock to the first error.
//!
//! Every attempt derives its position anew from the log. Nothing of an earlier attempt is believed
//! but the records that stand in the topic.

use std::mem;
use std::time::Duration;

use chrono::Utc;
use millrace_events::{Epoch, Lsn, Record, SchemaId, SnapshotMark, Start};
use millrace_sessions::postgres::replication::{Feedback, Incoming, Wanted};
use millrace_sessions::postgres::PgSession;
use millrace_topic::{Cluster, Offset, RECORD_BYTES_MAX};

use crate::append::{self, Appender};
use crate::assemble::{Assembler, Limits};
use crate::catalog::Types;
use crate::config::MESSAGE_BYTES_MAX;
use crate::log_scan::{self, LogScan};
use crate::preflight::{self, Facts};
use crate::publication::{self, Captured};
use crate::slot::{self, Slot};
use crate::snapshot::Snapshot;
use crate::source::Source;
use crate::status::{Reporter, State};
use crate::stream::Stream;
use crate::{lock, Config, Error};

/// What an attempt works with.
pub(crate) struct Session<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) reporter: &'a Reporter,
    /// How long the stream may be silent before its first commit.
    pub(crate) silence_max: Duration,
}

impl Session<'_> {
    /// Runs until something fails.
    pub(crate) async fn run(&self, scan: &mut LogScan) -> Result<(), Error> {
        self.reporter.state(State::Preflight);
        let guard = lock::acquire(self.source, self.config).await?;
        let mut guard = lock::keep(guard, self.config);
        tokio::select! {
            result = self.locked(scan) => result,
            error = &mut guard => Err(error.unwrap_or_else(|error| Error::Protocol(error.to_string()))),
        }
    }

    async fn locked(&self, scan: &mut LogScan) -> Result<(), Error> {
        let mut catalog = self.source.connect().await?;
        let facts = preflight::check(&mut catalog, self.source).await?;
        let captured = publication::ensure(&mut catalog, self.config).await?;
        self.tell(&captured);
        let slot = slot::release(&mut catalog, &self.config.slot, &facts.database).await?;
        // A connection for each session: an old one would learn nothing of a controller that started anew.
        let cluster = Cluster::new(self.config.fluvio_endpoint.as_str());
        let mut log = self.log(&cluster, &facts, scan).await?;
        let wal_end = slot::wal_end(&mut catalog).await?;
        self.judge(&facts, scan, slot.as_ref(), wal_end)?;

        let epoch = scan.chain.epoch().next();
        self.fence(epoch, &cluster, scan, &mut log).await?;
        let last_schema = match scan.mark {
            Some(_) => SchemaId::default(),
            None => {
                let work = Snapshot {
                    config: self.config,
                    source: self.source,
                    cluster: &cluster,
                    reporter: self.reporter,
                    tables: &captured.tables,
                };
                let first = First {
                    work,
                    epoch,
                    facts: &facts,
                };
                first.run(&mut catalog, slot, scan, &mut log).await?
            }
        };
        let slot = slot::release(&mut catalog, &self.config.slot, &facts.database).await?;
        let wal_end = slot::wal_end(&mut catalog).await?;
        let Some(position) = self.judge(&facts, scan, slot.as_ref(), wal_end)? else {
            return Err(Error::Protocol(
                "the log has no position after its mark".into(),
            ));
        };
        let stream = self.start(position).await?;
        self.reporter.streaming(position);
        let streaming = Stream {
            config: self.config,
            reporter: self.reporter,
            tables: &captured.tables,
            catalog,
            types: Types::default(),
            assembler: self.assembler(epoch, position, last_schema),
            appender: log,
        };
        streaming.run(stream).await
    }

    /// Says which selected tables are not captured.
    fn tell(&self, captured: &Captured) {
        for table in &captured.not_captured {
            tracing::warn!(
                %table,
                "the table is selected and not captured: it came after the publication was created; \
                 `millrace tables add {table}` adds it, `!{table}` in the selection leaves it out"
            );
        }
        let not_captured = captured.not_captured.clone();
        self.reporter
            .update(|status| status.not_captured = not_captured);
    }

    /// The log, read to its end. Nothing is written to one that is seen to be another database's.
    async fn log(
        &self,
        cluster: &Cluster,
        facts: &Facts,
        scan: &mut LogScan,
    ) -> Result<Appender, Error> {
        let topic = &self.config.topic_changes;
        log_scan::ensure_topic(cluster, self.config).await?;
        scan.look(cluster, topic).await?;
        if let Some(mark) = &scan.mark {
            check_origin(facts, mark)?;
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
        let Some(mark) = &scan.mark else {
            return match (scan.first, slot) {
                (Some(first), _) if first > Offset::default() => Err(Error::LogTrimmed {
                    topic: topic(),
                    first,
                    slot: name(),
                }),
                // No capture ever started here, so the slot cannot be one that it left behind.
                (_, Some(_)) if scan.chain.epoch() == Epoch::default() => {
                    Err(Error::SlotWithoutLog {
                        slot: name(),
                        topic: topic(),
                    })
                }
                _ => Ok(None),
            };
        };
        check_origin(facts, mark)?;
        let position = scan.chain.position().unwrap_or(mark.lsn);
        if position > wal_end {
            return Err(Error::LogAhead {
                position,
                current: wal_end,
                topic: topic(),
                slot: name(),
            });
        }
        let Some(slot) = slot else {
            return Err(Error::SlotMissing {
                slot: name(),
                topic: topic(),
                position,
            });
        };
        if slot.wal_status.as_deref() == Some("lost") {
            return Err(Error::SlotLost {
                slot: name(),
                wal_status: "lost".into(),
                topic: topic(),
            });
        }
        match slot.confirmed {
            Some(confirmed) if confirmed > position => Err(Error::LogLostRecords {
                slot: name(),
                confirmed,
                position,
                topic: topic(),
            }),
            _ => Ok(Some(position)),
        }
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
        let at = Utc::now();
        let start = Record::Start(Start { epoch, at });
        let topic = &self.config.topic_changes;
        scan.append(cluster, topic, log, start).await?;
        superseded(epoch, scan)?;
        self.reporter.update(|status| status.epoch = epoch);
        Ok(())
    }

    fn assembler(&self, epoch: Epoch, position: Lsn, last_schema: SchemaId) -> Assembler {
        let limits = Limits {
            part: self.config.part_bytes,
            record: RECORD_BYTES_MAX,
        };
        let prefix = self.config.message_prefix.clone();
        Assembler::new(epoch, position, last_schema, limits, prefix)
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

/// The first start of a log, or one after an attempt that did not get as far as the mark.
struct First<'a> {
    work: Snapshot<'a>,
    epoch: Epoch,
    facts: &'a Facts,
}

impl First<'_> {
    /// Takes the snapshot and marks it in the log. `slot`: what an earlier attempt has left behind;
    /// the log has a start record and no mark, so nothing was ever streamed from it.
    async fn run(
        &self,
        catalog: &mut PgSession,
        slot: Option<Slot>,
        scan: &mut LogScan,
        log: &mut Appender,
    ) -> Result<SchemaId, Error> {
        let config = self.work.config;
        let left_behind = slot.as_ref().and_then(|slot| slot.confirmed);
        self.work.remove_incomplete(left_behind).await?;
        if slot.is_some() {
            slot::drop(catalog, &config.slot).await?;
        }
        preflight::check_room_for_slot(catalog).await?;
        let mut taken = self.work.take(catalog).await?;
        let mark = SnapshotMark {
            epoch: self.epoch,
            incarnation: mem::take(&mut taken.incarnation),
            topic: mem::take(&mut taken.topic),
            lsn: taken.lsn,
            system: self.facts.system.clone(),
            database: self.facts.database.clone(),
            at: Utc::now(),
        };
        let cluster = self.work.cluster;
        scan.append(cluster, &config.topic_changes, log, Record::Snapshot(mark))
            .await?;
        superseded(self.epoch, scan)?;
        Ok(taken.last_schema)
    }
}

fn superseded(epoch: Epoch, scan: &LogScan) -> Result<(), Error> {
    let found = scan.chain.epoch();
    if found == epoch {
        return Ok(());
    }
    Err(Error::Superseded {
        own: epoch.0,
        found: found.0,
    })
}

fn check_origin(facts: &Facts, mark: &SnapshotMark) -> Result<(), Error> {
    if mark.system == facts.system && mark.database == facts.database {
        return Ok(());
    }
    let place = |system: &str, database: &str| format!("database {database:?} of cluster {system}");
    Err(Error::OtherDatabase {
        expected: place(&mark.system, &mark.database),
        found: place(&facts.system, &facts.database),
    })
}
