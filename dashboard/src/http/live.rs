//! The status as it comes: serialized once a tick, shared by everybody who looks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{stream, StreamExt};
use millrace_control::NotReady;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics;
use crate::status::Status;

use super::problem::Problem;
use super::{access, App};

/// A comment is sent when nothing else was for so long, so that a dead connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The collector is not well if its last status is older.
const STALE: Duration = Duration::from_secs(10);
/// How a browser is told to come back.
const HELLO: &str = "retry: 2000\n\n";

/// A status, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) status: Arc<Status>,
    json: Bytes,
    /// As a server-sent event.
    event: Bytes,
    made: Instant,
}

/// The newest status, or none before the first tick.
pub(crate) type Feed = watch::Receiver<Option<Live>>;

impl Live {
    /// The only serialization of a tick.
    pub(crate) fn new(status: Status) -> Live {
        // All keys are strings, so there is no error to report.
        let json = serde_json::to_string(&status).unwrap_or_default();
        // JSON has no line breaks: one line of data.
        let event = format!("event: status\ndata: {json}\n\n");
        Live {
            status: Arc::new(status),
            json: json.into(),
            event: event.into(),
            made: Instant::now(),
        }
    }
}

/// `GET /health`
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    match newest(&app) {
        Some(live) if live.made.elapsed() < STALE => {
            axum::Json(serde_json::json!({ "ok": true })).into_response()
        }
        _ => not_yet().into_response(),
    }
}

/// `GET /ready`: the page does its work while it has a status to show. What that says of the pipeline is no reason to
/// take the page away: it is needed most when a part fails.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match newest(&app) {
        Some(live) if live.made.elapsed() < STALE => {
            axum::Json(serde_json::json!({ "ready": true })).into_response()
        }
        Some(_) => not_ready("it has no status of the last seconds"),
        None => not_ready("it has not asked everybody once yet"),
    }
}

fn not_ready(reason: &str) -> Response {
    let because = NotReady::new(reason, None);
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(because)).into_response()
}

/// `GET /api/status`
pub(super) async fn status(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let live = newest(&app).ok_or_else(not_yet)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], live.json).into_response())
}

/// `GET /metrics`
pub(super) async fn prometheus(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let live = newest(&app).ok_or_else(not_yet)?;
    let text = metrics::render(&live.status);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// `GET /api/events`: ends with the service, when the viewer goes, and with the login that it took.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seat = app.viewers.clone().try_acquire_owned().map_err(|_| {
        let message = "too many viewers; close one of them";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let mut feed = app.feed.clone();
    feed.mark_changed();
    let frames = stream::unfold((feed, seat), |(mut feed, seat)| async move {
        let frame = next_frame(&mut feed).await?;
        Some((Ok::<Bytes, Infallible>(frame), (feed, seat)))
    });
    let hello = stream::iter([Ok(Bytes::from_static(HELLO.as_bytes()))]);
    let shutdown = app.shutdown.clone().cancelled_owned();
    let may_read = move |_: &_| std::future::ready(access::may_read(&app, &headers));
    let frames = hello
        .chain(frames)
        .take_while(may_read)
        .take_until(shutdown);
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// A slow viewer misses statuses; it never gets an old one. `None` when the collector is gone.
async fn next_frame(feed: &mut Feed) -> Option<Bytes> {
    loop {
        match tokio::time::timeout(KEEP_ALIVE, feed.changed()).await {
            Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
            Ok(Err(_)) => return None,
            Ok(Ok(())) => {
                if let Some(live) = &*feed.borrow_and_update() {
                    return Some(live.event.clone());
                }
            }
        }
    }
}

fn newest(app: &App) -> Option<Live> {
    app.feed.borrow().clone()
}

fn not_yet() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no status of the last seconds",
    )
}
