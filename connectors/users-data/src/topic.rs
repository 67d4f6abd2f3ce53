//! The topics: connecting, creating, measuring.

use std::future::Future;
use std::time::Duration;

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use fluvio::Fluvio;
use tokio::time::timeout;

use crate::error::SessionError;
use crate::{Config, Error};

/// No answer for longer than this counts as a failure. The client itself may wait a minute.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Readers ask for 32 MiB at a time; a segment that fits is never cut inside a batch.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;

/// Awaits an answer of Fluvio, for a limited time. `what` says what was asked for.
pub(crate) async fn answer<T>(
    what: &str,
    request: impl Future<Output = Result<T, impl std::fmt::Display>>,
) -> Result<T, SessionError> {
    let failed = |reason: String| SessionError::Fluvio(format!("{what}: {reason}"));
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(format!("{error:#}"))),
        Err(_) => Err(failed(format!(
            "no answer within {} s",
            REQUEST_TIMEOUT.as_secs()
        ))),
    }
}

/// A connection of its own: after a restart of the controller an old client learns nothing new.
pub(crate) async fn connect(endpoint: &str) -> Result<Fluvio, SessionError> {
    let config = millrace_topic::cluster(endpoint);
    answer(
        &format!("connecting to {endpoint}"),
        Fluvio::connect_with_config(&config),
    )
    .await
}

/// Creates the topics that are missing, and checks that the one to read has one partition.
pub(crate) async fn prepare(fluvio: &Fluvio, config: &Config) -> Result<(), SessionError> {
    let admin = fluvio.admin().await;
    let existing = answer("listing topics", admin.all::<TopicSpec>()).await?;
    for topic in [&config.topic, &config.rejected_topic] {
        match existing.iter().find(|found| &found.name == topic) {
            None => {
                let create = admin.create(topic.clone(), false, spec(config));
                answer(&format!("creating topic {topic}"), create).await?;
                tracing::info!(topic, "topic created");
            }
            Some(found) if topic == &config.topic && found.spec.partitions() != 1 => {
                let (topic, partitions) = (topic.clone(), found.spec.partitions());
                return Err(Error::TopicShape { topic, partitions }.into());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn spec(config: &Config) -> TopicSpec {
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
        time_in_seconds: config.retention_secs().unwrap_or(u32::MAX),
    }));
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(SEGMENT_BYTES),
        ..TopicStorageConfig::default()
    });
    spec
}

/// Where a topic begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Offset of the first record that is left.
    pub(crate) start: i64,
    /// Offset that the next record will get.
    pub(crate) end: i64,
}

/// The bounds as far as the controller knows, which may lag behind; nothing if there is no such topic.
pub(crate) async fn bounds(fluvio: &Fluvio, topic: &str) -> Result<Option<Bounds>, SessionError> {
    let admin = fluvio.admin().await;
    let partitions = answer("listing partitions", admin.all::<PartitionSpec>()).await?;
    let name = format!("{topic}-0");
    let found = partitions.iter().find(|partition| partition.name == name);
    let bounds = found.map(|partition| Bounds {
        start: partition.status.base_offset.max(0),
        end: partition.status.leader.hw,
    });
    Ok(bounds.filter(|bounds| bounds.end >= 0))
}

/// The offset that the next event will get, as far as the controller knows.
pub(crate) async fn end(fluvio: &Fluvio, topic: &str) -> Result<Option<i64>, SessionError> {
    Ok(bounds(fluvio, topic).await?.map(|bounds| bounds.end))
}
