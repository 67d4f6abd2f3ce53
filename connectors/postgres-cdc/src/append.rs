//! Appending records: bounded, in order, and every acknowledgement awaited.

use std::sync::Arc;
use std::time::Duration;

use fluvio::{
    DeliverySemantic, Fluvio, ProduceOutput, RecordKey, RetryPolicy, TopicProducerConfigBuilder,
    TopicProducerPool,
};
use millrace_events::Lsn;
use tokio::sync::{mpsc, watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::assemble::Outgoing;
use crate::config::{BATCH_BYTES, REQUEST_BYTES_MAX};
use crate::{Config, Error};

/// Fluvio's client measures its linger with two clocks, so that a batch can be left behind when one
/// of them is corrected; after this time without an acknowledgement it is told to send.
const NUDGE_AFTER: Duration = Duration::from_millis(500);

/// What has been acknowledged, without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Records.
    pub(crate) records: u64,
    /// Transactions among them.
    pub(crate) transactions: u64,
    /// The log is durable up to here.
    pub(crate) lsn: Lsn,
    /// Offset of the last one.
    pub(crate) offset: i64,
}

/// Appends to one topic. After the first error nothing more is acknowledged: what the topic holds
/// is then unknown, and only reading it tells.
pub(crate) struct Appender {
    producer: TopicProducerPool,
    room: Arc<Semaphore>,
    room_bytes: usize,
    pending: mpsc::Sender<Pending>,
    acknowledged: watch::Receiver<Acknowledged>,
    sent: u64,
    task: AbortOnDropHandle<Result<(), Error>>,
}

struct Pending {
    output: ProduceOutput,
    ends: Option<Lsn>,
    transaction: bool,
    _room: OwnedSemaphorePermit,
}

impl Appender {
    pub(crate) async fn new(fluvio: &Fluvio, config: &Config, topic: &str) -> Result<Self, Error> {
        let settings = TopicProducerConfigBuilder::default()
            .batch_size(BATCH_BYTES)
            .max_request_size(REQUEST_BYTES_MAX)
            .linger(config.linger)
            .timeout(config.acknowledge_timeout)
            .delivery_semantic(DeliverySemantic::AtLeastOnce(RetryPolicy {
                max_retries: 0,
                timeout: config.acknowledge_timeout,
                ..RetryPolicy::default()
            }))
            .build()
            .map_err(Error::fluvio)?;
        let producer = fluvio
            .topic_producer_with_config(topic, settings)
            .await
            .map_err(Error::fluvio)?;
        let (pending, waiting) = mpsc::channel(config.in_flight_records_max);
        let (report, acknowledged) = watch::channel(Acknowledged::default());
        let task = Acknowledger {
            producer: producer.clone(),
            topic: topic.into(),
            limit: config.acknowledge_timeout,
            report,
        };
        Ok(Appender {
            producer,
            room: Arc::new(Semaphore::new(config.in_flight_bytes_max)),
            room_bytes: config.in_flight_bytes_max,
            pending,
            acknowledged,
            sent: 0,
            task: AbortOnDropHandle::new(tokio::spawn(task.run(waiting))),
        })
    }

    /// Sends a record; waits while too much is in flight.
    pub(crate) async fn append(&mut self, record: Outgoing) -> Result<(), Error> {
        let bytes = record.value.len().min(self.room_bytes) as u32;
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes) => room,
            _ = self.pending.closed() => return Err(self.failure().await),
        };
        // The semaphore is never closed.
        let _room = room.map_err(Error::fluvio)?;
        let output = match self.producer.send(RecordKey::NULL, record.value).await {
            Ok(output) => output,
            Err(error) => return Err(Error::fluvio(error)),
        };
        let pending = Pending {
            output,
            ends: record.ends,
            transaction: record.transaction,
            _room,
        };
        if self.pending.send(pending).await.is_err() {
            return Err(self.failure().await);
        }
        self.sent += 1;
        Ok(())
    }

    /// Sends a record and waits until it and all before it are acknowledged. Returns its offset.
    pub(crate) async fn append_and_wait(&mut self, value: Vec<u8>) -> Result<i64, Error> {
        let record = Outgoing {
            value,
            ends: None,
            transaction: false,
        };
        self.append(record).await?;
        self.settle().await
    }

    /// Waits until everything is acknowledged. Returns the last offset.
    pub(crate) async fn settle(&mut self) -> Result<i64, Error> {
        let sent = self.sent;
        let settled = self.acknowledged.wait_for(|a| a.records >= sent).await;
        match settled.map(|a| a.offset) {
            Ok(offset) => Ok(offset),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Watches the acknowledgements; closed when the appender has failed.
    pub(crate) fn acknowledged(&self) -> watch::Receiver<Acknowledged> {
        self.acknowledged.clone()
    }

    /// Why the acknowledgements have ended.
    pub(crate) async fn failure(&mut self) -> Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::fluvio("the producer has ended"),
            Err(error) => Error::fluvio(error),
        }
    }
}

struct Acknowledger {
    producer: TopicProducerPool,
    topic: String,
    limit: Duration,
    report: watch::Sender<Acknowledged>,
}

impl Acknowledger {
    async fn run(self, mut waiting: mpsc::Receiver<Pending>) -> Result<(), Error> {
        let mut last = None;
        while let Some(pending) = waiting.recv().await {
            let offset = self.wait(pending.output).await?;
            // The client reconnects by itself, perhaps to a server that has lost the end of the log.
            if let Some(last) = last.filter(|last| offset <= *last) {
                return Err(Error::LogShrank {
                    topic: self.topic,
                    offset,
                    last,
                });
            }
            last = Some(offset);
            self.report.send_modify(|a| {
                a.records += 1;
                a.transactions += u64::from(pending.transaction);
                a.lsn = pending.ends.unwrap_or(a.lsn);
                a.offset = offset;
            });
        }
        Ok(())
    }

    async fn wait(&self, output: ProduceOutput) -> Result<i64, Error> {
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
                return Err(Error::Unacknowledged {
                    topic: self.topic.clone(),
                    seconds: self.limit.as_secs(),
                });
            }
        };
        answer
            .map(|metadata| metadata.offset())
            .map_err(Error::fluvio)
    }
}
