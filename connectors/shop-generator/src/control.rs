//! The control API of a running generator.
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | 200 while it runs; needs no token |
//! | `GET /ready` | 200 while it trades and sends users; else 503 with the reason; needs no token |
//! | `GET /status` | how much it has traded and sent, and the last failures |

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use millrace_control::NotReady;
use serde_json::json;

use crate::{trade, user_events};

/// The API, to be served by [`millrace_control::Server`].
pub fn api(trade: trade::Handle, users: user_events::Handle, token: &str) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .with_state((trade.clone(), users.clone()));
    let alive = || Ok(());
    let ready = move || ready(&trade.status(), &users.status());
    millrace_control::api(routes, token, alive, ready)
}

async fn status(State((trade, users)): State<(trade::Handle, user_events::Handle)>) -> Response {
    let (trade, users) = (trade.status(), users.status());
    Json(json!({
        "trade": {
            "transactions": trade.transactions,
            "abandoned": trade.abandoned,
            "skipped": trade.skipped,
            "errors": trade.errors,
            "last_error": trade.last_error,
        },
        "user_events": {
            "sent": users.sent,
            "errors": users.errors,
            "last_error": users.last_error,
        },
    }))
    .into_response()
}

/// `Ok` while the last transaction and the last event did not fail.
fn ready(trade: &trade::Status, users: &user_events::Status) -> Result<(), NotReady> {
    match (&trade.last_error, &users.last_error) {
        (Some(error), _) => Err(NotReady::new("the last transaction failed", Some(error))),
        (None, Some(error)) => Err(NotReady::new("the last user event failed", Some(error))),
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_neither_trade_nor_send_is_not_ready_and_says_why() {
        let (mut trade, mut users) = (trade::Status::default(), user_events::Status::default());
        assert_eq!(ready(&trade, &users), Ok(()));
        users.last_error = Some("no topic".to_owned());
        let because = ready(&trade, &users).expect_err("not ready");
        assert_eq!(because.to_string(), "the last user event failed: no topic");
        trade.last_error = Some("no Postgres".to_owned());
        let because = ready(&trade, &users).expect_err("not ready");
        assert_eq!(
            because.to_string(),
            "the last transaction failed: no Postgres"
        );
    }
}
