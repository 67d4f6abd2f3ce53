//! Finding the newest checkpoint of the log, and writing the next one (ADR 22).

use chrono::{DateTime, Utc};
use millrace_events::{
    Baseline, Begin, Checkpoint, CheckpointSearch, Copies, Passed, Record, StaleMax,
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
}

/// The newest checkpoint before `end` that counts and stands before every copy that is not complete there: what such a
/// copy has to know of the log is noted from its beginning on.
pub(crate) async fn newest(cluster: &Cluster, topic: &str, end: Offset) -> Result<Found, Error> {
    let (mut end, mut records) = (end, 0);
    loop {
        let found = newest_before(cluster, topic, end).await?;
        records += found.records;
        let incomplete = found.begin.as_ref().and_then(first_incomplete);
        match incomplete {
            Some(copy) if copy < end => end = copy,
            _ => {
                let begin = found.begin;
                return Ok(Found { begin, records });
            }
        }
    }
}

/// Where the oldest copy began that is not complete.
fn first_incomplete(begin: &Begin) -> Option<Offset> {
    let tables = begin.checkpoint.tables.iter();
    let incomplete = tables.filter(|table| table.copied.is_none());
    let offsets = incomplete.map(|table| Offset::of(table.copy_offset).unwrap_or_default());
    offsets.min()
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
                });
            }
        }
    }
    Ok(Found {
        begin: search.at_the_beginning(),
        records: backwards.records(),
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
}

impl Checkpoints {
    /// The first one is due at once.
    pub(crate) fn new(baseline: Baseline, copies: Copies) -> Self {
        Checkpoints {
            baseline,
            copies,
            last: None,
        }
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
            source: None,
            last: None,
            unseen: assembler.notes.unseen.xids().to_vec(),
        }
    }
}
