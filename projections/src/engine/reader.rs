//! Reading a topic without a gap, over any number of connections, ahead of its consumer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use millrace_control::in_words;
use millrace_events::Record;
use millrace_sessions::mysql::Session;
use millrace_topic::{self as topic, Offset, RecordStream, TopicError};
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::Error;
use super::log::Log;
use super::shared::Shared;

/// Decoded records wait for their consumer up to this many bytes of JSON. Rows of small values take five times as much
/// memory once they are decoded, and a log and a copy may be read at once.
const AHEAD_KIB: u32 = 4 * 1024;
/// And up to this many of them.
pub(crate) const AHEAD_RECORDS: usize = 16_384;
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
    Failed(TopicError),
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
        let (mut asked, mut begun) = (Instant::now(), false);
        loop {
            let limit = self.shared.streams.limit(begun);
            let next = match tokio::time::timeout(limit, stream.next()).await {
                Ok(next) => next,
                Err(_) if self.behind().await => {
                    let streams = &self.shared.streams;
                    return Ended::Failed(streams.gives_up(&self.topic, begun, limit));
                }
                Err(_) => {
                    // There was nothing to bring until now.
                    asked = Instant::now();
                    continue;
                }
            };
            if !begun {
                self.shared.streams.has_begun(asked.elapsed());
                begun = true;
            }
            let raw = match next {
                Some(Ok(raw)) => raw,
                Some(Err(error)) => return Ended::Failed(error),
                None => return Ended::Failed(self.stream_ended()),
            };
            if let Err(ended) = self.deliver(raw).await {
                return ended;
            }
        }
    }

    async fn deliver(&mut self, raw: topic::Record) -> Result<(), Ended> {
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

    fn stream_ended(&self) -> TopicError {
        let topic = self.topic.clone();
        TopicError::Ended { topic }
    }

    /// True if there are records that did not come.
    async fn behind(&self) -> bool {
        match self.log.end(&self.topic).await {
            Ok(end) => end > self.wanted,
            Err(_) => true,
        }
    }

    /// What would cost a new snapshot is believed only when fresh connections have said it several times.
    fn judge(&mut self, error: TopicError) -> Ended {
        self.losses = match error {
            TopicError::Evicted { .. } | TopicError::Beyond { .. } => self.losses + 1,
            _ => 0,
        };
        let missing = matches!(error, TopicError::Gap { .. } | TopicError::Cut { .. });
        self.gaps += u32::from(missing);
        let believed = match error {
            TopicError::Evicted { .. } => self.losses >= EVICTED_ATTEMPTS,
            TopicError::Beyond { .. } => self.losses >= BEYOND_ATTEMPTS,
            _ => missing && self.gaps >= GAP_ATTEMPTS,
        };
        if believed {
            return Ended::Fatal(self.evicted(error.to_string()));
        }
        match error {
            TopicError::NoTopic { topic } if self.expected && self.failures >= TOPIC_ATTEMPTS => {
                Ended::Fatal(Error::NoTopic { topic })
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

    async fn pause(&mut self, error: &TopicError) {
        let said = in_words(error);
        if matches!(error, TopicError::NoTopic { .. }) && !self.expected {
            tracing::debug!(topic = %self.topic, "the topic is not there yet");
        } else {
            tracing::warn!(topic = %self.topic, offset = %self.wanted, error = %said, "reading the log failed; trying again");
        }
        self.shared.log_failed(said);
        self.log.reset().await;
        let pause = match error {
            // Capture creates the topic when it has something to say; be there soon after.
            TopicError::NoTopic { .. } => backoff(self.failures.min(2), BACKOFF_MAX),
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

/// Awaits the log, and looks after the connection to MySQL meanwhile.
pub(super) async fn looked_after<T>(
    conn: &mut Session,
    log: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let waited = conn.meanwhile(log).await;
    waited.map_err(Error::sql("a sign of life"))?
}
