//! Appending records: bounded, in order, and every acknowledgement awaited.

use std::sync::Arc;
use std::time::Duration;

use fluvio::{
    DeliverySemantic, ProduceOutput, RecordKey, RetryPolicy, TopicProducerConfigBuilder,
    TopicProducerPool,
};
use tokio::sync::{mpsc, watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::Connection;
use crate::limits::{BATCH_BYTES, REQUEST_BYTES_MAX};
use crate::{Cluster, Fence, Offset, TopicError};

/// Fluvio's client measures its linger with two clocks, so that a batch can be left behind when one
/// of them is corrected; after this time without an acknowledgement it is told to send.
const NUDGE_AFTER: Duration = Duration::from_millis(500);

/// How much an [`Appender`] may have in flight, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct AppendLimits {
    /// Bytes of records that were sent and are not acknowledged yet.
    pub in_flight_bytes_max: usize,
    /// The number of these records.
    pub in_flight_records_max: usize,
    /// How long the client waits for more records before it sends a batch.
    pub linger: Duration,
    /// How long an acknowledgement may take.
    pub acknowledge_timeout: Duration,
}

impl Default for AppendLimits {
    fn default() -> Self {
        AppendLimits {
            in_flight_bytes_max: 16 << 20,
            in_flight_records_max: 16_384,
            linger: Duration::from_millis(5),
            acknowledge_timeout: Duration::from_secs(30),
        }
    }
}

/// A record to be appended, and what its owner notes about it until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Entry<N = ()> {
    /// For the reader; one partition takes all keys.
    pub key: Option<String>,
    /// At most [`RECORD_BYTES_MAX`](crate::RECORD_BYTES_MAX).
    pub value: Vec<u8>,
    /// Comes back in [`Tally::acknowledged`].
    pub note: N,
}

impl<N: Default> From<Vec<u8>> for Entry<N> {
    fn from(value: Vec<u8>) -> Self {
        Entry {
            key: None,
            value,
            note: N::default(),
        }
    }
}

/// What an owner knows of the records that are acknowledged. It is told of each, in their order and without a gap.
pub trait Tally: Default + Send + Sync + 'static {
    /// What it notes about a record.
    type Note: Default + Send + 'static;

    /// The next record is acknowledged.
    fn acknowledged(&mut self, note: Self::Note, offset: Offset);
}

/// Nothing but that they are.
impl Tally for () {
    type Note = ();

    fn acknowledged(&mut self, (): (), _: Offset) {}
}

/// Appends to one topic of one partition. After the first error nothing more is acknowledged: what the topic holds
/// is then unknown, and only reading it tells.
pub struct Appender<T: Tally = ()> {
    producer: TopicProducerPool,
    topic: String,
    room: Arc<Semaphore>,
    room_bytes: usize,
    in_flight: mpsc::Sender<InFlight<T::Note>>,
    settled: watch::Receiver<Settled>,
    tally: watch::Receiver<T>,
    sent: Sent,
    task: AbortOnDropHandle<Result<(), TopicError>>,
    /// Why the acknowledgements have ended.
    failure: Option<TopicError>,
    _connection: Connection,
}

/// What an appender has sent since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// What has been acknowledged.
#[derive(Clone, Copy, Default)]
struct Settled {
    records: u64,
    last: Option<Offset>,
}

struct InFlight<N> {
    output: ProduceOutput,
    note: N,
    _room: OwnedSemaphorePermit,
}

impl Cluster {
    /// Something that appends to a topic, which must exist.
    ///
    /// # Errors
    /// If there is no such topic, or its server does not answer.
    pub async fn appender<T: Tally>(
        &self,
        topic: &str,
        limits: AppendLimits,
    ) -> Result<Appender<T>, TopicError> {
        let doing = format!("appending to topic {topic}");
        let name = topic.to_owned();
        let open = |connection: Connection| async move {
            let settings = TopicProducerConfigBuilder::default()
                .batch_size(BATCH_BYTES)
                .max_request_size(REQUEST_BYTES_MAX)
                .linger(limits.linger)
                .timeout(limits.acknowledge_timeout)
                .delivery_semantic(DeliverySemantic::AtLeastOnce(RetryPolicy {
                    max_retries: 0,
                    timeout: limits.acknowledge_timeout,
                    ..RetryPolicy::default()
                }))
                .build()?;
            let producer = connection
                .data
                .topic_producer_with_config(name, settings)
                .await?;
            Ok((producer, connection))
        };
        let (producer, connection) = self.ask_of(&doing, topic, open).await?;
        Ok(Appender::new(topic, producer, connection, limits))
    }
}

impl<T: Tally> Appender<T> {
    fn new(
        topic: &str,
        producer: TopicProducerPool,
        connection: Connection,
        limits: AppendLimits,
    ) -> Self {
        let (in_flight, waiting) = mpsc::channel(limits.in_flight_records_max);
        let (settle, settled) = watch::channel(Settled::default());
        let (report, tally) = watch::channel(T::default());
        let acknowledger = Acknowledger {
            producer: producer.clone(),
            topic: topic.to_owned(),
            limit: limits.acknowledge_timeout,
            settle,
            report,
        };
        Appender {
            producer,
            topic: topic.to_owned(),
            room: Arc::new(Semaphore::new(limits.in_flight_bytes_max)),
            room_bytes: limits.in_flight_bytes_max,
            in_flight,
            settled,
            tally,
            sent: Sent::default(),
            task: AbortOnDropHandle::new(tokio::spawn(acknowledger.run(waiting))),
            failure: None,
            _connection: connection,
        }
    }

    /// Sends a record; waits while too much is in flight.
    ///
    /// # Errors
    /// If this record cannot be sent, or an earlier one was not acknowledged.
    pub async fn append(&mut self, record: impl Into<Entry<T::Note>>) -> Result<(), TopicError> {
        let Entry { key, value, note } = record.into();
        let value_bytes = value.len() as u64;
        let bytes = u32::try_from(value.len().min(self.room_bytes)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes) => room,
            () = self.in_flight.closed() => return Err(self.failure().await),
        };
        // The semaphore is never closed.
        let _room = room.map_err(|error| self.failed(error.to_string()))?;
        let key = key.map_or(RecordKey::NULL, RecordKey::from);
        let sent = self.producer.send(key, value).await;
        let output =
            sent.map_err(|error| TopicError::of(&self.doing(), Some(&self.topic), error))?;
        let in_flight = InFlight {
            output,
            note,
            _room,
        };
        if self.in_flight.send(in_flight).await.is_err() {
            return Err(self.failure().await);
        }
        self.sent.records += 1;
        self.sent.bytes += value_bytes;
        Ok(())
    }

    /// Sends a record and waits until it and all before it are acknowledged. Returns its offset.
    ///
    /// # Errors
    /// If it is not acknowledged: it may be in the topic or not.
    pub async fn append_and_wait(
        &mut self,
        record: impl Into<Entry<T::Note>>,
    ) -> Result<Offset, TopicError> {
        self.append(record).await?;
        let last = self.settle().await?;
        last.ok_or_else(|| self.failed("the record was not acknowledged".to_owned()))
    }

    /// Appends a record of our own, behind which the topic's end is (ADR 11).
    ///
    /// # Errors
    /// If it is not acknowledged.
    pub async fn fence(&mut self, value: Vec<u8>) -> Result<Fence, TopicError> {
        let offset = self.append_and_wait(value.clone()).await?;
        Ok(Fence { offset, value })
    }

    /// Waits until everything is acknowledged. Returns the offset of the last record, if there was one.
    ///
    /// # Errors
    /// If something was not.
    pub async fn settle(&mut self) -> Result<Option<Offset>, TopicError> {
        let sent = self.sent.records;
        let settled = self.settled.wait_for(|now| now.records >= sent).await;
        match settled.map(|now| now.last) {
            Ok(last) => Ok(last),
            Err(_) => Err(self.failure().await),
        }
    }

    /// What was sent so far, acknowledged or not.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Watches what is acknowledged; closed when the appender has failed.
    #[must_use]
    pub fn acknowledged(&self) -> watch::Receiver<T> {
        self.tally.clone()
    }

    /// Why the acknowledgements have ended.
    pub async fn failure(&mut self) -> TopicError {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let failure = match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => self.failed("the producer has ended".to_owned()),
            Err(error) => self.failed(error.to_string()),
        };
        self.failure.insert(failure).clone()
    }

    fn failed(&self, reason: String) -> TopicError {
        TopicError::failed(self.doing(), reason)
    }

    fn doing(&self) -> String {
        format!("appending to topic {}", self.topic)
    }
}

struct Acknowledger<T> {
    producer: TopicProducerPool,
    topic: String,
    limit: Duration,
    settle: watch::Sender<Settled>,
    report: watch::Sender<T>,
}

impl<T: Tally> Acknowledger<T> {
    async fn run(self, mut waiting: mpsc::Receiver<InFlight<T::Note>>) -> Result<(), TopicError> {
        let mut last = None;
        while let Some(in_flight) = waiting.recv().await {
            let offset = self.wait(in_flight.output).await?;
            // The client reconnects by itself, perhaps to a server that has lost the end of the topic.
            if let Some(last) = last.filter(|last| offset <= *last) {
                let topic = self.topic;
                return Err(TopicError::Shrank {
                    topic,
                    offset,
                    last,
                });
            }
            last = Some(offset);
            let note = in_flight.note;
            self.report
                .send_modify(|tally| tally.acknowledged(note, offset));
            self.settle.send_modify(|settled| {
                settled.records += 1;
                settled.last = last;
            });
        }
        Ok(())
    }

    async fn wait(&self, output: ProduceOutput) -> Result<Offset, TopicError> {
        let wait = output.wait();
        tokio::pin!(wait);
        let nudge = async {
            sleep(NUDGE_AFTER).await;
            let _ = self.producer.flush().await;
            sleep(self.limit).await;
        };
        let answer = tokio::select! {
            biased;
            answer = &mut wait => answer,
            _ = timeout(self.limit, nudge) => {
                return Err(TopicError::Unacknowledged {
                    topic: self.topic.clone(),
                    limit: self.limit,
                });
            }
        };
        let doing = format!("appending to topic {}", self.topic);
        match answer {
            Ok(metadata) => Offset::of(metadata.offset())
                .ok_or_else(|| TopicError::failed(doing, "the offset is negative")),
            Err(error) => Err(TopicError::of(&doing, Some(&self.topic), error.into())),
        }
    }
}
