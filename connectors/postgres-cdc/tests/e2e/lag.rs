//! What is known of transactions that Postgres has sent and the topic has not acknowledged.

use chrono::{DateTime, Utc};
use millrace_control::Server;
use millrace_postgres_cdc::{control, Status};
use reqwest::StatusCode;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, Running, PATIENCE};

const TABLE: &str = "CREATE TABLE source.t (id int PRIMARY KEY)";

/// Waits for a status that `wanted` accepts, the age of what is on its way included.
async fn until(running: &Running, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut handle = running.handle.clone();
    let mut seen = handle.status();
    let reached = async {
        while !wanted(&seen) {
            let before = seen.clone();
            let changed = |now: &Status| {
                (&now.state, now.received_lsn, now.sessions, now.last_lsn)
                    != (
                        &before.state,
                        before.received_lsn,
                        before.sessions,
                        before.last_lsn,
                    )
            };
            seen = handle.wait_for(changed).await.unwrap();
        }
        seen.clone()
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.unwrap_or_else(|_| panic!("stuck: {:?}", running.handle.status()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_has_not_acknowledged_has_an_age() {
    let mut rig = Rig::durable(TABLE, &["t"]).await;
    let mut running = rig.start();
    running.streaming().await;
    rig.sql("INSERT INTO source.t VALUES (1)").await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().oldest_pending_at, None);

    let addresses = rig.stop_broker().await;
    let before: DateTime<Utc> = Utc::now();
    rig.sql("INSERT INTO source.t VALUES (2)").await;
    let after = Utc::now();
    let waiting = until(&running, |status| status.oldest_pending_at.is_some()).await;
    let oldest = waiting.oldest_pending_at.unwrap();
    assert!(
        (before..=after).contains(&oldest),
        "{before} {oldest} {after}"
    );
    // It stays as old while sessions come and go.
    let sessions = waiting.sessions;
    let later = until(&running, |status| status.sessions > sessions).await;
    assert_eq!(later.oldest_pending_at, Some(oldest));

    rig.start_broker(addresses).await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().oldest_pending_at, None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_without_anything_for_the_log_do_not_stay() {
    let setup = format!("{TABLE}; CREATE TABLE source.other (id int PRIMARY KEY)");
    let rig = Rig::new(&setup, &["t"]).await;
    let mut running = rig.start();
    running.streaming().await;
    for n in 0..20 {
        let sql = "SELECT pg_logical_emit_message(true, 'stranger', 'x')";
        rig.sql(&format!("INSERT INTO source.other VALUES ({n}); {sql}"))
            .await;
    }
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().oldest_pending_at, None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_shows_the_status() {
    let rig = Rig::new(TABLE, &["t"]).await;
    let mut running = rig.start();
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", server.address());
    let api = control::api(running.handle.clone(), "secret");
    tokio::spawn(server.run(api, CancellationToken::new()));
    running.streaming().await;
    rig.sql("INSERT INTO source.t VALUES (1)").await;
    running.reaches(rig.end().await).await;

    let client = reqwest::Client::new();
    let get = |path: &str| {
        client
            .get(format!("{url}{path}"))
            .bearer_auth("secret")
            .send()
    };
    let shown: Value = get("/status").await.unwrap().json().await.unwrap();
    let status = running.handle.status();
    assert_eq!(shown["state"], "streaming");
    assert_eq!(shown["epoch"], 1);
    assert_eq!(shown["last_lsn"], status.last_lsn.to_string());
    assert!(shown["transactions"].as_u64() >= Some(1), "{shown}");
    assert_eq!(get("/health").await.unwrap().status(), StatusCode::OK);

    let handle = running.handle.clone();
    running.stop().await;
    assert_eq!(handle.status().state.name(), "stopped");
    let health = get("/health").await.unwrap().status();
    assert_eq!(health, StatusCode::SERVICE_UNAVAILABLE);
}
