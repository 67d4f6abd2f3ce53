//! Offsets: of partitions, of streams, and of named consumers.

use std::io;

use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::server::consumer_offset::{
    DeleteConsumerOffsetRequest, DeleteConsumerOffsetResponse, FetchConsumerOffsetsRequest, FetchConsumerOffsetsResponse,
    UpdateConsumerOffsetRequest, UpdateConsumerOffsetResponse,
};
use fluvio_spu_schema::server::fetch_offset::{FetchOffsetPartitionResponse, FetchOffsetTopicResponse, FetchOffsetsRequest, FetchOffsetsResponse};
use fluvio_spu_schema::server::update_offset::{OffsetUpdateStatus, UpdateOffsetsRequest, UpdateOffsetsResponse};

use super::Connection;
use crate::request::Request;

impl Connection {
    pub(super) async fn fetch_offsets(&self, request: &Request) -> io::Result<()> {
        let asked: FetchOffsetsRequest = request.decode()?;
        let mut response = FetchOffsetsResponse::default();
        for topic in asked.topics {
            let partitions = topic.partitions.iter().map(|partition| self.offsets_of(&topic.name, partition.partition_index)).collect();
            response.topics.push(FetchOffsetTopicResponse { name: topic.name, partitions });
        }
        self.answer(request, &response).await
    }

    fn offsets_of(&self, topic: &str, partition_index: u32) -> FetchOffsetPartitionResponse {
        let mut response = FetchOffsetPartitionResponse { partition_index, ..Default::default() };
        match self.plane.catalog.partition(topic, partition_index) {
            Some(log) => {
                let bounds = log.bounds();
                response.start_offset = bounds.start;
                response.last_stable_offset = bounds.end;
            }
            None => response.error_code = ErrorCode::NotLeaderForPartition,
        }
        response
    }

    /// Acknowledgements: how far the client has read its streams.
    pub(super) async fn update_offsets(&mut self, request: &Request) -> io::Result<()> {
        let asked: UpdateOffsetsRequest = request.decode()?;
        let mut response = UpdateOffsetsResponse::default();
        for update in asked.offsets {
            let known = self.sessions.acknowledge(update.session_id, update.offset);
            let error = if known { ErrorCode::None } else { ErrorCode::FetchSessionNotFoud };
            response.status.push(OffsetUpdateStatus { session_id: update.session_id, error });
        }
        self.answer(request, &response).await
    }

    pub(super) async fn update_consumer_offset(&self, request: &Request) -> io::Result<()> {
        let asked: UpdateConsumerOffsetRequest = request.decode()?;
        let error_code = match self.sessions.get(asked.session_id) {
            None => ErrorCode::FetchSessionNotFoud,
            Some(session) => match &session.consumer {
                None => ErrorCode::OffsetManagementDisabled,
                Some(consumer) => outcome(self.plane.positions.store(consumer, session.replica.clone(), asked.offset).await),
            },
        };
        self.answer(request, &UpdateConsumerOffsetResponse { offset: asked.offset, error_code }).await
    }

    pub(super) async fn delete_consumer_offset(&self, request: &Request) -> io::Result<()> {
        let asked: DeleteConsumerOffsetRequest = request.decode()?;
        let error_code = outcome(self.plane.positions.delete(&asked.consumer_id, asked.replica_id).await);
        self.answer(request, &DeleteConsumerOffsetResponse { error_code }).await
    }

    pub(super) async fn fetch_consumer_offsets(&self, request: &Request) -> io::Result<()> {
        let asked: FetchConsumerOffsetsRequest = request.decode()?;
        let filter = asked.filter_opts.unwrap_or_default();
        let consumers = self.plane.positions.list(filter.replica_id.as_ref(), filter.consumer_id.as_deref());
        self.answer(request, &FetchConsumerOffsetsResponse { error_code: ErrorCode::None, consumers }).await
    }
}

fn outcome(stored: Result<(), String>) -> ErrorCode {
    stored.map_or_else(ErrorCode::OffsetFlushRequestError, |()| ErrorCode::None)
}
