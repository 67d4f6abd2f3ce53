//! The control API of a running capture.
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | 200 while it works, 503 when it has stopped; needs no token |
//! | `GET /ready` | 200 while it follows the stream; else 503 with reason and code; needs no token |
//! | `GET /status` | what it is doing and how far the log is, as JSON; what is not known is null |
//! | `POST /tables/add` | captures tables, `{"tables": ["public.a"]}`; answers when the log has acknowledged it |
//! | `POST /tables/remove`, `/tables/resnapshot` | captures them no longer; copies them again |
//! | `POST /tables/begin-again` | begins a log that cannot go on again, with another slot and copies of all tables |
//!
//! A request about tables that makes no sense as things are is answered with 409, one that capture cannot take now
//! with 503, both with the reason.

use axum::extract::State as Given;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use millrace_control::{problem, time};
use millrace_events::{CopyId, Lsn, TableId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::drift::NotLive;
use crate::readiness;
use crate::status::{Handle, State, Status};
use crate::tables::{RequestError, TableRequest, TableState, TableStatus};

/// The API, to be served by [`millrace_control::Server`].
pub fn api(handle: Handle, token: &str) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/tables/add", post(add))
        .route("/tables/remove", post(remove))
        .route("/tables/resnapshot", post(resnapshot))
        .route("/tables/begin-again", post(begin_again))
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

/// Which tables a request is about.
#[derive(Debug, Deserialize)]
struct Named {
    tables: Vec<TableId>,
}

async fn add(Given(handle): Given<Handle>, Json(named): Json<Named>) -> Response {
    change(&handle, TableRequest::Add(named.tables)).await
}

async fn remove(Given(handle): Given<Handle>, Json(named): Json<Named>) -> Response {
    change(&handle, TableRequest::Remove(named.tables)).await
}

async fn resnapshot(Given(handle): Given<Handle>, Json(named): Json<Named>) -> Response {
    change(&handle, TableRequest::Resnapshot(named.tables)).await
}

async fn begin_again(Given(handle): Given<Handle>) -> Response {
    change(&handle, TableRequest::BeginAgain).await
}

async fn change(handle: &Handle, what: TableRequest) -> Response {
    match handle.request(what).await {
        Ok(()) => Json(json!({ "ok": true })).into_response(),
        Err(RequestError::Refused(reason)) => problem(StatusCode::CONFLICT, &reason),
        Err(RequestError::NotNow(reason)) => problem(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
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
    /// The tables whose copies are not complete, all together.
    snapshot: Option<SnapshotShown>,
    tables: Vec<TableShown>,
    copies_begun_again: u64,
    #[serde(serialize_with = "time::serialize_option")]
    oldest_pending_at: Option<DateTime<Utc>>,
    not_captured: Vec<TableId>,
    not_live: Vec<NotLive>,
    #[serde(serialize_with = "time::serialize_option")]
    compared_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize)]
struct SnapshotShown {
    table: TableId,
    rows: u64,
    total: u64,
}

impl SnapshotShown {
    fn of(tables: &[TableStatus]) -> Option<SnapshotShown> {
        let open = || {
            tables
                .iter()
                .filter(|table| table.state != TableState::Captured)
        };
        let at_work = open().find(|table| table.state == TableState::Copying);
        Some(SnapshotShown {
            table: at_work.or_else(|| open().next())?.table.clone(),
            rows: open().map(|table| table.rows).sum(),
            total: open()
                .map(|table| table.rows_estimated.max(table.rows))
                .sum(),
        })
    }
}

/// A captured table as the API shows it.
#[derive(Debug, Serialize)]
struct TableShown {
    table: TableId,
    state: &'static str,
    #[serde(serialize_with = "time::serialize")]
    since: DateTime<Utc>,
    copy: CopyId,
    chunks: u32,
    rows: u64,
    rows_estimated: u64,
    /// What its copy waits for, or what was wrong with it.
    notice: Option<String>,
    #[serde(serialize_with = "time::serialize_option")]
    expected_at: Option<DateTime<Utc>>,
}

impl TableShown {
    fn of(table: &TableStatus) -> TableShown {
        TableShown {
            table: table.table.clone(),
            state: table.state.name(),
            since: table.since,
            copy: table.copy,
            chunks: table.chunks,
            rows: table.rows,
            rows_estimated: table.rows_estimated,
            notice: table.notice.clone(),
            expected_at: table.expected_at(Utc::now()),
        }
    }
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
            snapshot: SnapshotShown::of(&status.tables),
            tables: status.tables.iter().map(TableShown::of).collect(),
            copies_begun_again: status.copies_begun_again,
            oldest_pending_at: status.oldest_pending_at,
            not_captured: status.not_captured,
            not_live: status.not_live,
            compared_at: status.compared_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::{CapturedTable, Copied, Epoch, SchemaId, TableSchema};

    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_never_zero() {
        let shown = serde_json::to_value(Shown::from(Status::default())).expect("JSON");
        assert_eq!(
            shown,
            serde_json::json!({
                "state": "preflight", "epoch": null, "last_lsn": null, "received_lsn": null,
                "transactions": 0, "sessions": 0, "last_error": null, "snapshot": null, "tables": [], "copies_begun_again": 0,
                "failing_since": null, "next_attempt_at": null, "oldest_pending_at": null,
                "not_captured": [], "not_live": [], "compared_at": null,
            })
        );
    }

    fn table(name: &str, copied: Option<Copied>) -> TableStatus {
        let captured = CapturedTable {
            definition: TableSchema {
                id: SchemaId(1),
                table: TableId::new("shop", name),
                columns: Vec::new(),
            },
            estimated_rows: 10,
            published_lately: false,
            oid: None,
            copy: CopyId(3),
            topic: "shop-snapshot-3".to_owned(),
            copy_offset: 2,
            copy_lsn: Lsn(1),
            copied,
        };
        TableStatus::of(&captured, None, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn copies_show_how_far_they_are() {
        let copied = Copied {
            chunks: 1,
            rows: 7,
            lsn: Lsn(2),
        };
        let status = Status {
            state: State::Streaming,
            tables: vec![table("items", Some(copied)), table("orders", None)],
            epoch: Epoch(2),
            last_lsn: Lsn(0x16B_3748),
            oldest_pending_at: DateTime::from_timestamp_micros(1_750_000_000_000_000),
            ..Status::default()
        };
        let shown = serde_json::to_value(Shown::from(status)).expect("JSON");
        let snapshot = serde_json::json!({ "table": "shop.orders", "rows": 0, "total": 10 });
        assert_eq!(
            (&shown["state"], &shown["snapshot"]),
            (&"streaming".into(), &snapshot)
        );
        assert_eq!(
            shown["tables"][0],
            serde_json::json!({
                "table": "shop.items", "state": "captured", "since": "1970-01-01T00:00:00.000000Z", "copy": 3,
                "chunks": 1, "rows": 7, "rows_estimated": 10, "notice": null, "expected_at": null,
            })
        );
        assert_eq!(
            (&shown["epoch"], &shown["last_lsn"]),
            (&2.into(), &"0/16B3748".into())
        );
        assert_eq!(shown["oldest_pending_at"], "2025-06-15T15:06:40.000000Z");
    }
}
