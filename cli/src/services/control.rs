//! The control API of each service.

use anyhow::{bail, Context};
use millrace_control::{Front, Server};
use millrace_postgres_cdc as capture;
use millrace_projections::engine;
use millrace_shop_generator::{trade, user_events};
use millrace_users_data as ingest;
use tokio_util::sync::CancellationToken;

use crate::address::Host;
use crate::endpoints::{Endpoints, CAPTURE_CONTROL, INGEST_CONTROL, PROJECTOR_CONTROL};
use crate::settings::Settings;

/// A control API that listens and has not been started.
pub struct Control {
    server: Server,
    token: String,
}

impl Control {
    async fn listen((host, port): (Host, u16), endpoints: &Endpoints) -> anyhow::Result<Control> {
        let address = host.listen_address(port).await.context("control API")?;
        if endpoints.control_token.is_empty() {
            bail!(
                "MILLRACE_CONTROL_TOKEN is empty. Set it to a long random text, the same one for all services and \
                 for the commands that talk to them: whoever knows it controls the services"
            );
        }
        Ok(Control {
            server: Server::bind(address).await?,
            token: endpoints.control_token.clone(),
        })
    }

    /// The token that the API asks for.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Serves what a front shows until `shutdown`.
    pub(crate) async fn front(
        self,
        front: Front,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        Ok(self.server.run(front.router(), shutdown).await?)
    }

    /// Serves the projector's API until `shutdown`.
    pub async fn project(
        self,
        handle: engine::Handle,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = millrace_projections::control::api(handle, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }

    /// Serves capture's API until `shutdown`.
    pub async fn capture(
        self,
        handle: capture::Handle,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = capture::control::api(handle, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }

    /// Serves the generator's API until `shutdown`.
    pub async fn generate(
        self,
        trade: trade::Handle,
        users: user_events::Handle,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = millrace_shop_generator::control::api(trade, users, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }

    /// Serves ingest's API until `shutdown`.
    pub async fn ingest(
        self,
        handle: ingest::Handle,
        rejected: ingest::Rejected,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let api = ingest::control::api(handle, rejected, &self.token);
        Ok(self.server.run(api, shutdown).await?)
    }
}

/// The projector's control API, listening.
pub async fn control(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Control> {
    Control::listen(PROJECTOR_CONTROL.of(settings), endpoints).await
}

/// Capture's control API, listening.
pub async fn capture_control(
    settings: &Settings,
    endpoints: &Endpoints,
) -> anyhow::Result<Control> {
    Control::listen(CAPTURE_CONTROL.of(settings), endpoints).await
}

/// Ingest's control API, listening.
pub async fn ingest_control(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Control> {
    Control::listen(INGEST_CONTROL.of(settings), endpoints).await
}

/// The generator's control API, listening, if it is to have one.
pub async fn generate_control(
    settings: &Settings,
    endpoints: &Endpoints,
) -> anyhow::Result<Option<Control>> {
    match crate::endpoints::generate_control(settings) {
        Some(address) => Control::listen(address, endpoints).await.map(Some),
        None => Ok(None),
    }
}
