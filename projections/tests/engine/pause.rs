//! Pausing, and what is known of transactions that wait.

use std::time::Duration;

use millrace_control::Server;
use millrace_projections::control;
use millrace_projections::engine::{HoldError, PauseError, Status};
use millrace_projections::verify::By;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use crate::source::{at, CHANGES};
use crate::world::{Running, World, PATIENCE};
use crate::{filled, thing};

fn nothing_pending(status: &Status) -> bool {
    (status.oldest_pending_at, status.pending_transactions) == (None, 0)
}

/// Transactions of several parts, each part twice, as a capture sends them that is not sure.
fn append(world: &mut World, transactions: i64) {
    for n in 0..transactions {
        let things = (0..40).map(|id| thing(id, &format!("{n}")));
        let changes: Vec<_> = things.map(|row| world.source.put("things", row)).collect();
        for part in world.source.parts(&changes, 10) {
            world.source.log.append(CHANGES, part.clone());
            world.source.log.append(CHANGES, part);
        }
        world.source.committed();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_the_projector_and_what_waits_is_counted() {
    let mut world = filled().await;
    world.limits.part_bytes = 1_000;
    let first = world.start();
    world.caught_up(&first).await;
    first.until(nothing_pending).await;
    first.handle.pause().await.expect("paused");
    let paused = first.handle.status();
    let (since, stands) = (paused.paused_since, world.source.lsn);
    assert!(since.is_some());
    append(&mut world, 5);
    let status = first.until(|status| status.pending_transactions == 5).await;
    assert_eq!(status.oldest_pending_at, Some(at()));
    first.kill().await;

    let second = world.start();
    second.live().await;
    let status = second
        .until(|status| status.pending_transactions == 5)
        .await;
    assert_eq!((status.paused_since, status.end_lsn), (since, Some(stands)));
    world.compare(stands).await;
    let held = second.handle.hold(By::Person, PATIENCE).await;
    assert_eq!(held, Err(HoldError::Paused));
    let late = second
        .handle
        .wait_for(world.source.lsn, Duration::ZERO)
        .await;
    let message = late.expect_err("it stands still").to_string();
    assert!(message.contains("paused"), "{message}");
    second.handle.pause().await.expect("it is paused already");
    assert_eq!(second.handle.status().paused_since, since);

    world.end_connections().await;
    second.handle.resume().await.expect("resumed");
    world.caught_up(&second).await;
    let status = second.until(nothing_pending).await;
    assert_eq!(status.paused_since, None);
    second.stop().await;

    let third = world.start();
    append(&mut world, 1);
    world.caught_up(&third).await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_under_load_stand_between_two_commits_and_lose_nothing() {
    let mut world = filled().await;
    world.limits.transactions = 3;
    world.limits.part_bytes = 1_000;
    world.source.log.be_faulty();
    let running = world.start();
    running.live().await;
    for _ in 0..8 {
        for _ in 0..15 {
            world.source.random_transaction();
        }
        running.handle.pause().await.expect("paused");
        let at = running
            .until(|status| status.end_lsn.is_some())
            .await
            .end_lsn;
        world.source.random_transaction();
        world.compare(at.expect("a position")).await;
        assert_eq!(running.handle.status().end_lsn, at);
        running.handle.resume().await.expect("resumed");
    }
    world.caught_up(&running).await;
    running.until(nothing_pending).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_the_hold_that_was_there_before() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    let held = running
        .handle
        .hold(By::Person, PATIENCE)
        .await
        .expect("it holds");
    let handle = running.handle.clone();
    let pausing = tokio::spawn(async move { handle.pause().await });
    running.until(|status| status.paused_since.is_some()).await;
    append(&mut world, 2);
    let fence = world.source.lsn;
    append(&mut world, 1);
    let stopped = running.handle.stop_before(held, fence, PATIENCE).await;
    stopped.expect("the hold moves it");
    running.handle.release(held).expect("it was held");
    pausing.await.expect("no panic").expect("paused");
    running
        .until(|status| status.pending_transactions == 1)
        .await;
    assert_eq!(running.handle.status().end_lsn, Some(fence));
    running.handle.resume().await.expect("resumed");
    world.caught_up(&running).await;
    running.stop().await;
}

/// MySQL takes the statement and does not answer: whether it goes on with it or not, the projector knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_was_not_answered_does_not_come_into_force_unseen() {
    let mut world = filled().await;
    world.limits.pause_answer = Duration::from_secs(4);
    let running = world.start();
    world.caught_up(&running).await;
    running.handle.pause().await.expect("paused");
    running.handle.resume().await.expect("resumed");
    let ours = "BEGIN; INSERT INTO millrace_paused (id, since) VALUES (1, '2026-01-01')";
    world.conn.execute(ours).await.expect("a row's lock");
    let refused = running.handle.pause().await.expect_err("no answer");
    assert!(matches!(refused, PauseError::Unanswered), "{refused}");
    world.conn.execute("ROLLBACK").await.expect("rolled back");
    agrees(&mut world, &running).await;
    running.handle.resume().await.expect("resumed");

    // One that is found there after all is shown and obeyed.
    world.conn.execute(ours).await.expect("a row's lock");
    running.handle.pause().await.expect_err("no answer");
    world.conn.execute("COMMIT").await.expect("committed");
    running.until(|status| status.paused_since.is_some()).await;

    // Going on that was not answered.
    let locked = "BEGIN; SELECT * FROM millrace_paused FOR UPDATE";
    world.conn.execute(locked).await.expect("a row's lock");
    let refused = running.handle.resume().await.expect_err("no answer");
    assert!(matches!(refused, PauseError::Unanswered), "{refused}");
    world.conn.execute("ROLLBACK").await.expect("rolled back");
    agrees(&mut world, &running).await;
    running.handle.resume().await.expect("resumed");
    append(&mut world, 1);
    world.caught_up(&running).await;
    running.stop().await;
}

/// Nobody writes the row any more, and what it says is in force.
async fn agrees(world: &mut World, running: &Running) {
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
        WHERE db = DATABASE() AND info LIKE '%millrace\\_paused%' AND id <> CONNECTION_ID()";
    let settled = async {
        while count(world, waiting).await > 0 {
            tokio::task::yield_now().await;
        }
        count(world, "SELECT COUNT(*) FROM millrace_paused").await
    };
    let rows = tokio::time::timeout(PATIENCE, settled).await;
    let rows = rows.expect("it is given up");
    running
        .until(|status| status.paused_since.is_some() == (rows > 0))
        .await;
}

async fn count(world: &mut World, sql: &str) -> i64 {
    let count = sqlx::query_scalar(sql).fetch_one(&mut world.conn);
    count.await.expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_version_without_pauses_are_taken_over() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    let drop = world.conn.execute("DROP TABLE millrace_paused").await;
    drop.expect("the table is gone");
    let running = world.start();
    append(&mut world, 1);
    world.caught_up(&running).await;
    running.handle.pause().await.expect("paused");
    running.stop().await;
}

pub(crate) async fn serve(running: &Running) -> String {
    let server = Server::bind(([127, 0, 0, 1], 0).into())
        .await
        .expect("a port");
    let url = format!("http://{}", server.address());
    let api = control::api(running.handle.clone(), "secret");
    tokio::spawn(server.run(api, CancellationToken::new()));
    url
}

async fn post(url: &str, path: &str) -> (StatusCode, Value) {
    let request = reqwest::Client::new().post(format!("{url}{path}"));
    let answer = request
        .bearer_auth("secret")
        .send()
        .await
        .expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_pauses_and_refuses_holds_meanwhile() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    let url = serve(&running).await;
    let (status, paused) = post(&url, "/pause").await;
    assert_eq!(status, StatusCode::OK);
    let since = paused["paused_since"].as_str().expect("a time");
    assert_eq!((since.len(), &since[26..]), (27, "Z"), "{since}");
    assert_eq!(paused["projections"][0]["kind"], "replica");
    append(&mut world, 1);
    running
        .until(|status| status.pending_transactions == 1)
        .await;
    let (status, refused) = post(&url, "/hold").await;
    assert_eq!(status, StatusCode::CONFLICT);
    let reason = "the projector is paused; resume it first";
    assert_eq!(refused["error"], reason);
    let (status, resumed) = post(&url, "/resume").await;
    assert_eq!(
        (status, &resumed["paused_since"]),
        (StatusCode::OK, &Value::Null)
    );
    world.caught_up(&running).await;
    running.stop().await;
}
