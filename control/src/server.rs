//! Listening and serving.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Running;

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("the control address {address} cannot be used")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("the control API ended")]
    Serve(#[source] std::io::Error),
}

impl Error {
    /// Names the section of `docs/errors/control.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Bind { .. } => "control-address",
            Error::Serve(_) => "control-ended",
        }
    }
}

/// A control API that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Server, Error> {
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`; requests that have begun are answered first.
    pub fn run(self, api: Router, shutdown: CancellationToken) -> Running<Error> {
        Box::pin(async {
            axum::serve(self.listener, api)
                .with_graceful_shutdown(shutdown.cancelled_owned())
                .await
                .map_err(Error::Serve)
        })
    }
}
