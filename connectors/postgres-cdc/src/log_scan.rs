//! Reading the log's own end: the only way to know where to continue. Where it ends is believed behind a record of our own
//! only (ADR 11). The first time it is read from the newest checkpoint on (ADR 22).

use millrace_events::{Baseline, Begin, Epoch, Lsn, Progress, Record, Verdict};
use millrace_topic::{Cluster, Offset, Read};

use crate::append::Appender;
use crate::checkpoint;
use crate::log_state::LogState;
use crate::{Config, Error};

/// How far the log was read. Kept between the sessions of one process, so that only
/// the first one has to find where to begin.
#[derive(Debug, Default)]
pub(crate) struct LogScan {
    pub(crate) state: LogState,
    /// The first offset that the topic still has.
    pub(crate) first: Option<Offset>,
    /// The checkpoint that reading began at; 0 without one.
    pub(crate) begin: Offset,
    /// The next offset to read.
    next: Offset,
    /// How many records were read.
    pub(crate) records: u64,
}

/// Creates the topic of the log if it is missing; refuses one that cannot hold a log.
pub(crate) async fn ensure_topic(cluster: &Cluster, config: &Config) -> Result<(), Error> {
    let topic = &config.topic_changes;
    let found = cluster.ensure(topic, &config.retention).await?;
    let refuse = |difference: String| Error::TopicShape {
        topic: topic.into(),
        difference,
    };
    if found.partitions != 1 {
        return Err(refuse(format!(
            "has {} partitions, not 1",
            found.partitions
        )));
    }
    // Found out here, because the server refuses a batch as often as it is sent.
    found
        .check_segments()
        .map_err(|error| refuse(error.to_string()))?;
    Ok(cluster.check_online(topic).await?)
}

impl LogScan {
    /// How the log begins, as far as the topic seems to hold it now. Good for finding out that it is not ours.
    pub(crate) async fn look(
        &mut self,
        cluster: &Cluster,
        topic: &str,
    ) -> Result<Option<Baseline>, Error> {
        if self.first.is_some() {
            return Ok(self.state.baseline.clone());
        }
        let mut seeming = LogScan::default();
        let looked = seeming.look_at(cluster, topic).await;
        self.records += seeming.records;
        match looked {
            // It seems to end before what is read next, or to begin behind it.
            Ok(()) | Err(Error::LogEvicted { .. } | Error::LogBeyond { .. }) => {
                Ok(seeming.state.baseline)
            }
            Err(error) => Err(error),
        }
    }

    async fn look_at(&mut self, cluster: &Cluster, topic: &str) -> Result<(), Error> {
        let bounds = cluster.bounds(topic).await?;
        let end = bounds.map(|bounds| bounds.end).unwrap_or_default();
        self.begin(cluster, topic, end).await?;
        match self.state.baseline {
            Some(_) => Ok(()),
            None => self.read(cluster, self.wanted(topic).until_now()).await,
        }
    }

    /// Begins at the newest checkpoint before `end`, or at the beginning of the topic.
    async fn begin(&mut self, cluster: &Cluster, topic: &str, end: Offset) -> Result<(), Error> {
        let found = checkpoint::newest(cluster, topic, end).await?;
        self.records += found.records;
        if let Some(Begin { offset, checkpoint }) = found.begin {
            let next = Offset(offset).next();
            self.begin = Offset(offset);
            self.state.begin_at(checkpoint, found.void);
            (self.first, self.next) = (Some(next), next);
        }
        Ok(())
    }

    /// Reads to the end of the topic as it is now. The record that finds the end means nothing to any reader.
    pub(crate) async fn find_end(
        &mut self,
        cluster: &Cluster,
        topic: &str,
        log: &mut Appender,
    ) -> Result<(), Error> {
        self.append(cluster, topic, log, end_finder()).await
    }

    /// Appends `record` and reads up to it. What counted before it is then agreed with every reader.
    pub(crate) async fn append(
        &mut self,
        cluster: &Cluster,
        topic: &str,
        log: &mut Appender,
        record: Record,
    ) -> Result<(), Error> {
        let fence = log.fence(record.encode()).await?;
        if fence.offset < self.next {
            tracing::warn!(
                topic,
                offset = %fence.offset,
                expected = %self.next,
                "the topic has become shorter; it is read again"
            );
            self.forget();
        }
        if self.first.is_none() {
            self.begin(cluster, topic, fence.offset).await?;
        }
        self.read(cluster, self.wanted(topic).until(fence)).await
    }

    /// Reads the log anew.
    pub(crate) fn forget(&mut self) {
        *self = LogScan {
            records: self.records,
            ..LogScan::default()
        };
    }

    fn wanted(&self, topic: &str) -> Read {
        Read::new(topic).from(self.first.map(|_| self.next))
    }

    async fn read(&mut self, cluster: &Cluster, wanted: Read) -> Result<(), Error> {
        let topic = wanted.topic().to_owned();
        let mut reading = cluster.read(wanted).await?;
        while let Some(record) = reading.next().await? {
            self.records += 1;
            self.first.get_or_insert(record.offset);
            self.next = record.offset;
            self.record(&topic, &record.value)?;
            self.next = record.offset.next();
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
        match self.state.offer(self.next.0 as i64, record) {
            Verdict::Foreign => Err(foreign("a snapshot record".into())),
            _ => Ok(()),
        }
    }
}

/// Epoch 0 is before every start, and nothing ends at LSN 0: every reader ignores it. The time tells it from others.
fn end_finder() -> Record {
    Record::Progress(Progress {
        epoch: Epoch::default(),
        prev: Lsn::ZERO,
        end_lsn: Lsn::ZERO,
        gap: false,
        at: chrono::Utc::now(),
    })
}

#[cfg(test)]
#[path = "log_scan_tests.rs"]
mod tests;
