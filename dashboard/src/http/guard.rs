//! What every request passes: the name it was asked under, and the headers of every answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{header, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::App;

/// Nothing from elsewhere, nothing inline, no frame around it.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Nothing that axum says is longer.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Refuses names that are not ours, and adds the headers.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let mut response = match host_is_ours(app.address.ip(), &app.names, host) {
        true => refusals_as_json(next.run(request).await).await,
        false => Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this dashboard does not go by that name; DASHBOARD_NAMES lists those that it goes by",
        )
        .into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What could not be understood is refused by axum, in plain text or without a word.
async fn refusals_as_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (head, body) = response.into_parts();
    let said = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let message = match said.is_empty() {
        true => status.canonical_reason().unwrap_or("refused"),
        false => &said,
    };
    let mut refusal = Problem::new(status, message).into_response();
    if let Some(allowed) = head.headers.get(header::ALLOW) {
        refusal.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    refusal
}

/// A page elsewhere could reach us by a name of its own that it lets resolve to our address; its requests
/// carry that name. An address is nobody's name, and one without a dot is given by the network we are in.
fn host_is_ours(bound: IpAddr, names: &[String], host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = without_port(host);
    match name.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || !bound.is_loopback(),
        Err(_) => {
            let known = names.iter().any(|known| name.eq_ignore_ascii_case(known));
            let inner = !bound.is_loopback() && !name.is_empty() && !name.contains('.');
            known || inner || name.eq_ignore_ascii_case("localhost")
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_only_names_of_loopback_are_ours() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let ours = |host: &str| {
            let host = HeaderValue::from_str(host).unwrap();
            host_is_ours(loopback, &[], Some(&host))
        };
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:8080",
            "127.0.0.9",
        ] {
            assert!(ours(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "",
            "localhost:x",
        ] {
            assert!(!ours(host), "{host}");
        }
        assert!(!host_is_ours(loopback, &[], None));
    }

    #[test]
    fn beyond_loopback_addresses_inner_names_and_those_of_the_settings_are_ours() {
        let names = ["page.example.org".to_owned()];
        let ours = |host: &str| {
            let host = HeaderValue::from_str(host).unwrap();
            host_is_ours("0.0.0.0".parse().unwrap(), &names, Some(&host))
        };
        for host in [
            "10.0.0.1:8080",
            "dashboard:8080",
            "PAGE.example.org",
            "localhost",
        ] {
            assert!(ours(host), "{host}");
        }
        for host in ["evil.example", "page.example.org.evil.example:8080", ""] {
            assert!(!ours(host), "{host}");
        }
    }
}
