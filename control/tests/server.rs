//! The server as a client meets it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use axum::routing::get;
use axum::Router;
use millrace_control::{api, Error, NotReady, Params, Server};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
struct Number {
    n: u32,
}

async fn double(Params(Number { n }): Params<Number>) -> String {
    (n * 2).to_string()
}

struct Api {
    url: String,
    works: Arc<AtomicBool>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn serve() -> Api {
    let server = Server::bind(([127, 0, 0, 1], 0).into())
        .await
        .expect("a port");
    let url = format!("http://{}", server.address());
    let works = Arc::new(AtomicBool::new(true));
    let (working, ready) = (works.clone(), works.clone());
    let alive = move || match working.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("broken".to_owned()),
    };
    let ready = move || match ready.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(NotReady::new(
            "MySQL fails",
            Some("[MR-P001] no route to db.example"),
        )),
    };
    let routes = Router::new().route("/double", get(double));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.run(api(routes, "secret", alive, ready), shutdown.clone()));
    Api {
        url,
        works,
        shutdown,
        task,
    }
}

impl Api {
    async fn get(&self, path: &str, token: Option<&str>) -> (StatusCode, String) {
        let request = reqwest::Client::new().get(format!("{}{path}", self.url));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a text"))
    }
}

#[tokio::test]
async fn only_health_and_readiness_are_for_strangers() {
    let api = serve().await;
    assert_eq!(api.get("/health", None).await.0, StatusCode::OK);
    for token in [None, Some("wrong"), Some("")] {
        for path in ["/double?n=2", "/unknown"] {
            let (status, text) = api.get(path, token).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {token:?}");
            assert!(text.starts_with("{\"error\":"), "{text}");
        }
    }
    let answer = api.get("/double?n=2", Some("secret")).await;
    assert_eq!(answer, (StatusCode::OK, "4".to_owned()));
}

#[tokio::test]
async fn why_it_is_not_ready_is_told_to_strangers_by_code_and_to_owners_in_full() {
    let api = serve().await;
    let ready = api.get("/ready", None).await;
    assert_eq!(ready, (StatusCode::OK, r#"{"ready":true}"#.to_owned()));
    api.works.store(false, Ordering::Relaxed);
    for (token, detail) in [
        (None, None),
        (Some("wrong"), None),
        (Some("secret"), Some("no route to db.example")),
    ] {
        let (status, text) = api.get("/ready", token).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let because: NotReady = serde_json::from_str(&text).expect("a reason");
        assert_eq!(because.code.as_deref(), Some("MR-P001"));
        assert_eq!(because.detail.as_deref(), detail, "{token:?}");
    }
}

#[tokio::test]
async fn every_refusal_is_json_with_its_reason() {
    let api = serve().await;
    for (path, expected, word) in [
        ("/double?n=two", StatusCode::BAD_REQUEST, "digit"),
        ("/double", StatusCode::BAD_REQUEST, "`n`"),
        ("/unknown", StatusCode::NOT_FOUND, "path"),
    ] {
        let (status, text) = api.get(path, Some("secret")).await;
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let error = json["error"].as_str().expect("a reason");
        assert_eq!(status, expected, "{path}");
        assert!(error.contains(word), "{path}: {error}");
    }
    api.works.store(false, Ordering::Relaxed);
    let (status, text) = api.get("/health", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, r#"{"error":"broken"}"#);
}

#[tokio::test]
async fn an_address_in_use_is_refused_with_a_code_and_shutdown_ends_the_server() {
    let api = serve().await;
    let address = api
        .url
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let error = Server::bind(address).await.expect_err("in use");
    assert_eq!(error.code(), "control-address");
    api.shutdown.cancel();
    api.task.await.expect("no panic").expect("a clean end");
}
