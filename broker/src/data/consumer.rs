//! Offsets: of partitions, of streams, and of named consumers.

use std::io;

use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::server::consumer_offset::{
    DeleteConsumerOffsetRequest, DeleteConsumerOffsetResponse, FetchConsumerOffsetsRequest,
    FetchConsumerOffsetsResponse, UpdateConsumerOffsetRequest, UpdateConsumerOffsetResponse,
};
use fluvio_spu_schema::server::fetch_offset::{
    FetchOffsetPartitionResponse, FetchOffsetTopicResponse, FetchOffsetsRequest,
    FetchOffsetsResponse,
};
use fluvio_spu_schema::server::update_offset::{
    OffsetUpdateStatus, UpdateOffsetsRequest, UpdateOffsetsResponse,
};

use super::sessions::Session;
use super::Connection;
use crate::positions::Outcome;
use crate::request::Request;

impl Connection {
    pub(super) async fn fetch_offsets(&self, request: &Request) -> io::Result<()> {
        let asked: FetchOffsetsRequest = request.decode()?;
        let mut response = FetchOffsetsResponse::default();
        for topic in asked.topics {
            let partitions = topic
                .partitions
                .iter()
                .map(|partition| self.offsets_of(&topic.name, partition.partition_index))
                .collect();
            response.topics.push(FetchOffsetTopicResponse {
                name: topic.name,
                partitions,
            });
        }
        self.answer(request, &response).await
    }

    fn offsets_of(&self, topic: &str, partition_index: u32) -> FetchOffsetPartitionResponse {
        let mut response = FetchOffsetPartitionResponse {
            partition_index,
            ..Default::default()
        };
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
            let error = if known {
                ErrorCode::None
            } else {
                ErrorCode::FetchSessionNotFoud
            };
            response.status.push(OffsetUpdateStatus {
                session_id: update.session_id,
                error,
            });
        }
        self.answer(request, &response).await
    }

    /// Stores a named consumer's offset; answered when it is durable, while other requests go on.
    pub(super) async fn update_consumer_offset(&self, request: &Request) -> io::Result<()> {
        let place = self.place().await?;
        let UpdateConsumerOffsetRequest { offset, session_id } = request.decode()?;
        let response = move |error_code| UpdateConsumerOffsetResponse { offset, error_code };
        let stored = match self.sessions.get(session_id) {
            None => {
                return self
                    .answer(request, &response(ErrorCode::FetchSessionNotFoud))
                    .await
            }
            Some(Session { consumer: None, .. }) => {
                return self
                    .answer(request, &response(ErrorCode::OffsetManagementDisabled))
                    .await
            }
            Some(Session {
                consumer: Some(consumer),
                replica,
                ..
            }) => self
                .plane
                .positions
                .store(consumer, replica.clone(), offset),
        };
        self.answer_later(
            request,
            place,
            async move { response(outcome(stored).await) },
        );
        Ok(())
    }

    pub(super) async fn delete_consumer_offset(&self, request: &Request) -> io::Result<()> {
        let place = self.place().await?;
        let asked: DeleteConsumerOffsetRequest = request.decode()?;
        let deleted = self
            .plane
            .positions
            .delete(&asked.consumer_id, asked.replica_id);
        self.answer_later(request, place, async move {
            DeleteConsumerOffsetResponse {
                error_code: outcome(deleted).await,
            }
        });
        Ok(())
    }

    pub(super) async fn fetch_consumer_offsets(&self, request: &Request) -> io::Result<()> {
        let asked: FetchConsumerOffsetsRequest = request.decode()?;
        let filter = asked.filter_opts.unwrap_or_default();
        let consumers = self
            .plane
            .positions
            .list(filter.replica_id.as_ref(), filter.consumer_id.as_deref());
        self.answer(
            request,
            &FetchConsumerOffsetsResponse {
                error_code: ErrorCode::None,
                consumers,
            },
        )
        .await
    }
}

async fn outcome(stored: Outcome) -> ErrorCode {
    let outcome = stored
        .await
        .unwrap_or_else(|_| Err("shutting down".to_owned()));
    outcome.map_or_else(ErrorCode::OffsetFlushRequestError, |()| ErrorCode::None)
}
