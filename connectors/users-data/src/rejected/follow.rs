//! Keeps the index: reads the topic of rejected events once, and then what is added.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_control::in_words;
use millrace_sm_user_event::RejectedEvent;
use millrace_topic::{Bounds, Cluster, Offset, Read, Record, TopicError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::index::{Digest, Entry, Index};
use crate::error::SessionError;
use crate::Config;

/// How often it is looked what retention removed, and whether a silent stream has missed something.
const LOOK_PERIOD: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Somebody may be waiting to see what was rejected just now.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How far the index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The whole topic was read at least once.
    pub(crate) ready: bool,
    /// Offset of the next record to be read.
    pub(crate) next: i64,
}

/// The index and how far it is.
#[derive(Debug)]
pub(crate) struct Followed {
    index: Mutex<Index>,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Followed {
    pub(crate) fn new(records_max: usize) -> Arc<Followed> {
        Arc::new(Followed {
            index: Mutex::new(Index::new(records_max)),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut index)
    }
}

/// Follows the topic until it is dropped.
pub(crate) async fn follow(config: Config, followed: Arc<Followed>) {
    let mut follower = Follower {
        cluster: Cluster::new(config.endpoint),
        topic: config.rejected_topic,
        followed,
        last: None,
        evicted: 0,
        gap: None,
    };
    let mut delay = BACKOFF_MIN;
    loop {
        let before = *follower.followed.progress.borrow();
        let Err(error) = follower.session().await else {
            continue;
        };
        if *follower.followed.progress.borrow() != before {
            delay = BACKOFF_MIN;
        }
        tracing::debug!(
            error = in_words(&error),
            "the topic of rejected events cannot be read; trying again"
        );
        sleep(delay.mul_f64(rand::random_range(0.5..1.5))).await;
        delay = (delay * 2).min(BACKOFF_MAX);
    }
}

struct Follower {
    cluster: Cluster,
    topic: String,
    followed: Arc<Followed>,
    /// The last record that was read. If something else stands there, the topic is another one.
    last: Option<(i64, Digest)>,
    /// The broker said that retention removed what is before this; the controller may not know it yet.
    evicted: i64,
    /// A record that did not come. If it does not come again, it is not there.
    gap: Option<i64>,
}

impl Follower {
    /// One connection, until it fails or falls behind.
    async fn session(&mut self) -> Result<(), SessionError> {
        self.cluster.reset();
        let Some(bounds) = self.cluster.bounds(&self.topic).await? else {
            // Ingest creates it; until then there are no rejected events. One that was there is missed
            // only while the broker starts, or it is gone, which the next one of the name tells.
            if self.last.is_none() {
                self.look(0, 0);
            }
            return Err(broken("the topic is not there"));
        };
        let mut end = bounds.end.to_i64();
        let from = self.resume(bounds);
        self.look(from, end);
        // A record that does not come twice is not there: see `take`.
        let read = Read::new(&self.topic).from(Offset::of(from)).unnumbered();
        let mut reading = self.cluster.read(read).await?;
        loop {
            match timeout(LOOK_PERIOD, reading.next()).await {
                Ok(Ok(Some(record))) => self.take(record, end)?,
                Ok(Ok(None)) => return Err(broken("the stream ended")),
                Ok(Err(error)) => return Err(self.failure(error)),
                Err(_) => end = self.after_silence().await?,
            }
        }
    }

    /// Where to read on: at the last record again, to see that it is still the same one.
    fn resume(&mut self, bounds: Bounds) -> i64 {
        let end = bounds.end.to_i64();
        if self.evicted > end {
            self.evicted = 0;
        }
        let start = bounds.start.to_i64().max(self.evicted);
        match self.last {
            Some((last, _)) if (start..end).contains(&last) => last,
            // All of it is gone, or it is another topic: what it has says the rest.
            _ => {
                self.start_over(start);
                start
            }
        }
    }

    fn start_over(&mut self, next: i64) {
        self.last = None;
        self.followed.with(|index| index.prune(i64::MAX));
        let progress = Progress { ready: false, next };
        self.followed.progress.send_replace(progress);
    }

    fn take(&mut self, record: Record, end: i64) -> Result<(), SessionError> {
        let offset = record.offset.to_i64();
        let next = self.followed.progress.borrow().next;
        let letter = serde_json::from_slice::<RejectedEvent>(&record.value).ok();
        let entry = letter.map(|letter| Entry::of(&letter));
        if let Some((_, known)) = self.last.filter(|(last, _)| *last == offset) {
            if entry.map(|entry| entry.digest) != Some(known) {
                self.start_over(0);
                return Err(broken("the topic was created again"));
            }
        }
        if offset < next {
            return Ok(());
        }
        if offset > next && self.gap.replace(next) != Some(next) {
            return Err(SessionError::Fluvio(format!("offset {next} did not come")));
        }
        match entry {
            Some(entry) => {
                self.last = Some((offset, entry.digest));
                self.followed.with(|index| index.insert(offset, entry));
            }
            None => tracing::warn!(offset, "no rejected event; left out"),
        }
        self.advance(offset + 1, end);
        Ok(())
    }

    fn advance(&self, next: i64, end: i64) {
        self.followed.progress.send_modify(|progress| {
            progress.next = next;
            progress.ready |= next >= end;
        });
    }

    /// What retention removed is forgotten; a stream that has missed something is given up.
    async fn after_silence(&mut self) -> Result<i64, SessionError> {
        let Some(bounds) = self.cluster.bounds(&self.topic).await? else {
            return Err(broken("the topic is gone"));
        };
        let (start, end) = (bounds.start.to_i64(), bounds.end.to_i64());
        self.followed.with(|index| index.prune(start));
        self.look(start, end);
        match self.followed.progress.borrow().next.cmp(&end) {
            Ordering::Equal => Ok(end),
            _ => Err(broken("the stream fell silent")),
        }
    }

    /// `start` is where the topic begins, or a place in it that was read.
    fn look(&self, start: i64, end: i64) {
        let next = self.followed.progress.borrow().next.max(start);
        self.advance(next, end);
    }

    fn failure(&mut self, error: TopicError) -> SessionError {
        if let TopicError::Evicted { next, .. } = error {
            self.evicted = next.to_i64();
            self.followed.with(|index| index.prune(next.to_i64()));
        }
        error.into()
    }
}

fn broken(what: &str) -> SessionError {
    SessionError::Fluvio(what.to_owned())
}
