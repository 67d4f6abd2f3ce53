//! The control API of a service that is started again and again: it answers while the service is down, too.
//!
//! One listener serves for all starts. Each start shows its own API; while the service is down, the last one goes
//! on answering what it can, with the truth put over it: `/status` says `failed` with reason and code, `/health`
//! and `/ready` answer 503, and what only a running service can do is refused at once instead of timing out.

use std::sync::{Arc, PoisonError, RwLock};

use axum::body::{to_bytes, Body};
use axum::extract::{Request, State};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tower::ServiceExt;

use crate::answer::problem;
use crate::time;

/// No status is longer.
const STATUS_BYTES_MAX: usize = 1 << 20;

/// Why a service is down, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Names the section under `docs/errors`, if the reason has one.
    pub code: Option<String>,
    /// What went wrong, without its code.
    pub reason: String,
    /// Since when it has not worked.
    pub since: DateTime<Utc>,
    /// When it is tried again; never by itself if there is none.
    pub next_try_at: Option<DateTime<Utc>>,
}

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.reason)?;
        match self.next_try_at {
            Some(at) => write!(f, "; next try at {} UTC", at.format("%H:%M:%S")),
            None => f.write_str("; it is not tried again by itself"),
        }
    }
}

/// What answers at a service's control address. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Shared>);

struct Shared {
    api: RwLock<Router>,
    down: Box<dyn Fn() -> Option<Down> + Send + Sync>,
    needs_service: &'static [&'static str],
}

impl Front {
    /// A front that asks `down` whether the service is. The paths `needs_service` are refused then.
    pub fn new(
        needs_service: &'static [&'static str],
        down: impl Fn() -> Option<Down> + Send + Sync + 'static,
    ) -> Front {
        Front(Arc::new(Shared {
            api: RwLock::default(),
            down: Box::new(down),
            needs_service,
        }))
    }

    /// Answers with the API of another start from now on.
    pub fn show(&self, api: Router) {
        *self.0.api.write().unwrap_or_else(PoisonError::into_inner) = api;
    }

    /// To be served by [`Server`](crate::Server).
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    fn api(&self) -> Router {
        let api = self.0.api.read();
        api.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

async fn answer(State(front): State<Front>, request: Request) -> Response {
    let Some(down) = (front.0.down)() else {
        return pass_on(front.api(), request).await;
    };
    let path = request.uri().path().to_owned();
    if ["/health", "/ready"].contains(&path.as_str()) {
        return problem(StatusCode::SERVICE_UNAVAILABLE, &format!("failed: {down}"));
    }
    if front.0.needs_service.contains(&path.as_str()) {
        return refuse(front.api(), request, &down).await;
    }
    let response = pass_on(front.api(), request).await;
    match path == "/status" && response.status() == StatusCode::OK {
        true => failed_status(response.into_body(), &down).await,
        false => response,
    }
}

async fn pass_on(api: Router, request: Request) -> Response {
    match api.oneshot(request).await {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    }
}

/// Strangers learn nothing: the API itself refuses who has no token, at a path that does nothing.
async fn refuse(api: Router, request: Request, down: &Down) -> Response {
    let mut probe = Request::new(Body::empty());
    *probe.uri_mut() = axum::http::Uri::from_static("/status");
    if let Some(token) = request.headers().get(header::AUTHORIZATION) {
        let headers = probe.headers_mut();
        headers.insert(header::AUTHORIZATION, token.clone());
    }
    let probed = pass_on(api, probe).await;
    match probed.status() {
        StatusCode::UNAUTHORIZED => probed,
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, &format!("failed: {down}")),
    }
}

/// The last status of the service, which knows where it stands, with what has become of it since.
async fn failed_status(last: Body, down: &Down) -> Response {
    let bytes = to_bytes(last, STATUS_BYTES_MAX).await.unwrap_or_default();
    let mut status: Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    let errors: Vec<&str> = ["error", "last_error"]
        .into_iter()
        .filter(|key| status.contains_key(*key))
        .collect();
    for key in errors {
        status.insert(key.to_owned(), down.to_string().into());
    }
    status.insert("state".to_owned(), "failed".into());
    let failure = serde_json::json!({
        "code": down.code,
        "reason": down.reason,
        "since": time::text(down.since),
        "next_try_at": down.next_try_at.map(time::text),
    });
    status.insert("failure".to_owned(), failure);
    Json(status).into_response()
}
