//! The streams of one connection, and what their client has acknowledged.

use std::collections::BTreeMap;

use fluvio_protocol::record::ReplicaKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a client has said about a stream: a count of acknowledgements and the last one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Acknowledged {
    pub(super) count: u64,
    pub(super) offset: i64,
}

/// A stream as its connection sees it.
pub(super) struct Session {
    pub(super) replica: ReplicaKey,
    pub(super) consumer: Option<String>,
    acknowledged: watch::Sender<Acknowledged>,
    end: CancellationToken,
    last_heard: u64,
}

/// The streams of one connection; ids count from 1.
pub(super) struct Sessions {
    open: BTreeMap<u32, Session>,
    next_id: u32,
    clock: u64,
    max: usize,
}

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            next_id: 1,
            clock: 0,
            max,
        }
    }

    /// Opens a session. If there are too many, the one not heard of for longest is ended: a client
    /// does not say when it drops a stream.
    pub(super) fn open(
        &mut self,
        replica: ReplicaKey,
        consumer: Option<String>,
        end: CancellationToken,
    ) -> (u32, watch::Receiver<Acknowledged>) {
        if self.open.len() >= self.max {
            let oldest = self
                .open
                .iter()
                .min_by_key(|(_, session)| session.last_heard)
                .map(|(id, _)| *id);
            if let Some(session) = oldest.and_then(|id| self.open.remove(&id)) {
                session.end.cancel();
            }
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        self.clock += 1;
        let (acknowledged, receiver) = watch::channel(Acknowledged::default());
        self.open.insert(
            id,
            Session {
                replica,
                consumer,
                acknowledged,
                end,
                last_heard: self.clock,
            },
        );
        (id, receiver)
    }

    /// Notes an acknowledgement; false if there is no such stream.
    pub(super) fn acknowledge(&mut self, id: u32, offset: i64) -> bool {
        self.clock += 1;
        let Some(session) = self.open.get_mut(&id) else {
            return false;
        };
        session.last_heard = self.clock;
        session.acknowledged.send_modify(|acknowledged| {
            acknowledged.count += 1;
            acknowledged.offset = offset;
        });
        true
    }

    pub(super) fn get(&self, id: u32) -> Option<&Session> {
        self.open.get(&id)
    }
}
