//! One connection to MySQL after the other, each continuing where the position row stands.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_control::time;
use millrace_events::{Baseline, Begin, Chain, Lsn, Record, Verdict};
use millrace_sessions::mysql::{connect, Purpose, Session};
use millrace_topic::Offset;
use tokio::time::Instant;

use super::assemble::{Assembler, Tables};
use super::begin;
use super::bookkeeping::prepare;
use super::catalog::Catalog;
use super::catch_up::Source;
use super::copier::Copier;
use super::error::Error;
use super::follower::{Desk, Follower};
use super::group::Group;
use super::live::Live;
use super::owner::Owner;
use super::position::Position;
use super::reader::{backoff, looked_after, Reader};
use super::rows::Place;
use super::status::{Away, State, PROJECTIONS};
use super::{Config, Service};
use crate::marts::Marts;

/// After so much silence it is asked whether the topic has the record at the stored offset.
const RESUME_TIMEOUT: Duration = Duration::from_secs(5);
/// So often in a row the topic must be known to end before it: a server that has just started may say so before it
/// knows better, and what is believed costs a new snapshot.
const END_ATTEMPTS: u32 = 4;
/// A session that lasted so long was no failure, even if the source was idle.
const STABLE: Duration = Duration::from_secs(60);
/// Pauses between attempts to reach MySQL grow up to this: who mends it does not want to wait long.
const AWAY_PAUSE_MAX: Duration = Duration::from_secs(15);
/// The baseline stands among the first records of a log. What a capture writes at each start does not count: it may
/// have started any number of times before it wrote one.
const BASELINE_WITHIN_RECORDS: u32 = 1_000;

/// What outlives a connection.
struct Run {
    owner: Owner,
    /// The log has been compared with the row.
    compared: bool,
    /// Since when MySQL has been failing, and how often it has since.
    failing_since: Option<DateTime<Utc>>,
    failures: u32,
    /// How often MySQL did not answer in time since the last commit: each time it is given twice as long, until it has
    /// taken a commit.
    silences: u32,
}

/// Where a new position stands.
enum Beginning {
    Baseline(Place, Baseline),
    Checkpoint(Box<Begin>),
}

impl Service {
    /// Projects until something happens that no new connection can mend.
    pub(super) async fn project(&self) -> Result<(), Error> {
        let mut run = Run {
            owner: Owner::new(),
            compared: false,
            failing_since: None,
            failures: 0,
            silences: 0,
        };
        loop {
            let (batches, started) = (self.shared_batches(), Instant::now());
            let Err(error) = self.session(&mut run).await else {
                continue;
            };
            if matches!(error, Error::BegunAgain) {
                self.shared.pending().clear();
            }
            if matches!(error, Error::PutAside(_) | Error::BegunAgain) {
                continue;
            }
            if !error.is_transient() {
                return Err(error);
            }
            let advanced = self.shared_batches() != batches;
            let stable = !error.is_lock_conflict() && !error.is_silence();
            if advanced || (stable && started.elapsed() > STABLE) {
                run.failing_since = None;
                run.failures = 0;
            }
            if advanced {
                run.silences = 0;
            }
            self.after_failure(&mut run, error).await;
        }
    }

    fn shared_batches(&self) -> u64 {
        self.handle().status().batches
    }

    /// Waits for MySQL, however long it is away: nothing is lost meanwhile, the log keeps what comes.
    async fn after_failure(&self, run: &mut Run, error: Error) {
        let pause = backoff(run.failures, AWAY_PAUSE_MAX);
        let now = Utc::now();
        let away = Away {
            since: *run.failing_since.get_or_insert(now),
            next_try_at: now + pause,
            reason: error.reason(),
        };
        run.failures += 1;
        run.silences += u32::from(error.is_silence());
        let lsn = self.handle().status().end_lsn.map(tracing::field::display);
        tracing::warn!(
            projection = PROJECTIONS,
            lsn,
            error = %away.reason,
            since = %time::text(away.since),
            pause_ms = pause.as_millis(),
            "MySQL failed; connecting again, and going on at the position that it has"
        );
        self.shared.update(|status| {
            status.retries += 1;
            status.state = State::WaitingForMysql;
            status.error = Some(away.to_string());
            status.away = Some(away);
        });
        tokio::time::sleep(pause).await;
    }

    async fn session(&self, run: &mut Run) -> Result<(), Error> {
        let conn = connect(&self.config.mysql_url, Purpose::Project).await?;
        let mut conn = conn
            .answering_within(self.config.limits.statement)
            .patient(run.silences)
            .watched(self.shared.answers());
        prepare(&mut conn).await?;
        self.shared.remember_pause(&mut conn).await?;
        self.shared.remember_findings(&mut conn).await?;
        let position = self.stand(&mut conn, run).await?;
        self.live(conn, position, run).await
    }

    /// Takes the position over, or makes the first one.
    async fn stand(&self, conn: &mut Session, run: &mut Run) -> Result<Position, Error> {
        let smartmodule = self.config.smartmodule.as_ref();
        let smartmodule = smartmodule.map(ToString::to_string).unwrap_or_default();
        let position = match run.owner.take(conn).await? {
            Some(position) => position,
            None => self.begin(conn, &run.owner.token, &smartmodule).await?,
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
        Ok(position)
    }

    /// Waits for the log to begin. No table is live there, but copies may have been announced.
    async fn begin(
        &self,
        conn: &mut Session,
        owner: &str,
        smartmodule: &str,
    ) -> Result<Position, Error> {
        self.shared.enter(State::WaitingForSnapshot);
        let beginning = looked_after(conn, self.find_beginning()).await?;
        let mut catalog = Catalog::read(conn).await?;
        catalog.policies.clone_from(&self.config.values);
        let (place, baseline) = match beginning {
            Beginning::Baseline(place, baseline) => (place, baseline),
            Beginning::Checkpoint(begin) => {
                catalog.begin_at(&begin, self.config.main_schema.as_deref());
                (begin::place(&begin), begin.checkpoint.baseline)
            }
        };
        let position = Position::at(baseline.incarnation, place, owner, smartmodule);
        begin::run(conn, "BEGIN").await?;
        position.insert(conn).await?;
        catalog.save(conn).await?;
        begin::run(conn, "COMMIT").await?;
        Ok(position)
    }

    /// The newest checkpoint, or the baseline of a log that has none yet.
    async fn find_beginning(&self) -> Result<Beginning, Error> {
        let mut failures = 0;
        loop {
            if let Some(begin) = self.newest_checkpoint().await {
                return Ok(Beginning::Checkpoint(Box::new(begin)));
            }
            match self.find_baseline().await {
                Ok((place, baseline)) => return Ok(Beginning::Baseline(place, baseline)),
                // Its head is gone, so it has a checkpoint, which a server that has just started may not have shown.
                Err(Error::Evicted { .. }) if failures < END_ATTEMPTS => failures += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn find_baseline(&self) -> Result<(Place, Baseline), Error> {
        let mut reader = self.read_from_start(false);
        let mut chain = Chain::unanchored();
        loop {
            let item = reader.next().await?;
            // A capture that a later start had fenced off may have written its baseline all the same.
            if let (Verdict::Moved, Record::Baseline(baseline)) =
                (chain.offer(&item.record), item.record)
            {
                let place = Place {
                    offset: item.offset,
                    end_lsn: baseline.lsn,
                    epoch: baseline.epoch,
                };
                return Ok((place, baseline));
            }
        }
    }

    async fn live(
        &self,
        mut conn: Session,
        position: Position,
        run: &mut Run,
    ) -> Result<(), Error> {
        let replaced = match run.compared {
            true => None,
            false => looked_after(&mut conn, self.compare_incarnation(&position)).await?,
        };
        let mut catalog = Catalog::read(&mut conn).await?;
        catalog.policies.clone_from(&self.config.values);
        catalog.configure(&self.config.marts, Utc::now());
        if let Some(begin) = replaced {
            return self
                .begin_again(Desk { conn, catalog }, &position, begin)
                .await;
        }
        self.shared.pending().arrived(position.place.end_lsn);
        let mut reader = Reader::start_to_apply(
            self.log.clone(),
            self.shared.clone(),
            self.config.changes_topic.clone(),
            position.place.offset,
        );
        looked_after(&mut conn, self.compare_record(&mut reader, &position)).await?;
        run.compared = true;
        self.show(&position);
        let mut live = self.live_at(Desk { conn, catalog }, position, reader);
        live.run().await
    }

    /// Goes on in a log that has taken the place of the one that the position stands in.
    async fn begin_again(
        &self,
        mut desk: Desk,
        position: &Position,
        begin: Begin,
    ) -> Result<(), Error> {
        let main_schema = self.config.main_schema.as_deref();
        desk.catalog.begin_again_at(&begin, main_schema);
        let (place, incarnation) = (begin::place(&begin), begin.checkpoint.baseline.incarnation);
        begin::again(&mut desk, position, place, incarnation).await?;
        self.shared.show_catalog(&desk.catalog);
        Err(Error::BegunAgain)
    }

    fn live_at(&self, desk: Desk, position: Position, reader: Reader) -> Live<'_> {
        let source = Source {
            log: &self.log,
            shared: &self.shared,
            topic: &self.config.changes_topic,
        };
        let Config {
            limits,
            marts,
            hooks,
            ..
        } = &self.config;
        Live {
            desk,
            next: position.place.offset.next(),
            group: Follower {
                assembler: Assembler::new(position.place, position.source_at, Tables::new()),
                stands: Group {
                    position,
                    marts: Marts::none(),
                    main_schema: self.config.main_schema.clone(),
                },
                limits: *limits,
            },
            reader,
            copier: Copier::new(source, *limits, marts, hooks),
            config: &self.config,
            shared: &self.shared,
            orders: self.shared.orders(),
            stash: None,
            idle_since: None,
            stock_at: None,
            joins_at: Instant::now(),
        }
    }

    fn show(&self, position: &Position) {
        let place = position.place;
        self.shared.update(|status| {
            status.error = None;
            status.away = None;
            status.end_lsn = Some(place.end_lsn);
            status.offset = Some(place.offset);
            status.next_offset = Some(place.offset.next());
            status.source_at = position.source_at;
        });
    }

    fn read_from_start(&self, expected: bool) -> Reader {
        let topic = self.config.changes_topic.clone();
        let (log, shared) = (self.log.clone(), self.shared.clone());
        Reader::start(log, shared, topic, Offset(0), expected)
    }

    /// The log must still be the one that the tables were built from, as its newest checkpoint says. One that has none
    /// yet says it at its beginning; if that was removed by retention, the record at the position has to say it alone.
    /// Returns where a log begins that has taken its place.
    async fn compare_incarnation(&self, position: &Position) -> Result<Option<Begin>, Error> {
        if let Some(begin) = self.newest_checkpoint().await {
            let baseline = &begin.checkpoint.baseline;
            let is_ours = baseline.incarnation == position.incarnation;
            if !is_ours && baseline.replaces(&position.incarnation) {
                return Ok(Some(begin));
            }
            if is_ours || self.begins_at(position).await {
                return Ok(None);
            }
            return self.other_log(position, begin.checkpoint.baseline);
        }
        let mut reader = self.read_from_start(true);
        let mut chain = Chain::unanchored();
        let (mut too_short, mut counted) = (0, 0);
        while counted < BASELINE_WITHIN_RECORDS {
            let item = match tokio::time::timeout(RESUME_TIMEOUT, reader.next()).await {
                Ok(Ok(item)) => item,
                Ok(Err(Error::Evicted { .. })) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    counted += 1;
                    self.compare_end(position, &mut too_short).await?;
                    continue;
                }
            };
            counted += u32::from(!is_of_a_start(&item.record));
            if chain.offer(&item.record) != Verdict::Moved {
                continue;
            }
            if let Record::Baseline(baseline) = item.record {
                return match baseline.incarnation == position.incarnation {
                    true => Ok(None),
                    false => self.other_log(position, baseline),
                };
            }
        }
        Ok(None)
    }

    /// The log begins at the position, and has no checkpoint yet.
    async fn begins_at(&self, position: &Position) -> bool {
        let topic = self.config.changes_topic.clone();
        let (log, shared) = (self.log.clone(), self.shared.clone());
        let mut reader = Reader::start(log, shared, topic, position.place.offset, true);
        let read = tokio::time::timeout(RESUME_TIMEOUT, reader.next()).await;
        let Ok(Ok(item)) = read else { return false };
        matches!(item.record, Record::Baseline(begun) if begun.incarnation == position.incarnation)
    }

    fn other_log<T>(&self, position: &Position, baseline: Baseline) -> Result<T, Error> {
        Err(Error::Incarnation {
            topic: self.config.changes_topic.clone(),
            stored: position.incarnation.clone(),
            found: baseline.incarnation,
        })
    }

    /// Rule 5: the record at the stored offset carries the stored `end_lsn`.
    async fn compare_record(&self, reader: &mut Reader, position: &Position) -> Result<(), Error> {
        let mut too_short = 0;
        let item = loop {
            match tokio::time::timeout(RESUME_TIMEOUT, reader.next()).await {
                Ok(Ok(item)) => break item,
                Ok(Err(error)) => return Err(self.of_the_end(error, position).await),
                Err(_) => self.compare_end(position, &mut too_short).await?,
            }
        };
        match end_lsn_of(&item.record, position) {
            Some(lsn) if lsn == position.place.end_lsn => Ok(()),
            Some(lsn) => Err(self.misplaced(position, format!("a record that ends at {lsn}"))),
            None => Err(self.misplaced(position, "a record that moves no position".into())),
        }
    }

    /// Fails if the topic is known to end before the position, however often it is asked.
    async fn compare_end(&self, position: &Position, too_short: &mut u32) -> Result<(), Error> {
        let end = self.log.end(&self.config.changes_topic).await;
        let Some(end) = end.ok().filter(|end| *end <= position.place.offset) else {
            *too_short = 0;
            return Ok(());
        };
        *too_short += 1;
        match *too_short >= END_ATTEMPTS {
            true => Err(self.misplaced(position, format!("only {end} records"))),
            false => Ok(()),
        }
    }

    /// A record that cannot be read was either removed by retention, or the topic is another one and too short.
    async fn of_the_end(&self, error: Error, position: &Position) -> Error {
        let end = self.log.end(&self.config.changes_topic).await;
        match (&error, end) {
            (Error::Evicted { reason, .. }, Ok(end)) if end <= position.place.offset => {
                self.misplaced(position, format!("no record there ({reason})"))
            }
            _ => error,
        }
    }

    fn misplaced(&self, position: &Position, found: String) -> Error {
        Error::Position {
            topic: self.config.changes_topic.clone(),
            offset: position.place.offset,
            expected: position.place.end_lsn,
            found,
        }
    }
}

/// What a capture writes before anything else: a record that finds the end of the log, and its start.
fn is_of_a_start(record: &Record) -> bool {
    matches!(record, Record::Start(_) | Record::Progress(_))
}

fn end_lsn_of(record: &Record, position: &Position) -> Option<Lsn> {
    match record {
        Record::Transaction(part) => part.end_lsn,
        Record::Progress(progress) => Some(progress.end_lsn),
        Record::Baseline(begun) if begun.incarnation == position.incarnation => Some(begun.lsn),
        Record::Checkpoint(checkpoint)
            if checkpoint.baseline.incarnation == position.incarnation =>
        {
            Some(checkpoint.lsn)
        }
        _ => None,
    }
}
