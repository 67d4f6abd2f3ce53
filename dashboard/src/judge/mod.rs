//! From what the sources answered to the [`Status`]: no IO, no clock, no chance.

mod earlier;
mod headline;
mod lag;
mod parts;
mod pipeline;
mod rate;
mod reach;
#[cfg(test)]
mod scenarios;
mod tables;
mod topics;
mod verdict;
mod verified;
mod window;

use millrace_events::Lsn;

use crate::collect::{FindingsReading, Named, ProjectorReading, Readings, SourceReading};
use crate::latency;
use crate::status::{
    Answer, Capture, Heartbeat, Ingest, Kind, Lag, Position, Projection, Rate, Source, State,
    Status, Table, TableState, Time, Verdict, Verify, VERSION,
};

use earlier::Earlier;
use lag::Evidence;
use pipeline::Pipeline;
use rate::Meters;
use reach::Growth;
use verdict::{judge, Facts, Judgement};
use window::{Sample, Window};

/// What does not change from tick to tick.
#[derive(Clone, Debug)]
pub(crate) struct Constants {
    pub(crate) tick_ms: u64,
    pub(crate) millrace: String,
    /// The marts, in order.
    pub(crate) marts: Vec<KnownMart>,
}

/// A mart as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct KnownMart {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The tables in MySQL that it reads.
    pub(crate) reads: Vec<String>,
}

/// What is remembered between ticks.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    meters: Meters,
    growth: Growth,
    /// Live projections advance in lock-step: they share one window.
    window: Window,
    clock_ahead_us: i64,
    earlier: Earlier,
    /// What MySQL said when it last answered.
    committed: Option<Lsn>,
    /// What the projector said of verifications when it last answered: a difference stays known while it is away.
    findings: Option<FindingsReading>,
}

impl Memory {
    /// The status of one tick. Ticks come in the order of their `mono_ms`.
    pub(crate) fn status(&mut self, constants: &Constants, readings: &Readings) -> Status {
        let now_ms = readings.moment.mono_ms;
        let applied = self.applied(readings);
        let lag = self.lag(constants, readings, applied);
        let judgement = self.judge(readings, &lag, applied);
        let rate = self.rate(now_ms, readings.projector.known());
        let verify = self.verify(readings);
        let tables = tables::tables(readings, &mut self.meters);
        let mut projections = projections(constants, readings, &lag, &judgement, rate, applied);
        tell_marts(&mut projections, readings.projector.known());
        tell_inputs(&mut projections, constants, &tables);
        tell_differences(&mut projections, verify.as_ref());
        let wal = readings.source.known().map(|source| source.lsn.0);
        let wal_bytes_per_s = self.meters.rate("wal", now_ms, wal);
        let capture = self.capture(readings);
        let topics = readings.topics.map(|topics| {
            let topics = topics::with_rates(topics, &mut self.meters, now_ms);
            self.growth.with_reach(topics, now_ms, readings.moment.wall)
        });
        let pipeline = Pipeline {
            readings,
            lag: &lag,
            wal_bytes_per_s,
            captured_per_s: capture
                .known()
                .and_then(|capture| capture.transactions_per_s),
            topics: &topics,
            applied_per_s: rate.transactions_per_s,
            projections: judgement.verdict,
        }
        .hops(&mut self.meters);
        let parts = parts::troubles(readings, &pipeline, &tables);
        let (verdict, headline) = headline::overall(&projections, parts, verify.as_ref());
        let ingest = self.ingest(readings);
        self.meters.end_tick();
        Status {
            version: VERSION,
            at: readings.moment.wall,
            tick_ms: constants.tick_ms,
            millrace: constants.millrace.clone(),
            verdict,
            headline,
            source: readings
                .source
                .map(|reading| source(reading, readings, wal_bytes_per_s)),
            capture,
            topics,
            smartmodules: readings.smartmodules.clone(),
            target: readings.target.clone(),
            tables,
            projections,
            ingest,
            rejected: readings.rejected.clone(),
            latency: readings
                .beats
                .latency
                .clone()
                .unwrap_or_else(|| latency::summary(Vec::new(), 0, None)),
            parts_down: readings.parts_down.clone(),
            pipeline,
            verify,
        }
    }

    fn verify(&mut self, readings: &Readings) -> Option<Verify> {
        let projector = readings.projector.known();
        if let Some(findings) = projector.and_then(|projector| projector.verify.clone()) {
            self.findings = Some(findings);
        }
        let periodic = projector.and_then(|projector| projector.periodic.as_ref());
        verified::known(&readings.button, self.findings.as_ref(), periodic)
    }

    /// MySQL's own word. While it does not answer, the projector's or MySQL's last one: whichever is
    /// further, as the projector may be late to say what is committed.
    fn applied(&mut self, readings: &Readings) -> Option<Lsn> {
        match &readings.target {
            Answer::Known(target) => {
                self.committed = target.applied_lsn;
                self.committed
            }
            Answer::Unknown(_) => {
                let projector = readings.projector.known();
                self.committed.max(projector.and_then(|p| p.end_lsn))
            }
        }
    }

    fn lag(&mut self, constants: &Constants, readings: &Readings, applied: Option<Lsn>) -> Lag {
        let mut evidence = Evidence {
            now: readings.moment.wall,
            source: readings.source.known(),
            capture: readings.capture.known(),
            projector: readings.projector.known(),
            applied,
            target_answers: readings.target.known().is_some(),
            beats: &readings.beats,
            received_ms: None,
            tick_ms: constants.tick_ms,
        };
        let now_ms = readings.moment.mono_ms;
        let received = evidence.received();
        if let Some(source) = readings.source.known() {
            self.clock_ahead_us = source.clock_ahead_us;
            self.earlier.note(now_ms, source.lsn, received);
        }
        evidence.received_ms = self.earlier.received_ms(now_ms, received);
        evidence.now = self.source_now(readings);
        evidence.lag()
    }

    /// By Postgres' clock, as far as it is known.
    fn source_now(&self, readings: &Readings) -> Time {
        readings.moment.wall.shifted_us(self.clock_ahead_us)
    }

    fn judge(&mut self, readings: &Readings, lag: &Lag, applied: Option<Lsn>) -> Judgement {
        let projector = readings.projector.known();
        let waits = [lag.records, lag.transactions, lag.own_ms, lag.inherited_ms];
        let loads = projector.is_some_and(|p| p.state == State::Loading);
        let now = self.source_now(readings);
        let beats = readings.beats.outstanding.iter();
        let beat_waits = lag::one_waits(beats.map(|beat| now.ms_since(beat.at)));
        self.window.add(Sample {
            at_ms: readings.moment.mono_ms,
            state: projector.map_or(State::Unknown, |projector| projector.state),
            position: applied,
            rows: projector
                .and_then(|projector| projector.snapshot)
                .map(|s| s.rows),
            lag_ms: lag.total_ms,
            busy: loads || beat_waits || waits.into_iter().flatten().any(|waiting| waiting > 0),
        });
        judge(&Facts {
            source: &readings.source,
            capture: &readings.capture,
            projector: &readings.projector,
            target: &readings.target,
            lag,
            window: &self.window,
        })
    }

    fn rate(&mut self, now_ms: u64, projector: Option<&ProjectorReading>) -> Rate {
        let transactions = projector.and_then(|projector| projector.transactions);
        let changes = projector.and_then(|projector| projector.changes);
        Rate {
            transactions_per_s: self.meters.rate("transactions", now_ms, transactions),
            changes_per_s: self.meters.rate("changes", now_ms, changes),
        }
    }

    fn capture(&mut self, readings: &Readings) -> Answer<Capture> {
        let now_ms = readings.moment.mono_ms;
        readings.capture.map(|reading| Capture {
            state: reading.state.clone(),
            epoch: reading.epoch,
            last_lsn: reading.last_lsn,
            received_lsn: reading.received_lsn,
            transactions: reading.transactions,
            transactions_per_s: self.meters.rate("captured", now_ms, reading.transactions),
            sessions: reading.sessions,
            last_error: reading.last_error.clone(),
            snapshot: reading.snapshot.clone(),
        })
    }

    fn ingest(&mut self, readings: &Readings) -> Option<Answer<Ingest>> {
        let now_ms = readings.moment.mono_ms;
        let ingest = readings.ingest.as_ref()?;
        Some(ingest.map(|reading| Ingest {
            state: reading.state.clone(),
            next_offset: reading.next_offset,
            end_offset: reading.end_offset,
            behind_events: behind(reading.next_offset, reading.end_offset),
            events_per_s: self.meters.rate("events", now_ms, reading.events),
            rejected: reading.rejected,
            last_error: reading.last_error.clone(),
        }))
    }
}

/// Before the first event is stored there is no position: everything is ahead.
fn behind(next: Option<i64>, end: Option<i64>) -> Option<u64> {
    u64::try_from((end? - next.unwrap_or(0)).max(0)).ok()
}

fn source(reading: &SourceReading, readings: &Readings, wal_bytes_per_s: Option<f64>) -> Source {
    let beats = &readings.beats;
    Source {
        server: reading.server.clone(),
        database: reading.database.clone(),
        lsn: reading.lsn,
        wal_bytes_per_s,
        slot: reading.slot.clone(),
        heartbeat: beats.period_ms.map(|period_ms| Heartbeat {
            period_ms,
            last_at: beats.last.map(|beat| beat.at),
            last_lsn: beats.last.map(|beat| beat.lsn),
            outstanding: beats.outstanding.len() as u64,
            oldest_outstanding_at: beats.outstanding.first().map(|beat| beat.at),
        }),
    }
}

fn projections(
    constants: &Constants,
    readings: &Readings,
    lag: &Lag,
    judgement: &Judgement,
    rate: Rate,
    applied: Option<Lsn>,
) -> Vec<Projection> {
    let silent = ProjectorReading::default();
    let projector = readings.projector.known().unwrap_or(&silent);
    let position = Position {
        lsn: applied.or(projector.end_lsn),
        offset: projector.offset,
        source_at: projector.source_at,
        applied_at: projector.applied_at,
    };
    let one = |named: Named| Projection {
        verdict: judgement.verdict,
        reason: judgement.reason.clone(),
        state: projector.state,
        paused_since: projector.paused_since,
        caught_up: lag.total_ms.map(|ms| ms == 0),
        lag: *lag,
        rate,
        position,
        eta_s: judgement.eta_s,
        version: version(constants, &named),
        snapshot: projector.snapshot,
        last_error: projector.error.clone().or(projector.log_error.clone()),
        quarantined: quarantined(projector, &named),
        differences: None,
        name: named.name,
        kind: named.kind,
    };
    named(constants, projector).into_iter().map(one).collect()
}

/// Values in quarantine that are NULL in a projection.
fn quarantined(projector: &ProjectorReading, named: &Named) -> Option<u64> {
    match named.kind {
        Kind::Replica => projector.tables.iter().map(|table| table.quarantined).sum(),
        Kind::Mart => {
            let mart = projector.marts.iter().find(|mart| mart.name == named.name);
            mart.and_then(|mart| mart.quarantined)
        }
    }
}

/// A mart that does not move with the others says so itself.
fn tell_marts(projections: &mut [Projection], projector: Option<&ProjectorReading>) {
    for mart in projector.map_or(&[][..], |projector| &projector.marts) {
        let verdict = match mart.state.as_str() {
            "set_aside" => Verdict::Stopped,
            "waiting" => Verdict::CatchingUp,
            _ => continue,
        };
        let own = projections.iter_mut().find(|one| one.name == mart.name);
        if let Some(projection) = own.filter(|one| one.verdict < verdict) {
            projection.verdict = verdict;
            projection.reason = mart.reason.clone().or(projection.reason.take());
        }
    }
}

/// A mart that reads a table which does not move is as old as that is, however well the projector keeps it.
fn tell_inputs(projections: &mut [Projection], constants: &Constants, tables: &[Table]) {
    let stands = |table: &&Table| {
        matches!(
            table.state,
            TableState::SetAside | TableState::NotCaptured | TableState::Removed
        )
    };
    for mart in &constants.marts {
        let read = |table: &&Table| {
            table
                .target
                .as_ref()
                .is_some_and(|name| mart.reads.contains(name))
        };
        let Some(table) = tables.iter().filter(read).find(stands) else {
            continue;
        };
        let own = projections.iter_mut().find(|one| one.name == mart.name);
        if let Some(projection) = own.filter(|one| one.verdict < Verdict::Stopped) {
            let words = table.state.words();
            projection.verdict = Verdict::Stopped;
            projection.reason = Some(format!("{}, which it reads, is {words}", table.name));
        }
    }
}

/// A mart by its name; everything else that was compared is the replica's.
fn tell_differences(projections: &mut [Projection], verify: Option<&Verify>) {
    let Some(verify) = verify.filter(|verify| verify.equal.is_some()) else {
        return;
    };
    let marts: Vec<String> = projections
        .iter()
        .filter(|projection| projection.kind == Kind::Mart)
        .map(|mart| mart.name.clone())
        .collect();
    for projection in projections {
        let ours = |name: &String| match projection.kind {
            Kind::Mart => *name == projection.name,
            Kind::Replica => !marts.contains(name),
        };
        let tables = verify.tables.iter().filter(|table| ours(&table.name));
        let found: Vec<u64> = tables.map(|table| table.differences).collect();
        projection.differences = (!found.is_empty()).then(|| found.iter().sum());
    }
}

/// As the projector names them; a silent or older one has the replica and the marts we know.
fn named(constants: &Constants, projector: &ProjectorReading) -> Vec<Named> {
    if !projector.projections.is_empty() {
        return projector.projections.clone();
    }
    let replica = Named {
        name: "replica".to_owned(),
        kind: Kind::Replica,
    };
    let marts = constants.marts.iter().map(|mart| Named {
        name: mart.name.clone(),
        kind: Kind::Mart,
    });
    std::iter::once(replica).chain(marts).collect()
}

fn version(constants: &Constants, named: &Named) -> String {
    let known = constants.marts.iter().find(|mart| mart.name == named.name);
    known.map_or("-".to_owned(), |mart| mart.version.clone())
}
