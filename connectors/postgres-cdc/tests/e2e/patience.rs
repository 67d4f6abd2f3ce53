//! What time, or a person elsewhere, puts right is waited for.

use chrono::Utc;
use millrace_postgres_cdc::State;

use crate::model::Model;
use crate::rig::Rig;
use crate::writers::{SETUP, TABLES, USERS};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_tried_until_it_is_allowed_again() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    let role = format!("role_{}", rig.config.slot);
    rig.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN"))
        .await;
    rig.config.postgres_url = rig
        .config
        .postgres_url
        .replace("postgres@", &format!("{role}@"));
    let mut running = rig.start();
    running.streaming().await;
    let before = Utc::now();
    rig.sql(&format!(
        "ALTER ROLE {role} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    ))
    .await;
    let refused = |s: &millrace_postgres_cdc::Status| {
        let error = s.last_error.as_deref().unwrap_or_default();
        s.state == State::Backoff && error.starts_with("capture-postgres-refused")
    };
    let waiting = running.until(refused).await;
    assert!(waiting.failing_since.unwrap() >= before);
    assert!(waiting.next_attempt_at.unwrap() > waiting.failing_since.unwrap());
    let later = running
        .until(|s| s.sessions > waiting.sessions && refused(s))
        .await;
    assert_eq!(later.failing_since, waiting.failing_since);
    rig.sql(&format!(
        "ALTER ROLE {role} LOGIN; INSERT INTO source.users VALUES (1001, 'x', NULL)"
    ))
    .await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().failing_since, None);
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
}
