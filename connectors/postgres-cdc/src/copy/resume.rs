//! What an earlier start has done of a copy, as its topic has it. Pure, but for reading the topic.

use std::collections::HashMap;

use millrace_events::{
    ChunkPlanned, ChunkVerdict, CopyId, CopyReader, Record, TableChunks, TableId, Visibility,
};
use millrace_topic::{Cluster, Fence, Offset, Read};

use super::keys::{Key, Range};
use crate::Error;

/// What there is of a copy.
#[derive(Debug)]
pub(crate) struct Progress {
    chunks: CopyReader,
    plans: HashMap<TableId, Vec<Option<Key>>>,
}

/// A chunk that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) chunk: u32,
    pub(crate) range: Range,
}

/// What is left of the chunks that were planned, and where planning goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Planned and not complete.
    pub(crate) jobs: Vec<Job>,
    /// The last chunk that is planned; 0: none.
    pub(crate) planned: u32,
    /// Where the next one begins.
    pub(crate) after: Option<Key>,
    /// Whether the last one reaches to the end of the table.
    pub(crate) planned_to_end: bool,
}

impl Progress {
    pub(crate) fn none(copy: CopyId) -> Self {
        Progress {
            chunks: CopyReader::new(copy),
            plans: HashMap::new(),
        }
    }

    /// Reads the topic of a copy up to `fence`, a start of this capture. What is left of a topic whose beginning is gone
    /// is worth nothing: plans that are missing would be made anew under numbers of chunks that are there.
    pub(crate) async fn read(
        cluster: &Cluster,
        topic: &str,
        copy: CopyId,
        fence: Fence,
    ) -> Result<Self, Error> {
        let mut progress = Progress::none(copy);
        let mut reading = cluster.read(Read::new(topic).until(fence)).await?;
        let mut is_first = true;
        while let Some(record) = reading.next().await? {
            if std::mem::take(&mut is_first) && record.offset > Offset::default() {
                return Err(Error::CopyTrimmed {
                    topic: topic.to_owned(),
                    first: record.offset,
                });
            }
            let foreign = |reason: String| Error::LogForeign {
                topic: topic.to_owned(),
                offset: record.offset,
                reason,
            };
            let decoded = Record::decode_counting_rows(&record.value);
            let decoded = decoded.map_err(|error| foreign(error.to_string()))?;
            if progress.take(decoded) == ChunkVerdict::Foreign {
                return Err(foreign("not a record of this copy".to_owned()));
            }
        }
        Ok(progress)
    }

    fn take(&mut self, record: Record) -> ChunkVerdict {
        let verdict = self.chunks.offer(&record);
        if let (Record::Plan(plan), ChunkVerdict::NoRows) = (record, verdict) {
            self.plan(plan);
        }
        verdict
    }

    /// A plan that is sent twice is the same plan.
    fn plan(&mut self, plan: ChunkPlanned) {
        let plans = self.plans.entry(plan.table).or_default();
        if plan.chunk as usize == plans.len() + 1 {
            plans.push(plan.up_to);
        }
    }

    pub(crate) fn chunks(&self) -> &CopyReader {
        &self.chunks
    }

    /// Whether anything of a table was planned: then everything that its copy waits for was waited for.
    pub(crate) fn has_begun(&self, table: &TableId) -> bool {
        self.plans.contains_key(table)
    }

    /// What is left of a table.
    pub(crate) fn left(&self, table: &TableId) -> Left {
        let plans = self.plans.get(table).map_or(&[][..], Vec::as_slice);
        let complete = |chunk| {
            self.chunks
                .table(table)
                .is_some_and(|found| found.has(chunk))
        };
        let mut after = None;
        let mut jobs = Vec::new();
        for (chunk, up_to) in (1..).zip(plans) {
            let range = Range {
                after: after.take(),
                up_to: up_to.clone(),
            };
            after.clone_from(up_to);
            if !complete(chunk) {
                jobs.push(Job { chunk, range });
            }
        }
        Left {
            jobs,
            planned: plans.len() as u32,
            after,
            planned_to_end: plans.last().is_some_and(Option::is_none),
        }
    }

    /// Readings of keys again that were given up, and what their rows contain. They are ended as they are: a row that one of
    /// them has and a later reading has not was deleted in between, which only its own snapshot says.
    pub(crate) fn unfinished_again(&self, table: &TableId) -> Vec<(u32, Visibility)> {
        let chunks = self.chunks.table(table);
        let unfinished = chunks.into_iter().flat_map(TableChunks::unfinished_again);
        unfinished
            .map(|(chunk, visible)| (chunk, visible.clone()))
            .collect()
    }

    /// A number for a chunk of keys that are read again: above all planned ones, and of none of which there is a piece.
    pub(crate) fn number_again(&self, table: &TableId, planned: u32) -> u32 {
        let unfinished = self.unfinished_again(table);
        let chunks = self.chunks.table(table);
        let taken = |chunk: u32| {
            chunks.is_some_and(|found| found.has(chunk))
                || unfinished.iter().any(|(taken, _)| *taken == chunk)
        };
        (planned + 1..)
            .find(|chunk| !taken(*chunk))
            .unwrap_or(planned + 1)
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::{Chunk, Epoch, Lsn, SchemaId};

    use super::*;

    fn table() -> TableId {
        TableId::new("s", "t")
    }

    fn plan(epoch: u64, chunk: u32, up_to: Option<&str>) -> Record {
        Record::Plan(ChunkPlanned {
            epoch: Epoch(epoch),
            copy: CopyId(1),
            table: table(),
            chunk,
            up_to: up_to.map(|text| vec![text.to_owned()]),
        })
    }

    fn chunk(epoch: u64, chunk: u32, last: bool) -> Record {
        Record::Chunk(Chunk {
            epoch: Epoch(epoch),
            copy: CopyId(1),
            table: table(),
            chunk,
            piece: 0,
            last,
            again: false,
            visible: "9:9:".parse().expect("a snapshot"),
            lsn: Lsn(1),
            schema: SchemaId(1),
            slices: Vec::new(),
            rows: Vec::new(),
        })
    }

    fn again(chunk: Record) -> Record {
        match chunk {
            Record::Chunk(chunk) => Record::Chunk(Chunk {
                again: true,
                ..chunk
            }),
            other => other,
        }
    }

    fn start(epoch: u64) -> Record {
        Record::Start(millrace_events::Start {
            epoch: Epoch(epoch),
            owner: None,
            at: chrono::DateTime::UNIX_EPOCH,
        })
    }

    fn progress(records: Vec<Record>) -> Progress {
        let mut progress = Progress::none(CopyId(1));
        for record in records {
            assert_ne!(progress.take(record), ChunkVerdict::Foreign);
        }
        progress
    }

    fn job(chunk: u32, after: Option<&str>, up_to: Option<&str>) -> Job {
        let key = |text: &str| vec![text.to_owned()];
        let range = Range {
            after: after.map(key),
            up_to: up_to.map(key),
        };
        Job { chunk, range }
    }

    #[test]
    fn a_copy_that_was_not_begun_is_planned_from_its_beginning() {
        let expected = Left {
            jobs: Vec::new(),
            planned: 0,
            after: None,
            planned_to_end: false,
        };
        let progress = progress(vec![start(1)]);
        assert!(!progress.has_begun(&table()));
        assert_eq!(progress.left(&table()), expected);
    }

    #[test]
    fn only_chunks_that_are_not_complete_are_read_again() {
        let progress = progress(vec![
            start(1),
            plan(1, 1, Some("10")),
            plan(1, 2, Some("20")),
            chunk(1, 2, true),
            plan(1, 2, Some("20")),
            plan(1, 3, Some("30")),
            chunk(1, 1, false),
        ]);
        let left = progress.left(&table());
        assert_eq!(
            left.jobs,
            [job(1, None, Some("10")), job(3, Some("20"), Some("30"))]
        );
        assert_eq!(
            (left.planned, left.after, left.planned_to_end),
            (3, Some(vec!["30".into()]), false)
        );
    }

    #[test]
    fn plans_and_chunks_of_a_fenced_start_do_not_count() {
        let progress = progress(vec![
            start(1),
            plan(1, 1, Some("10")),
            start(2),
            plan(1, 2, Some("late")),
            chunk(1, 1, true),
            plan(2, 2, Some("20")),
            plan(2, 3, None),
        ]);
        let left = progress.left(&table());
        let expected = [
            job(1, None, Some("10")),
            job(2, Some("10"), Some("20")),
            job(3, Some("20"), None),
        ];
        assert_eq!(left.jobs, expected);
        assert!(left.planned_to_end);
    }

    #[test]
    fn a_chunk_of_keys_to_read_again_takes_a_number_that_is_free() {
        let mut records = vec![start(1), plan(1, 1, None), chunk(1, 1, true)];
        assert_eq!(progress(records.clone()).number_again(&table(), 1), 2);
        records.push(chunk(1, 2, true));
        assert_eq!(progress(records.clone()).number_again(&table(), 1), 3);
        // One that was given up is not begun anew.
        records.push(again(chunk(1, 3, false)));
        let progress = progress(records);
        assert_eq!(progress.number_again(&table(), 1), 4);
        let visible = "9:9:".parse().expect("a snapshot");
        assert_eq!(progress.unfinished_again(&table()), [(3, visible)]);
    }
}
