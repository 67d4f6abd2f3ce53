//! An event that the table refuses for its values does not stop the others, however the table says so.

use millrace_users_data::Status;
use sqlx::Executor;

use crate::shop::{patient, user, Ingest, Shop};

async fn execute(shop: &mut Shop, sql: &str) {
    let done = shop.postgres.execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A trigger of table `users` that runs `body` for the new row.
fn trigger(when: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION source.check_it() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN {body}; RETURN NEW; END $$; \
         CREATE TRIGGER check_it {when} ON source.users FOR EACH ROW EXECUTE FUNCTION source.check_it()"
    )
}

const NO_TRIGGER: &str = "DROP TRIGGER check_it ON source.users; DROP FUNCTION source.check_it()";

async fn waits(ingest: &Ingest) -> Status {
    let waits = ingest.handle.wait_for(|status| {
        let error = status.last_error.as_deref();
        error.is_some_and(|error| {
            error.starts_with("ingest-table-refuses") && error.contains("next attempt")
        })
    });
    patient(waits).await.expect("it goes on")
}

/// Everything that the shop has rejected since it had rejected `before` events.
async fn rejected_since(shop: &Shop, before: usize) -> Vec<(i64, Option<String>)> {
    let rejected = shop.rejected().await.into_iter().skip(before);
    rejected.map(|one| (one.offset, one.sqlstate)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_computed_from_a_field_is_that_field() {
    let mut shop = Shop::open("generated").await;
    let column = "ALTER TABLE source.users ADD COLUMN computed text GENERATED ALWAYS AS";
    let ingest = shop.ingest();
    let first = shop.send([user("first@example.org", "Ada")]).await;
    ingest.reach(first).await;
    for (round, (definition, sqlstate)) in [
        ("(upper(first_name)) STORED UNIQUE", "23505"),
        (
            "(upper(first_name)) STORED CHECK (computed <> 'EVE')",
            "23514",
        ),
        ("(nullif(first_name, 'Eve')) STORED NOT NULL", "23502"),
    ]
    .into_iter()
    .enumerate()
    {
        execute(&mut shop, &format!("{column} {definition}")).await;
        let name = if sqlstate == "23505" { "ADA" } else { "Eve" };
        // Alone, without another event that would show what the table takes.
        let bad = shop
            .send([user(&format!("bad{round}@example.org"), name)])
            .await;
        ingest.reach(bad).await;
        let rejected = rejected_since(&shop, round).await;
        assert_eq!(rejected, [(bad, Some(sqlstate.to_owned()))]);
        execute(&mut shop, "ALTER TABLE source.users DROP COLUMN computed").await;
    }
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_while_others_are_taken_is_rejected() {
    let mut shop = Shop::open("poison").await;
    execute(
        &mut shop,
        "CREATE TABLE source.audit (first_name text NOT NULL CONSTRAINT no_eve CHECK (first_name <> 'Eve'))",
    )
    .await;
    let raise = |sqlstate: &str| {
        let body = format!(
            "IF NEW.first_name = 'Eve' THEN RAISE 'no' USING ERRCODE = '{sqlstate}'; END IF"
        );
        trigger("BEFORE INSERT", &body)
    };
    let audit = |value: &str| {
        let body = format!("INSERT INTO source.audit VALUES ({value})");
        trigger("AFTER INSERT", &body)
    };
    let ingest = shop.ingest();
    for (round, (broken, mended, sqlstate)) in [
        (
            "ALTER TABLE source.users ADD COLUMN computed smallint GENERATED ALWAYS AS \
                 (CASE first_name WHEN 'Eve' THEN 100000 ELSE 1 END) STORED"
                .to_owned(),
            "ALTER TABLE source.users DROP COLUMN computed",
            "22003",
        ),
        (audit("NEW.first_name"), NO_TRIGGER, "23514"),
        (audit("nullif(NEW.first_name, 'Eve')"), NO_TRIGGER, "23502"),
        (raise("MY001"), NO_TRIGGER, "MY001"),
        (raise("P0001"), NO_TRIGGER, "P0001"),
        (raise("23514"), NO_TRIGGER, "23514"),
        (raise("P0002"), NO_TRIGGER, "P0002"),
        (raise("P0004"), NO_TRIGGER, "P0004"),
        (raise("54000"), NO_TRIGGER, "54000"),
    ]
    .into_iter()
    .enumerate()
    {
        execute(&mut shop, &broken).await;
        let email = |name: &str| format!("{name}{round}@example.org");
        // Alone it may be the table.
        let bad = shop.send([user(&email("eve"), "Eve")]).await;
        let status = waits(&ingest).await;
        let said = status.last_error.expect("an error");
        assert!(said.contains(sqlstate), "{said}");
        assert!(said.contains(&format!("offset {bad}")), "{said}");
        let last = shop
            .send([
                user(&email("ada"), "Ada"),
                user(&email("eva"), "Eve"),
                user(&email("bob"), "Bob"),
            ])
            .await;
        ingest.reach(last).await;
        let code = Some(sqlstate.to_owned());
        assert_eq!(
            rejected_since(&shop, 2 * round).await,
            [(bad, code.clone()), (bad + 2, code)],
            "{broken}"
        );
        assert_eq!(shop.users().await.len(), 2 * (round + 1), "{broken}");
        execute(&mut shop, mended).await;
    }
    ingest.stop().await;
}

/// A broken trigger for new rows says nothing about the events of new users, though the table takes changes.
#[tokio::test(flavor = "multi_thread")]
async fn changed_rows_do_not_show_that_the_table_takes_new_ones() {
    let mut shop = Shop::open("kinds").await;
    let ingest = shop.ingest();
    let last = shop.send([user("ada@example.org", "Ada")]).await;
    ingest.reach(last).await;
    let broken = trigger("AFTER INSERT", "RAISE 'no' USING ERRCODE = 'MY001'");
    execute(&mut shop, &broken).await;
    let last = shop
        .send([
            user("new@example.org", "First"),
            user("ada@example.org", "Augusta"),
            user("other@example.org", "Other"),
            user("new@example.org", "Second"),
        ])
        .await;
    let failures = waits(&ingest).await.failures;
    patient(
        ingest
            .handle
            .wait_for(|status| status.failures > failures + 1),
    )
    .await
    .expect("it goes on");
    execute(&mut shop, NO_TRIGGER).await;
    ingest.reach(last).await;
    assert!(rejected_since(&shop, 0).await.is_empty());
    let users = shop.users().await;
    let expected = [
        ("ada@example.org", "Augusta"),
        ("new@example.org", "Second"),
        ("other@example.org", "Other"),
    ];
    assert_eq!(users, crate::shop::pairs(&expected));
    ingest.stop().await;
}

/// It would refuse the whole batch at its commit otherwise, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_constraint_rejects_the_event_that_violates_it() {
    let mut shop = Shop::open("deferred").await;
    execute(
        &mut shop,
        "ALTER TABLE source.users ADD UNIQUE (phone) DEFERRABLE INITIALLY DEFERRED",
    )
    .await;
    let last = shop
        .send([user("a@example.org", "Ada"), user("b@example.org", "Bob")])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    assert_eq!(
        rejected_since(&shop, 0).await,
        [(last, Some("23505".to_owned()))]
    );
    ingest.stop().await;
}
