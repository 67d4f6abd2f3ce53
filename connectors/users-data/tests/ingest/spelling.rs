//! An e-mail address is one user, whatever the case of its letters.

use sqlx::{Connection, Executor, PgConnection};

use crate::shop::{pairs, user, Shop};

async fn insert(postgres: &mut PgConnection, email: &str, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO source.users (first_name, last_name, email) VALUES ($1, 'Shop', $2)")
        .bind(name)
        .bind(email)
        .execute(postgres)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_updates_the_row_that_the_shop_spelled_otherwise() {
    let mut shop = Shop::open("spelled").await;
    insert(&mut shop.postgres, "Ada@Example.org", "Before")
        .await
        .expect("a row");
    let last = shop
        .send([
            user("ADA@example.ORG", "First"),
            user("bob@example.org", "Bob"),
            user("ada@example.org", "Second"),
            user("Bob@Example.org", "Robert"),
        ])
        .await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let expected = pairs(&[("Ada@Example.org", "Second"), ("bob@example.org", "Robert")]);
    assert_eq!(shop.users().await, expected);
    ingest.stop().await;
}

/// A shop from before the index may have them.
#[tokio::test(flavor = "multi_thread")]
async fn of_rows_that_differ_by_case_only_the_one_in_lower_case_is_the_user() {
    let mut shop = Shop::open("several").await;
    let index = "DROP INDEX source.users_email_any_case_key";
    shop.postgres.execute(index).await.expect("dropped");
    for email in ["ADA@example.org", "ada@example.org", "Ada@example.org"] {
        insert(&mut shop.postgres, email, "Before")
            .await
            .expect("a row");
    }
    let last = shop.send([user("Ada@Example.org", "Event")]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let event: Vec<_> = shop
        .users()
        .await
        .into_iter()
        .filter(|user| user.1 == "Event")
        .collect();
    assert_eq!(event, pairs(&[("ada@example.org", "Event")]));
    assert_eq!(shop.users().await.len(), 3);
    ingest.stop().await;
}

/// The shop and ingest insert the same users in different spellings at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_two_spellings_leaves_one_user_and_rejects_nothing() {
    const USERS: usize = 300;
    let mut shop = Shop::open("race").await;
    shop.config.batch_events_max = 5;
    let ingest = shop.ingest();
    let url = shop.config.postgres_url.clone();
    let application = tokio::spawn(async move {
        let mut postgres = PgConnection::connect(&url)
            .await
            .expect("the server answers");
        for n in 0..USERS {
            // Refused where the event came first: then it is that user.
            let _ = insert(&mut postgres, &format!("U{n}@Example.org"), "Shop").await;
        }
    });
    let last = shop
        .send((0..USERS).map(|n| user(&format!("u{n}@example.org"), "Event")))
        .await;
    application.await.expect("no panic");
    ingest.reach(last).await;
    let users = shop.users().await;
    assert_eq!(users.len(), USERS);
    assert!(users.iter().all(|user| user.1 == "Event"), "{users:?}");
    assert_eq!(shop.rejected().await.len(), 0);
    ingest.stop().await;
}
