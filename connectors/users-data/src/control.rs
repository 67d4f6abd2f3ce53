//! The control API of a running ingest.
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | 200 while it works, 503 when it has stopped; needs no token |
//! | `GET /ready` | 200 while it reads its topic; else 503 with reason and code; needs no token |
//! | `GET /status` | what it is doing and how far it is |
//! | `GET /rejected?state=&limit=&before=` | rejected events, newest first: `open` (default), `retried`, `discarded`, `all`; how many there are of each reason |
//! | `GET /rejected/{offset}` | one of them; the offset is that in the topic of rejected events |
//! | `POST /rejected/{offset}/retry` | sends it again; 409 if it is not open, not kept whole, or would be rejected again |
//! | `POST /rejected/{offset}/discard` | discards it; 409 if it is not open |

use axum::extract::{Path, State as Given};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use millrace_control::{problem, time, Params};
use serde::{Deserialize, Serialize};

use crate::readiness;
use crate::rejected::{Filter, Rejected, RejectedError, RejectedRecord};
use crate::status::{Handle, State, Status};

/// Records of a page if nobody says.
const PAGE_RECORDS: usize = 50;

#[derive(Clone)]
struct Api {
    handle: Handle,
    rejected: Rejected,
}

/// The API, to be served by [`millrace_control::Server`].
pub fn api(handle: Handle, rejected: Rejected, token: &str) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/rejected", get(list))
        .route("/rejected/{offset}", get(show))
        .route("/rejected/{offset}/retry", post(retry))
        .route("/rejected/{offset}/discard", post(discard))
        .with_state(Api {
            handle: handle.clone(),
            rejected,
        });
    let watched = handle.clone();
    let alive = move || match watched.status().state {
        State::Stopped => Err("stopped".to_owned()),
        State::Failed => Err("failed".to_owned()),
        State::Connecting | State::Running => Ok(()),
    };
    let ready = move || readiness::ready(&handle.status());
    millrace_control::api(routes, token, alive, ready)
}

async fn status(Given(api): Given<Api>) -> Response {
    Json(Shown::from(api.handle.status())).into_response()
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    state: Filter,
    limit: Option<usize>,
    before: Option<i64>,
}

async fn list(Given(api): Given<Api>, Params(query): Params<List>) -> Response {
    let limit = query.limit.unwrap_or(PAGE_RECORDS);
    match api.rejected.list(query.state, limit, query.before).await {
        Ok(page) => Json(page).into_response(),
        Err(error) => refusal(&error),
    }
}

async fn show(Given(api): Given<Api>, Path(offset): Path<String>) -> Response {
    match offset.parse() {
        Ok(offset) => answer(api.rejected.get(offset).await),
        Err(_) => no_number(),
    }
}

async fn retry(Given(api): Given<Api>, Path(offset): Path<String>) -> Response {
    match offset.parse() {
        Ok(offset) => answer(api.rejected.retry(offset).await),
        Err(_) => no_number(),
    }
}

async fn discard(Given(api): Given<Api>, Path(offset): Path<String>) -> Response {
    match offset.parse() {
        Ok(offset) => answer(api.rejected.discard(offset).await),
        Err(_) => no_number(),
    }
}

fn answer(done: Result<RejectedRecord, RejectedError>) -> Response {
    match done {
        Ok(record) => Json(record).into_response(),
        Err(error) => refusal(&error),
    }
}

fn no_number() -> Response {
    problem(StatusCode::BAD_REQUEST, "the offset is not a whole number")
}

fn refusal(error: &RejectedError) -> Response {
    let status = match error {
        RejectedError::NotFound(_) => StatusCode::NOT_FOUND,
        RejectedError::NotOpen { .. }
        | RejectedError::InDoubt { .. }
        | RejectedError::NoRetry { .. } => StatusCode::CONFLICT,
        RejectedError::Unknown { .. } => StatusCode::BAD_GATEWAY,
        RejectedError::NotReady | RejectedError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, &error.to_string())
}

/// The status as the API shows it.
#[derive(Debug, Serialize)]
struct Shown {
    state: &'static str,
    next_offset: Option<i64>,
    end_offset: Option<i64>,
    events: u64,
    rows_changed: u64,
    rejected: u64,
    failures: u64,
    last_error: Option<String>,
    #[serde(serialize_with = "time::serialize_option")]
    failing_since: Option<DateTime<Utc>>,
    #[serde(serialize_with = "time::serialize_option")]
    committed_at: Option<DateTime<Utc>>,
}

impl From<Status> for Shown {
    fn from(status: Status) -> Shown {
        Shown {
            state: match status.state {
                State::Connecting => "connecting",
                State::Running => "running",
                State::Stopped => "stopped",
                State::Failed => "failed",
            },
            next_offset: status.next_offset,
            end_offset: status.end_offset,
            events: status.events,
            rows_changed: status.rows_changed,
            rejected: status.rejected,
            failures: status.failures,
            last_error: status.last_error,
            failing_since: status.failing_since,
            committed_at: status.committed_at,
        }
    }
}
