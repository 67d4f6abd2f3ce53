//! A stand-in for all control APIs at once, on a free port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{json, Value};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) const TOKEN: &str = "control-token";

/// What it was asked, and what it says of itself.
#[derive(Clone, Default)]
pub(crate) struct Control {
    state: Arc<Mutex<State_>>,
    gate: Arc<Gate>,
}

/// Lists of rejected records that the page asks for wait here while it is shut.
#[derive(Default)]
pub(crate) struct Gate {
    shut: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// Returns when so many wait.
    pub(crate) async fn holds(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        let enough = waiting.wait_for(|waiting| *waiting >= count);
        let enough = tokio::time::timeout(crate::rig::PATIENCE, enough);
        enough.await.expect("they come").unwrap();
    }

    pub(crate) fn open(&self) {
        self.shut.send_replace(false);
    }

    async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _ = self.shut.subscribe().wait_for(|shut| !shut).await;
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

#[derive(Default)]
struct State_ {
    posts: Vec<String>,
    open: u64,
}

impl Control {
    /// Serves until the test process ends.
    pub(crate) async fn start() -> (Control, SocketAddr) {
        let control = Control::default();
        control.state.lock().unwrap().open = 1;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(control.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (control, address)
    }

    /// Lets lists of rejected records wait.
    pub(crate) fn shut(&self) -> &Gate {
        self.gate.shut.send_replace(true);
        &self.gate
    }

    /// Paths of the POSTs that came.
    pub(crate) fn posts(&self) -> Vec<String> {
        self.state.lock().unwrap().posts.clone()
    }
}

async fn answer(State(control): State<Control>, request: Request) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    if authorization.is_none_or(|given| given != &format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let path = request.uri().path().to_owned();
    // What counts them names no state.
    if request
        .uri()
        .query()
        .is_some_and(|query| query.contains("state="))
    {
        control.gate.pass().await;
    }
    let mut state = control.state.lock().unwrap();
    if request.method() == "POST" {
        state.posts.push(path.clone());
    }
    match path.as_str() {
        "/projector/status" => Json(projector()).into_response(),
        "/capture/status" => {
            Json(json!({"state": "streaming", "oldest_pending_at": null})).into_response()
        }
        "/ingest/status" => {
            Json(json!({"state": "running", "next_offset": 1, "end_offset": 3})).into_response()
        }
        "/ingest/rejected" => Json(
            json!({"counts": {"open": state.open, "retried": 1 - state.open, "discarded": 0},
            "records": [], "next_before": null, "query": request.uri().query()}),
        )
        .into_response(),
        "/ingest/rejected/7/retry" if state.open == 0 => {
            (StatusCode::CONFLICT, Json(json!({"error": "not open"}))).into_response()
        }
        "/ingest/rejected/7/retry" => {
            state.open = 0;
            Json(json!({"offset": 7, "state": "retried"})).into_response()
        }
        "/projector/wait" => Json(projector()).into_response(),
        "/projector/pause" | "/projector/resume" => Json(projector()).into_response(),
        _ => (
            StatusCode::NOT_FOUND,
            Json(json!({"error": "no such thing"})),
        )
            .into_response(),
    }
}

/// Somebody has run verify elsewhere.
fn projector() -> Value {
    json!({"state": "live", "end_lsn": "0/10", "lag_records": 0, "something_new": {},
        "verify": {"unfinished": null, "answered": {"at": "2026-01-02T03:04:05.000000Z", "incarnation": "a",
            "answer": "different", "lsn": "0/8", "not_live": [], "error": null,
            "tables": [{"name": "orders", "rows": 3, "differences": 2}]}}})
}
