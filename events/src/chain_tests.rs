use proptest::prelude::*;

use super::*;
use crate::{BegunAgain, PartHeader, PartWriter, Xid};

fn at() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
}

/// Transaction number `n` occupies the WAL from `100 n` to `100 n + 100`: each commit starts where
/// the last one ended, the tightest packing Postgres can produce.
fn transaction(n: u64, epoch: u64, parts: u32) -> Vec<Record> {
    let mut writer = PartWriter::new(PartHeader {
        epoch: Epoch(epoch),
        prev: Lsn(100 * n),
        commit_lsn: Lsn(100 * n),
        xid: Xid(n as u32),
        at: at(),
    });
    let mut values: Vec<_> = (1..parts).map(|_| writer.cut()).collect();
    values.push(writer.finish(Lsn(100 * n + 100)));
    values
        .iter()
        .map(|value| Record::decode(value).expect("what we write, we read"))
        .collect()
}

fn start(epoch: u64) -> Record {
    Record::Start(Start {
        epoch: Epoch(epoch),
        owner: None,
        at: at(),
    })
}

fn baseline(lsn: u64) -> Record {
    Record::Baseline(Baseline {
        epoch: Epoch(1),
        incarnation: "a".into(),
        lsn: Lsn(lsn),
        system: "1".into(),
        database: "db".into(),
        at: at(),
        again: None,
    })
}

fn progress(prev: u64, end: u64, epoch: u64) -> Record {
    Record::Progress(Progress {
        epoch: Epoch(epoch),
        prev: Lsn(prev),
        end_lsn: Lsn(end),
        gap: false,
        at: at(),
    })
}

fn begun() -> Chain {
    let mut chain = Chain::unanchored();
    assert_eq!(chain.offer(&start(1)), Verdict::Fenced);
    assert_eq!(chain.offer(&baseline(100)), Verdict::Moved);
    chain
}

fn accepted(first: bool, complete: bool) -> Verdict {
    Verdict::Part(PartVerdict::Accepted { first, complete })
}

#[test]
fn nothing_counts_before_the_baseline() {
    let mut chain = Chain::unanchored();
    assert!(matches!(
        chain.offer(&transaction(0, 1, 1)[0]),
        Verdict::Part(PartVerdict::Hole { .. })
    ));
    assert_eq!(chain.position(), None);
}

#[test]
fn a_commit_that_starts_where_the_last_ended_is_new() {
    let mut chain = begun();
    for n in 1..4 {
        assert_eq!(chain.offer(&transaction(n, 1, 1)[0]), accepted(true, true));
    }
    assert_eq!(chain.position(), Some(Lsn(400)));
}

#[test]
fn a_lost_transaction_is_a_hole_until_it_is_sent_again() {
    let mut chain = begun();
    let hole = Verdict::Part(PartVerdict::Hole {
        expected: Lsn(100),
        found: Lsn(200),
    });
    assert_eq!(chain.offer(&transaction(2, 1, 1)[0]), hole);
    assert_eq!(chain.offer(&start(2)), Verdict::Fenced);
    assert_eq!(chain.offer(&transaction(1, 2, 1)[0]), accepted(true, true));
    assert_eq!(chain.offer(&transaction(2, 2, 1)[0]), accepted(true, true));
}

#[test]
fn parts_of_two_epochs_never_join() {
    let mut chain = begun();
    let old = transaction(1, 1, 3);
    let new = transaction(1, 2, 3);
    assert_eq!(chain.offer(&old[0]), accepted(true, false));
    assert_eq!(chain.offer(&old[1]), accepted(false, false));
    assert_eq!(
        chain.offer(&new[2]),
        Verdict::Part(PartVerdict::MissingParts {
            expected: 0,
            found: 2
        })
    );
    assert_eq!(chain.offer(&old[2]), Verdict::Part(PartVerdict::Stale));
    assert_eq!(chain.offer(&new[0]), accepted(true, false));
    assert_eq!(chain.offer(&new[1]), accepted(false, false));
    assert_eq!(chain.offer(&new[2]), accepted(false, true));
}

#[test]
fn a_part_sent_twice_is_dropped() {
    let mut chain = begun();
    let parts = transaction(1, 1, 3);
    let verdicts: Vec<_> = [0, 1, 1, 0, 2]
        .iter()
        .map(|&i| chain.offer(&parts[i]))
        .collect();
    let duplicate = Verdict::Part(PartVerdict::Duplicate);
    assert_eq!(
        verdicts,
        [
            accepted(true, false),
            accepted(false, false),
            duplicate,
            duplicate,
            accepted(false, true)
        ]
    );
}

#[test]
fn progress_moves_the_chain_and_its_duplicate_does_not() {
    let mut chain = begun();
    assert_eq!(chain.offer(&progress(100, 150, 1)), Verdict::Moved);
    assert_eq!(chain.offer(&progress(100, 150, 1)), Verdict::Ignored);
    assert!(matches!(
        chain.offer(&progress(175, 190, 1)),
        Verdict::Hole { .. }
    ));
    assert_eq!(chain.position(), Some(Lsn(150)));
}

#[test]
fn the_first_baseline_begins_the_log_and_no_other() {
    let mut chain = begun();
    assert_eq!(chain.offer(&baseline(500)), Verdict::Fenced);
    assert_eq!(chain.position(), Some(Lsn(100)));
    chain.offer(&start(2));
    assert_eq!(chain.offer(&baseline(500)), Verdict::Ignored);
}

fn begun_again(epoch: u64, prev: Option<u64>, lsn: u64) -> Record {
    let Record::Baseline(first) = baseline(lsn) else {
        unreachable!()
    };
    let again = BegunAgain::after(Some(&first), prev.map(Lsn));
    Record::Baseline(Baseline {
        epoch: Epoch(epoch),
        incarnation: "b".into(),
        again: Some(again),
        ..first
    })
}

/// Of a database that was restored: its positions are lower.
#[test]
fn a_log_that_is_begun_again_goes_on_where_it_says_and_only_once() {
    let mut chain = begun();
    chain.offer(&progress(100, 900, 1));
    chain.offer(&start(2));
    assert_eq!(
        chain.offer(&begun_again(2, Some(900), 400)),
        Verdict::BegunAgain
    );
    assert_eq!(chain.position(), Some(Lsn(400)));
    assert_eq!(
        chain.offer(&begun_again(2, Some(900), 400)),
        Verdict::Fenced
    );
    assert_eq!(chain.offer(&progress(400, 500, 2)), Verdict::Moved);
    // A copy of the record that comes late changes nothing, nor does one of a capture that was fenced off.
    assert_eq!(
        chain.offer(&begun_again(2, Some(900), 400)),
        Verdict::Fenced
    );
    chain.offer(&start(3));
    assert_eq!(
        chain.offer(&begun_again(2, Some(500), 450)),
        Verdict::Ignored
    );
    assert_eq!(chain.position(), Some(Lsn(500)));
}

#[test]
fn a_log_whose_beginning_is_lost_may_be_begun_again_too() {
    let mut chain = Chain::unanchored();
    chain.offer(&start(7));
    assert_eq!(chain.offer(&begun_again(7, None, 400)), Verdict::Moved);
    let mut reader = begun();
    reader.offer(&start(7));
    assert_eq!(
        reader.offer(&begun_again(7, None, 400)),
        Verdict::BegunAgain
    );
    assert_eq!(reader.position(), Some(Lsn(400)));
}

#[test]
fn a_log_that_was_begun_again_names_those_that_it_replaces() {
    let mut known = match baseline(1) {
        Record::Baseline(first) => first,
        _ => unreachable!(),
    };
    assert!(!known.replaces("z"));
    for n in 0..10 {
        known = Baseline {
            incarnation: format!("b{n}"),
            again: Some(BegunAgain::after(Some(&known), None)),
            ..known
        };
        assert!(known.replaces("a") && !known.replaces("z"), "{n}");
    }
    assert!(known.replaces("b8") && !known.replaces("b9"));
    // What it was is not known.
    let lost = Some(BegunAgain::after(None, None));
    let unknown = Baseline {
        again: lost,
        ..known
    };
    assert!(unknown.replaces("z"));
}

#[test]
fn what_is_said_of_tables_leaves_position_and_parts_alone() {
    let removed = |epoch| {
        Record::Removed(crate::TableRemoved {
            epoch: Epoch(epoch),
            table: crate::TableId::new("s", "t"),
            at: at(),
        })
    };
    assert_eq!(Chain::unanchored().offer(&removed(1)), Verdict::Ignored);
    let mut chain = begun();
    let parts = transaction(1, 1, 2);
    assert_eq!(chain.offer(&parts[0]), accepted(true, false));
    assert_eq!(chain.offer(&removed(1)), Verdict::Announced);
    assert_eq!(chain.offer(&parts[1]), accepted(false, true));
    chain.offer(&start(2));
    assert_eq!(chain.offer(&removed(1)), Verdict::Ignored);
}

/// What happens to one run of capture before it dies.
#[derive(Clone, Debug)]
struct Run {
    /// Transactions that it sends from where the log stood.
    sends: usize,
    /// Of its batches of records, those that never arrive (by position), or arrive twice.
    lost: Vec<usize>,
    twice: Vec<usize>,
    /// How many of its last records arrive only after the next start has been written.
    late: usize,
    parts: u32,
}

fn run() -> impl Strategy<Value = Run> {
    (
        1usize..6,
        prop::collection::vec(0usize..12, 0..3),
        prop::collection::vec(0usize..12, 0..3),
        0usize..4,
        1u32..4,
    )
        .prop_map(|(sends, lost, twice, late, parts)| Run {
            sends,
            lost,
            twice,
            late,
            parts,
        })
}

/// The log as bytes end up in the topic: each run scans, fences, scans to its fence, and sends.
fn topic(runs: &[Run]) -> Vec<Record> {
    let mut log = vec![start(1), baseline(100)];
    let mut late: Vec<Record> = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        let epoch = i as u64 + 2;
        log.push(start(epoch));
        let mut chain = Chain::unanchored();
        for record in &log {
            chain.offer(record);
        }
        log.append(&mut late);
        let next = chain.position().expect("begun").0 / 100;
        let sent: Vec<Record> = (next..next + run.sends as u64)
            .flat_map(|n| transaction(n, epoch, run.parts))
            .collect();
        let on_time = sent.len().saturating_sub(run.late);
        for (position, record) in sent.into_iter().enumerate() {
            if run.lost.contains(&position) {
                continue;
            }
            let target = if position < on_time {
                &mut log
            } else {
                &mut late
            };
            target.push(record.clone());
            if run.twice.contains(&position) {
                target.push(record);
            }
        }
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever was lost, doubled or late: a reader accepts 1, 2, 3, … and nothing else, and the
    /// next start of capture continues exactly there.
    #[test]
    fn readers_accept_every_transaction_once_and_in_order(runs in prop::collection::vec(run(), 1..8)) {
        let log = topic(&runs);
        let mut chain = Chain::unanchored();
        let mut expected = 1u64;
        let mut parts = 0u32;
        for record in &log {
            let verdict = chain.offer(record);
            let (Record::Transaction(part), Verdict::Part(PartVerdict::Accepted { first, complete })) = (record, verdict) else { continue };
            if first { parts = 0; }
            prop_assert_eq!(part.part, parts);
            parts += 1;
            if complete {
                prop_assert_eq!(part.commit_lsn, Lsn(100 * expected));
                expected += 1;
            }
        }
        prop_assert_eq!(chain.position(), Some(Lsn(100 * expected)));
    }

    /// A reader that restarts from its stored position and epoch agrees with one that never stopped.
    #[test]
    fn a_reader_that_restarts_agrees_with_one_that_did_not(runs in prop::collection::vec(run(), 1..8), cut in any::<prop::sample::Index>()) {
        let log = topic(&runs);
        let mut whole = Chain::unanchored();
        let mut stored = None;
        let cut = cut.index(log.len());
        for (offset, record) in log.iter().enumerate() {
            let verdict = whole.offer(record);
            let moved = matches!(verdict, Verdict::Moved | Verdict::Part(PartVerdict::Accepted { complete: true, .. }));
            if moved && offset <= cut {
                stored = whole.position().map(|position| (offset, position, whole.epoch()));
            }
        }
        let (offset, position, epoch) = stored.unwrap_or((1, Lsn(100), Epoch(1)));
        let mut restarted = Chain::resume(position, epoch);
        for record in log.iter().skip(offset + 1) {
            restarted.offer(record);
        }
        prop_assert_eq!(restarted.position(), whole.position());
        prop_assert_eq!(restarted.epoch(), whole.epoch());
    }
}

#[test]
fn what_the_rows_are_taken_from_may_stand_between_the_parts_of_a_transaction() {
    let source = |epoch| {
        Record::Source(Source {
            epoch: Epoch(epoch),
            system: "1".into(),
            timeline: 1,
            database: 5,
            tables: Vec::new(),
            last: None,
            at: at(),
        })
    };
    let mut chain = begun();
    let parts = transaction(1, 1, 2);
    assert!(matches!(
        chain.offer(&parts[0]),
        Verdict::Part(PartVerdict::Accepted {
            complete: false,
            ..
        })
    ));
    assert_eq!(chain.offer(&source(1)), Verdict::Noted);
    assert!(matches!(
        chain.offer(&parts[1]),
        Verdict::Part(PartVerdict::Accepted { complete: true, .. })
    ));
    chain.offer(&start(2));
    assert_eq!(chain.offer(&source(1)), Verdict::Ignored);
    assert_eq!(chain.offer(&source(2)), Verdict::Noted);
}
