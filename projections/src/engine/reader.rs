//! Reading a topic without a gap, over any number of connections, ahead of its consumer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use millrace_events::Record;
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::Error;
use super::log::{Log, LogError, Offset, RawRecord, RecordStream};
use super::status::Shared;

/// Decoded records wait for their consumer up to this many bytes of JSON.
const AHEAD_KIB: u32 = 16 * 1024;
/// And up to this many of them.
pub(crate) const AHEAD_RECORDS: usize = 16_384;
/// The first answer of a stream includes the compilation of its SmartModule, which a broker may do for each stream. It is
/// waited for twice as long at each attempt, up to this many times as long as for a later one.
const FIRST_ANSWER_TIMES_MAX: u32 = 16;
/// Pauses between attempts grow up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A topic that a replica was built from may be unknown for a while after a restart of the broker.
const TOPIC_ATTEMPTS: u32 = 60;
/// A gap that a new connection does not close so many times is one in the topic.
const GAP_ATTEMPTS: u32 = 5;
/// The same for records that retention has removed.
const EVICTED_ATTEMPTS: u32 = 3;
/// The same for a topic that ends before the wanted record, over half a minute: a server that has just started may say
/// so before it knows better.
const BEYOND_ATTEMPTS: u32 = 12;

/// A decoded record and its place.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) offset: Offset,
    pub(crate) record: Record,
    /// Length of its JSON.
    pub(crate) bytes: usize,
    /// Room in front of the consumer, free again when the record is dropped.
    _room: OwnedSemaphorePermit,
}

/// A topic being read. Dropping it ends the reading.
pub(crate) struct Reader {
    items: mpsc::Receiver<Result<Item, Error>>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Starts reading at `from`. `expected` says that the topic must exist.
    pub(crate) fn start(
        log: Arc<dyn Log>,
        shared: Arc<Shared>,
        topic: String,
        from: Offset,
        expected: bool,
    ) -> Reader {
        Reader::spawn(log, shared, topic, from, expected, false)
    }

    /// Starts reading the log in order to apply it: what it reads is pending from then on.
    pub(crate) fn start_to_apply(
        log: Arc<dyn Log>,
        shared: Arc<Shared>,
        topic: String,
        from: Offset,
    ) -> Reader {
        Reader::spawn(log, shared, topic, from, true, true)
    }

    fn spawn(
        log: Arc<dyn Log>,
        shared: Arc<Shared>,
        topic: String,
        from: Offset,
        expected: bool,
        to_apply: bool,
    ) -> Reader {
        let (sender, items) = mpsc::channel(AHEAD_RECORDS);
        let source = Source {
            log,
            shared,
            topic,
            expected,
            to_apply,
            wanted: from,
            failures: 0,
            gaps: 0,
            losses: 0,
            room: Arc::new(Semaphore::new(AHEAD_KIB as usize)),
            sender,
        };
        let task = tokio::spawn(source.run());
        Reader { items, task }
    }

    /// The next record, without a gap. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Item, Error> {
        match self.items.recv().await {
            Some(item) => item,
            // The task sends its error before it ends, so nobody is left to tell.
            None => std::future::pending().await,
        }
    }

    /// The next record if it is there already.
    pub(crate) fn ready(&mut self) -> Option<Result<Item, Error>> {
        self.items.try_recv().ok()
    }
}

/// How long a stream is waited for; all streams of a projector come through the same module.
#[derive(Debug)]
pub(crate) struct Patience {
    /// After this much silence it is asked whether there really is nothing more.
    silence: Duration,
    /// How often in a row a stream did not begin in time.
    missed: AtomicU32,
    /// How long the last one took to begin.
    took_ms: AtomicU64,
}

impl Patience {
    pub(crate) fn new(silence: Duration) -> Patience {
        Patience {
            silence,
            missed: AtomicU32::new(0),
            took_ms: AtomicU64::new(0),
        }
    }

    /// Twice what the last one took, and twice that for every one that did not begin.
    fn for_the_first(&self) -> Duration {
        let took = Duration::from_millis(self.took_ms.load(Ordering::Relaxed));
        let times = 2_u32.saturating_pow(self.missed.load(Ordering::Relaxed));
        let grown = self.silence.max(2 * took).saturating_mul(times);
        grown.min(self.silence * FIRST_ANSWER_TIMES_MAX)
    }

    fn missed(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how long the next record is waited for.
    fn begun(&self, took: Duration) -> Duration {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.took_ms.store(took_ms, Ordering::Relaxed);
        self.missed.store(0, Ordering::Relaxed);
        self.silence
    }
}

struct Source {
    log: Arc<dyn Log>,
    shared: Arc<Shared>,
    topic: String,
    expected: bool,
    to_apply: bool,
    wanted: Offset,
    failures: u32,
    gaps: u32,
    /// How often in a row the server said that the wanted record is gone.
    losses: u32,
    room: Arc<Semaphore>,
    sender: mpsc::Sender<Result<Item, Error>>,
}

/// How a connection ended.
enum Ended {
    /// Try again.
    Failed(LogError),
    /// Nobody listens any more.
    Unwanted,
    /// It makes no sense to go on.
    Fatal(Error),
}

impl Source {
    async fn run(mut self) {
        loop {
            let ended = match self.log.read(&self.topic, self.wanted).await {
                Ok(stream) => self.forward(stream).await,
                Err(error) => Ended::Failed(error),
            };
            let ended = match ended {
                Ended::Failed(error) => self.judge(error),
                other => other,
            };
            match ended {
                Ended::Failed(error) => self.pause(&error).await,
                Ended::Unwanted => return,
                Ended::Fatal(error) => {
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
            }
        }
    }

    async fn forward(&mut self, mut stream: RecordStream) -> Ended {
        let mut patience = self.shared.streams.for_the_first();
        let (mut asked, mut answered) = (Instant::now(), false);
        loop {
            let next = match tokio::time::timeout(patience, stream.next()).await {
                Ok(next) => next,
                Err(_) if self.behind().await => return self.silent(patience, answered),
                Err(_) => {
                    // There was nothing to bring until now.
                    asked = Instant::now();
                    continue;
                }
            };
            if !answered {
                patience = self.shared.streams.begun(asked.elapsed());
                answered = true;
            }
            let raw = match next {
                Some(Ok(raw)) => raw,
                Some(Err(error)) => return Ended::Failed(error),
                None => return Ended::Failed(LogError::Other("the stream ended".into())),
            };
            if raw.offset < self.wanted {
                continue;
            }
            if raw.offset > self.wanted {
                return self.gap(raw.offset);
            }
            if let Err(ended) = self.deliver(raw).await {
                return ended;
            }
        }
    }

    async fn deliver(&mut self, raw: RawRecord) -> Result<(), Ended> {
        let kib = (raw.value.len() / 1024 + 1).min(AHEAD_KIB as usize) as u32;
        let room = self.room.clone().acquire_many_owned(kib).await;
        let room = room.map_err(|_| Ended::Unwanted)?;
        let record = Record::decode(&raw.value).map_err(|source| {
            Ended::Fatal(Error::Decode {
                topic: self.topic.clone(),
                offset: raw.offset,
                source,
            })
        })?;
        if let (true, Record::Transaction(part)) = (self.to_apply, &record) {
            self.shared.pending().sent(part.commit_lsn, part.at);
        }
        let item = Item {
            offset: raw.offset,
            record,
            bytes: raw.value.len(),
            _room: room,
        };
        let sent = self.sender.send(Ok(item)).await;
        sent.map_err(|_| Ended::Unwanted)?;
        self.wanted = raw.offset.next();
        if self.failures > 0 {
            self.shared.log_works();
        }
        self.failures = 0;
        self.gaps = 0;
        self.losses = 0;
        Ok(())
    }

    /// A stream that never began may be waiting for its module, and is given longer next time.
    fn silent(&mut self, waited: Duration, answered: bool) -> Ended {
        if answered {
            return Ended::Failed(LogError::Other("the stream fell silent".into()));
        }
        self.shared.streams.missed();
        Ended::Failed(LogError::Other(format!(
            "the stream did not begin within {} s (the broker may be compiling the SmartModule); the next attempt waits {} s",
            waited.as_secs(),
            self.shared.streams.for_the_first().as_secs()
        )))
    }

    fn gap(&mut self, found: Offset) -> Ended {
        self.gaps += 1;
        let reason = format!("the broker went on with offset {found}");
        if self.gaps < GAP_ATTEMPTS {
            return Ended::Failed(LogError::Other(format!(
                "{} is missing: {reason}",
                self.wanted
            )));
        }
        Ended::Fatal(self.evicted(reason))
    }

    /// True if there are records that did not come.
    async fn behind(&self) -> bool {
        match self.log.end(&self.topic).await {
            Ok(end) => end > self.wanted,
            Err(_) => true,
        }
    }

    /// What would cost a new snapshot is believed only when fresh connections have said it several times.
    fn judge(&mut self, error: LogError) -> Ended {
        self.losses = match error {
            LogError::Evicted { .. } | LogError::Beyond => self.losses + 1,
            _ => 0,
        };
        match error {
            LogError::Evicted { .. } if self.losses >= EVICTED_ATTEMPTS => {
                Ended::Fatal(self.evicted(error.to_string()))
            }
            LogError::Beyond if self.losses >= BEYOND_ATTEMPTS => {
                Ended::Fatal(self.evicted(error.to_string()))
            }
            LogError::NoTopic if self.expected && self.failures >= TOPIC_ATTEMPTS => {
                Ended::Fatal(Error::NoTopic {
                    topic: self.topic.clone(),
                })
            }
            error => Ended::Failed(error),
        }
    }

    fn evicted(&self, reason: String) -> Error {
        Error::Evicted {
            topic: self.topic.clone(),
            offset: self.wanted,
            reason,
        }
    }

    async fn pause(&mut self, error: &LogError) {
        if matches!(error, LogError::NoTopic) && !self.expected {
            tracing::debug!(topic = %self.topic, "the topic is not there yet");
        } else {
            tracing::warn!(topic = %self.topic, offset = %self.wanted, %error, "reading the log failed; trying again");
        }
        self.shared
            .log_failed(format!("topic {}: {error}", self.topic));
        self.log.reset().await;
        let pause = match error {
            // Capture creates the topic when it has something to say; be there soon after.
            LogError::NoTopic => backoff(self.failures.min(2), BACKOFF_MAX),
            _ => backoff(self.failures, BACKOFF_MAX),
        };
        self.failures += 1;
        tokio::time::sleep(pause).await;
    }
}

/// 50 ms, doubled with every failure up to the limit, and up to a half of it more at random.
pub(crate) fn backoff(failures: u32, max: Duration) -> Duration {
    let base = Duration::from_millis(50 << failures.min(12)).min(max);
    base + base.mul_f64(rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_does_not_begin_gets_longer_and_one_that_began_late_may_do_so_again() {
        let seconds = Duration::from_secs;
        let patience = Patience::new(seconds(15));
        for expected in [15, 30, 60, 120, 240, 240] {
            assert_eq!(patience.for_the_first(), seconds(expected));
            patience.missed();
        }
        assert_eq!(patience.begun(seconds(40)), seconds(15));
        assert_eq!(patience.for_the_first(), seconds(80));
        patience.begun(seconds(1));
        assert_eq!(patience.for_the_first(), seconds(15));
    }
}
