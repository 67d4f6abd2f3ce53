//! What is the operator's to mend is waited for, and never turns a good event into a rejected one.

use std::time::Duration;

use millrace_sm_user_event::RejectReason;
use millrace_users_data::{State, Status};
use sqlx::Executor;

use crate::shop::{patient, user, Ingest, Shop};

/// Waits until ingest says this code, and returns what it says.
async fn told(ingest: &Ingest, code: &str) -> Status {
    let told = ingest.handle.wait_for(|status| {
        let error = status.last_error.as_deref();
        error.is_some_and(|error| error.starts_with(code) && error.contains("next attempt"))
    });
    match tokio::time::timeout(Duration::from_secs(120), told).await {
        Ok(Some(status)) => status,
        _ => panic!("{code} was not told: {:?}", ingest.handle.status()),
    }
}

async fn execute(shop: &mut Shop, sql: &str) {
    shop.postgres
        .execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_behind_the_ids_is_waited_for_and_no_event_is_rejected() {
    let mut shop = Shop::open("sequence").await;
    execute(
        &mut shop,
        "INSERT INTO source.users (user_id, first_name, last_name, email) \
         SELECT n, 'Restored', 'User', 'restored' || n || '@example.org' FROM generate_series(1, 5000) n",
    )
    .await;
    let last = shop
        .send((0..31).map(|n| user(&format!("new{n}@example.org"), "New")))
        .await;
    let ingest = shop.ingest();
    let status = told(&ingest, "ingest-sequence-behind").await;
    let said = status.last_error.expect("an error");
    let remedy =
        "SELECT setval('source.users_user_id_seq', (SELECT max(user_id) FROM \"source\".users))";
    assert!(said.contains(remedy), "{said}");
    assert_eq!((status.rejected, status.state), (0, State::Connecting));
    assert!(status.failing_since.is_some());
    // It stays so over attempts, and the time does not move.
    let later = patient(
        ingest
            .handle
            .wait_for(|later| later.failures > status.failures + 2),
    )
    .await;
    assert_eq!(
        later.expect("it goes on").failing_since,
        status.failing_since
    );

    execute(&mut shop, remedy).await;
    ingest.reach(last).await;
    assert_eq!(shop.users().await.len(), 5031);
    assert_eq!(shop.rejected().await.len(), 0);
    let works = patient(
        ingest
            .handle
            .wait_for(|status| status.state == State::Running),
    )
    .await;
    let works = works.expect("it works");
    assert_eq!((works.last_error, works.failing_since), (None, None));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_no_user_at_all_is_waited_for() {
    let mut shop = Shop::open("refusing_table").await;
    for (number, (broken, mended, code)) in [
        (
            "ALTER TABLE source.users ADD COLUMN country text NOT NULL",
            "ALTER TABLE source.users ALTER COLUMN country SET DEFAULT 'GB'",
            "ingest-table-refuses",
        ),
        (
            "ALTER TABLE source.users ADD CONSTRAINT none CHECK (user_id < 0) NOT VALID",
            "ALTER TABLE source.users DROP CONSTRAINT none",
            "ingest-table-refuses",
        ),
        (
            "ALTER SEQUENCE source.users_user_id_seq MAXVALUE 1000 RESTART 1000; \
             SELECT nextval('source.users_user_id_seq')",
            "ALTER SEQUENCE source.users_user_id_seq NO MAXVALUE",
            "ingest-table-refuses",
        ),
        (
            "ALTER TABLE source.users RENAME COLUMN phone TO telephone",
            "ALTER TABLE source.users RENAME COLUMN telephone TO phone",
            "ingest-postgres-refuses",
        ),
        (
            "CREATE TABLE public.audit (id int PRIMARY KEY); INSERT INTO public.audit VALUES (1); \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN INSERT INTO public.audit VALUES (1); RETURN NULL; END'; \
             CREATE TRIGGER note AFTER INSERT ON source.users FOR EACH ROW EXECUTE FUNCTION note()",
            "DROP TRIGGER note ON source.users",
            "ingest-table-refuses",
        ),
        (
            "CREATE TABLE public.log (id serial PRIMARY KEY); INSERT INTO public.log SELECT generate_series(1, 1000); \
             CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN INSERT INTO public.log DEFAULT VALUES; RETURN NULL; END'; \
             CREATE TRIGGER log_it AFTER INSERT ON source.users FOR EACH ROW EXECUTE FUNCTION log_it()",
            "DROP TRIGGER log_it ON source.users",
            "ingest-sequence-behind",
        ),
        (
            "CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN RAISE ''closed'' USING ERRCODE = ''MY001''; END'; \
             CREATE TRIGGER closed BEFORE INSERT ON source.users FOR EACH ROW EXECUTE FUNCTION closed()",
            "DROP TRIGGER closed ON source.users",
            "ingest-table-refuses",
        ),
        (
            "CREATE FUNCTION raised() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''closed''; END'; \
             CREATE TRIGGER raised BEFORE INSERT ON source.users FOR EACH ROW EXECUTE FUNCTION raised()",
            "DROP TRIGGER raised ON source.users",
            "ingest-table-refuses",
        ),
        (
            "DO 'BEGIN EXECUTE format(''ALTER DATABASE %I SET default_transaction_read_only = on'', current_database()); END'",
            "SET default_transaction_read_only = off; \
             DO 'BEGIN EXECUTE format(''ALTER DATABASE %I RESET default_transaction_read_only'', current_database()); END'",
            "ingest-postgres-refuses",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        execute(&mut shop, broken).await;
        let ingest = shop.ingest();
        let last = shop.send([user(&format!("good{number}@example.org"), "Good")]).await;
        told(&ingest, code).await;
        execute(&mut shop, mended).await;
        ingest.reach(last).await;
        ingest.stop().await;
        assert_eq!(shop.users().await.len(), number + 1, "{broken}");
    }
    assert_eq!(shop.rejected().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_on_what_an_event_says_reject_it() {
    let mut shop = Shop::open("own_fault").await;
    execute(
        &mut shop,
        "ALTER TABLE source.users ADD CONSTRAINT one_phone UNIQUE (phone)",
    )
    .await;
    execute(
        &mut shop,
        "CREATE UNIQUE INDEX one_name ON source.users (upper(first_name))",
    )
    .await;
    execute(
        &mut shop,
        "ALTER TABLE source.users ALTER COLUMN last_name TYPE varchar(9)",
    )
    .await;
    let other_phone = |event: String, phone: &str| {
        event.replace("\"phone\":\"1\"", &format!("\"phone\":\"{phone}\""))
    };
    let last = shop
        .send([
            user("a@example.org", "Ada"),
            user("b@example.org", "Bob"),
            other_phone(user("c@example.org", "ADA"), "2"),
            other_phone(user("d@example.org", "Dan"), "3").replace("Lovelace", "Longer than nine"),
            other_phone(user("e@example.org", "Eve"), "4"),
        ])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let rejected = shop.rejected().await;
    let shown: Vec<_> = rejected
        .iter()
        .map(|one| {
            (
                one.offset,
                one.sqlstate.as_deref(),
                one.constraint.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (1, Some("23505"), Some("one_phone")),
            (2, Some("23505"), Some("one_name")),
            (3, Some("22001"), None),
        ]
    );
    assert!(rejected
        .iter()
        .all(|one| one.rejection.reason == RejectReason::RefusedByDatabase));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_waited_for() {
    let mut shop = Shop::open("login").await;
    execute(&mut shop, "CREATE ROLE gatekept SUPERUSER LOGIN").await;
    shop.config.postgres_url = shop.config.postgres_url.replace("owner@", "gatekept@");
    let last = shop.send([user("a@example.org", "A")]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    execute(&mut shop, "ALTER ROLE gatekept NOLOGIN").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gatekept'";
    execute(&mut shop, end).await;
    let last = shop.send([user("b@example.org", "B")]).await;
    let status = told(&ingest, "ingest-login-refused").await;
    let said = status.last_error.expect("an error");
    assert!(said.contains("failing since"), "{said}");
    execute(&mut shop, "ALTER ROLE gatekept LOGIN").await;
    ingest.reach(last).await;
    ingest.stop().await;
}
