//! Finding the newest checkpoint of the log, and writing the next one (ADR 22).

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use millrace_events::{
    Baseline, Begin, Checkpoint, CheckpointSearch, Copies, CopyId, Passed, Record, StaleMax,
};
use millrace_topic::{Cluster, Offset, Sent};

use crate::assemble::Assembler;
use crate::Error;

/// A checkpoint is due behind so many bytes of records: reading them takes a moment.
const EVERY_BYTES: u64 = 4 << 20;
/// Or behind so many records.
const EVERY_RECORDS: u64 = 16_384;

/// Where the log is to be read from.
#[derive(Debug)]
pub(crate) struct Found {
    /// `None`: from its beginning.
    pub(crate) begin: Option<Begin>,
    /// How many records were read to find it.
    pub(crate) records: u64,
    /// Retention has removed what stood before the records that were read: the server has refused them.
    is_cut: bool,
    /// Copies that are not complete and that no checkpoint is left before.
    pub(crate) void: BTreeSet<CopyId>,
}

/// The newest checkpoint before `end` that counts and stands before every copy that is not complete there: what such a
/// copy has to know of the log is noted from its beginning on. If retention has removed that, the copy is void.
pub(crate) async fn newest(cluster: &Cluster, topic: &str, end: Offset) -> Result<Found, Error> {
    let newest = newest_before(cluster, topic, end).await?;
    let (mut before, mut found, mut void) = (end, newest, BTreeSet::new());
    let mut records = found.records;
    let newest = found.begin.clone();
    loop {
        let incomplete = found.begin.as_ref();
        let incomplete = incomplete.and_then(|begin| first_incomplete(begin, &void));
        let Some((copy, offset)) = incomplete.filter(|(_, offset)| *offset < before) else {
            let begin = found.begin;
            return Ok(Found {
                begin,
                records,
                void,
                ..found
            });
        };
        found = newest_before(cluster, topic, offset).await?;
        records += found.records;
        before = offset;
        if found.begin.is_none() && found.is_cut {
            void.insert(copy);
            (before, found.begin) = (end, newest.clone());
        }
    }
}

/// The oldest copy that is not complete, and where it began.
fn first_incomplete(begin: &Begin, void: &BTreeSet<CopyId>) -> Option<(CopyId, Offset)> {
    let tables = begin.checkpoint.tables.iter();
    let incomplete = tables.filter(|table| table.copied.is_none() && !void.contains(&table.copy));
    let places = incomplete.map(|table| {
        let offset = Offset::of(table.copy_offset).unwrap_or_default();
        (table.copy, offset)
    });
    places.min_by_key(|(_, offset)| *offset)
}

async fn newest_before(cluster: &Cluster, topic: &str, end: Offset) -> Result<Found, Error> {
    let mut backwards = cluster.backwards(topic, end);
    let mut search = CheckpointSearch::new(StaleMax::CAPTURES);
    while let Some(window) = backwards.next().await? {
        for record in window {
            let passed = passed(topic, record.offset, &record.value)?;
            if let Some(begin) = search.offer(passed) {
                return Ok(Found {
                    begin: Some(begin),
                    records: backwards.records(),
                    is_cut: false,
                    void: BTreeSet::new(),
                });
            }
        }
    }
    Ok(Found {
        begin: search.at_the_beginning(),
        records: backwards.records(),
        is_cut: backwards.is_cut(),
        void: BTreeSet::new(),
    })
}

fn passed(topic: &str, offset: Offset, value: &[u8]) -> Result<Passed, Error> {
    let foreign = |reason: String| Error::LogForeign {
        topic: topic.into(),
        offset,
        reason,
    };
    let record = Record::decode(value).map_err(|error| foreign(error.to_string()))?;
    let passed = Passed::of(offset.0, value.len() as u64, record);
    passed.ok_or_else(|| foreign("a snapshot record".into()))
}

/// What of a checkpoint does not stand in the assembler, and when the next one is due.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    baseline: Baseline,
    /// The captured tables, as the log says it.
    pub(crate) copies: Copies,
    /// What had been sent with the last one; `None` before the first.
    last: Option<Sent>,
    /// Where acknowledged ones stand, the first of them before every copy that is not complete: a start now would begin
    /// there.
    places: VecDeque<Offset>,
}

impl Checkpoints {
    /// The first one is due at once. `begin`: where this start has begun to read.
    pub(crate) fn new(baseline: Baseline, copies: Copies, begin: Offset) -> Self {
        Checkpoints {
            baseline,
            copies,
            last: None,
            places: VecDeque::from([begin]),
        }
    }

    /// One is acknowledged.
    pub(crate) fn stands_at(&mut self, place: Offset) {
        if self.places.back().is_none_or(|last| *last < place) {
            self.places.push_back(place);
        }
    }

    /// From where on the next start needs the log.
    pub(crate) fn needed(&mut self) -> Offset {
        let open = self.copies.iter().map(|(_, table)| table);
        let open = open.filter(|table| table.copied.is_none());
        let first = open.map(|table| Offset::of(table.copy_offset).unwrap_or_default());
        let first = first.min();
        let is_early_enough = |place: &Offset| first.is_none_or(|first| *place < first);
        while self.places.get(1).is_some_and(is_early_enough) {
            self.places.pop_front();
        }
        self.places.front().copied().unwrap_or_default()
    }

    /// Whether the next one is due.
    pub(crate) fn is_due(&self, sent: Sent) -> bool {
        self.last.is_none_or(|last| {
            sent.bytes - last.bytes >= EVERY_BYTES || sent.records - last.records >= EVERY_RECORDS
        })
    }

    /// One was sent.
    pub(crate) fn sent(&mut self, sent: Sent) {
        self.last = Some(sent);
    }

    /// What the log says now. Everything before it must be acknowledged, and no transaction open.
    pub(crate) fn make(&self, assembler: &Assembler, at: DateTime<Utc>) -> Checkpoint {
        Checkpoint {
            epoch: assembler.epoch(),
            lsn: assembler.position(),
            at,
            baseline: self.baseline.clone(),
            tables: self.copies.iter().map(|(_, table)| table.clone()).collect(),
            removed: self.copies.removed().cloned().collect(),
            former: self.copies.former().cloned().collect(),
            source: None,
            last: None,
            unseen: assembler.notes.unseen.xids().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use millrace_events::{Chain, CopyBegun, CopyTable, Epoch, Lsn};
    use millrace_events::{SchemaId, TableCopied, TableId, TableSchema};

    use super::*;

    fn checkpoints() -> Checkpoints {
        let baseline = Baseline {
            epoch: Epoch(1),
            incarnation: "a".into(),
            lsn: Lsn(1),
            system: "1".into(),
            database: "db".into(),
            at: DateTime::UNIX_EPOCH,
            again: None,
        };
        Checkpoints::new(baseline, Copies::new(), Offset(10))
    }

    fn offer(checkpoints: &mut Checkpoints, offset: i64, record: &Record) {
        let mut chain = Chain::resume(Lsn(1), Epoch(1));
        let verdict = chain.offer(record);
        assert!(checkpoints.copies.offer(offset, record, verdict));
    }

    fn copy() -> Record {
        Record::Copy(CopyBegun {
            epoch: Epoch(1),
            copy: CopyId(1),
            lsn: Lsn(1),
            topic: "t".into(),
            tables: vec![CopyTable {
                definition: TableSchema {
                    id: SchemaId(1),
                    table: TableId::new("s", "t"),
                    columns: Vec::new(),
                },
                estimated_rows: 1,
                published_lately: false,
                source: None,
            }],
            at: DateTime::UNIX_EPOCH,
        })
    }

    fn copied() -> Record {
        Record::Copied(TableCopied {
            epoch: Epoch(1),
            copy: CopyId(1),
            table: TableId::new("s", "t"),
            chunks: 1,
            rows: 1,
            lsn: Lsn(1),
            at: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn the_log_is_needed_from_the_newest_checkpoint_before_a_copy_that_is_not_complete() {
        let mut checkpoints = checkpoints();
        assert_eq!(checkpoints.needed(), Offset(10));
        checkpoints.stands_at(Offset(20));
        assert_eq!(checkpoints.needed(), Offset(20));
        offer(&mut checkpoints, 25, &copy());
        checkpoints.stands_at(Offset(30));
        checkpoints.stands_at(Offset(40));
        assert_eq!(checkpoints.needed(), Offset(20));
        offer(&mut checkpoints, 45, &copied());
        assert_eq!(checkpoints.needed(), Offset(40));
    }
}
