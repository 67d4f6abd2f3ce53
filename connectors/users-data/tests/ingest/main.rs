//! Ingest against a real Postgres and the embedded broker, with the real SmartModule.

mod operator;
mod poison;
mod postgres;
mod rejected;
mod shop;
mod spelling;

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_broker::{Broker, Storage};
use millrace_sm_user_event::RejectReason;
use millrace_users_data::{Error, State};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Executor;

use crate::shop::{pairs, patient, user, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn bad_events_are_rejected_with_their_reason_and_the_stream_goes_on() {
    let mut shop = Shop::open("rejections").await;
    let refuse = "ALTER TABLE source.users ADD CONSTRAINT no_eve CHECK (first_name <> 'Eve')";
    shop.postgres.execute(refuse).await.expect("a constraint");
    let oversized = format!(r#"{{"first_name":"{}"}}"#, "x".repeat(20_000));
    let last = shop
        .send([
            user("ada@example.org", "Ada"),
            "{\"first_name\": oops".to_owned(),
            oversized.clone(),
            user(" BOB@Example.org ", "Bob"),
            user("eve@example.org", "Eve"),
            user("ada@example.org", "Augusta"),
            user("nobody", "Nobody"),
            user("bob@example.org", "Eve"),
        ])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    assert_eq!(
        shop.users().await,
        pairs(&[("ada@example.org", "Augusta"), ("bob@example.org", "Bob")])
    );

    let rejected = shop.rejected().await;
    let shown: Vec<_> = rejected
        .iter()
        .map(|one| {
            (
                one.offset,
                one.rejection.reason,
                one.rejection.field.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (1, RejectReason::MalformedJson, None),
            (2, RejectReason::Oversized, None),
            (4, RejectReason::RefusedByDatabase, None),
            (6, RejectReason::BadEmail, Some("email")),
            (7, RejectReason::RefusedByDatabase, None),
        ]
    );
    assert_eq!(
        rejected[0].original.as_deref(),
        Some("{\"first_name\": oops")
    );
    assert_eq!(rejected[1].original.as_ref(), Some(&oversized));
    assert_eq!(
        (
            rejected[2].sqlstate.as_deref(),
            rejected[2].constraint.as_deref()
        ),
        (Some("23514"), Some("no_eve"))
    );
    let status = ingest.handle.status();
    assert_eq!(
        (status.events, status.rejected, status.state),
        (8, 5, State::Running)
    );
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_last_transaction_left_off() {
    let mut shop = Shop::open("restart").await;
    let last = shop
        .send([user("a@example.org", "A"), "bad".to_owned()])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    ingest.stop().await;
    let last = shop
        .send([user("b@example.org", "B"), "worse".to_owned()])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    assert_eq!(ingest.handle.status().events, 2);
    assert_eq!(shop.rejected().await.len(), 2);
    assert_eq!(shop.users().await.len(), 2);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_event_leaves_the_row_alone() {
    let mut shop = Shop::open("repeated").await;
    let last = shop.send([user("a@example.org", "A")]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let sql = "SELECT xmin::text FROM source.users";
    let before: String = sqlx::query_scalar(sql)
        .fetch_one(&mut shop.postgres)
        .await
        .expect("a row");
    let last = shop.send([user("a@example.org", "A")]).await;
    ingest.reach(last).await;
    let after: String = sqlx::query_scalar(sql)
        .fetch_one(&mut shop.postgres)
        .await
        .expect("a row");
    assert_eq!(before, after);
    assert_eq!(ingest.handle.status().rows_changed, 1);
    ingest.stop().await;
}

/// Where the machine has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_on_an_ipv6_address_is_reached() {
    let mut shop = Shop::open("ipv6").await;
    if std::net::TcpListener::bind(("::1", 0)).is_err() {
        return;
    }
    shop.config.postgres_url = shop.config.postgres_url.replace("127.0.0.1", "[::1]");
    let last = shop.send([user("a@example.org", "A")]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    assert_eq!(shop.users().await.len(), 1);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_again_with_fewer_events_is_noticed() {
    let shop = Shop::open("fewer").await;
    let last = shop
        .send([user("a@example.org", "A"), user("b@example.org", "B")])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    ingest.stop().await;
    recreate_topic(&shop).await;
    shop.send([user("c@example.org", "C")]).await;
    let error = shop.ingest().error().await;
    assert!(
        matches!(error, Error::TopicRecreated { next_offset: 2, .. }),
        "{error}"
    );
    assert_eq!(error.code(), "ingest-topic-recreated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_again_with_as_many_events_is_noticed() {
    let shop = Shop::open("as_many").await;
    let last = shop
        .send([user("a@example.org", "A"), user("b@example.org", "B")])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    ingest.stop().await;
    // A second start remembers what stands before the position.
    let ingest = shop.ingest();
    patient(
        ingest
            .handle
            .wait_for(|status| status.state == State::Running),
    )
    .await
    .expect("running");
    ingest.stop().await;
    recreate_topic(&shop).await;
    shop.send(["c", "d", "e"].map(|name| user(&format!("{name}@example.org"), name)))
        .await;
    let error = shop.ingest().error().await;
    assert!(
        matches!(error, Error::TopicRecreated { next_offset: 2, .. }),
        "{error}"
    );
}

async fn recreate_topic(shop: &Shop) {
    let admin = shop.client().await.admin().await;
    patient(admin.delete::<fluvio::metadata::topic::TopicSpec>("users-data"))
        .await
        .expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingests_at_once_store_every_event_once() {
    let mut shop = Shop::open("two").await;
    shop.config.batch_events_max = 3;
    let (first, second) = (shop.ingest(), shop.ingest());
    let mut last = -1;
    for round in 0..10 {
        let bad = format!("bad {round}");
        last = shop
            .send(
                (0..5)
                    .map(|n| user(&format!("u{round}-{n}@example.org"), "U"))
                    .chain([bad]),
            )
            .await;
    }
    first.reach(last).await;
    second.reach(last).await;
    assert_eq!(shop.users().await.len(), 50);
    let (one, two) = (first.handle.status(), second.handle.status());
    assert_eq!(
        (one.events + two.events, one.rejected + two.rejected),
        (60, 10),
        "{one:?} {two:?}"
    );
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whenever_ingest_or_its_connections_are_killed() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::open("kills").await;
    shop.config.batch_events_max = 7;
    let (mut last, mut sent, mut bad) = (-1, BTreeSet::new(), BTreeSet::new());
    for round in 0..20 {
        let ingest = shop.ingest();
        let mut events = Vec::new();
        for n in 0..rng.random_range(1..30) {
            let email = format!("u{round}-{n}@example.org");
            if rng.random_bool(0.2) {
                bad.insert(last + 1 + events.len() as i64);
                events.push(user("no address", "Bad"));
            } else {
                events.push(user(&email, "U"));
                sent.insert(email);
            }
        }
        last = shop.send(events).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        if rng.random_bool(0.5) {
            ingest.task.abort();
        } else {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE application_name = 'millrace ingest' AND datname = current_database()";
            shop.postgres.execute(kill).await.expect("killed");
            ingest.reach(last).await;
            ingest.stop().await;
        }
    }
    let ingest = shop.ingest();
    ingest.reach(last).await;
    ingest.stop().await;
    let stored: BTreeSet<_> = shop
        .users()
        .await
        .into_iter()
        .map(|(email, _)| email)
        .collect();
    assert_eq!(stored, sent);
    let rejected: BTreeSet<_> = shop.rejected().await.iter().map(|one| one.offset).collect();
    assert_eq!(rejected, bad);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_is_waited_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = |sc_port: u16, spu_port: u16| {
        let mut config =
            millrace_broker::Config::on_loopback(Storage::Directory(folder.path().to_owned()));
        config.sc_bind.set_port(sc_port);
        config.spu_bind.set_port(spu_port);
        config
    };
    let broker = Broker::open(settings(0, 0))
        .await
        .expect("the broker opens");
    let (sc_port, spu_port) = (broker.sc_addr().port(), broker.spu_addr().port());
    let mut shop = Shop::with("broker", broker).await;
    let last = shop.send([user("a@example.org", "A")]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    shop.broker.shutdown().await;
    patient(ingest.handle.wait_for(|status| status.failures > 0))
        .await
        .expect("noticed");
    shop.broker = Broker::open(settings(sc_port, spu_port))
        .await
        .expect("the broker opens again");
    let last = shop
        .send([user("b@example.org", "B"), "bad".to_owned()])
        .await;
    ingest.reach(last).await;
    assert_eq!(shop.users().await.len(), 2);
    ingest.stop().await;
}
