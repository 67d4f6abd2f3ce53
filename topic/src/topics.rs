//! Topics and their partitions: creating, listing, measuring.

use std::time::Duration;

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use fluvio::TopicProducerPool;
use tokio::time::{sleep, Instant};

use crate::cluster::Connection;
use crate::limits::{
    CREATE_TIMEOUT, REQUEST_TIMEOUT, SEGMENT_BYTES, VISIBLE_PERIOD, VISIBLE_TIMEOUT,
};
use crate::{Cluster, Offset, TopicError};

/// How long a topic keeps its records: until they are older than `age`, or until a partition has more than `bytes` of them,
/// whatever comes first. Whole segments go, so a little more is kept of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Whole seconds, at least 10 and less than 136 years: Fluvio's own limits.
    pub age: Duration,
    /// For each partition; at least a segment of 16 MB.
    pub bytes: u64,
}

/// A retention that Fluvio would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The age is out of bounds.
    #[error("retention must be between 10 seconds and 136 years, not {0:?}")]
    Age(Duration),
    /// Not even one segment would be kept.
    #[error("retention must be at least {SEGMENT_BYTES} bytes, the size of a segment, not {0}")]
    Bytes(u64),
}

impl Retention {
    const AGE_S_MIN: u32 = 10;
    /// What Fluvio itself takes where nothing is said.
    pub const BYTES_DEFAULT: u64 = 100 << 30;

    /// Checks what Fluvio would refuse when the topic is created.
    ///
    /// # Errors
    /// If one of the limits is out of bounds.
    pub fn check(&self) -> Result<(), RetentionError> {
        let seconds = u32::try_from(self.age.as_secs()).ok();
        if seconds.is_none_or(|seconds| seconds < Retention::AGE_S_MIN) {
            return Err(RetentionError::Age(self.age));
        }
        if self.bytes < u64::from(SEGMENT_BYTES) {
            return Err(RetentionError::Bytes(self.bytes));
        }
        Ok(())
    }

    /// A topic of one partition, whose segments one fetch can bring.
    fn spec(&self) -> TopicSpec {
        let mut spec = TopicSpec::new_computed(1, 1, None);
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
            time_in_seconds: u32::try_from(self.age.as_secs()).unwrap_or(u32::MAX),
        }));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(SEGMENT_BYTES),
            max_partition_size: Some(self.bytes),
        });
        spec
    }
}

/// A topic as it was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How long it keeps its records.
    pub retention_age: Duration,
    /// How many bytes each partition keeps; `None`: as many as the server sees fit.
    pub retention_bytes: Option<u64>,
    /// Bytes of its segments; `None`: as many as the server sees fit.
    pub segment_bytes: Option<u32>,
}

/// A partition at one moment, as far as the controller knows: its server may be further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name of its topic.
    pub topic: String,
    /// Its number there.
    pub number: u32,
    /// Offset of the first record that is left, if it is known.
    pub start: Option<Offset>,
    /// Offset that the next record will get, if it is known.
    pub end: Option<Offset>,
    /// What it takes on disk, if the server can tell.
    pub bytes: Option<u64>,
    /// The controller knows of a server that leads it.
    pub online: bool,
}

/// Where a topic of one partition begins and ends, as far as the controller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Offset of the first record that is left.
    pub start: Offset,
    /// Offset that the next record will get.
    pub end: Offset,
}

impl Cluster {
    /// All topics.
    ///
    /// # Errors
    /// If the controller does not answer as it should.
    pub async fn topics(&self) -> Result<Vec<Topic>, TopicError> {
        let list =
            |connection: Connection| async move { connection.admin.all::<TopicSpec>().await };
        let topics = self.ask("listing topics", list).await?;
        let topics = topics.into_iter().map(|topic| Topic {
            partitions: topic.spec.partitions(),
            retention_age: Duration::from_secs(topic.spec.retention_secs().into()),
            retention_bytes: topic
                .spec
                .get_storage()
                .and_then(|storage| storage.max_partition_size),
            segment_bytes: topic
                .spec
                .get_storage()
                .and_then(|storage| storage.segment_size),
            name: topic.name,
        });
        Ok(topics.collect())
    }

    /// All partitions of all topics.
    ///
    /// # Errors
    /// If the controller does not answer as it should.
    pub async fn partitions(&self) -> Result<Vec<Partition>, TopicError> {
        let list =
            |connection: Connection| async move { connection.admin.all::<PartitionSpec>().await };
        let partitions = self.ask("listing partitions", list).await?;
        let partitions = partitions.into_iter().filter_map(|partition| {
            let (topic, number) = partition.name.rsplit_once('-')?;
            let status = &partition.status;
            Some(Partition {
                topic: topic.to_owned(),
                number: number.parse().ok()?,
                start: Offset::of(status.base_offset),
                end: Offset::of(status.leader.hw),
                bytes: u64::try_from(status.size).ok(),
                online: status.is_online(),
            })
        });
        Ok(partitions.collect())
    }

    /// The only partition of a topic; `None` if there is no such topic.
    async fn partition(&self, topic: &str) -> Result<Option<Partition>, TopicError> {
        let partitions = self.partitions().await?.into_iter();
        let mut ours = partitions.filter(|found| found.topic == topic);
        Ok(ours.find(|found| found.number == 0))
    }

    /// Where a topic begins and ends; `None` if there is no such topic, or its end is not known yet.
    ///
    /// # Errors
    /// If the controller does not answer as it should.
    pub async fn bounds(&self, topic: &str) -> Result<Option<Bounds>, TopicError> {
        let partition = self.partition(topic).await?;
        Ok(partition.and_then(|partition| {
            Some(Bounds {
                start: partition.start.unwrap_or_default(),
                end: partition.end?,
            })
        }))
    }

    /// The offset that the topic's next record will get, which may be more by now.
    ///
    /// # Errors
    /// If there is no such topic, or its end is not known yet.
    pub async fn end(&self, topic: &str) -> Result<Offset, TopicError> {
        let topic = topic.to_owned();
        match self.partition(&topic).await? {
            None => Err(TopicError::NoTopic { topic }),
            Some(partition) => partition.end.ok_or(TopicError::NotLeader { topic }),
        }
    }

    /// The controller knows of a server that leads the topic. (The answer of the server itself, which may differ, is
    /// thrown away by the client.)
    ///
    /// # Errors
    /// If it does not know of one.
    pub async fn check_online(&self, topic: &str) -> Result<(), TopicError> {
        let topic = topic.to_owned();
        match self.partition(&topic).await? {
            Some(partition) if partition.online => Ok(()),
            Some(_) => Err(TopicError::NotLeader { topic }),
            None => Err(TopicError::NoTopic { topic }),
        }
    }

    /// Creates the topic with one partition if it is missing. Returns it as it is: one that was there keeps its
    /// partitions and its retention.
    ///
    /// # Errors
    /// If it cannot be created.
    pub async fn ensure(&self, topic: &str, retention: &Retention) -> Result<Topic, TopicError> {
        if let Some(found) = self.find(topic).await? {
            found.warn_if_kept_otherwise(retention);
            return Ok(found);
        }
        let created = self.create(topic, retention).await;
        // Somebody else may have created it in the same moment; then it is there, too.
        match (self.find(topic).await?, created) {
            (Some(found), _) => Ok(found),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(TopicError::NoTopic {
                topic: topic.to_owned(),
            }),
        }
    }

    async fn find(&self, topic: &str) -> Result<Option<Topic>, TopicError> {
        let topics = self.topics().await?;
        Ok(topics.into_iter().find(|found| found.name == topic))
    }

    /// Creates a topic of one partition that must not exist, and waits until it can be used.
    ///
    /// # Errors
    /// If the controller refuses it.
    pub async fn create(&self, topic: &str, retention: &Retention) -> Result<(), TopicError> {
        let (doing, name, spec) = (
            format!("creating topic {topic}"),
            topic.to_owned(),
            retention.spec(),
        );
        let create = |connection: Connection| async move {
            connection.admin.create(name, false, spec).await
        };
        self.ask_within(&doing, None, CREATE_TIMEOUT, create)
            .await?;
        tracing::info!(topic, "topic created");
        self.until_visible(topic).await
    }

    /// The client reports an unknown topic at once, although the news may still be on its way. It is the same connection that
    /// is asked again: a new one would have to wait for all that it has learned already.
    async fn until_visible(&self, topic: &str) -> Result<(), TopicError> {
        let deadline = Instant::now() + VISIBLE_TIMEOUT;
        let doing = format!("waiting for topic {topic}");
        let name = topic.to_owned();
        let wait = |connection: Connection| async move {
            loop {
                let found: anyhow::Result<TopicProducerPool> =
                    connection.data.topic_producer(&name).await;
                match found {
                    Ok(_) => return Ok(()),
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => sleep(VISIBLE_PERIOD).await,
                }
            }
        };
        let limit = VISIBLE_TIMEOUT + REQUEST_TIMEOUT;
        self.ask_within(&doing, Some(topic), limit, wait).await
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// If the controller refuses it.
    pub async fn delete(&self, topic: &str) -> Result<(), TopicError> {
        let name = topic.to_owned();
        let delete = |connection: Connection| async move {
            connection.admin.delete::<TopicSpec>(name).await
        };
        self.ask_of(&format!("deleting topic {topic}"), topic, delete)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_that_fluvio_would_refuse_is_found_out_before() {
        let retention = |seconds, bytes| Retention {
            age: Duration::from_secs(seconds),
            bytes,
        };
        let day = 86_400;
        assert_eq!(retention(10, 16_000_000).check(), Ok(()));
        assert_eq!(retention(day, Retention::BYTES_DEFAULT).check(), Ok(()));
        for seconds in [0, 9, 1 << 40] {
            let refused = retention(seconds, 1 << 30).check();
            let age = Duration::from_secs(seconds);
            assert_eq!(refused, Err(RetentionError::Age(age)));
        }
        let refused = retention(day, 15_999_999).check();
        assert_eq!(refused, Err(RetentionError::Bytes(15_999_999)));
    }
}
