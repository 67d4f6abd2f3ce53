//! The HTTP interface of a running projector.
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | 200 while it works, 503 when it has stopped; needs no token |
//! | `GET /status` | the [`Status`](crate::engine::Status) as JSON |
//! | `POST /hold?timeout_s=` | stands still between two commits; answers with the hold's `id` |
//! | `POST /stop-before?id=&lsn=&timeout_s=` | applies exactly the commits before `lsn`, then stands still |
//! | `POST /release?id=` | goes on; 409 if that hold was over. Without `id`, ends any |
//! | `GET /wait?lsn=&timeout_s=` | answers when everything up to `lsn` is applied; 504 if not in time |
//!
//! Everything but `/health` wants `Authorization: Bearer <token>`. A hold ends by itself after the
//! projector's limit, so that a caller that died does not stop the pipeline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{header, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millrace_events::Lsn;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::{self, Handle, HoldError, HoldId};

/// A caller waits no longer than this, whatever it asks for.
const WAIT_SECONDS_MAX: u64 = 3_600;
/// And so long if it does not say.
const WAIT_SECONDS: u64 = 30;

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("[MR-P020] the control address {address} cannot be used: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("[MR-P021] the control interface ended: {0}")]
    Serve(#[source] std::io::Error),
}

/// A control interface that listens.
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

    /// Serves until `shutdown`.
    pub async fn run(
        self,
        handle: Handle,
        token: &str,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        axum::serve(self.listener, router(handle, token))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .map_err(Error::Serve)
    }
}

/// The routes, for a server that has more of them.
pub fn router(handle: Handle, token: &str) -> Router {
    let expected: Arc<[u8; 32]> = Arc::new(Sha256::digest(format!("Bearer {token}")).into());
    let guarded = Router::new()
        .route("/status", get(status))
        .route("/hold", post(hold))
        .route("/stop-before", post(stop_before))
        .route("/release", post(release))
        .route("/wait", get(wait))
        .layer(middleware::from_fn_with_state(expected, authorize));
    Router::new()
        .route("/health", get(health))
        .merge(guarded)
        .with_state(handle)
}

/// Digests are compared, so that the time it takes says nothing about the token.
async fn authorize(
    State(expected): State<Arc<[u8; 32]>>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given: Option<[u8; 32]> = given.map(|value| Sha256::digest(value.as_bytes()).into());
    if given == Some(*expected) {
        next.run(request).await
    } else {
        problem(StatusCode::UNAUTHORIZED, "a valid bearer token is needed")
    }
}

#[derive(Debug, Deserialize)]
struct Timeout {
    timeout_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct StopBefore {
    id: u64,
    lsn: String,
    timeout_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Release {
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Wait {
    lsn: String,
    timeout_s: Option<u64>,
}

async fn health(State(handle): State<Handle>) -> Response {
    match handle.status().state {
        engine::State::Stopped => problem(StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        _ => Json(json!({ "ok": true })).into_response(),
    }
}

async fn status(State(handle): State<Handle>) -> Response {
    Json(handle.status()).into_response()
}

async fn hold(State(handle): State<Handle>, Query(query): Query<Timeout>) -> Response {
    match handle.hold(seconds(query.timeout_s)).await {
        Ok(id) => Json(json!({ "id": id, "status": handle.status() })).into_response(),
        Err(error) => hold_problem(&error),
    }
}

async fn stop_before(State(handle): State<Handle>, Query(query): Query<StopBefore>) -> Response {
    let lsn: Lsn = match query.lsn.parse() {
        Ok(lsn) => lsn,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    let timeout = seconds(query.timeout_s);
    match handle.stop_before(HoldId(query.id), lsn, timeout).await {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => hold_problem(&error),
    }
}

async fn release(State(handle): State<Handle>, Query(query): Query<Release>) -> Response {
    let released = match query.id {
        Some(id) => handle.release(HoldId(id)),
        None => {
            handle.release_any();
            Ok(())
        }
    };
    match released {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => hold_problem(&error),
    }
}

async fn wait(State(handle): State<Handle>, Query(query): Query<Wait>) -> Response {
    let lsn: Lsn = match query.lsn.parse() {
        Ok(lsn) => lsn,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    match handle.wait_for(lsn, seconds(query.timeout_s)).await {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => problem(StatusCode::GATEWAY_TIMEOUT, &error.to_string()),
    }
}

fn hold_problem(error: &HoldError) -> Response {
    let status = match error {
        HoldError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        HoldError::Busy(_) | HoldError::Lost | HoldError::Passed(_) => StatusCode::CONFLICT,
    };
    problem(status, &error.to_string())
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

fn seconds(asked: Option<u64>) -> Duration {
    Duration::from_secs(asked.unwrap_or(WAIT_SECONDS).min(WAIT_SECONDS_MAX))
}
