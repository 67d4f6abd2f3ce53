//! Produce: admitted batches go to their partitions in the order of the connection; the answer
//! follows when all of them are durable.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use fluvio_compression::Compression;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::record::ReplicaKey;
use fluvio_sc_schema::topic::CompressionAlgorithm;
use fluvio_spu_schema::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use fluvio_spu_schema::server::smartmodule::SmartModuleInvocation;
use tokio::sync::{oneshot, OwnedSemaphorePermit, Semaphore};

use super::incoming::Incoming;
use super::Connection;
use crate::batch;
use crate::log::{AppendError, PartitionLog};
use crate::request::{RawSet, Request};

/// The answer to one entry of a request: known already, or once its batches are durable.
enum Answer {
    Known(Result<i64, ErrorCode>),
    Pending {
        outcome: oneshot::Receiver<Result<i64, AppendError>>,
        log_start: i64,
    },
}

struct Entry {
    replica: ReplicaKey,
    answer: Answer,
}

/// A request of any size passes, alone if need be.
async fn take(room: &Arc<Semaphore>, bytes: usize, all: usize) -> io::Result<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes.min(all)).unwrap_or(u32::MAX);
    let taken = room.clone().acquire_many_owned(bytes).await;
    taken.map_err(io::Error::other)
}

impl Connection {
    pub(super) async fn produce(
        &self,
        request: &Request,
        incoming: &mut Incoming,
    ) -> io::Result<()> {
        let asked: ProduceRequest<RawSet> = request.decode()?;
        let place = self.place().await?;
        // Held until all is durable; a client that produces faster than the disk waits here.
        let room = self.room(&asked, request.body.len()).await?;
        let mut topics = Vec::with_capacity(asked.topics.len());
        for topic in asked.topics {
            let mut entries = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let replica = ReplicaKey::new(topic.name.clone(), partition.partition_index);
                let answer = self
                    .start(&replica, partition.records.0, &asked.smartmodules, incoming)
                    .await?;
                entries.push(Entry { replica, answer });
            }
            topics.push((topic.name, entries));
        }
        self.answer_later(request, place, async move {
            let response = finish(topics).await;
            drop(room);
            response
        });
        Ok(())
    }

    /// Room for the bytes of a request. What waits for a SmartModule in front of a topic takes a share
    /// only, so that it does not keep everybody else out.
    async fn room(
        &self,
        asked: &ProduceRequest<RawSet>,
        bytes: usize,
    ) -> io::Result<[Option<OwnedSemaphorePermit>; 2]> {
        let plane = &self.plane;
        let deduplicates = |name: &str| {
            let spec = plane.catalog.topic_spec(name);
            spec.is_some_and(|spec| spec.get_deduplication().is_some())
        };
        let share = match asked.topics.iter().any(|topic| deduplicates(&topic.name)) {
            true => Some(take(&plane.inflight_share, bytes, plane.limits.inflight_share()).await?),
            false => None,
        };
        let all = take(&plane.inflight, bytes, plane.limits.inflight_bytes_max).await?;
        Ok([share, Some(all)])
    }

    async fn start(
        &self,
        replica: &ReplicaKey,
        batches: Bytes,
        modules: &[SmartModuleInvocation],
        incoming: &mut Incoming,
    ) -> io::Result<Answer> {
        let Some(log) = self
            .plane
            .catalog
            .partition(&replica.topic, replica.partition)
        else {
            return Ok(Answer::Known(Err(ErrorCode::NotLeaderForPartition)));
        };
        if let Err(refusal) = self.admit(replica, &batches) {
            return Ok(Answer::Known(Err(refusal)));
        }
        let transformed = match modules {
            [] => Ok(batches),
            modules => tokio::select! {
                transformed = self.transform(&log, modules, batches) => transformed,
                // Whoever has gone must not keep others from their turn; the modules end with their chain.
                () = incoming.ended() => return Err(io::ErrorKind::BrokenPipe.into()),
            },
        };
        Ok(match transformed {
            Ok(batches) if batches.is_empty() => Answer::Known(Ok(0)),
            Ok(batches) => self.submit(&log, batches).await,
            Err(code) => Answer::Known(Err(code)),
        })
    }

    /// Hands batches to the log, in front of which a topic's module may have to be loaded.
    async fn submit(&self, log: &PartitionLog, batches: Bytes) -> Answer {
        if let Some(deduplicator) = log.deduplicator() {
            if let Err(code) = deduplicator.load(&self.plane.catalog).await {
                return Answer::Known(Err(code));
            }
        }
        let log_start = log.bounds().start;
        Answer::Pending {
            outcome: log.append(batches),
            log_start,
        }
    }

    fn admit(&self, replica: &ReplicaKey, batches: &Bytes) -> Result<(), ErrorCode> {
        let spec = self
            .plane
            .catalog
            .topic_spec(&replica.topic)
            .ok_or(ErrorCode::TopicNotFound)?;
        let malformed = |error: batch::Malformed| ErrorCode::Other(format!("{error}"));
        let mut at = 0;
        while at < batches.len() {
            let header = batch::admit(&batches[at..]).map_err(malformed)?;
            if header.bytes > self.plane.limits.batch_bytes_max {
                return Err(ErrorCode::MessageTooLarge);
            }
            if !accepts(
                spec.get_compression_type(),
                header.compression().map_err(malformed)?,
            ) {
                return Err(ErrorCode::CompressionError);
            }
            at += header.bytes;
        }
        match at {
            0 => Err(ErrorCode::Other("no records".to_owned())),
            _ => Ok(()),
        }
    }

    /// Runs a producer's SmartModules over its batches.
    async fn transform(
        &self,
        log: &PartitionLog,
        modules: &[SmartModuleInvocation],
        batches: Bytes,
    ) -> Result<Bytes, ErrorCode> {
        let mut chain = self
            .plane
            .engine
            .chain(&self.plane.catalog, modules.to_vec())
            .await?;
        chain.look_back_over(log).await?;
        let output = chain.compact(batches).await?;
        Ok(output)
    }
}

fn accepts(topic: &CompressionAlgorithm, batch: Compression) -> bool {
    match topic {
        CompressionAlgorithm::Any => true,
        CompressionAlgorithm::None => batch == Compression::None,
        CompressionAlgorithm::Gzip => batch == Compression::Gzip,
        CompressionAlgorithm::Snappy => batch == Compression::Snappy,
        CompressionAlgorithm::Lz4 => batch == Compression::Lz4,
        CompressionAlgorithm::Zstd => batch == Compression::Zstd,
    }
}

/// Waits for all entries. Entries are answered one by one, in the order of the request.
async fn finish(topics: Vec<(String, Vec<Entry>)>) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    for (name, entries) in topics {
        let mut partitions = Vec::with_capacity(entries.len());
        for entry in entries {
            partitions.push(answer(entry).await);
        }
        response
            .responses
            .push(TopicProduceResponse { name, partitions });
    }
    response
}

async fn answer(Entry { replica, answer }: Entry) -> PartitionProduceResponse {
    let (outcome, log_start_offset) = match answer {
        Answer::Known(outcome) => (outcome, -1),
        Answer::Pending { outcome, log_start } => {
            let outcome = outcome
                .await
                .unwrap_or_else(|_| Err(AppendError::Storage("not written".to_owned())));
            (outcome.map_err(|error| refusal(&replica, error)), log_start)
        }
    };
    let (base_offset, error_code) = match outcome {
        Ok(base) => (base, ErrorCode::None),
        Err(code) => (-1, code),
    };
    PartitionProduceResponse {
        partition_index: replica.partition,
        error_code,
        base_offset,
        log_append_time_ms: -1,
        log_start_offset,
    }
}

fn refusal(replica: &ReplicaKey, error: AppendError) -> ErrorCode {
    match error {
        AppendError::TooLarge => ErrorCode::MessageTooLarge,
        AppendError::Deleted => ErrorCode::TopicDeleted,
        AppendError::Module(code) => code,
        AppendError::Damaged(damage) => ErrorCode::Other(damage.to_string()),
        AppendError::DiskFull => ErrorCode::PartitionFull {
            replica_key: replica.clone(),
        },
        AppendError::Storage(error) => {
            tracing::error!(%replica, error, "append failed");
            ErrorCode::StorageError
        }
    }
}
