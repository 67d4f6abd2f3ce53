//! The controller's public API (the "SC" of a real cluster): administration and metadata watches.

mod admin;
mod watch;

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use fluvio_controlplane_metadata::mirroring::MirroringStatusResponse;
use fluvio_protocol::link::versions::{
    ApiVersionKey, ApiVersionsRequest, ApiVersionsResponse, PlatformVersion,
};
use fluvio_protocol::{Decoder, Version};
use fluvio_sc_schema::errors::ErrorCode;
use fluvio_sc_schema::AdminPublicApiKey;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Catalog;
use crate::net::{self, Frame, Inbox, Outbox, Socket};
use crate::positions::Positions;
use crate::request::Request;
use watch::Watches;
pub(crate) use watch::Watching;

/// The release whose behaviour this broker follows; clients require at least 0.9.0.
const PLATFORM_VERSION: &str = "0.18.1";
/// Newest version of the administrative requests (`COMMON_VERSION` of `fluvio-sc-schema` 0.50).
const VERSION_MAX: Version = 19;
/// Before this version the body of a request does not carry its length.
const VERSION_MIN: Version = 11;
/// Oldest version of the list and watch requests.
const VERSION_MIN_LISTS: Version = 15;

/// What all connections to the controller share.
pub(crate) struct Controller {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) watching: Watching,
    pub(crate) frame_bytes_max: usize,
    /// Watches, so that shutting down can wait for them.
    pub(crate) tasks: TaskTracker,
}

/// One client's connection.
struct Connection {
    controller: Arc<Controller>,
    outbox: Outbox,
    watches: Arc<Watches>,
}

impl Controller {
    /// Serves a connection until the client closes it or breaks the protocol. `stop` ends what it
    /// has started.
    pub(crate) async fn serve(
        self: Arc<Self>,
        socket: Socket,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let gone = stop.child_token();
        let end_of_watches = gone.clone().drop_guard();
        let (inbox, outbox, writing) = net::split(socket, self.frame_bytes_max, stop, gone.clone());
        let watches = self.watching.register(outbox.clone(), self.catalog.clone());
        self.tasks.spawn(watches.clone().push_changes(gone));
        let connection = Connection {
            controller: self,
            outbox,
            watches,
        };
        let served = connection.serve(inbox).await;
        drop((end_of_watches, connection));
        // Its place is free for another one when nothing of it is left.
        let _ = writing.await;
        served
    }
}

impl Connection {
    async fn serve(&self, mut inbox: Inbox) -> io::Result<()> {
        while let Some(frame) = inbox.next().await {
            self.handle(frame?).await?;
        }
        Ok(())
    }

    async fn handle(&self, frame: BytesMut) -> io::Result<()> {
        let request = Request::parse(frame.freeze())?;
        if request.key == AdminPublicApiKey::ApiVersion as u16 {
            return self.api_versions(&request).await;
        }
        let key = api_key(request.key)?;
        let oldest = min_version(key);
        if !(oldest..=VERSION_MAX).contains(&request.version) {
            return Err(unsupported(format!(
                "version {} of api {}",
                request.version, request.key
            )));
        }
        match key {
            AdminPublicApiKey::Create => self.create(&request).await,
            AdminPublicApiKey::Delete => self.delete(&request).await,
            AdminPublicApiKey::List => self.list(&request).await,
            AdminPublicApiKey::Watch => self.watch(&request).await,
            AdminPublicApiKey::Update => self.update(&request).await,
            AdminPublicApiKey::Mirroring => self.refuse_mirroring(&request).await,
            AdminPublicApiKey::ApiVersion => Err(unsupported(format!("api {}", request.key))),
        }
    }

    /// What a remote cluster is told that would mirror this one.
    async fn refuse_mirroring(&self, request: &Request) -> io::Result<()> {
        let (correlation, version) = (request.correlation, request.version);
        self.send(Frame::response(correlation, version, &mirroring_refused())?)
            .await
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.outbox
            .send(frame)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn api_versions(&self, request: &Request) -> io::Result<()> {
        let client: ApiVersionsRequest = request.decode()?;
        tracing::debug!(
            version = client.client_version,
            os = client.client_os,
            "client connected"
        );
        let keys = [
            AdminPublicApiKey::Create,
            AdminPublicApiKey::Delete,
            AdminPublicApiKey::List,
            AdminPublicApiKey::Watch,
            AdminPublicApiKey::Update,
        ];
        let mut api_keys = vec![ApiVersionKey {
            api_key: AdminPublicApiKey::ApiVersion as i16,
            min_version: 0,
            max_version: 2,
        }];
        api_keys.extend(keys.map(|key| ApiVersionKey {
            api_key: key as i16,
            min_version: min_version(key),
            max_version: VERSION_MAX,
        }));
        let response = ApiVersionsResponse {
            api_keys,
            platform_version: platform_version()?,
            ..Default::default()
        };
        self.send(Frame::response(
            request.correlation,
            request.version,
            &response,
        )?)
        .await
    }
}

fn mirroring_refused() -> MirroringStatusResponse {
    MirroringStatusResponse {
        error_code: ErrorCode::MirrorInvalidType,
        error_message: Some("mirrors need a real cluster".to_owned()),
        ..MirroringStatusResponse::default()
    }
}

fn platform_version() -> io::Result<PlatformVersion> {
    let mut encoded = Vec::with_capacity(16);
    fluvio_protocol::Encoder::encode(&PLATFORM_VERSION.to_owned(), &mut encoded, 0)?;
    PlatformVersion::decode_from(&mut encoded.as_slice(), 0)
}

fn api_key(key: u16) -> io::Result<AdminPublicApiKey> {
    AdminPublicApiKey::try_from(key).map_err(|_| unsupported(format!("api {key}")))
}

fn min_version(key: AdminPublicApiKey) -> Version {
    match key {
        AdminPublicApiKey::List | AdminPublicApiKey::Watch => VERSION_MIN_LISTS,
        _ => VERSION_MIN,
    }
}

fn unsupported(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}
