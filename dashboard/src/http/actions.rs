//! What changes something: sent on to the service that it concerns, through its control API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use futures_util::StreamExt;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::collect::Which;

use super::problem::Problem;
use super::App;

/// A page of rejected records is no longer; ingest gives no more either.
const LIMIT_MAX: u64 = 200;

/// A viewer who takes longer gets no more of it, and lets others look.
const SENT_WITHIN: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
pub(super) struct List {
    state: Option<String>,
    limit: Option<u64>,
    before: Option<u64>,
}

/// `GET /api/rejected`
pub(super) async fn rejected(
    State(app): State<Arc<App>>,
    Query(query): Query<List>,
) -> Result<Response, Problem> {
    let state = query.state.as_deref().unwrap_or("open");
    if !["open", "retried", "discarded", "all"].contains(&state) {
        return Err(Problem::bad("state is open, retried, discarded or all"));
    }
    let limit = query.limit.unwrap_or(50);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad(format!("limit is 1 to {LIMIT_MAX}")));
    }
    let mut path = format!("/rejected?state={state}&limit={limit}");
    if let Some(before) = query.before {
        path.push_str(&format!("&before={before}"));
    }
    look(&app, &path).await
}

/// `GET /api/rejected/{offset}`
pub(super) async fn rejected_one(
    State(app): State<Arc<App>>,
    Path(offset): Path<String>,
) -> Result<Response, Problem> {
    let offset = number(&offset)?;
    look(&app, &format!("/rejected/{offset}")).await
}

/// An answer may be large and is held in memory until the viewer has it: only so many at once.
async fn look(app: &App, path: &str) -> Result<Response, Problem> {
    let look = app.rejected_looks.clone().try_acquire_owned();
    let look = look.map_err(|_| {
        let message = "too many people look at rejected records; try again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let (head, body) = forward(app, Method::GET, Which::Ingest, path)
        .await?
        .into_parts();
    let frames = body.into_data_stream().map(move |frame| {
        let _until_it_is_sent = &look;
        frame
    });
    let frames = frames.take_until(tokio::time::sleep(SENT_WITHIN));
    Ok(Response::from_parts(head, Body::from_stream(frames)))
}

fn number(offset: &str) -> Result<u64, Problem> {
    let refused = |_| Problem::bad(format!("the offset is a whole number, not {offset:?}"));
    offset.parse().map_err(refused)
}

/// `POST /api/rejected/{offset}/retry`
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Path(offset): Path<String>,
) -> Result<Response, Problem> {
    act_on_rejected(&app, number(&offset)?, "retry").await
}

/// `POST /api/rejected/{offset}/discard`
pub(super) async fn discard(
    State(app): State<Arc<App>>,
    Path(offset): Path<String>,
) -> Result<Response, Problem> {
    act_on_rejected(&app, number(&offset)?, "discard").await
}

async fn act_on_rejected(app: &App, offset: u64, action: &str) -> Result<Response, Problem> {
    let path = format!("/rejected/{offset}/{action}");
    let answer = forward(app, Method::POST, Which::Ingest, &path).await;
    app.recount.notify_one();
    tracing::info!(
        offset,
        action,
        done = succeeded(&answer),
        "a rejected record"
    );
    answer
}

/// `POST /api/projections/pause`
pub(super) async fn pause(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    steer(&app, "/pause").await
}

/// `POST /api/projections/resume`
pub(super) async fn resume(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    steer(&app, "/resume").await
}

async fn steer(app: &App, path: &str) -> Result<Response, Problem> {
    let answer = forward(app, Method::POST, Which::Projector, path).await;
    tracing::info!(action = path, done = succeeded(&answer), "the projections");
    answer
}

/// `POST /api/verify`
pub(super) async fn verify(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    app.verifier
        .start()
        .map_err(|error| Problem::new(StatusCode::CONFLICT, error.to_string()))?;
    tracing::info!("verify was started from the page");
    Ok((StatusCode::ACCEPTED, Json(json!({ "running": true }))).into_response())
}

async fn forward(app: &App, method: Method, which: Which, path: &str) -> Result<Response, Problem> {
    let answer = app.services.forward(method, which, path).await;
    let answer = answer.map_err(|error| Problem::away(format!("{}: {error}", name(which))))?;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    // That our own token is refused there is no fault of the caller's login.
    if status == StatusCode::UNAUTHORIZED {
        let message = format!("{} refuses the control token", name(which));
        return Err(Problem::away(message));
    }
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((status, headers, answer.body).into_response())
}

fn name(which: Which) -> &'static str {
    match which {
        Which::Projector => "projector",
        Which::Capture => "capture",
        Which::Ingest => "ingest",
    }
}

fn succeeded(answer: &Result<Response, Problem>) -> bool {
    answer
        .as_ref()
        .is_ok_and(|answer| answer.status().is_success())
}
