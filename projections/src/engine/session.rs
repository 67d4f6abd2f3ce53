//! One connection to MySQL after the other, each continuing where the position row stands.

use std::time::Duration;

use millrace_events::{Chain, Lsn, Record, Verdict};
use sqlx::MySqlConnection;
use tokio::time::Instant;

use super::apply::Applier;
use super::assemble::Assembler;
use super::error::Error;
use super::live::Live;
use super::log::Offset;
use super::owner::Owner;
use super::position::{self, Position, Stage};
use super::reader::{backoff, Reader};
use super::snapshot::{derive, Loader};
use super::status::{State, PROJECTIONS};
use super::Service;
use crate::replica::{connect, Isolation, Server};

/// The record at the stored offset must come within this time if the topic has it.
const RESUME_TIMEOUT: Duration = Duration::from_secs(10);
/// A session that lasted so long was no failure, even if the source was idle.
const STABLE: Duration = Duration::from_secs(60);
/// The snapshot mark stands among the first records of a log.
const MARK_WITHIN_RECORDS: u32 = 1_000;

/// What outlives a connection.
struct Run {
    owner: Owner,
    /// The log has been compared with the row.
    compared: bool,
    /// Since when MySQL has been failing.
    failing_since: Option<Instant>,
    failures: u32,
}

impl Service {
    /// Projects until something happens that no new connection can mend.
    pub(super) async fn project(&self) -> Result<(), Error> {
        let mut run = Run {
            owner: Owner::new(),
            compared: false,
            failing_since: None,
            failures: 0,
        };
        loop {
            let (batches, started) = (self.shared_batches(), Instant::now());
            let Err(error) = self.session(&mut run).await else {
                continue;
            };
            if !error.is_transient() {
                return Err(error);
            }
            let stable = started.elapsed() > STABLE && !error.is_lock_conflict();
            if stable || self.shared_batches() != batches {
                run.failing_since = None;
                run.failures = 0;
            }
            self.after_failure(&mut run, error).await?;
        }
    }

    fn shared_batches(&self) -> u64 {
        self.handle().status().batches
    }

    async fn after_failure(&self, run: &mut Run, error: Error) -> Result<(), Error> {
        let since = *run.failing_since.get_or_insert_with(Instant::now);
        let outage = self.config.limits.outage;
        if since.elapsed() > outage {
            return Err(Error::Unreachable {
                seconds: outage.as_secs(),
                source: Box::new(error),
            });
        }
        let lsn = self.handle().status().end_lsn.map(tracing::field::display);
        tracing::warn!(projection = PROJECTIONS, lsn, %error, "MySQL failed; connecting again");
        self.shared.update(|status| {
            status.retries += 1;
            status.error = Some(error.to_string());
        });
        tokio::time::sleep(backoff(run.failures)).await;
        run.failures += 1;
        Ok(())
    }

    async fn session(&self, run: &mut Run) -> Result<(), Error> {
        let url = &self.config.mysql_url;
        let (mut conn, server) = connect(url, Isolation::ReadCommitted)
            .await
            .map_err(Error::Server)?;
        position::prepare(&mut conn, &server).await?;
        self.shared.remember_pause(&mut conn).await?;
        self.shared.remember_findings(&mut conn).await?;
        let position = self.stand(&mut conn, &server, run).await?;
        self.live(conn, &server, position, run).await
    }

    /// Takes the position over, or makes the first one, and brings it to the live stage.
    async fn stand(
        &self,
        conn: &mut MySqlConnection,
        server: &Server,
        run: &mut Run,
    ) -> Result<Position, Error> {
        let smartmodule = self.config.smartmodule.as_ref();
        let smartmodule = smartmodule.map(ToString::to_string).unwrap_or_default();
        let loader = Loader {
            server,
            marts: &self.config.marts,
            log: &self.log,
            shared: &self.shared,
            smartmodule: &smartmodule,
        };
        let mut position = match run.owner.take(conn).await? {
            Some(position) => position,
            None => {
                let topic = &self.config.changes_topic;
                loader.begin(conn, topic, &run.owner.token).await?
            }
        };
        // What the old one left out is missing from the tables and would be taken for unchanged.
        if position.smartmodule != smartmodule {
            return Err(Error::SmartModule {
                stored: position.smartmodule,
                configured: smartmodule,
            });
        }
        self.shared.update(|status| {
            status.incarnation = Some(position.incarnation.clone());
        });
        if position.stage != Stage::Live {
            loader.finish(conn, &mut position).await?;
        }
        Ok(position)
    }

    async fn live(
        &self,
        mut conn: MySqlConnection,
        server: &Server,
        position: Position,
        run: &mut Run,
    ) -> Result<(), Error> {
        if !run.compared {
            self.compare_incarnation(&position).await?;
        }
        self.shared.pending().arrived(position.end_lsn);
        let mut reader = Reader::start_to_apply(
            self.log.clone(),
            self.shared.clone(),
            self.config.changes_topic.clone(),
            position.offset,
        );
        self.compare_record(&mut reader, &position).await?;
        run.compared = true;
        let tables = derive(&position.tables)?;
        let applier = Applier {
            server,
            marts: &self.config.marts,
        };
        applier.prepare(&mut conn, &tables).await?;
        let next = position.offset.next();
        self.shared.update(|status| {
            status.state = State::Live;
            status.end_lsn = Some(position.end_lsn);
            status.offset = Some(position.offset);
            status.next_offset = Some(next);
            status.source_at = position.source_at;
        });
        self.shared.tell("entered another state");
        let mut live = Live {
            conn,
            applier,
            assembler: Assembler::new(&position, tables),
            position,
            reader,
            shared: &self.shared,
            limits: &self.config.limits,
            hooks: &self.config.hooks,
            orders: self.shared.orders(),
            stash: None,
            next,
            idle_since: None,
        };
        live.run().await
    }

    fn read_from_start(&self) -> Reader {
        let topic = self.config.changes_topic.clone();
        let (log, shared) = (self.log.clone(), self.shared.clone());
        Reader::start(log, shared, topic, Offset(0), true)
    }

    /// The log must still be the one that the tables were built from. Its head may have been
    /// removed by retention; then the record at the position has to say it alone.
    async fn compare_incarnation(&self, position: &Position) -> Result<(), Error> {
        let mut reader = self.read_from_start();
        let mut chain = Chain::unanchored();
        for _ in 0..MARK_WITHIN_RECORDS {
            let item = match tokio::time::timeout(RESUME_TIMEOUT, reader.next()).await {
                Ok(Ok(item)) => item,
                Ok(Err(Error::Evicted { .. })) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    self.compare_end(position).await?;
                    continue;
                }
            };
            if chain.offer(&item.record) != Verdict::Moved {
                continue;
            }
            match item.record {
                Record::Snapshot(mark) if mark.incarnation != position.incarnation => {
                    return Err(Error::Incarnation {
                        topic: self.config.changes_topic.clone(),
                        stored: position.incarnation.clone(),
                        found: mark.incarnation,
                    })
                }
                Record::Snapshot(_) => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Rule 5: the record at the stored offset carries the stored `end_lsn`.
    async fn compare_record(&self, reader: &mut Reader, position: &Position) -> Result<(), Error> {
        let item = loop {
            match tokio::time::timeout(RESUME_TIMEOUT, reader.next()).await {
                Ok(Ok(item)) => break item,
                Ok(Err(Error::Evicted { reason, .. })) => {
                    return Err(self.misplaced(position, format!("no record there ({reason})")))
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => self.compare_end(position).await?,
            }
        };
        match end_lsn_of(&item.record, position) {
            Some(lsn) if lsn == position.end_lsn => Ok(()),
            Some(lsn) => Err(self.misplaced(position, format!("a record that ends at {lsn}"))),
            None => Err(self.misplaced(position, "a record that moves no position".into())),
        }
    }

    /// Fails if the topic is known to end before the position.
    async fn compare_end(&self, position: &Position) -> Result<(), Error> {
        match self.log.end(&self.config.changes_topic).await {
            Ok(end) if end <= position.offset => {
                Err(self.misplaced(position, format!("only {end} records")))
            }
            _ => Ok(()),
        }
    }

    fn misplaced(&self, position: &Position, found: String) -> Error {
        Error::Position {
            topic: self.config.changes_topic.clone(),
            offset: position.offset,
            expected: position.end_lsn,
            found,
        }
    }
}

fn end_lsn_of(record: &Record, position: &Position) -> Option<Lsn> {
    match record {
        Record::Transaction(part) => part.end_lsn,
        Record::Progress(progress) => Some(progress.end_lsn),
        Record::Snapshot(mark) if mark.incarnation == position.incarnation => Some(mark.lsn),
        _ => None,
    }
}
