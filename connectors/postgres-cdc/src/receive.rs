//! Receiving the replication stream: one task reads the socket, another tells Postgres what is durable, whatever the
//! encoder waits for.
//!
//! What was received and not yet encoded takes at most [`RECEIVED_BYTES_MAX`], and one message more, or one fragment of a row, that is being read.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_events::Lsn;
use millrace_sessions::postgres::replication::{Event, Feedback, Incoming, ReplicationError};
use tokio::sync::{mpsc, watch, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{interval, Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::append::Acknowledged;
use crate::config::RECEIVED_BYTES_MAX;
use crate::pgoutput::{self, Message};
use crate::status::Pending;
use crate::{Config, Error};

/// Messages that wait for the encoder: enough that neither task waits for the other at small rows.
pub(crate) const MESSAGES_MAX: usize = 256;
/// Bytes that a message takes beside its content.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// What the stream has brought.
pub(crate) enum Received {
    /// A message of the output plugin, and the room that it takes until it is encoded.
    Data(Bytes, OwnedSemaphorePermit),
    /// A part of a message of a row, the same way; `last` with its end.
    Fragment {
        data: Bytes,
        last: bool,
        _room: OwnedSemaphorePermit,
    },
    /// Everything that committed before this has been sent.
    Idle(Lsn),
    /// Nothing more will come.
    Failed(Error),
}

/// The stream, received ahead. Dropping it ends the connection.
pub(crate) struct Receiver {
    queue: mpsc::Receiver<Received>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Receiver {
    pub(crate) fn start(
        (incoming, feedback): (Incoming, Feedback),
        position: Lsn,
        proven: Arc<AtomicBool>,
        config: &Config,
        acknowledged: watch::Receiver<Acknowledged>,
        pending: Pending,
    ) -> Self {
        let (sender, queue) = mpsc::channel(MESSAGES_MAX);
        let asked = Arc::new(Notify::new());
        let reader = Reader {
            incoming,
            sender: sender.clone(),
            room: Arc::new(Semaphore::new(RECEIVED_BYTES_MAX)),
            pending: pending.clone(),
            asked: asked.clone(),
        };
        let teller = Teller {
            feedback,
            position,
            proven,
            acknowledged,
            pending,
            asked,
            pinged: Instant::now(),
        };
        let period = config.feedback_period;
        let reading = report(sender.clone(), reader.run());
        let telling = report(sender, teller.run(period));
        Receiver {
            queue,
            _tasks: [reading, telling].map(AbortOnDropHandle::new),
        }
    }

    /// What comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Received {
        let received = self.queue.recv().await;
        received.unwrap_or_else(|| Received::Failed(ReplicationError::Ended.into()))
    }
}

/// Runs a task whose end is the end of the stream.
fn report(
    sender: mpsc::Sender<Received>,
    task: impl Future<Output = ReplicationError> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let error = task.await;
        let _ = sender.send(Received::Failed(error.into())).await;
    })
}

struct Reader {
    incoming: Incoming,
    sender: mpsc::Sender<Received>,
    room: Arc<Semaphore>,
    pending: Pending,
    asked: Arc<Notify>,
}

impl Reader {
    async fn run(mut self) -> ReplicationError {
        loop {
            let received = match self.incoming.next().await {
                Ok(Event::Data(data)) => {
                    self.note(&data);
                    match room_for(&self.room, &data).await {
                        Ok(room) => Received::Data(data, room),
                        Err(error) => return error,
                    }
                }
                Ok(Event::Fragment { data, last }) => match room_for(&self.room, &data).await {
                    Ok(_room) => Received::Fragment { data, last, _room },
                    Err(error) => return error,
                },
                Ok(Event::Alive {
                    wal_end,
                    reply_wanted,
                }) => {
                    if reply_wanted {
                        self.asked.notify_one();
                    }
                    Received::Idle(wal_end)
                }
                Err(error) => return error,
            };
            if self.sender.send(received).await.is_err() {
                return ReplicationError::Ended;
            }
        }
    }

    /// A transaction is pending from the moment its first message is here.
    fn note(&self, data: &Bytes) {
        if data.first() != Some(&b'B') {
            return;
        }
        // What is no message ends the session when it is decoded.
        if let Ok(Message::Begin(begin)) = pgoutput::decode(data.clone()) {
            self.pending.lock().sent(begin.commit_lsn, begin.at);
        }
    }
}

/// Waits until what was received before leaves room for `data`.
async fn room_for(
    room: &Arc<Semaphore>,
    data: &Bytes,
) -> Result<OwnedSemaphorePermit, ReplicationError> {
    let bytes = (data.len() + MESSAGE_OVERHEAD_BYTES).min(RECEIVED_BYTES_MAX);
    let room = room.clone().acquire_many_owned(bytes as u32).await;
    // The semaphore is never closed.
    room.map_err(|_| ReplicationError::Ended)
}

/// Waits for the next acknowledgement, without end if none will come: then the appender has failed, and whoever
/// follows the stream has its reason. An end of the stream reported from here would blame Postgres for it.
async fn next(acknowledged: &mut watch::Receiver<Acknowledged>) {
    if acknowledged.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Teller {
    feedback: Feedback,
    /// Where the log ends, which is durable.
    position: Lsn,
    /// The stream has shown that it continues the log.
    proven: Arc<AtomicBool>,
    acknowledged: watch::Receiver<Acknowledged>,
    pending: Pending,
    asked: Arc<Notify>,
    /// When Postgres was last asked for a sign of life.
    pinged: Instant,
}

impl Teller {
    async fn run(mut self, period: Duration) -> ReplicationError {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.asked.notified() => {}
                () = next(&mut self.acknowledged) => {
                    self.arrived();
                    continue;
                }
            }
            if let Err(error) = self.tell().await {
                return error;
            }
        }
    }

    fn arrived(&mut self) -> Lsn {
        let lsn = self.acknowledged.borrow_and_update().lsn;
        let lsn = lsn.max(self.position);
        self.pending.lock().arrived(lsn);
        lsn
    }

    /// Nothing but an acknowledged record raises what Postgres is told, and nothing at all before the stream has shown that
    /// it continues the log.
    async fn tell(&mut self) -> Result<(), ReplicationError> {
        let ask_reply = self.pinged.elapsed() >= Feedback::PING_PERIOD;
        if ask_reply {
            self.pinged = Instant::now();
        }
        let lsn = match (self.arrived(), self.proven.load(Ordering::Relaxed)) {
            (lsn, true) => lsn,
            (_, false) => Lsn::ZERO,
        };
        self.feedback.send(lsn, ask_reply).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn acknowledgements_that_have_ended_are_no_end_of_the_stream() {
        let (report, mut acknowledged) = watch::channel(Acknowledged::default());
        report.send_modify(|acknowledged| acknowledged.transactions += 1);
        next(&mut acknowledged).await;
        drop(report);
        let waits = tokio::time::timeout(Duration::from_millis(50), next(&mut acknowledged));
        waits.await.expect_err("nothing comes");
    }
}
