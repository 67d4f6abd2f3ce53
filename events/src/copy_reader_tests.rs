use proptest::prelude::*;

use super::*;
use crate::{ChunkPlanned, Row, SchemaId, Start, Value};

fn at() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(1_750_000_000_123_456).expect("a valid time")
}

fn table() -> TableId {
    TableId::new("s", "t")
}

fn start(epoch: u64) -> Record {
    Record::Start(Start {
        epoch: Epoch(epoch),
        owner: None,
        at: at(),
    })
}

fn plan(epoch: u64, chunk: u32) -> Record {
    Record::Plan(ChunkPlanned {
        epoch: Epoch(epoch),
        copy: CopyId(1),
        table: table(),
        chunk,
        up_to: None,
    })
}

/// A piece with two rows, read when everything below `xmax` was visible.
fn piece(epoch: u64, chunk: u32, (piece, pieces): (u32, u32), xmax: u64) -> Chunk {
    let row = |n| Row(vec![("id".into(), Value::Int(n))]);
    Chunk {
        epoch: Epoch(epoch),
        copy: CopyId(1),
        table: table(),
        chunk,
        piece,
        last: piece + 1 == pieces,
        again: false,
        visible: format!("{xmax}:{xmax}:").parse().expect("a snapshot"),
        lsn: Lsn(xmax),
        schema: SchemaId(1),
        slices: Vec::new(),
        rows: vec![row(1), row(2)],
    }
}

fn copied(chunks: u32) -> TableCopied {
    TableCopied {
        epoch: Epoch(1),
        copy: CopyId(1),
        table: table(),
        chunks,
        rows: 0,
        lsn: Lsn(0),
        at: at(),
    }
}

fn offer(reader: &mut CopyReader, chunk: &Chunk) -> ChunkVerdict {
    reader.offer(&Record::Chunk(chunk.clone()))
}

fn chunks(reader: &CopyReader) -> &TableChunks {
    reader.table(&table()).expect("some chunks")
}

const ACCEPTED: ChunkVerdict = ChunkVerdict::Accepted { complete: false };
const COMPLETE: ChunkVerdict = ChunkVerdict::Accepted { complete: true };

#[test]
fn chunks_come_in_any_order_and_between_each_other() {
    let mut reader = CopyReader::new(CopyId(1));
    assert!(!reader.is_complete(&copied(2)));
    for (record, verdict) in [
        (piece(1, 2, (0, 2), 10), ACCEPTED),
        (piece(1, 1, (0, 2), 11), ACCEPTED),
        (piece(1, 2, (1, 2), 10), COMPLETE),
        (piece(1, 1, (1, 2), 11), COMPLETE),
    ] {
        assert_eq!(reader.offer(&plan(1, record.chunk)), ChunkVerdict::NoRows);
        assert_eq!(offer(&mut reader, &record), verdict);
    }
    assert!(reader.is_complete(&copied(2)) && !reader.is_complete(&copied(3)));
    let found = (
        chunks(&reader).complete(),
        chunks(&reader).rows(),
        chunks(&reader).lsn(),
    );
    assert_eq!(found, (2, 8, Lsn(11)));
}

#[test]
fn a_reading_that_was_given_up_counts_for_what_the_rows_contain_and_for_nothing_else() {
    let mut reader = CopyReader::new(CopyId(1));
    offer(&mut reader, &piece(1, 1, (0, 3), 10));
    reader.offer(&start(2));
    assert_eq!(
        offer(&mut reader, &piece(1, 1, (1, 3), 10)),
        ChunkVerdict::Stale
    );
    let of_another_reading = piece(2, 1, (1, 2), 20);
    let missing = ChunkVerdict::MissingPiece {
        expected: 1,
        found: 1,
    };
    assert_eq!(offer(&mut reader, &of_another_reading), missing);
    assert_eq!(offer(&mut reader, &piece(2, 1, (0, 2), 20)), ACCEPTED);
    assert_eq!(offer(&mut reader, &of_another_reading), COMPLETE);
    // Rows of the first reading may still be there.
    let contained = |xid| chunks(&reader).contains(Xid(xid));
    assert!(contained(9) && !contained(10) && !contained(15));
}

#[test]
fn a_chunk_that_comes_again_is_a_duplicate() {
    let mut reader = CopyReader::new(CopyId(1));
    assert_eq!(offer(&mut reader, &piece(1, 1, (0, 1), 10)), COMPLETE);
    assert_eq!(
        offer(&mut reader, &piece(1, 1, (0, 1), 10)),
        ChunkVerdict::Duplicate
    );
    assert_eq!(
        offer(&mut reader, &piece(2, 1, (0, 2), 20)),
        ChunkVerdict::Duplicate
    );
    assert_eq!(
        (chunks(&reader).rows(), chunks(&reader).lsn()),
        (2, Lsn(10))
    );
}

#[test]
fn keys_that_were_read_again_contain_more() {
    let mut reader = CopyReader::new(CopyId(1));
    offer(&mut reader, &piece(1, 1, (0, 1), 10));
    for (chunk, xmax) in [(2, 20), (3, 30)] {
        let again = Chunk {
            again: true,
            ..piece(1, chunk, (0, 1), xmax)
        };
        assert_eq!(offer(&mut reader, &again), COMPLETE);
    }
    let contained = |chunk, xid| chunks(&reader).again_contains(chunk, Xid(xid));
    assert!(contained(2, 19) && !contained(2, 20));
    assert!(contained(3, 29) && !contained(3, 30));
    assert!(contained(1, 9) && !contained(1, 10));
}

/// A row that was loaded from it and is not in a later reading was deleted in between. Were the reading's number used again,
/// with the later snapshot, that deletion would pass for contained, and the row stay for ever.
#[test]
fn a_reading_again_that_was_given_up_keeps_its_own_snapshot() {
    let again = |epoch, chunk, pieces, xmax| Chunk {
        again: true,
        ..piece(epoch, chunk, pieces, xmax)
    };
    let mut reader = CopyReader::new(CopyId(1));
    offer(&mut reader, &piece(1, 1, (0, 1), 10));
    assert_eq!(offer(&mut reader, &again(1, 2, (0, 9), 20)), ACCEPTED);
    let unfinished: Vec<_> = chunks(&reader).unfinished_again().collect();
    let [(2, visible)] = unfinished[..] else {
        panic!("{unfinished:?}");
    };
    let end = Chunk {
        visible: visible.clone(),
        rows: Vec::new(),
        ..again(2, 2, (0, 1), 20)
    };
    assert_eq!(offer(&mut reader, &end), COMPLETE);
    assert_eq!(offer(&mut reader, &again(2, 3, (0, 1), 30)), COMPLETE);
    assert_eq!(chunks(&reader).unfinished_again().count(), 0);
    let deleted_in_between = Xid(25);
    assert!(!chunks(&reader).again_contains(2, deleted_in_between));
    assert!(chunks(&reader).again_contains(3, deleted_in_between));
    assert!(reader.is_complete(&copied(3)));
}

#[test]
fn what_belongs_elsewhere_is_foreign() {
    let mut reader = CopyReader::new(CopyId(2));
    assert_eq!(
        offer(&mut reader, &piece(9, 1, (0, 1), 10)),
        ChunkVerdict::Foreign
    );
    assert_eq!(reader.epoch(), Epoch(0));
}

#[test]
fn its_state_reads_back_from_json() {
    let mut reader = CopyReader::new(CopyId(1));
    offer(&mut reader, &piece(1, 1, (0, 1), 10));
    offer(&mut reader, &piece(1, 2, (0, 2), 12));
    let text = serde_json::to_string(&reader).expect("JSON");
    assert_eq!(
        serde_json::from_str::<CopyReader>(&text).expect("reads"),
        reader
    );
}

/// One run of capture: it reads chunks that are missing, in some order, several at a time, and dies.
#[derive(Clone, Debug)]
struct Run {
    pieces: u32,
    /// Which of the pending chunks sends its next piece.
    turns: Vec<prop::sample::Index>,
    /// Of what it sent last, so much arrives only behind the start of the next run.
    late: usize,
    /// Positions that arrive twice.
    twice: Vec<usize>,
}

fn run() -> impl Strategy<Value = Run> {
    let turns = prop::collection::vec(any::<prop::sample::Index>(), 0..30);
    (
        1u32..4,
        turns,
        0usize..8,
        prop::collection::vec(0usize..30, 0..3),
    )
        .prop_map(|(pieces, turns, late, twice)| Run {
            pieces,
            turns,
            late,
            twice,
        })
}

const CHUNKS: u32 = 6;

/// The topic as its bytes arrive, each chunk read under a snapshot of its own.
fn topic(runs: &[Run]) -> Vec<Record> {
    let mut topic = Vec::new();
    let mut late = Vec::new();
    let mut xmax = 10;
    for (epoch, run) in (1..).zip(runs) {
        topic.push(start(epoch));
        let mut reader = CopyReader::new(CopyId(1));
        topic.iter().for_each(|record| {
            reader.offer(record);
        });
        topic.append(&mut late);
        let missing = |chunk: &u32| {
            !reader
                .table(&table())
                .is_some_and(|found| found.has(*chunk))
        };
        let mut pending: Vec<(u32, u32, u64)> = (1..=CHUNKS)
            .filter(missing)
            .map(|chunk| {
                xmax += 1;
                (chunk, 0, xmax)
            })
            .collect();
        let mut sent = Vec::new();
        for turn in &run.turns {
            if pending.is_empty() {
                break;
            }
            let at = turn.index(pending.len().min(3));
            let (chunk, number, xmax) = &mut pending[at];
            sent.push(Record::Chunk(piece(
                epoch,
                *chunk,
                (*number, run.pieces),
                *xmax,
            )));
            *number += 1;
            if *number == run.pieces {
                pending.remove(at);
            }
        }
        let on_time = sent.len().saturating_sub(run.late);
        for (position, record) in sent.into_iter().enumerate() {
            let target = if position < on_time {
                &mut topic
            } else {
                &mut late
            };
            target.push(record.clone());
            if run.twice.contains(&position) {
                target.push(record);
            }
        }
    }
    topic
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever was cut, late or doubled: the accepted pieces of a complete chunk are those of one reading, each once,
    /// and every snapshot of an accepted piece counts.
    #[test]
    fn complete_chunks_are_whole_readings(runs in prop::collection::vec(run(), 1..6), cut in any::<prop::sample::Index>()) {
        let topic = topic(&runs);
        let mut reader = CopyReader::new(CopyId(1));
        let mut accepted: BTreeMap<(u32, Epoch), Vec<u32>> = BTreeMap::new();
        let mut complete: BTreeMap<u32, (Epoch, u32)> = BTreeMap::new();
        let mut lowest = u64::MAX;
        let stored = cut.index(topic.len());
        for (position, record) in topic.iter().enumerate() {
            if position == stored {
                let text = serde_json::to_string(&reader).expect("JSON");
                reader = serde_json::from_str(&text).expect("reads");
            }
            let verdict = reader.offer(record);
            let (Record::Chunk(chunk), ChunkVerdict::Accepted { complete: whole }) = (record, verdict) else { continue };
            accepted.entry((chunk.chunk, chunk.epoch)).or_default().push(chunk.piece);
            lowest = lowest.min(chunk.lsn.0);
            if whole {
                prop_assert_eq!(complete.insert(chunk.chunk, (chunk.epoch, chunk.piece + 1)), None);
            }
        }
        for (chunk, (epoch, pieces)) in &complete {
            let expected: Vec<u32> = (0..*pieces).collect();
            prop_assert_eq!(&accepted[&(*chunk, *epoch)], &expected);
        }
        let Some(found) = reader.table(&table()) else { return Ok(()) };
        prop_assert_eq!(found.complete() as usize, complete.len());
        prop_assert_eq!(reader.is_complete(&copied(CHUNKS)), complete.len() == CHUNKS as usize);
        if lowest < u64::MAX {
            prop_assert!(found.contains(Xid(lowest as u32 - 1)) && !found.contains(Xid(lowest as u32)));
        }
    }
}
