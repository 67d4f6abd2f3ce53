//! The data plane's public API (the "SPU" of a real cluster): produce, stream, offsets.

mod consumer;
mod incoming;
mod produce;
mod sessions;
mod stream;

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use fluvio_protocol::link::versions::{ApiVersionKey, ApiVersionsResponse};
use fluvio_protocol::{Encoder, Version};
use fluvio_spu_schema::server::SpuServerApiKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Catalog;
use crate::config::Limits;
use crate::net::{self, Frame, Outbox, Socket};
use crate::positions::Positions;
use crate::request::Request;
use crate::smart::Engine;
use incoming::Incoming;
use sessions::Sessions;

/// Newest version of the data plane's requests (`COMMON_VERSION` of `fluvio-spu-schema` 0.50).
const VERSION_MAX: Version = 25;
/// Before this version a stream names its SmartModules in another way.
const VERSION_MIN_STREAM: Version = 18;
/// Answers of one connection that are being made or wait for the client to read. Beyond it the
/// connection's requests are not read: a client that sends and never reads costs so much and no more.
const ANSWERS_MAX: usize = 1024;

/// What all connections to the data plane share.
pub(crate) struct DataPlane {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) engine: Arc<Engine>,
    /// Produced bytes waiting for their fsync.
    pub(crate) inflight: Arc<Semaphore>,
    /// Those of them that may wait for a topic's deduplication.
    pub(crate) inflight_share: Arc<Semaphore>,
    pub(crate) limits: Limits,
    /// Streams and pending answers, so that shutting down can wait for them.
    pub(crate) tasks: TaskTracker,
}

/// One client's connection.
struct Connection {
    plane: Arc<DataPlane>,
    outbox: Outbox,
    sessions: Sessions,
    /// Record bytes read for the client and not yet written to it.
    outgoing: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    /// Cancelled when the connection ends, by whichever side.
    gone: CancellationToken,
}

impl DataPlane {
    /// Serves a connection until the client closes it or breaks the protocol. `stop` ends what it
    /// has started.
    pub(crate) async fn serve(
        self: Arc<Self>,
        socket: Socket,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let gone = stop.child_token();
        let end_of_streams = gone.clone().drop_guard();
        let (inbox, outbox, writing) =
            net::split(socket, self.limits.frame_bytes_max, stop, gone.clone());
        let sessions = Sessions::new(self.limits.streams_per_connection_max);
        let outgoing = Arc::new(Semaphore::new(self.limits.outgoing_bytes_max));
        let mut connection = Connection {
            plane: self,
            outbox,
            sessions,
            outgoing,
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
            gone,
        };
        let served = connection.serve(Incoming::new(inbox)).await;
        drop((end_of_streams, connection));
        // Its place is free for another one when nothing of it is left.
        let _ = writing.await;
        served
    }
}

impl Connection {
    async fn serve(&mut self, mut incoming: Incoming) -> io::Result<()> {
        while let Some(frame) = incoming.next().await? {
            self.handle(frame, &mut incoming).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, frame: BytesMut, incoming: &mut Incoming) -> io::Result<()> {
        let request = Request::parse(frame.freeze())?;
        if request.version < 0 || request.version > VERSION_MAX {
            return Err(unsupported(&request));
        }
        match request.key {
            key if key == SpuServerApiKey::ApiVersion as u16 => self.api_versions(&request).await,
            key if key == SpuServerApiKey::Produce as u16 => self.produce(&request, incoming).await,
            key if key == SpuServerApiKey::FetchOffsets as u16 => {
                self.fetch_offsets(&request).await
            }
            key if key == SpuServerApiKey::StreamFetch as u16 => self.stream_fetch(&request).await,
            key if key == SpuServerApiKey::UpdateOffsets as u16 => {
                self.update_offsets(&request).await
            }
            key if key == SpuServerApiKey::UpdateConsumerOffset as u16 => {
                self.update_consumer_offset(&request).await
            }
            key if key == SpuServerApiKey::DeleteConsumerOffset as u16 => {
                self.delete_consumer_offset(&request).await
            }
            key if key == SpuServerApiKey::FetchConsumerOffsets as u16 => {
                self.fetch_consumer_offsets(&request).await
            }
            _ => Err(unsupported(&request)),
        }
    }

    async fn answer<R: Encoder>(&self, request: &Request, response: &R) -> io::Result<()> {
        let frame = Frame::response(request.correlation, request.version, response)?;
        self.outbox
            .send(frame)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits until another answer may be begun. To be taken before anything that others wait for.
    async fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        let answers = self.answers.clone();
        answers.acquire_owned().await.map_err(io::Error::other)
    }

    /// Answers when `response` is ready; other requests are handled meanwhile.
    fn answer_later<R: Encoder + Send + Sync>(
        &self,
        request: &Request,
        place: OwnedSemaphorePermit,
        response: impl Future<Output = R> + Send + 'static,
    ) {
        let (correlation, version, outbox) =
            (request.correlation, request.version, self.outbox.clone());
        self.plane.tasks.spawn(async move {
            match Frame::response(correlation, version, &response.await) {
                Ok(frame) => drop(outbox.send(frame).await),
                Err(error) => tracing::error!(%error, "a response could not be encoded"),
            }
            drop(place);
        });
    }

    async fn api_versions(&self, request: &Request) -> io::Result<()> {
        let range = |key: SpuServerApiKey, min_version, max_version| ApiVersionKey {
            api_key: key as i16,
            min_version,
            max_version,
        };
        let api_keys = vec![
            range(SpuServerApiKey::ApiVersion, 0, 2),
            range(SpuServerApiKey::Produce, 0, VERSION_MAX),
            range(SpuServerApiKey::FetchOffsets, 0, VERSION_MAX),
            range(
                SpuServerApiKey::StreamFetch,
                VERSION_MIN_STREAM,
                VERSION_MAX,
            ),
            range(SpuServerApiKey::UpdateOffsets, 0, 0),
            range(SpuServerApiKey::UpdateConsumerOffset, 23, VERSION_MAX),
            range(SpuServerApiKey::DeleteConsumerOffset, 23, VERSION_MAX),
            range(SpuServerApiKey::FetchConsumerOffsets, 23, VERSION_MAX),
        ];
        self.answer(
            request,
            &ApiVersionsResponse {
                api_keys,
                ..Default::default()
            },
        )
        .await
    }
}

fn unsupported(request: &Request) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("version {} of api {}", request.version, request.key),
    )
}
