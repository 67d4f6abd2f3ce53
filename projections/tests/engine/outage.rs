//! MySQL is away, vanishes without a word, or lets nobody in.

use std::time::Duration;

use millrace_projections::engine::{State, Status};
use sqlx::Executor;

use super::support::proxy::{Proxy, Vanish};
use super::support::Server;
use super::world::{Running, World, PATIENCE};
use super::{filled, thing};

/// Long enough for a busy machine, short enough for a test.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A projector whose connections go through a proxy.
async fn behind_a_proxy(mut world: World) -> (World, Proxy) {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    world.url = world
        .url
        .replace(&format!(":{}", server.port()), &format!(":{}", proxy.port));
    world.limits.statement = ANSWER_WITHIN;
    // Putting a large value together may take longer.
    world.source.slices = false;
    (world, proxy)
}

fn waits(status: &Status) -> bool {
    status.state == State::WaitingForMysql && status.error.is_some()
}

/// What was changed meanwhile arrives, once.
async fn goes_on(world: &mut World, running: Running) {
    for n in 0..20 {
        let change = world.source.put("things", thing(n, "afterwards"));
        world.source.commit(&[change], 10);
    }
    world.caught_up(&running).await;
    assert!(running.handle.status().retries > 0);
    assert_eq!(running.handle.status().state, State::Live);
    assert_eq!(running.handle.status().away, None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_vanishes_while_idle_is_noticed_and_replaced() {
    let (mut world, proxy) = behind_a_proxy(filled().await).await;
    let running = world.start();
    world.caught_up(&running).await;
    proxy.silence();
    let status = running.until(waits).await;
    assert!(status.end_lsn.is_some(), "{status:?}");
    goes_on(&mut world, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_vanishes_while_paused_or_held_is_noticed_and_replaced() {
    let (mut world, proxy) = behind_a_proxy(filled().await).await;
    let running = world.start();
    world.caught_up(&running).await;
    running.handle.pause().await.expect("it pauses");
    proxy.silence();
    running.until(waits).await;
    running.until(|status| status.state == State::Live).await;
    assert!(running.handle.status().paused_since.is_some());
    running.handle.resume().await.expect("it resumes");
    goes_on(&mut world, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_vanishes_in_a_statement_or_commit_leaves_every_transaction_applied_once()
{
    for vanish in [
        Vanish::Before("INSERT INTO `things`"),
        Vanish::After("INSERT INTO `things`"),
        Vanish::Before("COMMIT"),
        Vanish::After("COMMIT"),
    ] {
        let (mut world, proxy) = behind_a_proxy(filled().await).await;
        let running = world.start();
        world.caught_up(&running).await;
        proxy.arm(vanish);
        let change = world.source.put("things", thing(1, "vanishing"));
        world.source.commit(&[change], 10);
        running.until(waits).await;
        assert!(!proxy.is_armed(), "{vanish:?}");
        goes_on(&mut world, running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_vanishes_before_there_is_a_snapshot_is_replaced() {
    let (mut world, proxy) = behind_a_proxy(World::new().await).await;
    let running = world.start();
    running
        .until(|status| status.state == State::WaitingForSnapshot)
        .await;
    proxy.silence();
    running.until(waits).await;
    world.source.random_transaction();
    world.source.log.truncate(super::CHANGES, 0);
    world.source.history.clear();
    world.source.snapshot(5);
    goes_on(&mut world, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_an_answer_is_shown_before_it_is_given_up() {
    let (mut world, proxy) = behind_a_proxy(filled().await).await;
    world.limits.statement = PATIENCE;
    let running = world.start();
    world.caught_up(&running).await;
    proxy.arm(Vanish::Before("COMMIT"));
    let change = world.source.put("things", thing(1, "vanishing"));
    world.source.commit(&[change], 10);
    let status = running.until(waits).await;
    let error = status.error.expect("it says so");
    assert!(error.contains("has not answered for"), "{error}");
    running.kill().await;
}

/// As after a crash of a server that does not flush each commit, or in a replica that takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_who_owns_the_position_is_taken_over_again() {
    let mut world = filled().await;
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    for _ in 0..3 {
        let running = world.start();
        world.caught_up(&running).await;
        running.stop().await;
        let token = sqlx::query_scalar("SELECT CAST(owner AS BINARY) FROM millrace_position");
        let token = token.fetch_one(&mut world.conn).await;
        tokens.push(token.expect("its token"));
    }
    for token in tokens {
        let running = world.start();
        world.caught_up(&running).await;
        let lost = sqlx::query("UPDATE millrace_position SET owner = ?").bind(token);
        let lost = lost.execute(&mut world.conn).await;
        lost.expect("the last commit is lost");
        world.end_connections().await;
        goes_on(&mut world, running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_is_waited_out() {
    let mut world = filled().await;
    let user = world.user("patient").await;
    let running = world.start();
    world.caught_up(&running).await;
    let set = |password: &str| format!("ALTER USER {user} IDENTIFIED BY '{password}'");
    world
        .conn
        .execute(set("another").as_str())
        .await
        .expect("a new password");
    world.end_connections().await;
    let denied = |status: &Status| {
        let away = status.away.as_ref();
        away.is_some_and(|away| away.reason.contains("Access denied"))
    };
    let status = running.until(denied).await;
    let away = status.away.expect("it is away");
    assert!(away.next_try_at > away.since);
    assert_eq!(status.state, State::WaitingForMysql);
    world
        .conn
        .execute(set("").as_str())
        .await
        .expect("the old password");
    goes_on(&mut world, running).await;
}
