//! Following the replication stream: socket → messages → records → topic, bounded at each step.

use chrono::Utc;
use millrace_events::{Lsn, Xid};
use pgwire_replication::{PgWireError, ReplicationClient, ReplicationEvent};
use sqlx::PgConnection;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::append::{Acknowledged, Appender};
use crate::assemble::{Assembler, Outgoing};
use crate::catalog::Types;
use crate::pgoutput::{self, Begin, Commit, Message, Relation};
use crate::status::{Pending, Reporter};
use crate::{relation, Config, Error};

/// Events between the task that reads the socket and the one that encodes. Few, because each may
/// be a row of megabytes.
const EVENTS_MAX: usize = 32;

/// A session that streams. Ends with an error only.
pub(crate) struct Stream<'a> {
    pub(crate) config: &'a Config,
    pub(crate) reporter: &'a Reporter,
    pub(crate) catalog: PgConnection,
    pub(crate) types: Types,
    pub(crate) assembler: Assembler,
    pub(crate) appender: Appender,
}

impl Stream<'_> {
    /// Follows `client`, which has started at the position of the assembler.
    pub(crate) async fn run(mut self, client: ReplicationClient) -> Result<(), Error> {
        let mut acknowledged = self.appender.acknowledged();
        let pending = self.reporter.pending.clone();
        // What an earlier session received is in the log by now, or comes again.
        pending.lock().arrived(self.assembler.position());
        let mut events = Reader::start(client, acknowledged.clone(), pending);
        let mut seen = Acknowledged::default();
        let ended = self.follow(&mut events, &mut acknowledged, &mut seen).await;
        // Until the next session nobody else says how far the log has come.
        let now = *acknowledged.borrow();
        self.report(&mut seen, now);
        ended
    }

    async fn follow(
        &mut self,
        events: &mut Reader,
        acknowledged: &mut watch::Receiver<Acknowledged>,
        seen: &mut Acknowledged,
    ) -> Result<(), Error> {
        let mut ticks = interval(self.config.progress_period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.queue.recv() => match event {
                    Some(event) => self.event(event).await?,
                    None => return Err(self.explain(events.failure().await)),
                },
                changed = acknowledged.changed() => {
                    if changed.is_err() {
                        return Err(self.appender.failure().await);
                    }
                    let now = *acknowledged.borrow_and_update();
                    self.report(seen, now);
                }
                _ = ticks.tick() => self.progress().await?,
            }
        }
    }

    /// Changes are decoded with the catalog of their time. A publication that was dropped and made
    /// anew does not exist there, and never will.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Replication(PgWireError::Server(text)) if text.contains("SQLSTATE 42704") => {
                Error::PublicationDiffers {
                    publication: self.config.publication.clone(),
                    difference: format!(
                        "did not exist at the position where the log ends ({text}); the log cannot continue: drop the slot, delete the topic and start over with a new snapshot"
                    ),
                }
            }
            other => other,
        }
    }

    async fn event(&mut self, event: ReplicationEvent) -> Result<(), Error> {
        let Some(message) = self.message(event)? else {
            return Ok(());
        };
        if let Message::Relation(relation) = &message {
            return self.relation(relation).await;
        }
        let ended = match &message {
            Message::Commit(commit) => Some(commit.commit_lsn),
            _ => None,
        };
        let mut out = Vec::new();
        self.assembler.take(message, &mut out)?;
        if let (Some(commit), true) = (ended, out.is_empty()) {
            self.reporter.pending.lock().dropped(commit);
        }
        for record in out {
            self.appender.append(record).await?;
        }
        Ok(())
    }

    async fn relation(&mut self, relation: &Relation) -> Result<(), Error> {
        if !relation::is_captured(self.config, relation) {
            let name = format!("{}.{}", relation.namespace, relation.name);
            self.assembler
                .refuse(relation.oid, &self.config.publication, name);
            return Ok(());
        }
        let id = self.assembler.next_schema();
        let schema = relation::resolve(&mut self.catalog, &mut self.types, id, relation).await?;
        self.assembler.define(relation.oid, schema);
        Ok(())
    }

    /// The crate decodes the boundaries of transactions and the messages of applications itself.
    fn message(&mut self, event: ReplicationEvent) -> Result<Option<Message>, Error> {
        Ok(Some(match event {
            ReplicationEvent::XLogData { data, .. } => pgoutput::decode(data)?,
            ReplicationEvent::Begin {
                final_lsn,
                xid,
                commit_time_micros,
            } => Message::Begin(Begin {
                commit_lsn: Lsn(final_lsn.0),
                at: pgoutput::timestamp(commit_time_micros)?,
                xid: Xid(xid),
            }),
            ReplicationEvent::Commit { lsn, end_lsn, .. } => {
                self.received(Lsn(end_lsn.0));
                Message::Commit(Commit {
                    commit_lsn: Lsn(lsn.0),
                    end_lsn: Lsn(end_lsn.0),
                })
            }
            ReplicationEvent::Message {
                transactional,
                lsn,
                prefix,
                content,
            } => Message::Logical {
                transactional,
                lsn: Lsn(lsn.0),
                prefix,
                content,
            },
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                self.assembler.idle(Lsn(wal_end.0));
                self.received(Lsn(wal_end.0));
                return Ok(None);
            }
            ReplicationEvent::StoppedAt { .. } => return Ok(None),
        }))
    }

    async fn progress(&mut self) -> Result<(), Error> {
        let record: Option<Outgoing> = self.assembler.progress(Utc::now());
        match record {
            Some(record) => self.appender.append(record).await,
            None => Ok(()),
        }
    }

    fn received(&self, lsn: Lsn) {
        self.reporter
            .update(|status| status.received_lsn = status.received_lsn.max(lsn));
    }

    fn report(&self, seen: &mut Acknowledged, now: Acknowledged) {
        // First, so that whoever sees the log there does not see older transactions on their way.
        self.reporter.pending.lock().arrived(now.lsn);
        self.reporter.update(|status| {
            status.transactions += now.transactions - seen.transactions;
            status.last_lsn = status.last_lsn.max(now.lsn);
        });
        *seen = now;
    }
}

/// Reads the socket and tells Postgres what is durable, whatever the encoder waits for.
struct Reader {
    queue: mpsc::Receiver<ReplicationEvent>,
    task: AbortOnDropHandle<Error>,
}

impl Reader {
    fn start(
        client: ReplicationClient,
        acknowledged: watch::Receiver<Acknowledged>,
        pending: Pending,
    ) -> Self {
        let (sender, queue) = mpsc::channel(EVENTS_MAX);
        let task = tokio::spawn(read(client, acknowledged, pending, sender));
        Reader {
            queue,
            task: AbortOnDropHandle::new(task),
        }
    }

    async fn failure(&mut self) -> Error {
        match (&mut self.task).await {
            Ok(error) => error,
            Err(error) => Error::Protocol(error.to_string()),
        }
    }
}

async fn read(
    mut client: ReplicationClient,
    mut acknowledged: watch::Receiver<Acknowledged>,
    pending: Pending,
    sender: mpsc::Sender<ReplicationEvent>,
) -> Error {
    loop {
        let event = tokio::select! {
            event = next(&mut client, &sender) => event,
            changed = acknowledged.changed() => {
                if changed.is_err() {
                    return ended();
                }
                // Nothing but this raises what Postgres is told: the crate itself repeats the last
                // value, in its answers to keepalives too.
                let lsn = acknowledged.borrow_and_update().lsn;
                client.update_applied_lsn(pgwire_replication::Lsn(lsn.0));
                pending.lock().arrived(lsn);
                continue;
            }
        };
        match event {
            Ok((permit, Some(event))) => {
                note(&pending, &event);
                permit.send(event);
            }
            Ok((_, None)) => return ended(),
            Err(error) => return failed(error),
        }
    }
}

/// A transaction is pending from the moment its first message is here.
fn note(pending: &Pending, event: &ReplicationEvent) {
    let ReplicationEvent::Begin {
        final_lsn,
        commit_time_micros,
        ..
    } = event
    else {
        return;
    };
    // A time that is none ends the session when the message is decoded.
    if let Ok(at) = pgoutput::timestamp(*commit_time_micros) {
        pending.lock().sent(Lsn(final_lsn.0), at);
    }
}

async fn next<'a>(
    client: &mut ReplicationClient,
    sender: &'a mpsc::Sender<ReplicationEvent>,
) -> Result<(mpsc::Permit<'a, ReplicationEvent>, Option<ReplicationEvent>), PgWireError> {
    let closed = |_| PgWireError::Internal("the encoder has ended".into());
    let permit = sender.reserve().await.map_err(closed)?;
    Ok((permit, client.recv().await?))
}

fn failed(error: PgWireError) -> Error {
    match error {
        PgWireError::MessageTooLarge {
            payload_bytes,
            limit_bytes,
        } => Error::RowTooLarge {
            table: "an unknown table".into(),
            place: "the replication stream".into(),
            bytes: payload_bytes,
            limit: limit_bytes,
        },
        other => other.into(),
    }
}

fn ended() -> Error {
    PgWireError::Internal("the replication stream has ended".into()).into()
}
