//! What is read on demand: history, marts, records.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::Json;
use millrace_control::in_words;
use millrace_topic::SmartModule;
use serde::Deserialize;

use crate::history::Range;
use crate::marts::{self, Direction};
use crate::records;
use crate::status::Time;

use super::problem::Problem;
use super::App;

#[derive(Deserialize)]
pub(super) struct History {
    range: Option<String>,
}

/// `GET /api/history`
pub(super) async fn history(
    State(app): State<Arc<App>>,
    Query(query): Query<History>,
) -> Result<Response, Problem> {
    let range = query.range.as_deref().unwrap_or("5m");
    let range = Range::parse(range).ok_or_else(|| Problem::bad("range is 5m, 1h or 24h"))?;
    let shown = app.history().show(range, Time::now().epoch_ms());
    Ok(Json(shown).into_response())
}

/// `GET /api/marts`
pub(super) async fn marts(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let marts = app.marts.list().await.map_err(mart_problem)?;
    Ok(Json(marts).into_response())
}

#[derive(Deserialize)]
pub(super) struct Browse {
    sort: Option<String>,
    dir: Option<String>,
    search: Option<String>,
    #[serde(default)]
    offset: u64,
    limit: Option<u64>,
}

/// `GET /api/marts/{name}`
pub(super) async fn mart(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<Browse>,
) -> Result<Response, Problem> {
    let direction = match query.dir.as_deref() {
        None | Some("asc") => Direction::Ascending,
        Some("desc") => Direction::Descending,
        Some(_) => return Err(Problem::bad("dir is asc or desc")),
    };
    let wanted = marts::Browse {
        sort: query.sort.filter(|sort| !sort.is_empty()),
        direction,
        search: query.search.filter(|search| !search.is_empty()),
        offset: query.offset,
        limit: query.limit.unwrap_or(50),
    };
    let page = app.marts.browse(&name, &wanted).await;
    Ok(Json(page.map_err(mart_problem)?).into_response())
}

/// `GET /api/marts/{name}/chart`
pub(super) async fn chart(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let chart = app.marts.chart(&name).await.map_err(mart_problem)?;
    Ok(Json(chart).into_response())
}

fn mart_problem(error: marts::Error) -> Problem {
    let message = in_words(&error);
    match error {
        marts::Error::Unknown(_) | marts::Error::NoChart(_) | marts::Error::NotThere(_) => {
            Problem::not_found(message)
        }
        marts::Error::Request(_) => Problem::bad(message),
        marts::Error::Sql(_) | marts::Error::Timeout => Problem::away(message),
    }
}

#[derive(Deserialize)]
pub(super) struct Peek {
    start: Option<u64>,
    count: Option<u64>,
    filter: Option<String>,
    smartmodule: Option<String>,
    params: Option<String>,
}

/// `GET /api/topics/{name}/records`
pub(super) async fn records(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    Query(query): Query<Peek>,
) -> Result<Response, Problem> {
    let params: BTreeMap<String, String> = match query.params.as_deref() {
        None | Some("") => BTreeMap::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|_| Problem::bad("params is a JSON object of strings"))?,
    };
    let module = query.smartmodule.filter(|name| !name.is_empty());
    let wanted = records::Peek {
        topic,
        start: query.start,
        count: query.count.unwrap_or(20),
        filter: query.filter.filter(|filter| !filter.is_empty()),
        smartmodule: module.map(|name| SmartModule { name, params }),
    };
    let seen = app.records.peek(&wanted).await;
    Ok(Json(seen.map_err(record_problem)?).into_response())
}

fn record_problem(error: records::Error) -> Problem {
    let message = error.to_string();
    match error {
        records::Error::NoTopic(_) => Problem::not_found(message),
        records::Error::Request(_) => Problem::bad(message),
        records::Error::Busy => Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, message),
        records::Error::Fluvio(_) | records::Error::Timeout => Problem::away(message),
    }
}
