//! Reading the log's own end: the only way to know where to continue.

use std::time::Duration;

use fluvio::consumer::ConsumerConfig;
use fluvio::{Fluvio, Offset};
use futures_util::{pin_mut, StreamExt};
use millrace_events::{Chain, Record, SnapshotMark, Verdict};
use tokio::time::timeout;

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

impl LogScan {
    /// Reads on to the end of the topic as it is now.
    pub(crate) async fn scan_to_end(&mut self, fluvio: &Fluvio, topic: &str) -> Result<(), Error> {
        self.read(fluvio, topic, None).await
    }

    /// Reads on until `offset` has been read.
    pub(crate) async fn through(
        &mut self,
        fluvio: &Fluvio,
        topic: &str,
        offset: i64,
    ) -> Result<(), Error> {
        if offset < self.next {
            *self = LogScan::default();
            return Err(self.failed(
                topic,
                "the topic has become shorter; it is read again from its beginning",
            ));
        }
        self.read(fluvio, topic, Some(offset)).await
    }

    async fn read(&mut self, fluvio: &Fluvio, topic: &str, last: Option<i64>) -> Result<(), Error> {
        let config = ConsumerConfig::builder()
            .max_bytes(FETCH_BYTES_MAX)
            .disable_continuous(last.is_none())
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
        while last.is_none_or(|last| self.next <= last) {
            let next = timeout(BATCH_TIMEOUT, batches.next()).await;
            let batch = match next {
                Ok(Some(batch)) => batch.map_err(|code| self.failed(topic, &code.to_string()))?,
                Ok(None) if last.is_none() => return Ok(()),
                Ok(None) => return Err(self.failed(topic, "the stream ended early")),
                Err(_) => return Err(self.failed(topic, "no answer within 30 s")),
            };
            let base = batch.get_base_offset();
            self.batch(
                topic,
                base,
                batch.records().iter().map(|record| record.value().as_ref()),
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
    ) -> Result<(), Error> {
        if self.first.is_none() {
            self.first = Some(base);
            self.next = base;
        }
        if base > self.next {
            return Err(self.failed(topic, "offsets are missing"));
        }
        for (offset, value) in (base..).zip(values) {
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

    fn failed(&self, topic: &str, reason: &str) -> Error {
        Error::Read {
            topic: topic.into(),
            offset: self.next,
            reason: reason.into(),
        }
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
