//! The Fluvio cluster, through its published client.
//!
//! The clients are kept, and made anew after any failure: after a restart of the controller a client's
//! metadata never refreshes.

use std::collections::HashMap;

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::smartmodule::SmartModuleSpec;
use fluvio::metadata::topic::TopicSpec;
use fluvio::{Fluvio, FluvioAdmin};
use millrace_control::in_words;

use crate::config::Topics;
use crate::status::{Consumer, Reach, Time, Topic, TopicKind};

/// Retention and SmartModules change seldom: they are asked for in every tenth tick.
const DEFINITIONS_EVERY: u64 = 10;

/// Asks a cluster.
pub(super) struct Cluster {
    endpoint: String,
    names: Topics,
    clients: Option<Clients>,
}

struct Clients {
    data: Fluvio,
    admin: FluvioAdmin,
    asked: u64,
    retention_s: HashMap<String, u64>,
    consumers: Vec<(String, Consumer)>,
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
            endpoint: endpoint.to_owned(),
            names: names.clone(),
            clients: None,
        }
    }

    /// What it says now. Clients that fail, or are given up in the middle, are not used again.
    pub(super) async fn read(&mut self) -> Result<ClusterReading, String> {
        let mut clients = match self.clients.take() {
            Some(clients) => clients,
            None => Clients::connect(&self.endpoint).await?,
        };
        let reading = clients.read(&self.names).await?;
        self.clients = Some(clients);
        Ok(reading)
    }
}

impl Clients {
    async fn connect(endpoint: &str) -> Result<Clients, String> {
        let data = Fluvio::connect_with_config(&millrace_topic::cluster(endpoint))
            .await
            .map_err(|error| in_words(error.as_ref()))?;
        let admin = data.admin().await;
        Ok(Clients {
            data,
            admin,
            asked: 0,
            retention_s: HashMap::new(),
            consumers: Vec::new(),
            smartmodules: Vec::new(),
        })
    }

    async fn read(&mut self, names: &Topics) -> Result<ClusterReading, String> {
        if self.asked.is_multiple_of(DEFINITIONS_EVERY) {
            self.read_definitions().await?;
        }
        let offsets = self.data.consumer_offsets().await;
        let offsets = offsets.map_err(|error| in_words(error.as_ref()))?;
        self.consumers = offsets.into_iter().map(consumer).collect();
        self.asked += 1;
        let partitions = self.admin.all::<PartitionSpec>().await;
        let partitions = partitions.map_err(|error| in_words(error.as_ref()))?;
        let mut topics: Vec<Topic> = Vec::new();
        for partition in &partitions {
            let Some((name, _)) = partition.name.rsplit_once('-') else {
                continue;
            };
            let status = &partition.status;
            let one = Part {
                start: status.base_offset,
                end: status.leader.leo,
                bytes: status.size,
            };
            match topics.iter_mut().find(|topic| topic.name == name) {
                Some(topic) => one.add_to(topic),
                None => topics.push(self.topic(names, name, &one)),
            }
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ClusterReading {
            topics,
            smartmodules: self.smartmodules.clone(),
        })
    }

    async fn read_definitions(&mut self) -> Result<(), String> {
        let topics = self.admin.all::<TopicSpec>().await;
        let topics = topics.map_err(|error| in_words(error.as_ref()))?;
        let retention = |topic: &TopicSpec| u64::from(topic.retention_secs());
        self.retention_s = topics
            .iter()
            .map(|topic| (topic.name.clone(), retention(&topic.spec)))
            .collect();
        // A summary: the modules' code stays where it is.
        let modules = self
            .admin
            .list_with_params::<SmartModuleSpec, String>(Vec::new(), true)
            .await
            .map_err(|error| in_words(error.as_ref()))?;
        self.smartmodules = modules
            .iter()
            .map(|module| module.spec.fqdn(&module.name).into_owned())
            .collect();
        self.smartmodules.sort();
        Ok(())
    }

    fn topic(&self, names: &Topics, name: &str, part: &Part) -> Topic {
        let consumers = self.consumers.iter().filter(|(topic, _)| topic == name);
        let behind = |consumer: &Consumer| Consumer {
            lag_records: u64::try_from(part.end - consumer.offset - 1).unwrap_or(0),
            ..consumer.clone()
        };
        Topic {
            name: name.to_owned(),
            kind: kind(names, name),
            partitions: 1,
            start_offset: u64::try_from(part.start).ok().map(|_| part.start),
            end_offset: part.end.max(0),
            bytes: u64::try_from(part.bytes).ok(),
            records_per_s: None,
            bytes_per_s: None,
            retention_s: self.retention_s.get(name).copied(),
            consumers: consumers.map(|(_, consumer)| behind(consumer)).collect(),
            reach: Reach::default(),
        }
    }
}

/// One partition.
struct Part {
    start: i64,
    end: i64,
    /// Negative where the server cannot tell.
    bytes: i64,
}

impl Part {
    /// Consumers of several partitions have no single offset.
    fn add_to(&self, topic: &mut Topic) {
        topic.partitions += 1;
        topic.start_offset = None;
        topic.end_offset += self.end.max(0);
        let bytes = u64::try_from(self.bytes).ok();
        topic.bytes = topic.bytes.zip(bytes).map(|(sum, more)| sum + more);
        topic.consumers.clear();
    }
}

fn consumer(offset: fluvio::consumer::ConsumerOffset) -> (String, Consumer) {
    let at = i64::try_from(offset.modified_time).ok();
    let at = at.and_then(|seconds| Time::from_epoch_us(seconds.checked_mul(1_000_000)?));
    let consumer = Consumer {
        name: offset.consumer_id,
        offset: offset.offset,
        lag_records: 0,
        at,
    };
    (offset.topic, consumer)
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
