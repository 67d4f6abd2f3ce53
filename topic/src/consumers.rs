//! Consumer offsets by name, as `fluvio consumer list` shows them.
//!
//! A picture only: what counts is the position that a service commits together with its data.

use fluvio::consumer::{
    ConsumerConfigExtBuilder, ConsumerStream as _, OffsetManagementStrategy, RetryMode,
};
use futures_util::StreamExt as _;

use crate::cluster::Connection;
use crate::limits::FETCH_BYTES_MAX;
use crate::{Cluster, Offset, TopicError};

/// A named consumer of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: u32,
    /// The last record that it is done with.
    pub offset: Offset,
    /// When it said so, in seconds since 1970.
    pub said_at_s: u64,
}

impl Cluster {
    /// All named consumers of all topics.
    ///
    /// # Errors
    /// If the cluster does not answer as it should.
    pub async fn consumers(&self) -> Result<Vec<Consumer>, TopicError> {
        let list = |connection: Connection| async move { connection.data.consumer_offsets().await };
        let consumers = self.ask("listing consumers", list).await?;
        let consumers = consumers.into_iter().filter_map(|found| {
            Some(Consumer {
                offset: Offset::of(found.offset)?,
                name: found.consumer_id,
                topic: found.topic,
                partition: found.partition,
                said_at_s: found.modified_time,
            })
        });
        Ok(consumers.collect())
    }

    /// Publishes that a consumer is done with the record at `offset`, which must still be there: a client can only commit
    /// what it has read. It takes a connection of its own, because a server forgets the stream of a client only with its
    /// connection, and a read of up to 32 MiB for one record.
    ///
    /// # Errors
    /// If the record is gone, or the cluster does not answer as it should.
    pub async fn publish_consumer(
        &self,
        consumer: &str,
        topic: &str,
        offset: Offset,
    ) -> Result<(), TopicError> {
        let doing = format!("publishing offset {offset} of consumer {consumer}");
        let (consumer, name) = (consumer.to_owned(), topic.to_owned());
        let publish = |connection: Connection| async move {
            let config = ConsumerConfigExtBuilder::default()
                .topic(name)
                .partition(0)
                .offset_consumer(consumer)
                .offset_strategy(OffsetManagementStrategy::Manual)
                .offset_start(fluvio::Offset::absolute(offset.to_i64())?)
                .max_bytes(FETCH_BYTES_MAX)
                .retry_mode(RetryMode::Disabled)
                .build()?;
            let mut stream = connection.data.consumer_with_config(config).await?;
            match stream.next().await {
                Some(Ok(record)) if record.offset == offset.to_i64() => {}
                Some(Ok(_)) => anyhow::bail!("the record at offset {offset} is gone"),
                Some(Err(code)) => return Err(code.into()),
                None => anyhow::bail!("the stream ended"),
            }
            stream.offset_commit().await?;
            stream.offset_flush().await?;
            Ok(())
        };
        self.apart().ask_of(&doing, topic, publish).await
    }

    /// Takes a consumer off the list of a partition.
    ///
    /// # Errors
    /// If the cluster does not answer as it should.
    pub async fn delete_consumer(
        &self,
        consumer: &str,
        topic: &str,
        partition: u32,
    ) -> Result<(), TopicError> {
        let doing = format!("deleting consumer {consumer} of topic {topic}");
        let (consumer, replica) = (consumer.to_owned(), (topic.to_owned(), partition));
        let delete = |connection: Connection| async move {
            connection
                .data
                .delete_consumer_offset(consumer, replica)
                .await
        };
        self.ask_of(&doing, topic, delete).await
    }
}
