//! Positions as named consumer offsets, so that `fluvio consumer list` shows how far a service is.
//!
//! A picture only: what counts is the position that the service commits together with its data.

use std::future::Future;
use std::time::Duration;

use millrace_control::in_words;
use millrace_topic::{Cluster, Offset, TopicError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Consumer of the projector's position.
pub const PROJECTOR: &str = "millrace-projector";
/// Consumer of ingest's position.
pub const INGEST: &str = "millrace-ingest";

/// A position is published as soon as the service has committed it, and not more often than this: each time takes a
/// connection and a read.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// The same for a service that is further than [`FAR_RECORDS`] from the end of the log: a read there brings up to
/// a whole fetch for the one record that is used, while the service itself needs the broker most.
const PUBLISH_EVERY_FAR: Duration = Duration::from_secs(5);
const FAR_RECORDS: u64 = 1_000;
/// A failed attempt is repeated after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

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

/// How far a service is.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Of the last record that it is done with; `None` before the first.
    pub offset: Option<Offset>,
    /// Records from there to the end of the log; 0 if that is not known.
    pub behind: u64,
}

impl Position {
    /// How soon another one may be published.
    fn pause(self) -> Duration {
        match self.behind > FAR_RECORDS {
            true => PUBLISH_EVERY_FAR,
            false => PUBLISH_EVERY,
        }
    }
}

impl Mirror {
    /// Follows the status of a service until `shutdown`, or until the service is gone. `position` is `None` while
    /// the service has none. A failure is reported once and tried again; the service works on.
    pub async fn run<S: Send + Sync>(
        self,
        status: watch::Receiver<S>,
        position: impl Fn(&S) -> Option<Position> + Send,
        shutdown: CancellationToken,
    ) {
        let cluster = Cluster::new(self.endpoint.as_str());
        let publish = |offset| cluster.publish_consumer(self.consumer, &self.topic, offset);
        let following = self.follow(status, position, publish);
        let _ = shutdown.run_until_cancelled(following).await;
    }

    async fn follow<S: Send + Sync, P: Future<Output = Result<(), TopicError>> + Send>(
        &self,
        mut status: watch::Receiver<S>,
        position: impl Fn(&S) -> Option<Position> + Send,
        publish: impl Fn(Offset) -> P + Send,
    ) {
        let (mut published, mut failing) = (None, false);
        loop {
            let position = position(&status.borrow_and_update());
            let offset = position.and_then(|position| position.offset);
            // A position that went away is published again when it comes back.
            published = published.filter(|_| offset.is_some());
            let (Some(position), Some(offset)) =
                (position, offset.filter(|offset| published != Some(*offset)))
            else {
                match status.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            match publish(offset).await {
                Ok(()) => {
                    (published, failing) = (Some(offset), false);
                    tokio::time::sleep(position.pause()).await;
                }
                Err(error) => {
                    self.report(offset, &error, failing);
                    failing = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn report(&self, offset: Offset, error: &TopicError, again: bool) {
        let (consumer, topic) = (self.consumer, &self.topic);
        let error = in_words(error);
        if again {
            return tracing::debug!(error, consumer, topic, %offset, "still no consumer offset");
        }
        tracing::warn!(
            error,
            consumer,
            topic,
            %offset,
            "the list of consumers shows an old position; trying again"
        );
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn near(offset: &Option<u64>) -> Option<Position> {
        let offset = offset.map(Offset);
        Some(Position { offset, behind: 0 })
    }

    #[tokio::test]
    async fn a_position_that_goes_away_is_waited_for_and_published_when_it_comes_back() {
        let mirror = Mirror {
            endpoint: String::new(),
            topic: String::new(),
            consumer: PROJECTOR,
        };
        let (status, watched) = watch::channel(Some(7));
        let (sender, mut published) = mpsc::unbounded_channel();
        let publish = |offset| {
            sender.send(offset).unwrap();
            async { Ok(()) }
        };
        let story = async {
            assert_eq!(published.recv().await, Some(Offset(7)));
            status.send(None).unwrap();
            // It looks at the status again, and must let others run then.
            tokio::time::sleep(PUBLISH_EVERY * 2).await;
            status.send(Some(7)).unwrap();
            assert_eq!(published.recv().await, Some(Offset(7)));
        };
        tokio::select! {
            () = mirror.follow(watched, near, publish) => panic!("the service is not gone"),
            told = tokio::time::timeout(SOON, story) => told.unwrap(),
        }
    }

    #[test]
    fn who_is_far_from_the_end_publishes_less_often() {
        let pause = |behind| {
            Position {
                offset: None,
                behind,
            }
            .pause()
        };
        assert_eq!(pause(FAR_RECORDS), PUBLISH_EVERY);
        assert_eq!(pause(FAR_RECORDS + 1), PUBLISH_EVERY_FAR);
    }
}
