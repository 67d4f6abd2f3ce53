//! Who may do what.

use crate::control::TOKEN;
use crate::rig::{Rig, PATIENCE};

#[tokio::test]
async fn a_change_needs_the_cookie_and_the_header_or_the_token() {
    let rig = Rig::start(|_| ()).await;
    let url = rig.url("/api/projections/pause");
    let post = || rig.client.post(&url);
    let status = |request: reqwest::RequestBuilder| async move {
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(post()).await, 401);
    assert_eq!(status(post().bearer_auth("wrong")).await, 401);
    assert_eq!(status(post().bearer_auth("")).await, 401);
    let (cookie, csrf) = rig.log_in().await;
    assert_eq!(status(post().header("cookie", &cookie)).await, 403);
    let forged = post()
        .header("cookie", &cookie)
        .header("x-millrace-csrf", "0");
    assert_eq!(status(forged).await, 403);
    assert_eq!(rig.control.posts(), [""; 0]);
    let ours = post()
        .header("cookie", &cookie)
        .header("x-millrace-csrf", &csrf);
    assert_eq!(status(ours).await, 200);
    assert_eq!(status(post().bearer_auth(TOKEN)).await, 200);
    assert_eq!(rig.control.posts(), ["/projector/pause"; 2]);
    rig.stop().await;
}

#[tokio::test]
async fn after_logging_out_the_cookie_is_worth_nothing() {
    let rig = Rig::start(|_| ()).await;
    let (cookie, csrf) = rig.log_in().await;
    let post = |path: &str| {
        let post = rig.client.post(rig.url(path));
        post.header("cookie", &cookie)
            .header("x-millrace-csrf", &csrf)
    };
    let session = rig
        .client
        .get(rig.url("/api/session"))
        .header("cookie", &cookie);
    let session: serde_json::Value = session.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&session["logged_in"], &session["csrf"]),
        (&true.into(), &csrf.as_str().into())
    );
    assert_eq!(post("/api/logout").send().await.unwrap().status(), 200);
    assert_eq!(post("/api/verify").send().await.unwrap().status(), 401);
    assert_eq!(rig.json("/api/session").await["logged_in"], false);
    rig.stop().await;
}

#[tokio::test]
async fn the_cookie_is_for_us_only_and_failures_are_throttled() {
    let rig = Rig::start(|_| ()).await;
    let log_in = |password: &str| {
        let login = serde_json::json!({"user": "ann", "password": password});
        rig.client.post(rig.url("/api/login")).json(&login).send()
    };
    let answer = log_in("right").await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"),
        "{cookie}"
    );
    let id = cookie.split(['=', ';']).nth(1).unwrap();
    assert_eq!(id.len(), 64);
    for _ in 0..5 {
        assert_eq!(log_in("wrong").await.unwrap().status(), 401);
    }
    assert_eq!(log_in("right").await.unwrap().status(), 429);
    rig.stop().await;
}

#[tokio::test]
async fn beyond_loopback_reading_needs_the_login() {
    let rig = Rig::start(|config| config.bind = "0.0.0.0:0".parse().unwrap()).await;
    for path in [
        "/api/status",
        "/api/events",
        "/api/history",
        "/api/marts",
        "/api/rejected",
    ] {
        assert_eq!(rig.get(path).await.status(), 401, "{path}");
    }
    for path in ["/", "/health", "/metrics", "/api/session"] {
        assert_eq!(rig.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(rig.json("/api/session").await["reading_needs_login"], true);
    let (cookie, _) = rig.log_in().await;
    let read = rig
        .client
        .get(rig.url("/api/status"))
        .header("cookie", cookie);
    assert_eq!(read.send().await.unwrap().status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_of_events_ends_with_its_login() {
    let rig = Rig::start(|config| config.bind = "0.0.0.0:0".parse().unwrap()).await;
    let (cookie, csrf) = rig.log_in().await;
    let events = rig.client.get(rig.url("/api/events"));
    let mut events = events.header("cookie", &cookie).send().await.unwrap();
    for _ in 0..3 {
        assert!(events.chunk().await.unwrap().is_some());
    }
    let log_out = rig.client.post(rig.url("/api/logout"));
    let log_out = log_out
        .header("cookie", &cookie)
        .header("x-millrace-csrf", &csrf);
    assert_eq!(log_out.send().await.unwrap().status(), 200);
    let rest = async { while events.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(PATIENCE, rest).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_without_a_login() {
    let mut config = millrace_dashboard::Config::new(
        "0.0.0.0:0".parse().unwrap(),
        millrace_dashboard::Sources::default(),
    );
    config.user = Some("ann".into());
    let refused = millrace_dashboard::Service::bind(config).await.err();
    let message = refused.expect("no service").to_string();
    assert!(message.contains("DASHBOARD_PASSWORD"), "{message}");
}

#[tokio::test]
async fn a_name_that_somebody_else_points_at_us_is_refused() {
    let rig = Rig::start(|_| ()).await;
    let ask = |host: &'static str| rig.client.get(rig.url("/api/status")).header("host", host);
    for host in ["evil.example", "evil.example:80", "localhost.evil.example"] {
        assert_eq!(ask(host).send().await.unwrap().status(), 421, "{host}");
    }
    assert_eq!(ask("localhost:80").send().await.unwrap().status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn a_retry_goes_to_ingest_and_the_counts_are_read_again() {
    let rig = Rig::start(|_| ()).await;
    let open = |status: &millrace_dashboard::status::Status, open: u64| {
        status
            .rejected
            .as_ref()
            .and_then(|rejected| rejected.known())
            .is_some_and(|counts| counts.open == open)
    };
    rig.status_where(|status| open(status, 1)).await;
    let retry = || {
        rig.client
            .post(rig.url("/api/rejected/7/retry"))
            .bearer_auth(TOKEN)
            .send()
    };
    let answer = retry().await.unwrap();
    assert_eq!(answer.status(), 200);
    let record: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(record["state"], "retried");
    rig.status_where(|status| open(status, 0)).await;
    let again = retry().await.unwrap();
    assert_eq!(again.status(), 409);
    let refusal: serde_json::Value = again.json().await.unwrap();
    assert_eq!(refusal["error"], "not open");
    rig.stop().await;
}
