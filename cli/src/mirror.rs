//! Positions as named consumer offsets, so that `fluvio consumer list` shows how far a service is.
//!
//! A picture only: what counts is the position that the service commits together with its data.

use std::future::Future;
use std::time::Duration;

use anyhow::{ensure, Context as _};
use fluvio::consumer::{
    ConsumerConfigExtBuilder, ConsumerStream as _, OffsetManagementStrategy, RetryMode,
};
use fluvio::{Fluvio, Offset};
use futures_util::StreamExt as _;
use millrace_control::in_words;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Consumer of the projector's position.
pub const PROJECTOR: &str = "millrace-projector";
/// Consumer of ingest's position.
pub const INGEST: &str = "millrace-ingest";

/// A position is published as soon as the service has committed it, and not more often than this: each time takes a
/// connection and a read.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// A failed attempt is repeated after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(20);
/// A client can only commit what it has read: one record is. Above the segment size of our topics,
/// as a real server delivers nothing of a batch that it has cut.
const FETCH_BYTES_MAX: i32 = 32 * 1024 * 1024;

/// One consumer on one topic.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// `HOST:PORT` of the controller.
    pub endpoint: String,
    /// Topic of one partition.
    pub topic: String,
    /// Name in the list of consumers.
    pub consumer: &'static str,
}

impl Mirror {
    /// Follows the status of a service until `shutdown`, or until the service is gone. `position` is the offset of
    /// the last record that it is done with. A failure is reported once and tried again; the service works on.
    pub async fn run<S: Send + Sync>(
        self,
        status: watch::Receiver<S>,
        position: impl Fn(&S) -> Option<i64> + Send,
        shutdown: CancellationToken,
    ) {
        let following = self.follow(status, position);
        let _ = shutdown.run_until_cancelled(following).await;
    }

    async fn follow<S: Send + Sync>(
        self,
        mut status: watch::Receiver<S>,
        position: impl Fn(&S) -> Option<i64> + Send,
    ) {
        let (mut published, mut failing) = (None, false);
        loop {
            let offset = position(&status.borrow_and_update()).filter(|offset| *offset >= 0);
            if published == offset {
                match status.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            let Some(offset) = offset else { continue };
            match in_time(self.show(offset)).await {
                Ok(()) => {
                    (published, failing) = (Some(offset), false);
                    tokio::time::sleep(PUBLISH_EVERY).await;
                }
                Err(error) => {
                    self.report(offset, &error, failing);
                    failing = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn report(&self, offset: i64, error: &anyhow::Error, again: bool) {
        let (consumer, topic) = (self.consumer, &self.topic);
        let error = in_words(error.as_ref());
        if again {
            return tracing::debug!(error, consumer, topic, offset, "still no consumer offset");
        }
        tracing::warn!(
            error,
            consumer,
            topic,
            offset,
            "the list of consumers shows an old position; trying again"
        );
    }

    /// On a connection of its own: a server forgets the stream of a client only with its connection.
    async fn show(&self, offset: i64) -> anyhow::Result<()> {
        let client = Fluvio::connect_with_config(&millrace_topic::cluster(&self.endpoint)).await?;
        let config = ConsumerConfigExtBuilder::default()
            .topic(self.topic.as_str())
            .partition(0)
            .offset_consumer(self.consumer)
            .offset_strategy(OffsetManagementStrategy::Manual)
            .offset_start(Offset::absolute(offset)?)
            .max_bytes(FETCH_BYTES_MAX)
            .retry_mode(RetryMode::Disabled)
            .build()?;
        let mut stream = client.consumer_with_config(config).await?;
        let record = stream.next().await.context("the stream ended")??;
        ensure!(
            record.offset == offset,
            "the record at offset {offset} is gone"
        );
        stream.offset_commit().await?;
        stream.offset_flush().await?;
        Ok(())
    }
}

async fn in_time(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, work)
        .await
        .with_context(|| format!("no answer within {} s", TIMEOUT.as_secs()))?
}
