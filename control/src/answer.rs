//! Requests and answers: who may ask, and what a refusal looks like.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{header, HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::NotReady;

/// The API of a service: its routes behind the token, and for everybody `/health`, which answers 200 while
/// `alive` is `Ok`, and `/ready`, which answers 200 while `ready` is; both 503 with the reason otherwise. What
/// `/ready` says of the error behind the reason, beside its code, takes the token.
pub fn api(
    routes: Router,
    token: &str,
    alive: impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
    ready: impl Fn() -> Result<(), NotReady> + Clone + Send + Sync + 'static,
) -> Router {
    let expected: Arc<[u8; 32]> = Arc::new(Sha256::digest(format!("Bearer {token}")).into());
    let health = move || async move {
        match alive() {
            Ok(()) => Json(json!({ "ok": true })).into_response(),
            Err(reason) => problem(StatusCode::SERVICE_UNAVAILABLE, &reason),
        }
    };
    let owner = expected.clone();
    let ready = move |headers: HeaderMap| async move {
        match ready() {
            Ok(()) => Json(json!({ "ready": true })).into_response(),
            Err(because) if has_token(&owner, &headers) => not_ready(because),
            Err(because) => not_ready(because.without_detail()),
        }
    };
    let not_found = || async { problem(StatusCode::NOT_FOUND, "there is nothing at this path") };
    let not_allowed = || async {
        problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path has another method",
        )
    };
    // Last, so that the token covers the fallbacks too: strangers learn nothing about the paths.
    let guarded = routes
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(expected, authorize));
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .merge(guarded)
}

pub(crate) fn not_ready(because: NotReady) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(because)).into_response()
}

/// A refusal.
pub fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// Parameters of the query; what does not parse is refused with 400 and the reason.
#[derive(Clone, Copy, Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Params(params)),
            Err(error) => Err(problem(StatusCode::BAD_REQUEST, &error.body_text())),
        }
    }
}

async fn authorize(
    State(expected): State<Arc<[u8; 32]>>,
    request: Request,
    next: Next,
) -> Response {
    match has_token(&expected, request.headers()) {
        true => next.run(request).await,
        false => problem(StatusCode::UNAUTHORIZED, "a valid bearer token is needed"),
    }
}

/// Digests are compared, so that the time it takes says nothing about the token.
fn has_token(expected: &[u8; 32], headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given: Option<[u8; 32]> = given.map(|value| Sha256::digest(value.as_bytes()).into());
    given == Some(*expected)
}
