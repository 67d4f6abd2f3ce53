//! Reading the log's own end: the only way to know where to continue. Where it ends is believed behind a record of our own
//! only (ADR 11).

use millrace_events::{Chain, Epoch, Lsn, Progress, Record, SnapshotMark, Verdict};
use millrace_topic::{Cluster, Offset, Read, TopicError};

use crate::append::Appender;
use crate::{Config, Error};

/// What the records of the log add up to. Kept between the sessions of one process, so that only
/// the first one reads the whole log.
#[derive(Debug, Default)]
pub(crate) struct LogScan {
    pub(crate) chain: Chain,
    /// The mark that anchors the chain.
    pub(crate) mark: Option<SnapshotMark>,
    /// The first offset that the topic still has.
    pub(crate) first: Option<Offset>,
    /// The next offset to read.
    next: Offset,
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
    /// Reads what the topic seems to hold now, which may be too little. Good for finding out that it is not ours.
    pub(crate) async fn look(&mut self, cluster: &Cluster, topic: &str) -> Result<(), Error> {
        match self.read(cluster, self.wanted(topic).until_now()).await {
            // It seems to end before what is read next, or to begin behind it.
            Err(Error::LogEvicted { .. } | Error::LogBeyond { .. }) => Ok(()),
            read => read,
        }
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
                "the topic has become shorter; it is read again from its beginning"
            );
            *self = LogScan::default();
        }
        self.read(cluster, self.wanted(topic).until(fence)).await
    }

    fn wanted(&self, topic: &str) -> Read {
        Read::new(topic).from(self.first.map(|_| self.next))
    }

    async fn read(&mut self, cluster: &Cluster, wanted: Read) -> Result<(), Error> {
        let topic = wanted.topic().to_owned();
        let mut reading = cluster.read(wanted).await?;
        while let Some(record) = reading.next().await? {
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
        let verdict = self.chain.offer(&record);
        match (record, verdict) {
            (_, Verdict::Foreign) => return Err(foreign("a snapshot record".into())),
            (Record::Snapshot(mark), Verdict::Moved) => self.mark = Some(mark),
            _ => {}
        }
        Ok(())
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

/// The first record of a topic; nothing if it is empty or begins with something else.
pub(crate) async fn first_record(
    cluster: &Cluster,
    topic: &str,
) -> Result<Option<Record>, TopicError> {
    let mut reading = cluster.read(Read::new(topic).until_now()).await?;
    let first = reading.next().await?;
    Ok(first.and_then(|record| Record::decode(&record.value).ok()))
}
