//! A log in memory that behaves as badly as a real one may.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{stream, FutureExt, StreamExt};
use millrace_projections::engine::log::Log;
use millrace_topic::{Offset, Record, RecordStream, TopicError};
use tokio::sync::watch;

type Topics = BTreeMap<String, Vec<Vec<u8>>>;

/// Topics of one partition each.
#[derive(Clone)]
pub(crate) struct MemoryLog {
    topics: Arc<watch::Sender<Topics>>,
    faulty: Arc<AtomicBool>,
    evicted: Arc<Mutex<BTreeMap<String, u64>>>,
    begins_after: Arc<Mutex<Duration>>,
}

impl MemoryLog {
    pub(crate) fn new() -> MemoryLog {
        MemoryLog {
            topics: Arc::new(watch::Sender::new(Topics::new())),
            faulty: Arc::default(),
            evicted: Arc::default(),
            begins_after: Arc::default(),
        }
    }

    /// Streams break and go on elsewhere from now on.
    pub(crate) fn be_faulty(&self) {
        self.faulty.store(true, Ordering::Relaxed);
    }

    /// Retention removes the records of a topic before `next`.
    pub(crate) fn evict(&self, topic: &str, next: u64) {
        let mut evicted = self.evicted.lock().expect("not poisoned");
        evicted.insert(topic.to_owned(), next);
    }

    /// Fails if a record is not there any more.
    fn check_evicted(&self, topic: &str, wanted: Offset) -> Result<(), TopicError> {
        let evicted = self.evicted.lock().expect("not poisoned");
        let next = Offset(evicted.get(topic).copied().unwrap_or_default());
        if wanted >= next {
            return Ok(());
        }
        Err(TopicError::Evicted {
            topic: topic.to_owned(),
            wanted,
            next,
        })
    }

    /// Every stream takes so long to begin, as with a broker that compiles a module for each.
    #[allow(dead_code)]
    pub(crate) fn begin_after(&self, delay: Duration) {
        *self.begins_after.lock().expect("not poisoned") = delay;
    }

    pub(crate) fn append(&self, topic: &str, value: Vec<u8>) {
        self.topics.send_modify(|topics| {
            topics.entry(topic.to_owned()).or_default().push(value);
        });
    }

    /// The records of a topic.
    #[allow(dead_code)]
    pub(crate) fn values(&self, topic: &str) -> Vec<Vec<u8>> {
        self.topics.borrow().get(topic).cloned().unwrap_or_default()
    }

    /// Removes the last records of a topic.
    pub(crate) fn truncate(&self, topic: &str, len: usize) {
        self.topics.send_modify(|topics| {
            if let Some(topic) = topics.get_mut(topic) {
                topic.truncate(len);
            }
        });
    }
}

fn no_topic(topic: &str) -> TopicError {
    TopicError::NoTopic {
        topic: topic.to_owned(),
    }
}

fn chance(one_in: u32) -> bool {
    rand::random::<u32>().is_multiple_of(one_in)
}

#[async_trait]
impl Log for MemoryLog {
    async fn read(&self, topic: &str, from: Offset) -> Result<RecordStream, TopicError> {
        let faulty = self.faulty.load(Ordering::Relaxed);
        if !self.topics.borrow().contains_key(topic) {
            return Err(no_topic(topic));
        }
        self.check_evicted(topic, from)?;
        if faulty && chance(6) {
            return Err(TopicError::failed("connecting", "no broker today"));
        }
        let (topic, topics) = (topic.to_owned(), self.topics.subscribe());
        let stream = stream::unfold((topics, from.0), move |(mut topics, at)| {
            let topic = topic.clone();
            async move {
                if faulty && chance(40) {
                    let broken = TopicError::failed("reading", "connection reset");
                    return Some((Err(broken), (topics, at)));
                }
                // As with a server that cuts a batch: a few records are lost on the way.
                if faulty && chance(60) {
                    let (wanted, found) = (Offset(at), Offset(at + 2));
                    let gap = TopicError::Gap {
                        topic,
                        wanted,
                        found,
                    };
                    return Some((Err(gap), (topics, at)));
                }
                let place = usize::try_from(at).expect("small");
                let there = topics
                    .wait_for(|topics| topics.get(&topic).is_some_and(|t| t.len() > place))
                    .await
                    .ok()?;
                let value = there[&topic][place].clone();
                drop(there);
                let record = Record {
                    offset: Offset(at),
                    sent_at_ms: None,
                    key: None,
                    value,
                };
                Some((Ok(record), (topics, at + 1)))
            }
        });
        let delay = *self.begins_after.lock().expect("not poisoned");
        let begun = async move {
            tokio::time::sleep(delay).await;
            stream
        };
        Ok(Box::pin(begun.into_stream().flatten()))
    }

    async fn range(
        &self,
        topic: &str,
        (begin, end): (Offset, Offset),
    ) -> Result<Vec<Record>, TopicError> {
        self.check_evicted(topic, begin)?;
        if self.faulty.load(Ordering::Relaxed) && chance(6) {
            return Err(TopicError::failed("connecting", "no broker today"));
        }
        let topics = self.topics.borrow();
        let values = topics.get(topic).ok_or_else(|| no_topic(topic))?;
        let there = values.iter().zip(0..).map(|(value, offset)| Record {
            offset: Offset(offset),
            sent_at_ms: None,
            key: None,
            value: value.clone(),
        });
        let wanted = there.filter(|record| (begin..end).contains(&record.offset));
        Ok(wanted.collect())
    }

    async fn end(&self, topic: &str) -> Result<Offset, TopicError> {
        let topics = self.topics.borrow();
        let len = topics.get(topic).ok_or_else(|| no_topic(topic))?.len();
        Ok(Offset(len as u64))
    }

    async fn reset(&self) {}
}
