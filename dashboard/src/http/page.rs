//! The page and its files.

use axum::extract::Path;
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::assets::{self, Asset};

use super::problem::Problem;

/// `GET /`
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    send("index.html", &headers)
}

/// `GET /assets/…`
pub(super) async fn asset(
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    send(&path, &headers)
}

fn send(path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let asset = assets::find(path).ok_or_else(|| Problem::not_found("no such file"))?;
    // Kept, but asked about each time: a new version of the program shows at once.
    let common = [
        (header::ETAG, asset.etag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if is_current(asset, headers) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let content_type = [(header::CONTENT_TYPE, asset.content_type)];
    Ok((common, content_type, asset.bytes).into_response())
}

fn is_current(asset: &Asset, headers: &HeaderMap) -> bool {
    let known = headers.get(header::IF_NONE_MATCH);
    let known = known.and_then(|value| value.to_str().ok()).unwrap_or("");
    known
        .split(',')
        .any(|tag| tag.trim().trim_start_matches("W/") == asset.etag)
}
