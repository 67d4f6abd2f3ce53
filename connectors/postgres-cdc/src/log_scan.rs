//! Reading the log's own end: the only way to know where to continue.
//!
//! A server that has just started answers that a topic is empty, until it has been told that it leads it, and a read
//! up to the end then ends at once. So where a topic ends is believed in one case only: a record of our own was
//! acknowledged, and everything up to it was read.

use std::time::Duration;

use fluvio::consumer::ConsumerConfig;
use fluvio::dataplane::link::ErrorCode;
use fluvio::{Fluvio, Offset};
use futures_util::{pin_mut, StreamExt};
use millrace_events::{Chain, Epoch, Lsn, Progress, Record, SnapshotMark, Verdict};
use tokio::time::timeout;

use crate::append::Appender;
use crate::config::FETCH_BYTES_MAX;
use crate::Error;

/// How long the next batch may take to come.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// What the records of the log add up to. Kept between the sessions of one process, so that only
/// the first one reads the whole log.
#[derive(Debug, Default)]
pub(crate) struct LogScan {
    pub(crate) chain: Chain,
    /// The mark that anchors the chain.
    pub(crate) mark: Option<SnapshotMark>,
    /// The first offset that the topic still has.
    pub(crate) first: Option<i64>,
    /// The next offset to read.
    pub(crate) next: i64,
}

/// A record of our own, with the offset under which it was acknowledged.
#[derive(Debug)]
struct Written {
    offset: i64,
    value: Vec<u8>,
}

impl LogScan {
    /// Reads what the topic seems to hold now, which may be too little. Good for finding out that it is not ours.
    pub(crate) async fn look(&mut self, fluvio: &Fluvio, topic: &str) -> Result<(), Error> {
        self.read(fluvio, topic, None).await
    }

    /// Reads to the end of the topic as it is now. The record that finds the end means nothing to any reader.
    pub(crate) async fn find_end(
        &mut self,
        fluvio: &Fluvio,
        topic: &str,
        log: &mut Appender,
    ) -> Result<(), Error> {
        self.append(fluvio, topic, log, end_finder()).await
    }

    /// Appends `record` and reads up to it. What counted before it is then agreed with every reader.
    pub(crate) async fn append(
        &mut self,
        fluvio: &Fluvio,
        topic: &str,
        log: &mut Appender,
        record: Record,
    ) -> Result<(), Error> {
        let value = record.encode();
        let offset = log.append_and_wait(value.clone()).await?;
        if offset < self.next {
            let expected = self.next;
            tracing::warn!(
                topic,
                offset,
                expected,
                "the topic has become shorter; it is read again from its beginning"
            );
            *self = LogScan::default();
        }
        self.read(fluvio, topic, Some(&Written { offset, value }))
            .await
    }

    async fn read(
        &mut self,
        fluvio: &Fluvio,
        topic: &str,
        goal: Option<&Written>,
    ) -> Result<(), Error> {
        let config = ConsumerConfig::builder()
            .max_bytes(FETCH_BYTES_MAX)
            .disable_continuous(goal.is_none())
            .build()
            .map_err(Error::fluvio)?;
        let start = match self.first {
            None => Offset::beginning(),
            Some(_) => Offset::absolute(self.next).map_err(Error::fluvio)?,
        };
        // The newer interface hides where a batch was cut, and pays for a timer with each record.
        #[allow(deprecated)]
        let consumer = fluvio
            .partition_consumer(topic, 0)
            .await
            .map_err(Error::fluvio)?;
        let batches = consumer
            .stream_batches_with_config(start, config)
            .await
            .map_err(Error::fluvio)?;
        pin_mut!(batches);
        while goal.is_none_or(|goal| self.next <= goal.offset) {
            let next = timeout(BATCH_TIMEOUT, batches.next()).await;
            let batch = match next {
                Ok(Some(Ok(batch))) => batch,
                Ok(Some(Err(code))) if goal.is_none() && is_about_the_end(&code) => return Ok(()),
                Ok(Some(Err(code))) => return Err(self.refused(topic, &code)),
                Ok(None) if goal.is_none() => return Ok(()),
                Ok(None) => return Err(self.failed(topic, "the stream ended early")),
                Err(_) => return Err(self.failed(topic, "no answer within 30 s")),
            };
            let base = batch.get_base_offset();
            self.batch(
                topic,
                base,
                batch.records().iter().map(|record| record.value().as_ref()),
                goal,
            )?;
            if self.next <= batch.get_last_offset() {
                return Err(self.failed(topic, "a batch was cut short"));
            }
        }
        Ok(())
    }

    fn batch<'a>(
        &mut self,
        topic: &str,
        base: i64,
        values: impl Iterator<Item = &'a [u8]>,
        goal: Option<&Written>,
    ) -> Result<(), Error> {
        if self.first.is_none() {
            self.first = Some(base);
            self.next = base;
        }
        if base > self.next {
            return Err(self.failed(topic, "offsets are missing"));
        }
        for (offset, value) in (base..).zip(values) {
            if goal.is_some_and(|goal| goal.offset == offset && goal.value != value) {
                return Err(self.failed(topic, "another record stands where ours was acknowledged"));
            }
            if offset == self.next {
                self.record(topic, value)?;
                self.next += 1;
            }
        }
        Ok(())
    }

    fn record(&mut self, topic: &str, value: &[u8]) -> Result<(), Error> {
        let foreign = |reason: String| Error::LogForeign {
            topic: topic.into(),
            offset: self.next,
            reason,
        };
        let record = Record::decode(value).map_err(|error| foreign(error.to_string()))?;
        let verdict = self.chain.offer(&record);
        match (record, verdict) {
            (_, Verdict::Foreign) => return Err(foreign("a snapshot record".into())),
            (Record::Snapshot(mark), Verdict::Moved) => self.mark = Some(mark),
            _ => {}
        }
        Ok(())
    }

    fn refused(&self, topic: &str, code: &ErrorCode) -> Error {
        match code {
            ErrorCode::OffsetEvicted { next_available, .. } => Error::LogEvicted {
                topic: topic.into(),
                wanted: self.next,
                first: *next_available,
            },
            code => self.failed(topic, &code.to_string()),
        }
    }

    fn failed(&self, topic: &str, reason: &str) -> Error {
        Error::Read {
            topic: topic.into(),
            offset: self.next,
            reason: reason.into(),
        }
    }
}

/// Epoch 0 is before every start, and nothing ends at LSN 0: every reader ignores it. The time tells it from others.
fn end_finder() -> Record {
    Record::Progress(Progress {
        epoch: Epoch::default(),
        prev: Lsn::ZERO,
        end_lsn: Lsn::ZERO,
        at: chrono::Utc::now(),
    })
}

/// The topic seems to end before the offset that is read next, or to begin behind it.
fn is_about_the_end(code: &ErrorCode) -> bool {
    match code {
        ErrorCode::OffsetEvicted { .. } => true,
        // The server has no code for it, only these words.
        ErrorCode::Other(text) => text.contains("is greater than leo"),
        _ => false,
    }
}

/// The first record of a topic; nothing if it is empty or begins with something else.
pub(crate) async fn first_record(fluvio: &Fluvio, topic: &str) -> Result<Option<Record>, Error> {
    let config = ConsumerConfig::builder()
        .max_bytes(FETCH_BYTES_MAX)
        .disable_continuous(true)
        .build()
        .map_err(Error::fluvio)?;
    #[allow(deprecated)]
    let consumer = fluvio
        .partition_consumer(topic, 0)
        .await
        .map_err(Error::fluvio)?;
    let batches = consumer
        .stream_batches_with_config(Offset::beginning(), config)
        .await
        .map_err(Error::fluvio)?;
    pin_mut!(batches);
    match timeout(BATCH_TIMEOUT, batches.next()).await {
        Ok(Some(Ok(batch))) => {
            let first = batch.records().first();
            Ok(first.and_then(|record| Record::decode(record.value().as_ref()).ok()))
        }
        Ok(Some(Err(code))) => Err(Error::fluvio(code)),
        Ok(None) => Ok(None),
        Err(_) => Err(Error::Timeout {
            what: "reading a snapshot topic",
            seconds: BATCH_TIMEOUT.as_secs(),
        }),
    }
}
