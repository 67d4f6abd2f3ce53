//! Verifications that the projector runs by itself.

use std::time::Duration;

use millrace_projections::engine::{HoldError, Status};
use millrace_projections::verify::{period, By, Config, Method, Pace};
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use crate::filled;
use crate::pause::serve;
use crate::support::postgres::Postgres;
use crate::world::PATIENCE;

fn waits_for(status: &Status) -> &str {
    let periodic = status.periodic.as_ref();
    periodic
        .and_then(|periodic| periodic.waits_for.as_deref())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_who_is_in_the_way_goes_on_alone_and_gives_way_to_a_person() {
    let world = filled().await;
    let running = world.start();
    running.live().await;
    let url = serve(&running).await;
    let shutdown = CancellationToken::new();
    let postgres = Postgres::shared().await;
    let mut open = postgres.connect("postgres").await;
    open.execute("BEGIN; SELECT pg_current_xact_id()")
        .await
        .expect("an open transaction");
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut open)
        .await
        .expect("a pid");
    let config = Config {
        capture_url: None,
        postgres_url: postgres.url("postgres"),
        mysql_url: world.config().mysql_url,
        tables: Vec::new(),
        columns: serde_json::Map::new(),
        marts: world.config().marts,
        control_url: url,
        control_token: "secret".into(),
        hold_timeout: PATIENCE,
        slot_timeout: PATIENCE,
        catch_up_timeout: PATIENCE,
        by: By::Person,
        method: Method::Sums,
        pace: Pace::Full,
        differences_max: 1,
    };
    let period = Duration::from_secs(1);
    let verified = period::run(config, period, running.handle.clone(), shutdown.clone());
    let verified = tokio::spawn(verified);
    let status = running
        .until(|status| waits_for(status).contains(&format!("pid {pid} ")))
        .await;
    assert_eq!(
        status.hold, None,
        "nobody is held for a transaction that does not end"
    );
    assert_eq!(
        status.verify.unwrap_or_default().history,
        [],
        "it is no finding"
    );

    open.execute("ROLLBACK").await.expect("a rollback");
    running
        .until(|status| status.hold.is_some_and(|hold| hold.by == By::Period))
        .await;
    let own = running.handle.hold(By::Period, PATIENCE).await;
    assert!(matches!(own, Err(HoldError::Busy(_))), "{own:?}");
    let held = running
        .handle
        .hold(By::Person, PATIENCE)
        .await
        .expect("a person goes first");
    running
        .until(|status| waits_for(status).contains("somebody"))
        .await;
    running.handle.release(held).expect("it was in force");
    shutdown.cancel();
    verified.await.expect("it ends");
    running.stop().await;
}
