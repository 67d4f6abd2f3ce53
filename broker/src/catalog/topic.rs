//! Topics: creating, growing and deleting them with their logs.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fluvio_protocol::{Decoder, Encoder};
use fluvio_sc_schema::errors::ErrorCode;
use fluvio_sc_schema::shared::validate_resource_name;
use fluvio_sc_schema::topic::{ReplicaSpec, TopicSpec};
use fluvio_types::defaults::{
    CONSUMER_STORAGE_TOPIC, SPU_PARTITION_MAX_BYTES, STORAGE_RETENTION_SECONDS,
};

use super::{Catalog, Entry, Refusal};
use crate::disk;
use crate::log::{Options, PartitionLog, Retention};

/// Suffix of a directory whose topic is gone.
const DELETED: &str = ".deleted";

/// A topic with the logs of its partitions, in order.
#[derive(Clone)]
pub(super) struct Topic {
    pub(super) spec: TopicSpec,
    pub(super) id: u64,
    pub(super) logs: Vec<PartitionLog>,
}

/// A topic as it is stored. The id tells its logs from those of a deleted topic of the same name.
#[derive(Debug, Default, Encoder, Decoder)]
pub(super) struct StoredTopic {
    id: u64,
    partitions: u32,
    spec: TopicSpec,
}

impl Catalog {
    pub(super) fn open_topics(&self) -> io::Result<()> {
        let stored = self.store.load::<StoredTopic>("topics")?;
        let known: Vec<String> = stored
            .iter()
            .map(|(name, topic)| format!("{name}.{}", topic.id))
            .collect();
        remove_orphans(&self.store.data.path.join("topics"), &known)?;
        for (name, topic) in stored {
            let logs = self.open_stored_logs(&name, &topic);
            self.apply(|state, epoch| {
                state.topics.insert(
                    name,
                    Entry {
                        epoch,
                        value: Topic {
                            spec: topic.spec,
                            id: topic.id,
                            logs,
                        },
                    },
                );
            });
        }
        Ok(())
    }

    /// Creates a topic whose logs exist before it is visible. Returns its epoch.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        spec: TopicSpec,
        dry_run: bool,
    ) -> Result<Option<i64>, Refusal> {
        self.validate(name, &spec)?;
        let _changing = self.changing();
        if self.read().topics.contains_key(name) {
            return Err(Refusal::new(
                ErrorCode::TopicAlreadyExists,
                "Topic already exists",
            ));
        }
        let partitions = spec.replicas().partitions();
        self.admit_deduplicating(&spec, partitions)?;
        if dry_run {
            return Ok(None);
        }
        let id = self.new_topic_id();
        self.put_topic(name, id, partitions, spec).map(Some)
    }

    /// Adds partitions to a topic.
    pub(crate) fn add_partitions(&self, name: &str, count: u32) -> Result<i64, Refusal> {
        let _changing = self.changing();
        let topic = self
            .read()
            .topics
            .get(name)
            .map(|entry| entry.value.clone());
        let Some(mut topic) = topic else {
            return Err(Refusal::new(ErrorCode::TopicNotFound, "Topic not found"));
        };
        let before = topic.logs.len() as u32;
        let total = before.saturating_add(count);
        if count == 0 || total > self.limits.partitions_per_topic_max {
            return Err(Refusal::new(
                ErrorCode::TopicInvalidConfiguration,
                format!("cannot have {total} partitions"),
            ));
        }
        self.admit_deduplicating(&topic.spec, count)?;
        let (replication, ignore_rack) = (
            topic.spec.replicas().replication_factor().unwrap_or(1),
            topic.spec.replicas().ignore_rack_assignment(),
        );
        topic.spec.set_replicas(ReplicaSpec::new_computed(
            total,
            replication,
            Some(ignore_rack),
        ));
        topic
            .logs
            .extend(self.open_logs(name, topic.id, before..total, &topic.spec)?);
        self.store.put(
            "topics",
            name,
            &StoredTopic {
                id: topic.id,
                partitions: total,
                spec: topic.spec.clone(),
            },
        )?;
        Ok(self.apply(|state, epoch| {
            state.topics.insert(
                name.to_owned(),
                Entry {
                    epoch,
                    value: topic,
                },
            );
        }))
    }

    /// Deletes a topic and its records; a system topic only by `force`. That of the consumer offsets is
    /// there again at once: clients cannot do without it.
    pub(crate) fn delete_topic(&self, name: &str, force: bool) -> Result<i64, Refusal> {
        let _changing = self.changing();
        let topic = self
            .read()
            .topics
            .get(name)
            .map(|entry| entry.value.clone());
        let Some(topic) = topic else {
            return Err(Refusal::new(ErrorCode::TopicNotFound, "Topic not found"));
        };
        if topic.spec.is_system() && !force {
            let kind = "topic".to_owned();
            return Err(Refusal::code(ErrorCode::SystemSpecDeletionAttempt {
                kind,
                name: name.to_owned(),
            }));
        }
        let epoch = match name {
            CONSUMER_STORAGE_TOPIC => self.renew(name, topic.spec)?,
            _ => self.remove(name)?,
        };
        topic.logs.iter().for_each(PartitionLog::delete);
        let dir = self.topic_dir(name, topic.id);
        if let Err(error) = remove_files(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "could not remove a deleted topic's files");
        }
        Ok(epoch)
    }

    fn remove(&self, name: &str) -> Result<i64, Refusal> {
        self.store.remove("topics", name)?;
        Ok(self.apply(|state, _| {
            state.topics.remove(name);
        }))
    }

    /// Puts an empty topic in the place of one.
    fn renew(&self, name: &str, spec: TopicSpec) -> Result<i64, Refusal> {
        let (id, partitions) = (self.new_topic_id(), spec.replicas().partitions());
        self.put_topic(name, id, partitions, spec)
    }

    /// Opens the logs of a topic, stores it and makes it visible.
    fn put_topic(
        &self,
        name: &str,
        id: u64,
        partitions: u32,
        spec: TopicSpec,
    ) -> Result<i64, Refusal> {
        let logs = self.open_logs(name, id, 0..partitions, &spec)?;
        let stored = StoredTopic {
            id,
            partitions,
            spec: spec.clone(),
        };
        self.store.put("topics", name, &stored)?;
        Ok(self.apply(|state, epoch| {
            let value = Topic { spec, id, logs };
            state.topics.insert(name.to_owned(), Entry { epoch, value });
        }))
    }

    fn validate(&self, name: &str, spec: &TopicSpec) -> Result<(), Refusal> {
        if let Err(error) = validate_resource_name(name) {
            return Err(Refusal::new(ErrorCode::TopicInvalidName, error.to_string()));
        }
        let invalid =
            |message: String| Err(Refusal::new(ErrorCode::TopicInvalidConfiguration, message));
        if let Some(message) = spec.validate_config() {
            return invalid(message);
        }
        if matches!(spec.replicas(), ReplicaSpec::Mirror(_)) {
            return invalid("mirrored topics need a real cluster".to_owned());
        }
        let (partitions, replication) = (
            spec.replicas().partitions(),
            spec.replicas().replication_factor().unwrap_or(1),
        );
        if partitions == 0 {
            return invalid("partition must be greater than 0".to_owned());
        }
        if partitions > self.limits.partitions_per_topic_max {
            return invalid(format!(
                "{partitions} partitions: 1 to {} are possible",
                self.limits.partitions_per_topic_max
            ));
        }
        if replication != 1 {
            return invalid(format!(
                "replication factor {replication}: this broker is one SPU"
            ));
        }
        Ok(())
    }

    fn open_logs(
        &self,
        name: &str,
        id: u64,
        partitions: std::ops::Range<u32>,
        spec: &TopicSpec,
    ) -> io::Result<Vec<PartitionLog>> {
        let dir = self.topic_dir(name, id);
        self.make_topic_dir(&dir)?;
        partitions
            .map(|partition| {
                let dir = dir.join(partition.to_string());
                PartitionLog::open(&dir, self.log_options(spec), self.tasks.clone())
            })
            .collect()
    }

    /// The logs of a topic of an earlier run: one that cannot be opened is there too, and says why.
    fn open_stored_logs(&self, name: &str, topic: &StoredTopic) -> Vec<PartitionLog> {
        let dir = self.topic_dir(name, topic.id);
        if let Err(error) = self.make_topic_dir(&dir) {
            tracing::error!(dir = %dir.display(), %error, "the folder of a topic cannot be made");
        }
        let open = |partition: u32| {
            let dir = dir.join(partition.to_string());
            PartitionLog::open_stored(&dir, self.log_options(&topic.spec), self.tasks.clone())
        };
        (0..topic.partitions).map(open).collect()
    }

    fn make_topic_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        disk::sync_parent(dir, self.store.data.sync)
    }

    fn log_options(&self, spec: &TopicSpec) -> Options {
        let segment_bytes = spec
            .get_storage()
            .and_then(|storage| storage.segment_size)
            .map_or(self.limits.segment_bytes_default, u64::from);
        Options {
            segment_bytes,
            sync: self.store.data.sync,
            files: self.files.clone(),
            deduplicator: self.deduplicator(spec).map(Arc::new),
        }
    }

    fn new_topic_id(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as u64;
        let highest = self
            .read()
            .topics
            .values()
            .map(|entry| entry.value.id)
            .max()
            .unwrap_or(0);
        now.max(highest + 1)
    }
}

/// Finishes interrupted deletions and creations. A directory with records that no stored topic
/// names is left alone: losing sight of records is bad, deleting them is worse.
fn remove_orphans(topics: &Path, known: &[String]) -> io::Result<()> {
    for entry in fs::read_dir(topics)? {
        let dir = entry?.path();
        let name = dir
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(DELETED) {
            fs::remove_dir_all(&dir)?;
        } else if !known.iter().any(|known| known == name) && !remove_if_empty(&dir) {
            tracing::warn!(dir = %dir.display(), "holds records of an unknown topic; left alone");
        }
    }
    Ok(())
}

fn remove_if_empty(dir: &Path) -> bool {
    let partitions = fs::read_dir(dir).into_iter().flatten().flatten();
    partitions
        .into_iter()
        .all(|partition| fs::remove_dir(partition.path()).is_ok())
        && fs::remove_dir(dir).is_ok()
}

fn remove_files(dir: &Path) -> io::Result<()> {
    let doomed = dir.with_file_name(format!(
        "{}{DELETED}",
        dir.file_name().unwrap_or_default().to_string_lossy()
    ));
    fs::rename(dir, &doomed)?;
    fs::remove_dir_all(&doomed)
}

/// What a topic keeps, with a real cluster's defaults: seven days, 100 GiB a partition.
pub(super) fn retention(spec: &TopicSpec) -> Retention {
    let seconds = spec
        .get_clean_policy()
        .map_or(STORAGE_RETENTION_SECONDS, |policy| policy.retention_secs());
    let bytes_max = spec
        .get_storage()
        .and_then(|storage| storage.max_partition_size)
        .unwrap_or(SPU_PARTITION_MAX_BYTES);
    Retention {
        age_max: Duration::from_secs(u64::from(seconds)),
        bytes_max,
    }
}
