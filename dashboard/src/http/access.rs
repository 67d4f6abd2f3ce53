//! Who may read, and who may change.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{header, HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::problem::Problem;
use super::session::{equal, Refused, Session};
use super::App;

const COOKIE: &str = "millrace_session";
const CSRF: &str = "x-millrace-csrf";

/// What the page knows of its login.
#[derive(Serialize)]
pub(super) struct Shown {
    logged_in: bool,
    user: Option<String>,
    csrf: Option<String>,
    reading_needs_login: bool,
}

#[derive(Deserialize)]
pub(super) struct Login {
    user: String,
    password: String,
}

/// `GET /api/session`
pub(super) async fn session(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<Shown> {
    let session = found(&app, &headers).map(|(_, session)| session);
    Json(shown(&app, session))
}

/// `POST /api/login`
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    let now = Instant::now();
    let tried = app
        .sessions
        .log_in(from.ip(), &login.user, &login.password, now);
    match tried {
        Ok((id, session)) => {
            tracing::info!(user = session.user, "logged in");
            let cookie = format!("{COOKIE}={id}; HttpOnly; SameSite=Strict; Path=/");
            let set = [(header::SET_COOKIE, cookie)];
            Ok((set, Json(shown(&app, Some(session)))).into_response())
        }
        Err(refused) => {
            tracing::warn!(from = %from.ip(), ?refused, "a login was refused");
            Err(refusal(&app, refused))
        }
    }
}

fn refusal(app: &App, refused: Refused) -> Problem {
    match refused {
        Refused::TooMany => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many failed logins; try again in a minute",
        ),
        Refused::Wrong if !app.sessions.can_log_in() => Problem::new(
            StatusCode::UNAUTHORIZED,
            "no login is configured; set DASHBOARD_USER and DASHBOARD_PASSWORD",
        ),
        Refused::Wrong => Problem::new(StatusCode::UNAUTHORIZED, "wrong user or password"),
    }
}

/// `POST /api/logout`
pub(super) async fn log_out(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if let Some((id, _)) = found(&app, &headers) {
        app.sessions.log_out(&id);
    }
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Json(shown(&app, None))).into_response()
}

/// Lets pass who may read.
pub(super) async fn reading(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if may_read(&app, request.headers()) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::UNAUTHORIZED, "log in first").into_response()
}

/// Everybody on this machine; beyond it, who has the token or is logged in.
pub(super) fn may_read(app: &App, headers: &HeaderMap) -> bool {
    !needs_login(app) || has_token(app, headers) || found(app, headers).is_some()
}

/// Lets pass who may change: the token, or the cookie together with what only our own page can send.
pub(super) async fn changing(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    match may_change(&app, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn may_change(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    if has_token(app, headers) {
        return Ok(());
    }
    let Some((_, session)) = found(app, headers) else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "log in first"));
    };
    let given = headers.get(CSRF).and_then(|value| value.to_str().ok());
    match given.is_some_and(|given| equal(given, &session.csrf)) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the header X-Millrace-CSRF is missing or of another session",
        )),
    }
}

fn has_token(app: &App, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    !app.control_token.is_empty() && given.is_some_and(|given| equal(given, &app.control_token))
}

/// The session of the request's cookie, with its id.
fn found(app: &App, headers: &HeaderMap) -> Option<(String, Session)> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut cookies = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| {
        let id = cookie.trim().strip_prefix(COOKIE)?.strip_prefix('=')?;
        let session = app.sessions.find(id, Instant::now())?;
        Some((id.to_owned(), session))
    })
}

fn needs_login(app: &App) -> bool {
    !app.address.ip().is_loopback()
}

fn shown(app: &App, session: Option<Session>) -> Shown {
    Shown {
        logged_in: session.is_some(),
        user: session.as_ref().map(|session| session.user.clone()),
        csrf: session.map(|session| session.csrf),
        reading_needs_login: needs_login(app),
    }
}
