//! A control API whose service is down, as a client meets it.

use std::sync::{Arc, Mutex};

use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::DateTime;
use millrace_control::{api, Down, Front, Outlook, Server};
use reqwest::{Method, StatusCode};
use serde_json::{json, Value};
use tokio_util::sync::CancellationToken;

struct Served {
    url: String,
    front: Front,
    down: Arc<Mutex<Option<Down>>>,
    shutdown: CancellationToken,
}

/// An API of a service that was started for the `start`th time.
fn started(start: u64) -> Router {
    let status =
        move || async move { Json(json!({"state": "live", "start": start, "error": null})) };
    let routes = Router::new()
        .route("/status", get(status))
        .route("/hold", post(|| async { "held" }));
    api(routes, "secret", || Ok(()), || Ok(()))
}

async fn serve() -> Served {
    let server = Server::bind(([127, 0, 0, 1], 0).into())
        .await
        .expect("a port");
    let down: Arc<Mutex<Option<Down>>> = Arc::default();
    let asked = down.clone();
    let front = Front::new(&["/hold"], move || {
        asked.lock().expect("unpoisoned").clone()
    });
    front.show(started(1));
    let (url, shutdown) = (
        format!("http://{}", server.address()),
        CancellationToken::new(),
    );
    tokio::spawn(server.run(front.router(), shutdown.clone()));
    Served {
        url,
        front,
        down,
        shutdown,
    }
}

impl Served {
    async fn ask(&self, method: Method, path: &str, token: &str) -> (StatusCode, Value) {
        let client = reqwest::Client::new();
        let request = client.request(method, format!("{}{path}", self.url));
        let answer = request.bearer_auth(token).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a text");
        (status, serde_json::from_str(&text).unwrap_or(text.into()))
    }

    fn fail(&self) {
        let since = DateTime::from_timestamp_micros(1_750_000_000_000_000).expect("a time");
        *self.down.lock().expect("unpoisoned") = Some(Down {
            code: Some("MR-P005".to_owned()),
            reason: "column price".to_owned(),
            since,
            outlook: Outlook::NextTry(since + chrono::TimeDelta::seconds(30)),
        });
    }
}

#[tokio::test]
async fn a_status_of_very_many_tables_is_told_while_the_service_is_down() {
    let served = serve().await;
    let tables = vec![json!({"table": "public.one_of_many", "state": "live"}); 50_000];
    let status = json!({"state": "live", "tables": tables});
    let routes = Router::new().route("/status", get(move || async move { Json(status) }));
    served
        .front
        .show(api(routes, "secret", || Ok(()), || Ok(())));
    served.fail();
    let (_, body) = served.ask(Method::GET, "/status", "secret").await;
    assert_eq!(body["state"], "failed");
    assert_eq!(body["tables"].as_array().map(Vec::len), Some(50_000));
    served.shutdown.cancel();
}

#[tokio::test]
async fn a_service_that_is_down_still_answers_and_says_why() {
    let served = serve().await;
    let (status, body) = served.ask(Method::GET, "/status", "secret").await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("live")));
    assert_eq!(
        served.ask(Method::GET, "/health", "").await.0,
        StatusCode::OK
    );

    served.fail();
    let (status, body) = served.ask(Method::GET, "/status", "secret").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&body["state"], &body["start"]),
        (&json!("failed"), &json!(1))
    );
    let text = "MR-P005: column price; next try at 15:07:10 UTC";
    assert_eq!(body["error"], text);
    let failure = json!({
        "code": "MR-P005", "reason": "column price",
        "since": "2025-06-15T15:06:40.000000Z", "next_try_at": "2025-06-15T15:07:10.000000Z",
    });
    assert_eq!(body["failure"], failure);
    let (status, body) = served.ask(Method::GET, "/ready", "secret").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let ready = json!({
        "error": "failed; next try at 15:07:10 UTC", "code": "MR-P005", "detail": "column price",
    });
    assert_eq!(body, ready);
    served.shutdown.cancel();
}

#[tokio::test]
async fn only_owners_of_the_token_learn_what_is_refused() {
    let served = serve().await;
    served.fail();
    for path in ["/status", "/hold", "/nothing"] {
        let (status, _) = served.ask(Method::POST, path, "guessed").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    for (path, said) in [
        ("/health", "failed (MR-P005)"),
        ("/ready", "failed; next try at 15:07:10 UTC"),
    ] {
        let (status, body) = served.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(body["error"], said, "{path}");
        assert!(!body.to_string().contains("price"), "{body}");
    }
    let (status, body) = served.ask(Method::POST, "/hold", "secret").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body["error"].to_string().contains("MR-P005"), "{body}");
    served.shutdown.cancel();
}

#[tokio::test]
async fn the_api_of_the_next_start_answers_at_the_same_address() {
    let served = serve().await;
    served.fail();
    served.front.show(started(2));
    *served.down.lock().expect("unpoisoned") = None;
    let (_, body) = served.ask(Method::GET, "/status", "secret").await;
    assert_eq!(
        (&body["state"], &body["start"]),
        (&json!("live"), &json!(2))
    );
    let (status, _) = served.ask(Method::POST, "/hold", "secret").await;
    assert_eq!(status, StatusCode::OK);
    served.shutdown.cancel();
}

#[tokio::test]
async fn a_service_on_trial_is_not_well_yet_and_does_what_it_is_told() {
    let served = serve().await;
    served.fail();
    served.front.show(started(2));
    if let Some(down) = &mut *served.down.lock().expect("unpoisoned") {
        down.outlook = Outlook::OnTrial;
    }
    for path in ["/health", "/ready"] {
        let (status, body) = served.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {body}");
    }
    let (_, body) = served.ask(Method::GET, "/status", "secret").await;
    assert_eq!(
        (&body["state"], &body["start"]),
        (&json!("failed"), &json!(2))
    );
    let text = "MR-P005: column price; it is being tried again now";
    assert_eq!(body["error"], text);
    assert_eq!(body["failure"]["next_try_at"], Value::Null);
    let (status, _) = served.ask(Method::POST, "/hold", "secret").await;
    assert_eq!(status, StatusCode::OK);
    assert!(served.front.is_ready().await);
    served.shutdown.cancel();
}
