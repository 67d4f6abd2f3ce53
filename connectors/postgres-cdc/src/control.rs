//! The control API of a running capture.
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | 200 while it works, 503 when it has stopped; needs no token |
//! | `GET /ready` | 200 while it follows the stream; else 503 with reason and code; needs no token |
//! | `GET /status` | what it is doing and how far the log is, as JSON; what is not known is null |

use axum::extract::State as Given;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use millrace_control::time;
use millrace_events::{Lsn, TableId};
use serde::Serialize;

use crate::readiness;
use crate::status::{Handle, State, Status};

/// The API, to be served by [`millrace_control::Server`].
pub fn api(handle: Handle, token: &str) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .with_state(handle.clone());
    let watched = handle.clone();
    let alive = move || match watched.status().state {
        State::Stopped => Err("stopped".to_owned()),
        _ => Ok(()),
    };
    let ready = move || readiness::ready(&handle.status());
    millrace_control::api(routes, token, alive, ready)
}

async fn status(Given(handle): Given<Handle>) -> Response {
    Json(Shown::from(handle.status())).into_response()
}

/// The status as the API shows it.
#[derive(Debug, Serialize)]
struct Shown {
    state: &'static str,
    epoch: Option<u64>,
    last_lsn: Option<Lsn>,
    received_lsn: Option<Lsn>,
    transactions: u64,
    sessions: u64,
    last_error: Option<String>,
    #[serde(serialize_with = "time::serialize_option")]
    failing_since: Option<DateTime<Utc>>,
    #[serde(serialize_with = "time::serialize_option")]
    next_attempt_at: Option<DateTime<Utc>>,
    snapshot: Option<SnapshotShown>,
    #[serde(serialize_with = "time::serialize_option")]
    oldest_pending_at: Option<DateTime<Utc>>,
    not_captured: Vec<TableId>,
}

#[derive(Debug, Serialize)]
struct SnapshotShown {
    table: TableId,
    rows: u64,
    total: u64,
}

/// Zero means that it is not known yet.
fn known(lsn: Lsn) -> Option<Lsn> {
    (lsn > Lsn::ZERO).then_some(lsn)
}

impl From<Status> for Shown {
    fn from(status: Status) -> Shown {
        Shown {
            failing_since: status.failing_since,
            next_attempt_at: status.next_attempt_at,
            state: status.state.name(),
            epoch: Some(status.epoch.0).filter(|epoch| *epoch > 0),
            last_lsn: known(status.last_lsn),
            received_lsn: known(status.received_lsn),
            transactions: status.transactions,
            sessions: status.sessions,
            last_error: status.last_error,
            snapshot: match status.state {
                State::Snapshot { table, rows, total } => {
                    Some(SnapshotShown { table, rows, total })
                }
                _ => None,
            },
            oldest_pending_at: status.oldest_pending_at,
            not_captured: status.not_captured,
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::Epoch;

    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_never_zero() {
        let shown = serde_json::to_value(Shown::from(Status::default())).expect("JSON");
        assert_eq!(
            shown,
            serde_json::json!({
                "state": "preflight", "epoch": null, "last_lsn": null, "received_lsn": null,
                "transactions": 0, "sessions": 0, "last_error": null, "snapshot": null,
                "failing_since": null, "next_attempt_at": null, "oldest_pending_at": null,
                "not_captured": [],
            })
        );
    }

    #[test]
    fn a_snapshot_shows_its_table() {
        let status = Status {
            state: State::Snapshot {
                table: TableId::new("shop", "orders"),
                rows: 3,
                total: 10,
            },
            epoch: Epoch(2),
            last_lsn: Lsn(0x16B_3748),
            oldest_pending_at: DateTime::from_timestamp_micros(1_750_000_000_000_000),
            ..Status::default()
        };
        let shown = serde_json::to_value(Shown::from(status)).expect("JSON");
        let snapshot = serde_json::json!({ "table": "shop.orders", "rows": 3, "total": 10 });
        assert_eq!(
            (&shown["state"], &shown["snapshot"]),
            (&"snapshot".into(), &snapshot)
        );
        assert_eq!(
            (&shown["epoch"], &shown["last_lsn"]),
            (&2.into(), &"0/16B3748".into())
        );
        assert_eq!(shown["oldest_pending_at"], "2025-06-15T15:06:40.000000Z");
    }
}
