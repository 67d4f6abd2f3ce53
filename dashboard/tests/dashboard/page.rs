//! What is read: the page, the status, its stream, history and metrics.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::control::TOKEN;
use crate::rig::{verification, Rig};

const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[tokio::test]
async fn every_answer_carries_the_policy_and_a_file_is_sent_once() {
    let rig = Rig::start(|_| ()).await;
    for path in ["/", "/assets/app.js", "/api/status", "/nowhere"] {
        let answer = rig.get(path).await;
        assert_eq!(
            answer.headers()["content-security-policy"],
            POLICY,
            "{path}"
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert!(answer.headers().contains_key("cache-control"));
    }
    let first = rig.get("/assets/app.js").await;
    let etag = first.headers()["etag"].clone();
    assert_eq!(
        first.headers()["content-type"],
        "text/javascript; charset=utf-8"
    );
    let again = rig.client.get(rig.url("/assets/app.js"));
    let again = again.header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(rig.get("/assets/../Cargo.toml").await.status(), 404);
    assert_eq!(rig.get("/assets/%2e%2e/Cargo.toml").await.status(), 404);
    rig.stop().await;
}

#[tokio::test]
async fn what_does_not_answer_is_unknown_and_names_no_password() {
    let rig = Rig::start(|_| ()).await;
    let text = rig.get("/api/status").await.text().await.unwrap();
    assert!(!text.contains("secret"), "{text}");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    for part in ["source", "target", "topics"] {
        assert!(
            status[part]["unknown"].is_string(),
            "{part}: {}",
            status[part]
        );
    }
    assert_eq!(status["verdict"], "different");
    assert_eq!(projections_are(&status), "unknown");
    assert_eq!(status["ingest"]["known"]["behind_events"], 2);
    let projection = &status["projections"][1];
    assert_eq!(projection["name"], "mart_x");
    assert!(projection["lag"]["total_ms"].is_null());
    assert_eq!(projection["version"].as_str().map(str::len), Some(12));
    let metrics = rig.get("/metrics").await;
    assert_eq!(
        metrics.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("millrace_source_up{source=\"postgres\"} 0\n"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("millrace_projection_lag_seconds"),
        "{metrics}"
    );
    assert_eq!(rig.get("/health").await.status(), 200);
    // Nothing answers, and that is what the page is there to say.
    assert_eq!(rig.get("/ready").await.status(), 200);
    rig.stop().await;
}

fn projections_are(status: &serde_json::Value) -> &str {
    status["projections"][0]["verdict"].as_str().unwrap()
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_end() {
    let rig = Rig::start(|_| ()).await;
    let mut stream = rig.get("/api/events").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(stream.chunk().await.unwrap().is_some());
    let began = Instant::now();
    rig.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    while let Some(_rest) = stream.chunk().await.unwrap() {}
}

#[tokio::test]
async fn one_viewer_too_many_is_refused_and_a_seat_becomes_free_again() {
    let rig = Rig::start(|config| config.viewers_max = 2).await;
    let first = rig.get("/api/events").await;
    let _second = rig.get("/api/events").await;
    assert_eq!(rig.get("/api/events").await.status(), 503);
    drop(first);
    let freed = async {
        while rig.get("/api/events").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::rig::PATIENCE, freed)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_verify_found_elsewhere_is_known_until_the_page_finds_everything_equal() {
    let report = serde_json::json!({"lsn": "0/10", "equal": true, "tables": [], "marts": [], "not_live": []});
    let rig = Rig::start(|config| config.verify = Some(verification(report))).await;
    let known = rig.status_where(|status| status.verify.is_some()).await;
    assert_eq!(known.verdict.name(), "different");
    let metrics = rig.get("/metrics").await.text().await.unwrap();
    for line in [
        "millrace_verify_equal 0",
        "millrace_verify_differences{table=\"orders\"} 2",
        "millrace_verdict{verdict=\"different\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    let start = rig.client.post(rig.url("/api/verify")).bearer_auth(TOKEN);
    assert_eq!(start.send().await.unwrap().status(), 202);
    let equal = |status: &millrace_dashboard::status::Status| {
        status.verify.as_ref().and_then(|verify| verify.equal) == Some(true)
    };
    let done = rig.status_where(equal).await;
    assert_ne!(done.verdict.name(), "different");
    rig.stop().await;
}

#[tokio::test]
async fn history_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |config: &mut millrace_dashboard::Config| {
        config.state_dir = Some(folder.path().to_owned());
    };
    Rig::start(keep).await.stop().await;
    assert!(folder.path().join("history.json").exists());
    let rig = Rig::start(keep).await;
    let history = rig.json("/api/history?range=1h").await;
    assert_eq!(history["step_ms"], 10_000);
    let series = &history["series"]["replica"];
    for name in ["at", "lag_ms", "rate"] {
        assert_eq!(series[name].as_array().unwrap().len(), 360, "{name}");
    }
    let known = series["rate"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rate| !rate.is_null());
    assert!(known.count() <= 2);
    assert_eq!(rig.get("/api/history?range=1y").await.status(), 400);
    rig.stop().await;
}

/// A request that never ends holds up the end for a second; the history does not wait for that.
#[tokio::test]
async fn history_is_saved_before_anybody_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |config: &mut millrace_dashboard::Config| {
        config.state_dir = Some(folder.path().to_owned());
    };
    let rig = Rig::start(keep).await;
    let file = folder.path().join("history.json");
    assert!(!file.exists(), "saved every ten seconds");
    let mut endless = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let request = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    endless.write_all(request.as_bytes()).await.unwrap();
    // Answered after the server has seen the other one.
    rig.status_where(|_| true).await;
    let began = Instant::now();
    let ending = tokio::spawn(rig.stop());
    let saved = async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
        began.elapsed()
    };
    let saved = tokio::time::timeout(crate::rig::PATIENCE, saved)
        .await
        .unwrap();
    ending.await.unwrap();
    let ended = began.elapsed();
    assert!(
        saved * 2 < ended,
        "saved after {saved:?}, ended after {ended:?}"
    );
}

#[tokio::test]
async fn so_many_look_at_rejected_records_at_once_and_no_more() {
    let rig = Rig::start(|_| ()).await;
    let gate = rig.control.shut();
    let first: Vec<_> = (0..4)
        .map(|_| tokio::spawn(rig.client.get(rig.url("/api/rejected")).send()))
        .collect();
    gate.holds(4).await;
    let refused = rig.get("/api/rejected/7").await;
    assert_eq!(refused.status(), 503);
    gate.open();
    for answer in first {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(rig.get("/api/rejected").await.status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_said_clearly() {
    let rig = Rig::start(|_| ()).await;
    for (path, status) in [
        ("/api/marts/users", 404),
        ("/api/marts/mart_x/chart", 404),
        ("/api/marts/mart_x?dir=sideways", 400),
        ("/api/topics/x/records?count=101", 400),
        ("/api/topics/x/records?params=1", 400),
        ("/api/rejected?state=lost", 400),
        ("/api/rejected?limit=201", 400),
        ("/api/rejected?limit=many", 400),
        ("/api/rejected/x", 400),
        ("/api/rejected/-1", 400),
        ("/api/rejected/%FF", 400),
        ("/api/marts/%FF", 400),
        ("/api/login", 405),
    ] {
        let answer = rig.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
    let passed_on = rig.json("/api/rejected?state=all&limit=3&before=9").await;
    assert_eq!(passed_on["query"], "state=all&limit=3&before=9");
    rig.stop().await;
}

/// Prints what ten viewers cost, their own side and the control APIs included:
/// `cargo test --release -p millrace-dashboard --test dashboard -- --ignored --nocapture ten_viewers`.
#[tokio::test]
#[ignore = "measures for half a minute"]
async fn ten_viewers_cost_less_than_one_percent_of_a_core() {
    const SECONDS: u64 = 30;
    let rig = Rig::start(|config| {
        config.tick = Duration::from_secs(1);
        config.heartbeat_period = Duration::ZERO;
    })
    .await;
    for _ in 0..10 {
        let mut stream = rig.get("/api/events").await;
        tokio::spawn(async move { while let Ok(Some(_)) = stream.chunk().await {} });
    }
    let before = cpu_ticks();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    // 100 ticks a second is what Linux shows everywhere.
    let percent = (cpu_ticks() - before) as f64 / SECONDS as f64;
    println!("{percent:.2} % of a core");
    assert!(percent < 1.0);
    rig.stop().await;
}

/// User and system time of this process.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
    let ticks = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap());
    ticks.sum()
}
