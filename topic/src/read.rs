//! Reading one partition.

use std::collections::VecDeque;
use std::pin::Pin;

use fluvio::consumer::ConsumerConfig;
use fluvio::dataplane::link::ErrorCode;
use fluvio::dataplane::record::Batch as FluvioBatch;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::cluster::Connection;
use crate::limits::{BATCH_TIMEOUT, FETCH_BYTES_MAX};
use crate::sequence::{Batch, Expected, Sequence};
use crate::{Cluster, Offset, Record, SmartModule, TopicError};

/// Records in the order of their offsets.
pub type RecordStream = Pin<Box<dyn Stream<Item = Result<Record, TopicError>> + Send>>;

/// A record of our own that was acknowledged: the topic's end is behind it (ADR 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Where it stands.
    pub offset: Offset,
    /// What was sent.
    pub value: Vec<u8>,
}

/// What is to be read of a topic's first partition. Without more: everything from the beginning on, without end, as it
/// stands there.
#[derive(Clone, Debug)]
pub struct Read {
    topic: String,
    from: Option<Offset>,
    module: Option<SmartModule>,
    expected: Expected,
    end: End,
}

/// Where a reading ends.
#[derive(Clone, Debug)]
enum End {
    /// Never.
    Never,
    /// Where the topic seems to end when the reading begins.
    Now,
    /// Behind the record with this offset.
    Last(Offset),
    /// Behind this record.
    Fence(Fence),
}

impl End {
    fn last(&self) -> Option<Offset> {
        match self {
            End::Never | End::Now => None,
            End::Last(last) => Some(*last),
            End::Fence(fence) => Some(fence.offset),
        }
    }
}

impl Read {
    /// The topic from its first record on.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Read {
        Read {
            topic: topic.into(),
            from: None,
            module: None,
            expected: Expected::Raw,
            end: End::Never,
        }
    }

    /// From this record on, or from the first one if that is not known.
    #[must_use]
    pub fn from(mut self, offset: impl Into<Option<Offset>>) -> Read {
        self.from = offset.into();
        self
    }

    /// What this module makes of the records: one of each.
    #[must_use]
    pub fn through(mut self, module: Option<SmartModule>) -> Read {
        if module.is_some() {
            self.expected = Expected::OneToOne;
        }
        self.module = module;
        self
    }

    /// Whatever comes, without a look at its offset. For a module that may make nothing of a record, or several: offsets are
    /// labels of the server's own then. And for who looks himself.
    #[must_use]
    pub fn unnumbered(mut self) -> Read {
        self.expected = Expected::Anything;
        self
    }

    /// Until the end that the topic seems to have now. A server that has just started may say that it is empty: see
    /// [`Read::until`].
    #[must_use]
    pub fn until_now(mut self) -> Read {
        self.end = End::Now;
        self
    }

    /// Up to this record, which is known to have been there.
    #[must_use]
    pub fn up_to(mut self, last: Offset) -> Read {
        self.end = End::Last(last);
        self
    }

    /// Until this record of our own has been read.
    #[must_use]
    pub fn until(mut self, fence: Fence) -> Read {
        self.end = End::Fence(fence);
        self
    }

    /// Name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn doing(&self) -> String {
        format!("reading topic {}", self.topic)
    }
}

/// A topic being read. Ends with its first error: its owner knows where to resume.
pub struct Reading {
    batches: BoxStream<'static, Result<Batch, TopicError>>,
    sequence: Sequence,
    read: Read,
    /// Records that came and were not asked for yet.
    ready: VecDeque<Record>,
    /// What is wrong behind them.
    failed: Option<TopicError>,
    ended: bool,
    /// What has failed here is not used again.
    source: Option<(Cluster, Connection)>,
}

impl Cluster {
    /// Begins to read.
    ///
    /// # Errors
    /// If there is no such topic, or its server does not answer. Offsets that are not there may be noticed later.
    pub async fn read(&self, read: Read) -> Result<Reading, TopicError> {
        let (doing, topic) = (read.doing(), read.topic.clone());
        let (config, start) = settings(&read)?;
        let open = |connection: Connection| async move {
            #[expect(
                deprecated,
                reason = "the newer interface hides where a batch was cut, and pays for a timer with each record"
            )]
            let consumer = connection.data.partition_consumer(topic, 0).await?;
            let batches = consumer.stream_batches_with_config(start, config).await?;
            Ok((batches.boxed(), connection))
        };
        let (batches, connection) = self.ask_of(&doing, &read.topic, open).await?;
        let (doing, topic) = (read.doing(), read.topic.clone());
        let batches = batches.map(move |batch| match batch {
            Ok(batch) => Ok(of_fluvio(batch)),
            Err(code) => Err(refused(&doing, &topic, code)),
        });
        let mut reading = Reading::new(read, batches.boxed());
        reading.source = Some((self.clone(), connection));
        Ok(reading)
    }
}

fn settings(read: &Read) -> Result<(ConsumerConfig, fluvio::Offset), TopicError> {
    let failed = |error: String| TopicError::failed(read.doing(), error);
    let start = match read.from {
        None => fluvio::Offset::beginning(),
        Some(from) => {
            fluvio::Offset::absolute(from.to_i64()).map_err(|error| failed(error.to_string()))?
        }
    };
    let modules = read.module.iter().map(SmartModule::invocation).collect();
    let config = ConsumerConfig::builder()
        .max_bytes(FETCH_BYTES_MAX)
        .smartmodule(modules)
        .disable_continuous(matches!(read.end, End::Now))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    Ok((config, start))
}

fn of_fluvio(batch: FluvioBatch) -> Batch {
    let last = Offset::of(batch.get_last_offset());
    let records = batch.into_consumer_records_iter(0).map(|record| Record {
        offset: Offset::of(record.offset).unwrap_or_default(),
        sent_at_ms: Some(record.timestamp()).filter(|ms| *ms > 0),
        key: record.key().map(<[u8]>::to_vec),
        value: record.into_inner().into_value().to_vec(),
    });
    Batch {
        last,
        records: records.collect(),
    }
}

fn refused(doing: &str, topic: &str, code: ErrorCode) -> TopicError {
    TopicError::of_code(doing, topic, None, code)
}

impl Reading {
    fn new(read: Read, batches: BoxStream<'static, Result<Batch, TopicError>>) -> Reading {
        let ended = read.from.zip(read.end.last());
        let ended = ended.is_some_and(|(from, last)| from > last);
        Reading {
            batches,
            sequence: Sequence::new(read.topic.clone(), read.expected, read.from),
            read,
            ready: VecDeque::new(),
            failed: None,
            ended,
            source: None,
        }
    }

    /// The next record; `None` once the end that was asked for is reached. Cancel-safe.
    ///
    /// # Errors
    /// If the next record does not come, or is not the one that was to come. Nothing comes after that.
    pub async fn next(&mut self) -> Result<Option<Record>, TopicError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(record) = self.ready.pop_front() {
                return self.checked(record).map(Some);
            }
            if let Some(error) = self.failed.take() {
                return Err(self.fails(error));
            }
            match self.batch().await {
                Ok(Some(batch)) => {
                    let (records, error) = self.sequence.take(batch);
                    (self.ready, self.failed) = (records.into(), error);
                }
                Ok(None) => self.ended = true,
                Err(error) => return Err(self.fails(error)),
            }
        }
    }

    /// The records as a stream, which ends with the first error.
    #[must_use]
    pub fn into_stream(self) -> RecordStream {
        Box::pin(stream::unfold(Some(self), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(record) => Some((Ok(record?), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    /// A topic that is known to have more is waited for, but not for ever.
    async fn batch(&mut self) -> Result<Option<Batch>, TopicError> {
        let next = self.batches.next();
        let batch = match self.read.end {
            End::Never => Ok(next.await),
            // Who has a module compiled waits as long as that may take.
            End::Now if self.read.module.is_some() => Ok(next.await),
            _ => timeout(BATCH_TIMEOUT, next).await,
        };
        match (batch, &self.read.end) {
            (Ok(Some(Err(TopicError::Beyond { topic, .. }))), _) => Err(TopicError::Beyond {
                topic,
                wanted: self.sequence.wanted().unwrap_or_default(),
            }),
            (Ok(Some(batch)), _) => batch.map(Some),
            (Ok(None), End::Now) => Ok(None),
            (Ok(None), _) => Err(TopicError::Ended {
                topic: self.read.topic.clone(),
            }),
            (Err(_), _) => Err(TopicError::Timeout {
                doing: self.read.doing(),
                limit: BATCH_TIMEOUT,
            }),
        }
    }

    fn checked(&mut self, record: Record) -> Result<Record, TopicError> {
        let last = self.read.end.last();
        self.ended = last.is_some_and(|last| record.offset >= last);
        match &self.read.end {
            End::Fence(fence) if self.ended && record.value != fence.value => {
                let (topic, offset) = (self.read.topic.clone(), fence.offset);
                Err(self.fails(TopicError::Replaced { topic, offset }))
            }
            _ => Ok(record),
        }
    }

    fn fails(&mut self, error: TopicError) -> TopicError {
        self.ended = true;
        if let Some((cluster, connection)) = &self.source {
            cluster.forget(connection);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64) -> Record {
        Record {
            offset: Offset(offset),
            sent_at_ms: None,
            key: None,
            value: vec![u8::try_from(offset).expect("a small offset")],
        }
    }

    fn batch(first: u64, last: u64) -> Result<Batch, TopicError> {
        Ok(Batch {
            last: Some(Offset(last)),
            records: (first..=last).map(record).collect(),
        })
    }

    fn reading(read: Read, batches: Vec<Result<Batch, TopicError>>) -> Reading {
        Reading::new(read, stream::iter(batches).boxed())
    }

    async fn all(reading: Reading) -> (Vec<u64>, Option<TopicError>) {
        let (mut offsets, mut error) = (Vec::new(), None);
        let mut stream = reading.into_stream();
        while let Some(record) = stream.next().await {
            match record {
                Ok(record) => offsets.push(record.offset.0),
                Err(failed) => error = Some(failed),
            }
        }
        (offsets, error)
    }

    fn fence(offset: u64, value: u8) -> Fence {
        Fence {
            offset: Offset(offset),
            value: vec![value],
        }
    }

    #[tokio::test]
    async fn a_reading_to_a_fence_ends_behind_it() {
        let read = Read::new("t").from(Offset(3)).until(fence(5, 5));
        let (offsets, error) = all(reading(read, vec![batch(2, 4), batch(5, 9)])).await;
        assert_eq!(offsets, [3, 4, 5]);
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn another_record_in_the_place_of_the_fence_is_noticed() {
        let read = Read::new("t").until(fence(5, 77));
        let (offsets, error) = all(reading(read, vec![batch(4, 6)])).await;
        assert_eq!(offsets, [4]);
        assert!(
            matches!(error, Some(TopicError::Replaced { .. })),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_stream_that_ends_before_the_fence_is_no_end() {
        let read = Read::new("t").until(fence(5, 5));
        let (offsets, error) = all(reading(read, vec![batch(0, 2)])).await;
        assert_eq!(offsets, [0, 1, 2]);
        assert!(matches!(error, Some(TopicError::Ended { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn the_end_that_the_topic_seems_to_have_is_an_end_where_that_was_asked_for() {
        let read = Read::new("t").until_now();
        let (offsets, error) = all(reading(read, vec![batch(0, 2)])).await;
        assert_eq!(offsets, [0, 1, 2]);
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn what_came_before_a_fault_is_delivered_and_nothing_after_it() {
        let batches = vec![batch(0, 2), batch(5, 6), batch(3, 4)];
        let (offsets, error) = all(reading(Read::new("t"), batches)).await;
        assert_eq!(offsets, [0, 1, 2]);
        assert!(matches!(error, Some(TopicError::Gap { .. })), "{error:?}");
    }
}
