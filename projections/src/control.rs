//! The control API of a running projector.
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | 200 while it works, 503 when it has stopped; needs no token |
//! | `GET /ready` | 200 while tables and log are in order, paused or not; else 503 with reason and code; needs no token |
//! | `GET /status` | the [`Status`](crate::engine::Status) as JSON |
//! | `POST /pause` | stands still between two commits, over restarts too, until resumed; answers with the status |
//! | `POST /resume` | goes on; answers with the status |
//! | `POST /hold?timeout_s=&by=` | stands still between two commits; answers with the hold's `id`. 409 while paused or held; `by=period` gives way to everybody else |
//! | `POST /stop-before?id=&lsn=&timeout_s=` | applies exactly the commits before `lsn`, then stands still |
//! | `POST /release?id=` | goes on; 409 if that hold was over. Without `id`, ends any |
//! | `POST /rebuild?mart=` | lets a mart be built again beside the old one; answers at once, the status says when it is live; 404 if there is none of that name |
//! | `POST /drop?table=` | removes a table from MySQL that is captured no longer; answers when it is gone. 404 if MySQL has nothing of it, 409 while it is captured, 504 if the projector does not get to it |
//! | `POST /verified` | keeps a [`Finding`] of `verify` (JSON) in status and MySQL; 503 if MySQL did not take it yet |
//! | `GET /quarantine?table=&limit=&after=` | a [`Page`](crate::engine::Page) of the values that MySQL cannot hold; 503 if MySQL does not answer |
//! | `GET /wait?lsn=&timeout_s=` | answers when everything up to `lsn` is applied; 504 if not in time |
//!
//! A hold ends by itself after the projector's limit, so that a caller that died does not stop the
//! pipeline; a pause does not.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millrace_control::{in_words, problem, Params};
use millrace_events::{Lsn, TableId};
use serde::Deserialize;
use serde_json::json;

use crate::engine::{self, DropError, Handle, HoldError, HoldId, PauseError, Wanted};
use crate::readiness;
use crate::verify::{By, Finding};

/// A caller waits no longer than this, whatever it asks for.
const WAIT_SECONDS_MAX: u64 = 3_600;
/// And so long if it does not say.
const WAIT_SECONDS: u64 = 30;
/// Values in quarantine on a page, if the caller does not say.
const VALUES: u32 = 50;

/// The API, to be served by [`millrace_control::Server`].
pub fn api(handle: Handle, token: &str) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/hold", post(hold))
        .route("/stop-before", post(stop_before))
        .route("/release", post(release))
        .route("/rebuild", post(rebuild))
        .route("/drop", post(drop_removed))
        .route("/verified", post(verified))
        .route("/quarantine", get(quarantine))
        .route("/wait", get(wait))
        .with_state(handle.clone());
    let watched = handle.clone();
    let alive = move || match watched.status().state {
        engine::State::Stopped => Err("stopped".to_owned()),
        _ => Ok(()),
    };
    let ready = move || readiness::ready(&handle.status());
    millrace_control::api(routes, token, alive, ready)
}

#[derive(Debug, Deserialize)]
struct HoldFor {
    timeout_s: Option<u64>,
    #[serde(default)]
    by: By,
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
struct Rebuild {
    mart: String,
}

#[derive(Debug, Deserialize)]
struct Quarantined {
    table: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Dropped {
    table: TableId,
}

#[derive(Debug, Deserialize)]
struct Wait {
    lsn: String,
    timeout_s: Option<u64>,
}

async fn status(State(handle): State<Handle>) -> Response {
    Json(handle.status()).into_response()
}

async fn pause(State(handle): State<Handle>) -> Response {
    after_pause(&handle, handle.pause().await)
}

async fn resume(State(handle): State<Handle>) -> Response {
    after_pause(&handle, handle.resume().await)
}

fn after_pause(handle: &Handle, done: Result<(), PauseError>) -> Response {
    match done {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &in_words(&error)),
    }
}

async fn hold(State(handle): State<Handle>, Params(query): Params<HoldFor>) -> Response {
    match handle.hold(query.by, seconds(query.timeout_s)).await {
        Ok(id) => Json(json!({ "id": id, "status": handle.status() })).into_response(),
        Err(error) => hold_problem(&error),
    }
}

async fn stop_before(State(handle): State<Handle>, Params(query): Params<StopBefore>) -> Response {
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

async fn release(State(handle): State<Handle>, Params(query): Params<Release>) -> Response {
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

async fn rebuild(State(handle): State<Handle>, Params(query): Params<Rebuild>) -> Response {
    match handle.rebuild(&query.mart) {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

async fn drop_removed(State(handle): State<Handle>, Params(query): Params<Dropped>) -> Response {
    match handle.drop_removed(query.table, seconds(None)).await {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => {
            let status = match error {
                DropError::Unknown(_) => StatusCode::NOT_FOUND,
                DropError::Captured(_) => StatusCode::CONFLICT,
                DropError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            };
            problem(status, &error.to_string())
        }
    }
}

async fn verified(State(handle): State<Handle>, Json(finding): Json<Finding>) -> Response {
    match handle.found(finding).await {
        Ok(()) => Json(handle.status()).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &in_words(&error)),
    }
}

async fn quarantine(State(handle): State<Handle>, Params(query): Params<Quarantined>) -> Response {
    let table = query.table.map(|table| table.parse()).transpose();
    let wanted = match table {
        Ok(table) => Wanted {
            table,
            limit: query.limit.unwrap_or(VALUES),
            after: query.after,
        },
        Err(error) => return problem(StatusCode::BAD_REQUEST, &in_words(&error)),
    };
    match handle.quarantined(&wanted).await {
        Ok(page) => Json(page).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &in_words(&error)),
    }
}

async fn wait(State(handle): State<Handle>, Params(query): Params<Wait>) -> Response {
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
        HoldError::Busy(_) | HoldError::Lost | HoldError::Passed(_) | HoldError::Paused => {
            StatusCode::CONFLICT
        }
    };
    problem(status, &error.to_string())
}

fn seconds(asked: Option<u64>) -> Duration {
    Duration::from_secs(asked.unwrap_or(WAIT_SECONDS).min(WAIT_SECONDS_MAX))
}
