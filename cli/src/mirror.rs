//! What services still need of topics, as named consumer offsets: `fluvio consumer list` shows how far each is, and the
//! embedded broker keeps what they have not read.
//!
//! A picture only: what counts is the position that the service commits together with its data.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use millrace_control::in_words;
use millrace_topic::{Cluster, Offset, TopicError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Consumer of the projector's position.
pub const PROJECTOR: &str = "millrace-projector";
/// Consumer of ingest's position.
pub const INGEST: &str = "millrace-ingest";
/// Consumer of what capture's next start needs.
pub const CAPTURE: &str = "millrace-capture";

/// Our topics have one partition.
const OURS: u32 = 0;

/// A position is published as soon as the service has committed it, and not more often than this: each time takes a
/// connection and a read.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// The same for a service that is further than [`FAR_RECORDS`] from the end of the log: a read there brings up to
/// a whole fetch for the one record that is used, while the service itself needs the broker most.
const PUBLISH_EVERY_FAR: Duration = Duration::from_secs(5);
const FAR_RECORDS: u64 = 1_000;
/// A failed attempt is repeated after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The offsets of one consumer.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// `HOST:PORT` of the controller.
    pub endpoint: String,
    /// Name in the list of consumers.
    pub consumer: &'static str,
    /// Topics that begin so come and go: the consumer is taken off those that are not needed any more.
    pub copies: Option<String>,
}

/// What a service needs of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Of one partition.
    pub topic: String,
    /// Of the last record that it is done with, or of the first one if there is none.
    pub offset: Offset,
    /// Records from there to the end; 0 if that is not known.
    pub behind: u64,
}

impl Need {
    /// How soon another one may be published.
    fn pause(&self) -> Duration {
        match self.behind > FAR_RECORDS {
            true => PUBLISH_EVERY_FAR,
            false => PUBLISH_EVERY,
        }
    }
}

/// The list of consumers.
trait Consumers {
    fn publish(&self, need: &Need) -> impl Future<Output = Result<(), TopicError>> + Send;

    fn release(&self, topic: &str) -> impl Future<Output = Result<(), TopicError>> + Send;

    /// The topics that come and go on whose list the consumer is.
    fn copies(&self) -> impl Future<Output = Result<Vec<String>, TopicError>> + Send;
}

struct Published {
    offset: Offset,
    /// When another one may be published.
    next: Instant,
}

impl Mirror {
    /// Follows the status of a service until `shutdown`, or until the service is gone. `needs` is `None` while
    /// they are not known. A failure is reported once and tried again; the service works on.
    pub async fn run<S: Send + Sync>(
        self,
        status: watch::Receiver<S>,
        needs: impl Fn(&S) -> Option<Vec<Need>> + Send,
        shutdown: CancellationToken,
    ) {
        let consumers = OfCluster {
            cluster: Cluster::new(self.endpoint.as_str()),
            mirror: &self,
        };
        let following = self.follow(status, needs, &consumers);
        let _ = shutdown.run_until_cancelled(following).await;
    }

    async fn follow<S: Send + Sync>(
        &self,
        mut status: watch::Receiver<S>,
        needs: impl Fn(&S) -> Option<Vec<Need>> + Send,
        consumers: &(impl Consumers + Sync),
    ) {
        let mut published: BTreeMap<String, Published> = BTreeMap::new();
        let (mut failing, mut looked) = (false, false);
        loop {
            let needs = needs(&status.borrow_and_update());
            let Some(needs) = needs else {
                // A position that went away is published again when it comes back.
                published.clear();
                match status.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            if !looked {
                looked = true;
                self.release(
                    consumers,
                    consumers.copies().await.unwrap_or_default(),
                    &needs,
                )
                .await;
            }
            let known = published.keys().cloned().collect();
            for topic in self.release(consumers, known, &needs).await {
                published.remove(&topic);
            }
            let due = |need: &&Need| match published.get(&need.topic) {
                Some(known) => known.offset != need.offset,
                None => true,
            };
            let at = |need: &&Need| published.get(&need.topic).map(|known| known.next);
            let Some(need) = needs.iter().filter(due).min_by_key(at) else {
                match status.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            if let Some(next) = at(&need).filter(|next| *next > Instant::now()) {
                tokio::time::sleep_until(next).await;
                continue;
            }
            match consumers.publish(need).await {
                Ok(()) => {
                    failing = false;
                    let next = Instant::now() + need.pause();
                    let offset = need.offset;
                    published.insert(need.topic.clone(), Published { offset, next });
                }
                Err(error) => {
                    self.report(need, &error, failing);
                    failing = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// Takes the consumer off those of these topics that come and go and are not needed. Returns them. One that cannot be
    /// taken off is tried again by the next start.
    async fn release(
        &self,
        consumers: &(impl Consumers + Sync),
        topics: Vec<String>,
        needs: &[Need],
    ) -> Vec<String> {
        let is_over = |topic: &String| {
            let copies = self.copies.as_ref();
            copies.is_some_and(|copies| topic.starts_with(copies))
                && needs.iter().all(|need| need.topic != *topic)
        };
        let over: Vec<_> = topics.into_iter().filter(is_over).collect();
        for topic in &over {
            if let Err(error) = consumers.release(topic).await {
                let error = in_words(&error);
                tracing::debug!(error, topic, "the consumer stays on the list");
            }
        }
        over
    }

    fn report(&self, need: &Need, error: &TopicError, again: bool) {
        let (consumer, topic, offset) = (self.consumer, &need.topic, need.offset);
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

struct OfCluster<'a> {
    cluster: Cluster,
    mirror: &'a Mirror,
}

impl Consumers for OfCluster<'_> {
    async fn publish(&self, need: &Need) -> Result<(), TopicError> {
        let consumer = self.mirror.consumer;
        let publish = self
            .cluster
            .publish_consumer(consumer, &need.topic, need.offset);
        publish.await
    }

    async fn release(&self, topic: &str) -> Result<(), TopicError> {
        let consumer = self.mirror.consumer;
        self.cluster.delete_consumer(consumer, topic, OURS).await
    }

    async fn copies(&self) -> Result<Vec<String>, TopicError> {
        let ours = |found: &millrace_topic::Consumer| found.name == self.mirror.consumer;
        let consumers = self.cluster.consumers().await?;
        let consumers = consumers.into_iter().filter(ours);
        Ok(consumers.map(|found| found.topic).collect())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// What was done to the list; `None` as offset: the consumer was taken off it.
    struct List {
        done: mpsc::UnboundedSender<(String, Option<u64>)>,
        copies: Vec<String>,
    }

    impl Consumers for List {
        async fn publish(&self, need: &Need) -> Result<(), TopicError> {
            let done = (need.topic.clone(), Some(need.offset.0));
            self.done.send(done).unwrap();
            Ok(())
        }

        async fn release(&self, topic: &str) -> Result<(), TopicError> {
            self.done.send((topic.to_owned(), None)).unwrap();
            Ok(())
        }

        async fn copies(&self) -> Result<Vec<String>, TopicError> {
            Ok(self.copies.clone())
        }
    }

    fn mirror() -> Mirror {
        Mirror {
            endpoint: String::new(),
            consumer: PROJECTOR,
            copies: Some("shop-snapshot-".to_owned()),
        }
    }

    type Needs = Option<Vec<(&'static str, u64)>>;

    fn near(needs: &Needs) -> Option<Vec<Need>> {
        let need = |(topic, offset): &(&str, u64)| Need {
            topic: (*topic).to_owned(),
            offset: Offset(*offset),
            behind: 0,
        };
        Some(needs.as_ref()?.iter().map(need).collect())
    }

    /// Follows what `story` says and sees.
    async fn told<F: Future<Output = ()>>(
        first: Needs,
        copies: &[&str],
        story: impl FnOnce(watch::Sender<Needs>, mpsc::UnboundedReceiver<(String, Option<u64>)>) -> F,
    ) {
        let (status, watched) = watch::channel(first);
        let (done, seen) = mpsc::unbounded_channel();
        let copies = copies.iter().map(|topic| (*topic).to_owned()).collect();
        let (mirror, list) = (mirror(), List { done, copies });
        tokio::select! {
            () = mirror.follow(watched, near, &list) => panic!("the service is not gone"),
            told = tokio::time::timeout(SOON, story(status, seen)) => told.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_position_that_goes_away_is_waited_for_and_published_when_it_comes_back() {
        let first = Some(vec![("log", 7)]);
        told(first, &[], |status, mut seen| async move {
            assert_eq!(seen.recv().await, Some(("log".to_owned(), Some(7))));
            status.send(None).unwrap();
            // It looks at the status again, and must let others run then.
            tokio::time::sleep(PUBLISH_EVERY * 2).await;
            status.send(Some(vec![("log", 7)])).unwrap();
            assert_eq!(seen.recv().await, Some(("log".to_owned(), Some(7))));
        })
        .await;
    }

    #[tokio::test]
    async fn a_copy_that_is_not_needed_any_more_is_given_back_and_nothing_else_is() {
        let first = Some(vec![("log", 7), ("shop-snapshot-3", 0)]);
        let left = ["shop-snapshot-2", "shop-snapshot-3", "other-snapshot-1"];
        told(first, &left, |status, mut seen| async move {
            let over = |topic: &str| Some((topic.to_owned(), None));
            assert_eq!(seen.recv().await, over("shop-snapshot-2"));
            let mut both = [seen.recv().await.unwrap(), seen.recv().await.unwrap()];
            both.sort();
            let expected = [("log", Some(7)), ("shop-snapshot-3", Some(0))];
            assert_eq!(both, expected.map(|(topic, at)| (topic.to_owned(), at)));
            status.send(Some(vec![("log", 7)])).unwrap();
            assert_eq!(seen.recv().await, over("shop-snapshot-3"));
            // What is not known is not over.
            status.send(None).unwrap();
            tokio::task::yield_now().await;
            status.send(Some(vec![("log", 8)])).unwrap();
            assert_eq!(seen.recv().await, Some(("log".to_owned(), Some(8))));
        })
        .await;
    }

    #[test]
    fn who_is_far_from_the_end_publishes_less_often() {
        let pause = |behind| {
            let (topic, offset) = (String::new(), Offset(0));
            Need {
                topic,
                offset,
                behind,
            }
            .pause()
        };
        assert_eq!(pause(FAR_RECORDS), PUBLISH_EVERY);
        assert_eq!(pause(FAR_RECORDS + 1), PUBLISH_EVERY_FAR);
    }
}
