//! Stream fetch: whole batches, each response answered by an acknowledgement before too many follow.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::record::ReplicaKey;
use fluvio_protocol::Version;
use fluvio_spu_schema::fetch::FetchablePartitionResponse;
use fluvio_spu_schema::server::smartmodule::SmartModuleInvocation;
use fluvio_spu_schema::server::stream_fetch::{StreamFetchRequest, StreamFetchResponse};
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::sessions::Acknowledged;
use super::{unsupported, Connection, DataPlane, VERSION_MIN_STREAM};
use crate::log::{Bounds, PartitionLog, ReadError};
use crate::net::{Frame, Outbox};
use crate::request::{RawSet, Request};
use crate::smart::{Chain, Transformed};

/// Responses on their way without acknowledgement. One would leave the client waiting for a round
/// trip after each; clients queue up to ten.
const UNACKNOWLEDGED_MAX: usize = 2;

impl Connection {
    /// Starts a stream in a task of its own; it ends with the connection.
    pub(super) async fn stream_fetch(&mut self, request: &Request) -> io::Result<()> {
        if request.version < VERSION_MIN_STREAM {
            return Err(unsupported(request));
        }
        let asked: StreamFetchRequest<RawSet> = request.decode()?;
        let replica = ReplicaKey::new(asked.topic.clone(), asked.partition);
        let target = Target {
            replica: replica.clone(),
            outbox: self.outbox.clone(),
            correlation: request.correlation,
            version: request.version,
            stream_id: 0,
        };
        let Some(log) = self.plane.catalog.partition(&asked.topic, asked.partition) else {
            target.fail(ErrorCode::NotLeaderForPartition, 0).await;
            return Ok(());
        };
        let end = self.gone.child_token();
        let (stream_id, acknowledged) =
            self.sessions
                .open(replica, asked.consumer_id.clone(), end.clone());
        let stream = Stream {
            plane: self.plane.clone(),
            outgoing: self.outgoing.clone(),
            target: Target {
                stream_id,
                ..target
            },
            bounds: log.follow(),
            log,
            acknowledged,
            bytes_max: usize::try_from(asked.max_bytes)
                .unwrap_or(0)
                .clamp(1, self.plane.limits.response_bytes_max),
            position: asked.fetch_offset,
            unacknowledged: VecDeque::new(),
            answered: 0,
        };
        self.plane.tasks.spawn(stream.run(asked.smartmodules, end));
        Ok(())
    }
}

/// Where responses go.
struct Target {
    replica: ReplicaKey,
    outbox: Outbox,
    correlation: i32,
    version: Version,
    stream_id: u32,
}

struct Stream {
    plane: Arc<DataPlane>,
    outgoing: Arc<Semaphore>,
    target: Target,
    log: PartitionLog,
    bounds: watch::Receiver<Bounds>,
    acknowledged: watch::Receiver<Acknowledged>,
    bytes_max: usize,
    /// Offset to read next.
    position: i64,
    /// Where each response that is not acknowledged ended.
    unacknowledged: VecDeque<i64>,
    /// Acknowledgements already looked at.
    answered: u64,
}

/// Batches ready to be sent.
struct Batch {
    records: Bytes,
    next_offset: i64,
    error: ErrorCode,
    room: Option<OwnedSemaphorePermit>,
}

impl Stream {
    /// Ends with its session, also while its last response waits for the client to read.
    async fn run(mut self, modules: Vec<SmartModuleInvocation>, end: CancellationToken) {
        let to_its_end = async {
            if let Err(code) = self.pump(modules).await {
                tracing::debug!(replica = %self.target.replica, stream = self.target.stream_id, %code, "stream ends");
                let end = self.log.bounds().end;
                self.target.fail(code, end).await;
            }
        };
        end.run_until_cancelled(to_its_end).await;
    }

    /// Sends until something is wrong; that is the stream's last response.
    async fn pump(&mut self, modules: Vec<SmartModuleInvocation>) -> Result<(), ErrorCode> {
        let mut chain = match modules.is_empty() {
            true => None,
            false => Some(self.start_chain(modules).await?),
        };
        loop {
            if let Some(chain) = chain.as_mut().filter(|_| self.has_caught_up()) {
                chain.rest();
            }
            self.wait_for_turn().await?;
            if let Some(batch) = self.next(chain.as_mut()).await? {
                let failed = batch.error != ErrorCode::None;
                self.send(batch).await?;
                if failed {
                    // The records before the error and the error are one response; nothing follows.
                    return Ok(());
                }
            }
        }
    }

    async fn start_chain(&self, modules: Vec<SmartModuleInvocation>) -> Result<Chain, ErrorCode> {
        let mut chain = self
            .plane
            .engine
            .chain(&self.plane.catalog, modules)
            .await?;
        chain.look_back_over(&self.log).await?;
        Ok(chain)
    }

    fn has_caught_up(&self) -> bool {
        self.position == self.bounds.borrow().end
    }

    /// Waits until the client has room and there is something to read.
    async fn wait_for_turn(&mut self) -> Result<(), ErrorCode> {
        loop {
            self.note_acknowledgement();
            let bounds = *self.bounds.borrow_and_update();
            if bounds.deleted {
                return Err(ErrorCode::TopicDeleted);
            }
            let something = self.position != bounds.end || bounds.damaged.is_some();
            if something && self.unacknowledged.len() < UNACKNOWLEDGED_MAX {
                return Ok(());
            }
            let changed = tokio::select! {
                changed = self.bounds.changed() => changed,
                changed = self.acknowledged.changed() => changed,
            };
            changed.map_err(|_| ErrorCode::NotLeaderForPartition)?;
        }
    }

    /// An acknowledgement covers all responses that end at or before it. One that lies elsewhere
    /// means that the client wants to go on from there.
    fn note_acknowledgement(&mut self) {
        let acknowledged = *self.acknowledged.borrow_and_update();
        if acknowledged.count == self.answered {
            return;
        }
        self.answered = acknowledged.count;
        if !self.unacknowledged.contains(&acknowledged.offset)
            && acknowledged.offset < self.position
        {
            self.position = acknowledged.offset;
            self.unacknowledged.clear();
        }
        while self
            .unacknowledged
            .front()
            .is_some_and(|&ended| ended <= acknowledged.offset)
        {
            self.unacknowledged.pop_front();
        }
    }

    async fn next(&mut self, chain: Option<&mut Chain>) -> Result<Option<Batch>, ErrorCode> {
        let bytes_max = self.bytes_max;
        let mut room = self.room_for(bytes_max).await?;
        let (log, position) = (self.log.clone(), self.position);
        let read = tokio::task::spawn_blocking(move || log.read(position, bytes_max))
            .await
            .map_err(|error| ErrorCode::Other(error.to_string()))?;
        let Some(slice) = read.map_err(refusal)? else {
            return Ok(None);
        };
        let output = match chain {
            None => Transformed {
                batches: slice.batches,
                next_offset: slice.next_offset,
                error: None,
            },
            Some(chain) => chain.transform(slice).await?,
        };
        // What was not needed is free again.
        drop(room.split(room.num_permits().saturating_sub(output.batches.len())));
        let error = output.error.unwrap_or(ErrorCode::None);
        Ok(Some(Batch {
            records: output.batches,
            next_offset: output.next_offset,
            error,
            room: Some(room),
        }))
    }

    /// Waits until the client has taken enough of what was read for it.
    async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ErrorCode> {
        let bytes = bytes.min(self.plane.limits.outgoing_bytes_max);
        let room = self
            .outgoing
            .clone()
            .acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX))
            .await;
        room.map_err(|error| ErrorCode::Other(error.to_string()))
    }

    async fn send(&mut self, batch: Batch) -> Result<(), ErrorCode> {
        let bounds = self.log.bounds();
        let partition = FetchablePartitionResponse {
            partition_index: self.target.replica.partition,
            error_code: batch.error,
            high_watermark: bounds.end,
            next_filter_offset: batch.next_offset,
            log_start_offset: bounds.start,
            records: RawSet::default(),
            ..Default::default()
        };
        self.position = batch.next_offset;
        self.unacknowledged.push_back(batch.next_offset);
        self.target.send(partition, batch.records, batch.room).await
    }
}

impl Target {
    /// The last response of a stream.
    async fn fail(&self, error_code: ErrorCode, high_watermark: i64) {
        let partition = FetchablePartitionResponse {
            partition_index: self.replica.partition,
            error_code,
            high_watermark,
            ..Default::default()
        };
        let _ = self.send(partition, Bytes::new(), None).await;
    }

    async fn send(
        &self,
        partition: FetchablePartitionResponse<RawSet>,
        records: Bytes,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ErrorCode> {
        let response = StreamFetchResponse {
            topic: self.replica.topic.clone(),
            stream_id: self.stream_id,
            partition,
        };
        let frame = Frame::with_records(self.correlation, self.version, &response, records, room)
            .map_err(|error| ErrorCode::Other(error.to_string()))?;
        self.outbox
            .send(frame)
            .await
            .map_err(|_| ErrorCode::Other("connection closed".to_owned()))
    }
}

fn refusal(error: ReadError) -> ErrorCode {
    match error {
        ReadError::Evicted { offset, start } => ErrorCode::OffsetEvicted {
            offset,
            next_available: start,
        },
        ReadError::Beyond { .. } | ReadError::Damaged(_) => ErrorCode::Other(error.to_string()),
        ReadError::Io(error) => {
            tracing::error!(%error, "read failed");
            ErrorCode::StorageError
        }
    }
}
