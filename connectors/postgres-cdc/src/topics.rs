//! Fluvio: connections and topics.

use std::time::Duration;

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use fluvio::{Fluvio, FluvioAdmin};
use tokio::time::{sleep, timeout, Instant};

use crate::config::SEGMENT_BYTES;
use crate::{Config, Error};

/// How long a request to the controller may take. Creating a topic waits there until its partition
/// is online.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the client's metadata may lag behind a topic that was just created.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A connection to Fluvio, made anew for each session: after a restart of the controller the
/// client's metadata would never be refreshed.
pub(crate) struct Topics {
    fluvio: Fluvio,
    admin: FluvioAdmin,
    retention: Duration,
}

impl Topics {
    pub(crate) async fn connect(config: &Config) -> Result<Self, Error> {
        let cluster = millrace_topic::cluster(&config.fluvio_endpoint);
        let fluvio = request(
            "connecting to Fluvio",
            Fluvio::connect_with_config(&cluster),
        )
        .await?;
        let admin = fluvio.admin().await;
        Ok(Topics {
            fluvio,
            admin,
            retention: config.retention,
        })
    }

    pub(crate) fn fluvio(&self) -> &Fluvio {
        &self.fluvio
    }

    /// Creates the topic if it is missing; refuses one that cannot hold a log.
    pub(crate) async fn ensure(&self, topic: &str) -> Result<(), Error> {
        for found in self.all().await? {
            if found.name != topic {
                continue;
            }
            let partitions = found.spec.partitions();
            if partitions != 1 {
                return Err(Error::TopicShape {
                    topic: topic.into(),
                    difference: format!("has {partitions} partitions, not 1"),
                });
            }
            return Ok(());
        }
        self.create(topic).await
    }

    /// The controller knows of a server that leads the topic's partition. (The answer of the server itself, which may
    /// differ, is thrown away by the client.)
    pub(crate) async fn check_online(&self, topic: &str) -> Result<(), Error> {
        let name = format!("{topic}-0");
        let partitions = request("listing partitions", self.admin.all::<PartitionSpec>()).await?;
        match partitions.into_iter().find(|found| found.name == name) {
            Some(found) if found.status.is_online() => Ok(()),
            Some(found) => Err(Error::Fluvio(format!(
                "partition {name} is {:?}",
                found.status.resolution
            ))),
            None => Err(Error::Fluvio(format!("partition {name} is not there yet"))),
        }
    }

    /// Creates a topic that must not exist.
    pub(crate) async fn create(&self, topic: &str) -> Result<(), Error> {
        let mut spec = TopicSpec::new_computed(1, 1, None);
        let time_in_seconds = u32::try_from(self.retention.as_secs()).unwrap_or(u32::MAX);
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
            time_in_seconds,
        }));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(SEGMENT_BYTES),
            max_partition_size: None,
        });
        let create = self.admin.create(topic.to_owned(), false, spec);
        request("creating a topic", create).await?;
        self.until_visible(topic).await
    }

    /// The client reports an unknown topic at once, although the news may still be on its way.
    async fn until_visible(&self, topic: &str) -> Result<(), Error> {
        let deadline = Instant::now() + VISIBLE_TIMEOUT;
        loop {
            match self.fluvio.topic_producer(topic).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(Error::fluvio(error)),
                Err(_) => sleep(POLL).await,
            }
        }
    }

    pub(crate) async fn delete(&self, topic: &str) -> Result<(), Error> {
        let delete = self.admin.delete::<TopicSpec>(topic.to_owned());
        request("deleting a topic", delete).await
    }

    /// The numbers N of the topics `prefix-N`.
    pub(crate) async fn numbers(&self, prefix: &str) -> Result<Vec<u64>, Error> {
        let topics = self.all().await?;
        let number = |name: &str| name.strip_prefix(prefix)?.strip_prefix('-')?.parse().ok();
        Ok(topics
            .iter()
            .filter_map(|topic| number(&topic.name))
            .collect())
    }

    async fn all(&self) -> Result<Vec<fluvio::metadata::objects::Metadata<TopicSpec>>, Error> {
        request("listing topics", self.admin.all::<TopicSpec>()).await
    }
}

async fn request<T, E: std::fmt::Display>(
    what: &'static str,
    future: impl std::future::Future<Output = Result<T, E>>,
) -> Result<T, Error> {
    match timeout(REQUEST_TIMEOUT, future).await {
        Ok(result) => result.map_err(Error::fluvio),
        Err(_) => Err(Error::Timeout {
            what,
            seconds: REQUEST_TIMEOUT.as_secs(),
        }),
    }
}
