use proptest::prelude::*;

use super::*;
use crate::{Chain, PartHeader, PartWriter, Start, Verdict, Xid};

/// What one capture may have in flight here.
const IN_FLIGHT_MAX: usize = 3;
const STARTS_MAX: usize = 4;
/// All of them together.
const STALE_MAX: StaleMax = StaleMax {
    records: (IN_FLIGHT_MAX * STARTS_MAX) as u64,
    bytes: u64::MAX,
};

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
}

fn baseline() -> Baseline {
    Baseline {
        epoch: Epoch(1),
        incarnation: "a".into(),
        lsn: Lsn(100),
        system: "1".into(),
        database: "db".into(),
        at: at(),
        again: None,
    }
}

fn start(epoch: Epoch) -> Record {
    Record::Start(Start {
        epoch,
        owner: None,
        at: at(),
    })
}

fn checkpoint(epoch: Epoch, lsn: Lsn) -> Record {
    Record::Checkpoint(Box::new(Checkpoint {
        epoch,
        lsn,
        at: at(),
        baseline: baseline(),
        tables: Vec::new(),
        source: None,
        last: None,
        removed: Vec::new(),
        former: Vec::new(),
        unseen: Vec::new(),
    }))
}

/// A transaction of some parts, right behind `prev`.
fn transaction(epoch: Epoch, prev: Lsn, parts: usize) -> Vec<Record> {
    let mut writer = PartWriter::new(PartHeader {
        epoch,
        prev,
        commit_lsn: prev,
        xid: Xid(prev.0 as u32),
        at: at(),
    });
    let mut values: Vec<_> = (1..parts).map(|_| writer.cut()).collect();
    values.push(writer.finish(Lsn(prev.0 + 100)));
    let decode = |value: &Vec<u8>| Record::decode(value).expect("what we write, we read");
    values.iter().map(decode).collect()
}

/// A capture: what it has sent, and what of that has not arrived.
struct Writer {
    epoch: Epoch,
    sent: Lsn,
    in_flight: Vec<Record>,
    /// Something of it was lost: it will never be acknowledged, and the capture writes no checkpoint any more.
    broken: bool,
}

impl Writer {
    fn send(&mut self, parts: usize) {
        if self.in_flight.len() + parts <= IN_FLIGHT_MAX {
            self.in_flight
                .extend(transaction(self.epoch, self.sent, parts));
            self.sent.0 += 100;
        }
    }

    fn checkpoint(&mut self) {
        if self.in_flight.is_empty() && !self.broken {
            self.in_flight.push(checkpoint(self.epoch, self.sent));
        }
    }
}

/// The log, and everybody who still may write to it.
#[derive(Default)]
struct World {
    log: Vec<Record>,
    live: Option<Writer>,
    fenced: Vec<Writer>,
}

impl World {
    /// As capture does: read all, fence, begin the log if nobody has, checkpoint.
    fn start(&mut self) {
        if self.fenced.len() + 1 >= STARTS_MAX {
            return;
        }
        self.fenced.extend(self.live.take());
        let mut chain = Chain::unanchored();
        for record in &self.log {
            chain.offer(record);
        }
        let epoch = chain.epoch().next();
        self.log.push(start(epoch));
        let position = chain.position().unwrap_or_else(|| {
            let baseline = Baseline {
                epoch,
                ..baseline()
            };
            self.log.push(Record::Baseline(baseline));
            Lsn(100)
        });
        self.live = Some(Writer {
            epoch,
            sent: position,
            in_flight: vec![checkpoint(epoch, position)],
            broken: false,
        });
    }

    fn step(&mut self, step: Step) {
        let fenced = self.fenced.len();
        match (step, &mut self.live) {
            (Step::Start, _) => self.start(),
            (Step::Send(parts), Some(live)) => live.send(parts),
            (Step::Checkpoint, Some(live)) => live.checkpoint(),
            (Step::Arrive, Some(live)) => arrive(&mut self.log, live),
            (Step::Lose(at), Some(live)) if !live.in_flight.is_empty() => {
                live.in_flight.remove(at % live.in_flight.len());
                live.broken = true;
            }
            (Step::ArriveLate(which), _) if fenced > 0 => {
                arrive(&mut self.log, &mut self.fenced[which % fenced]);
            }
            _ => {}
        }
    }
}

fn arrive(log: &mut Vec<Record>, writer: &mut Writer) {
    if !writer.in_flight.is_empty() {
        log.push(writer.in_flight.remove(0));
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A new capture starts; the one before may have been killed, or hang.
    Start,
    Send(usize),
    Checkpoint,
    Arrive,
    Lose(usize),
    ArriveLate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Start),
        6 => (1..=IN_FLIGHT_MAX).prop_map(Step::Send),
        3 => Just(Step::Checkpoint),
        12 => Just(Step::Arrive),
        1 => (0..IN_FLIGHT_MAX).prop_map(Step::Lose),
        4 => (0..STARTS_MAX).prop_map(Step::ArriveLate),
    ]
}

/// What a reader from the beginning says of each checkpoint, and where it ends itself.
fn read_all(log: &[Record]) -> (Option<usize>, Chain) {
    let (mut chain, mut newest) = (Chain::unanchored(), None);
    for (offset, record) in log.iter().enumerate() {
        chain.offer(record);
        let Record::Checkpoint(found) = record else {
            continue;
        };
        let stands = chain.position() == Some(found.lsn) && !chain.has_pending();
        if found.epoch == chain.epoch() && stands {
            newest = Some(offset);
        }
    }
    (newest, chain)
}

fn passed(offset: usize, record: &Record) -> Passed {
    Passed::of(offset as u64, 1, record.clone()).expect("a record of the log")
}

/// Looks through what retention has left of the log.
fn search(log: &[Record], evicted: usize) -> (Option<Begin>, usize) {
    let mut search = CheckpointSearch::new(STALE_MAX);
    for (offset, record) in log.iter().enumerate().skip(evicted).rev() {
        if let Some(found) = search.offer(passed(offset, record)) {
            return (Some(found), log.len() - offset);
        }
    }
    (search.at_the_beginning(), log.len() - evicted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// After every record, whatever was killed, lost, or came late.
    #[test]
    fn a_search_finds_the_newest_checkpoint_that_counts_for_who_has_read_everything(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::default();
        for step in steps {
            let before = world.log.len();
            world.step(step);
            if world.log.len() == before {
                continue;
            }
            let (newest, whole) = read_all(&world.log);
            let (found, _) = search(&world.log, 0);
            prop_assert_eq!(found.as_ref().map(|found| found.offset as usize), newest);
            let Some(found) = found else { continue };
            let mut chain = Chain::begin_at(&found.checkpoint);
            for record in &world.log[found.offset as usize + 1..] {
                chain.offer(record);
            }
            prop_assert_eq!(chain, whole);
        }
    }

    /// As long as it is more than what captures that were fenced off can have left behind.
    #[test]
    fn what_stands_long_before_a_checkpoint_may_be_gone(
        steps in prop::collection::vec(step(), 60..160),
    ) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        let (Some(newest), _) = read_all(&world.log) else { return Ok(()) };
        let kept = newest.saturating_sub(STALE_MAX.records as usize + 1);
        for evicted in 0..=kept {
            let (found, _) = search(&world.log, evicted);
            prop_assert_eq!(found.map(|found| found.offset as usize), Some(newest));
        }
    }
}

/// A log of one capture with a checkpoint behind every ten transactions.
fn calm_log(transactions: u64) -> Vec<Record> {
    let mut log = vec![start(Epoch(1)), Record::Baseline(baseline())];
    for n in 1..=transactions {
        if n % 10 == 1 {
            log.push(checkpoint(Epoch(1), Lsn(100 * n)));
        }
        log.extend(transaction(Epoch(1), Lsn(100 * n), 1));
    }
    log
}

#[test]
fn a_search_reads_as_much_of_a_long_log_as_of_a_short_one() {
    let read = |transactions| search(&calm_log(transactions), 0).1;
    assert_eq!(read(100), read(10_000));
    assert!(read(10_000) < 11 + STALE_MAX.records as usize + 3);
}

#[test]
fn a_late_checkpoint_that_ends_the_log_does_not_count() {
    let mut log = calm_log(20);
    let (true_one, _) = search(&log, 0);
    let lsn = Lsn(2_100);
    log.extend([start(Epoch(2)), checkpoint(Epoch(1), lsn)]);
    assert_eq!(search(&log, 0).0, true_one, "its successor has none yet");
    log.push(checkpoint(Epoch(2), lsn));
    log.push(checkpoint(Epoch(1), lsn));
    let found = search(&log, 0).0.expect("the successor's");
    assert_eq!(found.checkpoint.epoch, Epoch(2));
}

#[test]
fn a_late_checkpoint_is_found_out_by_what_its_successor_wrote_behind_it() {
    let mut log: Vec<Record> = vec![start(Epoch(2))];
    log.extend((1..100).flat_map(|n| transaction(Epoch(2), Lsn(100 * n), 1)));
    log.push(checkpoint(Epoch(1), Lsn(50)));
    log.extend(transaction(Epoch(2), Lsn(10_000), 1));
    // However little is left before it.
    for evicted in [0, 90, 99, 100] {
        assert_eq!(search(&log, evicted).0, None, "{evicted}");
    }
}

#[test]
fn a_checkpoint_is_nothing_to_who_reads_on() {
    let mut chain = Chain::resume(Lsn(100), Epoch(1));
    assert_eq!(
        chain.offer(&checkpoint(Epoch(1), Lsn(100))),
        Verdict::Ignored
    );
    assert_eq!(chain, Chain::resume(Lsn(100), Epoch(1)));
    let mut unanchored = Chain::unanchored();
    unanchored.offer(&checkpoint(Epoch(1), Lsn(100)));
    assert_eq!(
        unanchored.position(),
        None,
        "only a search may begin at one"
    );
}
