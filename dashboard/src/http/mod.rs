//! The page's server.
//!
//! | request | answer |
//! |---|---|
//! | `GET /`, `/assets/…` | the page |
//! | `GET /health`, `/ready`, `/metrics` | without login |
//! | `GET /api/session`, `POST /api/login`, `/api/logout` | the login |
//! | `GET /api/status`, `/api/events`, `/api/history` | the status: now, as it comes, in the past |
//! | `GET /api/marts…`, `/api/topics/{name}/records`, `/api/rejected…` | what is looked at on demand |
//! | `POST /api/rejected/{offset}/retry`, `…/discard` | to ingest |
//! | `POST /api/projections/pause`, `…/resume` | to the projector |
//! | `POST /api/verify` | starts a verification |

mod access;
mod actions;
mod data;
mod guard;
mod live;
mod page;
mod problem;
mod session;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::Router;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::collect::Services;
use crate::history::History;
use crate::marts::Marts;
use crate::records::Records;
use crate::verify::Verifier;

use problem::Problem;

pub(crate) use live::{Feed, Live};
pub(crate) use session::Sessions;

/// Nothing that is sent to us is longer.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// So many answers of ingest are passed on at once; most hold up to 8 MiB of records.
pub(crate) const REJECTED_LOOKS_MAX: usize = 4;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    /// Names with a dot that it goes by.
    pub(crate) names: Vec<String>,
    pub(crate) control_token: String,
    pub(crate) sessions: Sessions,
    pub(crate) feed: Feed,
    pub(crate) viewers: Arc<Semaphore>,
    /// Looks at rejected records that are under way.
    pub(crate) rejected_looks: Arc<Semaphore>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) services: Services,
    pub(crate) marts: Marts,
    pub(crate) records: Records,
    pub(crate) verifier: Verifier,
    /// Asks the collector to count the rejected records again.
    pub(crate) recount: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
}

impl App {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let reading = Router::new()
        .route("/api/status", get(live::status))
        .route("/api/events", get(live::events))
        .route("/api/history", get(data::history))
        .route("/api/marts", get(data::marts))
        .route("/api/marts/{name}", get(data::mart))
        .route("/api/marts/{name}/chart", get(data::chart))
        .route("/api/topics/{name}/records", get(data::records))
        .route("/api/rejected", get(actions::rejected))
        .route("/api/rejected/{offset}", get(actions::rejected_one))
        .layer(from_fn_with_state(app.clone(), access::reading));
    let changing = Router::new()
        .route("/api/logout", post(access::log_out))
        .route("/api/rejected/{offset}/retry", post(actions::retry))
        .route("/api/rejected/{offset}/discard", post(actions::discard))
        .route("/api/projections/pause", post(actions::pause))
        .route("/api/projections/resume", post(actions::resume))
        .route("/api/verify", post(actions::verify))
        .layer(from_fn_with_state(app.clone(), access::changing));
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{*path}", get(page::asset))
        .route("/health", get(live::health))
        .route("/ready", get(live::ready))
        .route("/metrics", get(live::prometheus))
        .route("/api/session", get(access::session))
        .route("/api/login", post(access::log_in))
        .merge(reading)
        .merge(changing)
        .fallback(|| async { Problem::not_found("no such page") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}
