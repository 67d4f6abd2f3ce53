//! The control API of a service that is started again and again: it answers while the service is down, too.
//!
//! One listener serves for all starts. Each start shows its own API; while the service is down, the last one goes
//! on answering what it can, with the truth put over it: `/status` says `failed` with reason and code, `/health`
//! and `/ready` answer 503, and what only a running service can do is refused at once instead of timing out. A service
//! that was started again counts as down until it has shown that it works, so that nobody takes each try for a
//! recovery. As everywhere, reasons take the token and codes do not.

use std::sync::{Arc, PoisonError, RwLock};

use axum::body::{to_bytes, Body};
use axum::extract::{Request, State};
use axum::http::{header, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tower::ServiceExt;

use crate::answer::{not_ready, problem};
use crate::{time, NotReady};

/// No status is longer: it has a few hundred bytes a table, and a database may have ten thousand of them.
const STATUS_BYTES_MAX: usize = 16 << 20;

/// Why a service is down, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Names the section under `docs/errors`, if the reason has one.
    pub code: Option<String>,
    /// What went wrong, without its code.
    pub reason: String,
    /// Since when it has not worked.
    pub since: DateTime<Utc>,
    /// What becomes of it.
    pub outlook: Outlook,
}

/// What becomes of a service that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is started again at this time.
    NextTry(DateTime<Utc>),
    /// It was started again and has not yet shown that it works.
    OnTrial,
    /// It is not started again by itself.
    Final,
}

impl Outlook {
    fn next_try_at(self) -> Option<DateTime<Utc>> {
        match self {
            Outlook::NextTry(at) => Some(at),
            Outlook::OnTrial | Outlook::Final => None,
        }
    }
}

impl std::fmt::Display for Outlook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outlook::NextTry(at) => write!(f, "next try at {} UTC", at.format("%H:%M:%S")),
            Outlook::OnTrial => f.write_str("it is being tried again now"),
            Outlook::Final => f.write_str("it is not tried again by itself"),
        }
    }
}

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        write!(f, "{}; {}", self.reason, self.outlook)
    }
}

impl Down {
    /// For everybody.
    fn in_short(&self) -> String {
        match &self.code {
            Some(code) => format!("failed ({code})"),
            None => "failed".to_owned(),
        }
    }

    fn not_ready(&self) -> NotReady {
        NotReady {
            reason: format!("failed; {}", self.outlook),
            code: self.code.clone(),
            detail: Some(self.reason.clone()),
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

    /// Whether the API of the newest start says that its service is ready.
    pub async fn is_ready(&self) -> bool {
        let mut probe = Request::new(Body::empty());
        *probe.uri_mut() = Uri::from_static("/ready");
        pass_on(self.api(), probe).await.status() == StatusCode::OK
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
    let token = request.headers().get(header::AUTHORIZATION).cloned();
    let api = front.api();
    match path.as_str() {
        "/health" => problem(StatusCode::SERVICE_UNAVAILABLE, &down.in_short()),
        "/ready" => match refused(api, token).await {
            None => not_ready(down.not_ready()),
            Some(_) => not_ready(down.not_ready().without_detail()),
        },
        "/status" => match pass_on(api, request).await {
            answer if answer.status() == StatusCode::OK => failed_status(answer, &down).await,
            refusal => refusal,
        },
        other if is_refused(&front, other, &down) => {
            let refused = refused(api, token).await;
            let failed = || problem(StatusCode::SERVICE_UNAVAILABLE, &format!("failed: {down}"));
            refused.unwrap_or_else(failed)
        }
        _ => pass_on(api, request).await,
    }
}

/// A service on trial runs, and can do what only a running one can.
fn is_refused(front: &Front, path: &str, down: &Down) -> bool {
    down.outlook != Outlook::OnTrial && front.0.needs_service.contains(&path)
}

async fn pass_on(api: Router, request: Request) -> Response {
    match api.oneshot(request).await {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    }
}

/// The refusal of who has no token, by the API itself: it is asked for a path that does nothing.
async fn refused(api: Router, token: Option<HeaderValue>) -> Option<Response> {
    let mut probe = Request::new(Body::empty());
    *probe.uri_mut() = Uri::from_static("/status");
    if let Some(token) = token {
        probe.headers_mut().insert(header::AUTHORIZATION, token);
    }
    let answer = pass_on(api, probe).await;
    (answer.status() == StatusCode::UNAUTHORIZED).then_some(answer)
}

/// The last status of the service, which knows where it stands, with what has become of it since.
async fn failed_status(last: Response, down: &Down) -> Response {
    let body = last.into_body();
    let bytes = to_bytes(body, STATUS_BYTES_MAX).await.unwrap_or_default();
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
        "next_try_at": down.outlook.next_try_at().map(time::text),
    });
    status.insert("failure".to_owned(), failure);
    Json(status).into_response()
}
