//! The Fluvio cluster as it is now.

use std::collections::HashMap;

use millrace_control::in_words;
use millrace_topic::{Offset, Partition, Retention, TopicError};

use super::oldest::Oldest;
use crate::config::Topics;
use crate::status::{Consumer, Reach, Time, Topic, TopicKind};

/// Retention and SmartModules change seldom: they are asked for in every tenth tick.
const DEFINITIONS_EVERY: u64 = 10;

/// Asks a cluster.
pub(super) struct Cluster {
    door: millrace_topic::Cluster,
    names: Topics,
    definitions: Definitions,
    oldest: Oldest,
}

/// What changes seldom.
#[derive(Default)]
struct Definitions {
    /// How often the cluster was asked since they were read.
    asked: u64,
    retention: HashMap<String, Retention>,
    smartmodules: Vec<String>,
}

/// A cluster at one moment.
#[derive(Clone, Debug)]
pub(super) struct ClusterReading {
    pub(super) topics: Vec<Topic>,
    pub(super) smartmodules: Vec<String>,
}

impl Cluster {
    pub(super) fn new(endpoint: &str, names: &Topics) -> Cluster {
        Cluster {
            door: millrace_topic::Cluster::new(endpoint),
            names: names.clone(),
            definitions: Definitions::default(),
            oldest: Oldest::new(endpoint),
        }
    }

    /// What it says now.
    pub(super) async fn read(&mut self) -> Result<ClusterReading, String> {
        self.ask().await.map_err(|error| in_words(&error))
    }

    async fn ask(&mut self) -> Result<ClusterReading, TopicError> {
        if self.definitions.asked.is_multiple_of(DEFINITIONS_EVERY) {
            self.definitions = Definitions::read(&self.door).await?;
        }
        let consumers = self.door.consumers().await?;
        self.definitions.asked += 1;
        let mut topics: Vec<Topic> = Vec::new();
        for partition in self.door.partitions().await? {
            match topics
                .iter_mut()
                .find(|topic| topic.name == partition.topic)
            {
                Some(topic) => add(topic, &partition),
                None => topics.push(self.topic(&partition, &consumers)),
            }
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        self.oldest.tell(&mut topics);
        Ok(ClusterReading {
            topics,
            smartmodules: self.definitions.smartmodules.clone(),
        })
    }

    fn topic(&self, part: &Partition, consumers: &[millrace_topic::Consumer]) -> Topic {
        let consumers = consumers.iter().filter(|found| found.topic == part.topic);
        let end = part.end.unwrap_or_default();
        let retention = self.definitions.retention.get(&part.topic);
        Topic {
            name: part.topic.clone(),
            kind: kind(&self.names, &part.topic),
            partitions: 1,
            start_offset: part.start.map(Offset::to_i64),
            end_offset: end.to_i64(),
            bytes: part.bytes,
            records_per_s: None,
            bytes_per_s: None,
            retention_s: retention.map(|kept| kept.age.as_secs()),
            consumers: consumers.map(|found| consumer(found, end)).collect(),
            reach: Reach {
                retention_bytes: retention.map(|kept| kept.bytes),
                ..Reach::default()
            },
        }
    }
}

impl Definitions {
    async fn read(door: &millrace_topic::Cluster) -> Result<Definitions, TopicError> {
        let topics = door.topics().await?;
        let retention = topics
            .into_iter()
            .map(|topic| (topic.name.clone(), topic.retention()));
        Ok(Definitions {
            asked: 0,
            retention: retention.collect(),
            smartmodules: door.smart_modules().await?,
        })
    }
}

/// Adds another partition. Consumers of several partitions have no single offset.
fn add(topic: &mut Topic, part: &Partition) {
    topic.partitions += 1;
    topic.start_offset = None;
    topic.end_offset += part.end.unwrap_or_default().to_i64();
    topic.bytes = topic.bytes.zip(part.bytes).map(|(sum, more)| sum + more);
    topic.consumers.clear();
}

fn consumer(found: &millrace_topic::Consumer, end: Offset) -> Consumer {
    let said_at = i64::try_from(found.said_at_s).ok();
    let said_at = said_at.and_then(|seconds| seconds.checked_mul(1_000_000));
    Consumer {
        name: found.name.clone(),
        offset: found.offset.to_i64(),
        lag_records: end.0.saturating_sub(found.offset.next().0),
        at: said_at.and_then(Time::from_epoch_us),
    }
}

fn kind(names: &Topics, name: &str) -> TopicKind {
    let number = name
        .strip_prefix(&names.snapshot_prefix)
        .and_then(|rest| rest.strip_prefix('-'));
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    if name == names.changes {
        TopicKind::Changes
    } else if name == names.users {
        TopicKind::Users
    } else if name == names.rejected {
        TopicKind::Rejected
    } else if number.is_some_and(is_number) {
        TopicKind::Snapshot
    } else {
        TopicKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_by_their_names() {
        let names = Topics {
            changes: "shop-changes".into(),
            snapshot_prefix: "shop-snapshot".into(),
            users: "users-data".into(),
            rejected: "users-data-rejected".into(),
        };
        let kinds = [
            ("shop-changes", TopicKind::Changes),
            ("shop-snapshot-12", TopicKind::Snapshot),
            ("shop-snapshot-old", TopicKind::Other),
            ("shop-snapshot", TopicKind::Other),
            ("users-data", TopicKind::Users),
            ("users-data-rejected", TopicKind::Rejected),
            ("consumer-offset", TopicKind::Other),
        ];
        for (name, expected) in kinds {
            assert_eq!(kind(&names, name), expected, "{name}");
        }
    }
}
