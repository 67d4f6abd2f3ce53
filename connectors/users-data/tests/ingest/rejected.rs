//! Looking at rejected events, sending them again, putting them away.

use fluvio::metadata::topic::TopicSpec;
use futures_util::future::join_all;
use millrace_control::Server;
use millrace_sm_user_event::RejectReason;
use millrace_users_data::{
    control, Counts, Filter, Page, Rejected, RejectedError, RejectedRecord, RejectedState,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use crate::shop::{pairs, patient, user, Ingest, Shop};

const REJECTED: &str = "users-data-rejected";

fn open(shop: &Shop) -> Rejected {
    Rejected::open(shop.config.clone()).expect("a valid configuration")
}

async fn page(rejected: &Rejected, filter: Filter) -> Page {
    let page = patient(rejected.list(filter, 200, None)).await;
    page.expect("a page")
}

fn counts(open: usize, retried: usize, discarded: usize) -> Counts {
    Counts {
        open,
        retried,
        discarded,
    }
}

fn offsets(records: &[RejectedRecord]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// Refused by a constraint of the table, so that a retry may succeed one day.
fn eve(n: usize) -> String {
    user(&format!("eve{n}@example.org"), "Eve")
}

/// A shop whose ingest has rejected so many events, each for itself.
async fn with_rejected(name: &str, count: usize) -> (Shop, Ingest, Rejected) {
    let mut shop = Shop::open(name).await;
    let refuse = "ALTER TABLE source.users ADD CONSTRAINT no_eve CHECK (first_name <> 'Eve')";
    shop.postgres.execute(refuse).await.expect("a constraint");
    let last = shop.send((0..count).map(eve)).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let rejected = open(&shop);
    (shop, ingest, rejected)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_valid_by_now_is_stored_when_it_is_retried() {
    let mut shop = Shop::open("retry").await;
    let refuse = "ALTER TABLE source.users ADD CONSTRAINT no_eve CHECK (first_name <> 'Eve')";
    shop.postgres.execute(refuse).await.expect("a constraint");
    let eve = user("eve@example.org", "Eve");
    let last = shop.send([eve.clone()]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let rejected = open(&shop);
    let listed = page(&rejected, Filter::Open).await;
    assert_eq!((listed.counts, listed.next_before), (counts(1, 0, 0), None));
    let record = &listed.records[0];
    assert_eq!((record.offset, record.source_offset), (0, last));
    assert_eq!(record.reason, RejectReason::RefusedByDatabase);
    assert_eq!(record.constraint.as_deref(), Some("no_eve"));
    assert_eq!(record.original.as_ref(), Some(&eve));
    let transformed = record.transformed.as_deref().expect("it is whole");
    assert!(
        transformed.starts_with(r#"{"kind":"user""#),
        "{transformed}"
    );
    assert_eq!(rejected.get(0).await.expect("the record"), *record);

    let allow = "ALTER TABLE source.users DROP CONSTRAINT no_eve";
    shop.postgres.execute(allow).await.expect("no constraint");
    let retried = patient(rejected.retry(0)).await.expect("sent again");
    assert_eq!(retried.state, RejectedState::Retried);
    assert!(retried.acted_at.is_some());
    ingest.reach(last + 1).await;
    assert_eq!(shop.users().await, pairs(&[("eve@example.org", "Eve")]));

    let again = patient(rejected.retry(0)).await;
    assert!(
        matches!(again, Err(RejectedError::NotOpen { was: "retried", .. })),
        "{again:?}"
    );
    // Another ingest knows it too, and nothing was rejected anew.
    let listed = page(&open(&shop), Filter::All).await;
    assert_eq!(
        (listed.counts, &listed.records[0]),
        (counts(0, 1, 0), &retried)
    );
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_that_is_retried_comes_back_as_a_new_record() {
    let (_shop, ingest, rejected) = with_rejected("again", 1).await;
    patient(rejected.retry(0)).await.expect("sent again");
    ingest.reach(1).await;
    let listed = page(&rejected, Filter::All).await;
    assert_eq!(listed.counts, counts(1, 1, 0));
    let shown: Vec<_> = listed
        .records
        .iter()
        .map(|one| (one.offset, one.source_offset, one.state))
        .collect();
    let expected = [(1, 1, RejectedState::Open), (0, 0, RejectedState::Retried)];
    assert_eq!(shown, expected);
    assert_eq!(listed.records[0].original, listed.records[1].original);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_retry_at_once_send_it_once() {
    let (shop, ingest, rejected) = with_rejected("at_once", 1).await;
    let other = open(&shop);
    let retries = (0..8).map(|n| [&rejected, &other][n % 2].retry(0));
    let outcomes = patient(join_all(retries)).await;
    let sent = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(sent, 1, "{outcomes:?}");
    // The next event's offset says how many were sent.
    let last = shop.send([user("a@example.org", "A")]).await;
    assert_eq!(last, 2);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_events_leave_the_list_and_pages_follow_each_other() {
    let (_shop, ingest, rejected) = with_rejected("discard", 6).await;
    for offset in [1, 4] {
        let discarded = patient(rejected.discard(offset)).await.expect("discarded");
        assert_eq!(discarded.state, RejectedState::Discarded);
    }
    for act in [rejected.discard(4).await, rejected.retry(4).await] {
        assert!(
            matches!(
                act,
                Err(RejectedError::NotOpen {
                    was: "discarded",
                    ..
                })
            ),
            "{act:?}"
        );
    }
    assert_eq!(
        offsets(&page(&rejected, Filter::Discarded).await.records),
        [4, 1]
    );
    assert_eq!(
        offsets(&page(&rejected, Filter::All).await.records),
        [5, 4, 3, 2, 1, 0]
    );
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let part = patient(rejected.list(Filter::Open, 3, before)).await;
        let part = part.expect("a page");
        assert_eq!(part.counts, counts(4, 0, 2));
        seen.push(offsets(&part.records));
        before = part.next_before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [vec![5, 3, 2], vec![0]]);
    let missing = patient(rejected.get(6)).await;
    assert!(
        matches!(missing, Err(RejectedError::NotFound(6))),
        "{missing:?}"
    );
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_far_apart_are_found() {
    let (_shop, ingest, rejected) = with_rejected("sparse", 400).await;
    for offset in (0..400).filter(|offset| offset % 133 != 0) {
        patient(rejected.discard(offset)).await.expect("discarded");
    }
    let listed = page(&rejected, Filter::Open).await;
    assert_eq!(listed.counts, counts(4, 0, 396));
    assert_eq!(offsets(&listed.records), [399, 266, 133, 0]);
    assert_eq!(listed.records[3].original.as_deref(), Some(eve(0).as_str()));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_whole_is_not_sent_again() {
    let mut shop = Shop::open("cut").await;
    shop.config.original_bytes_max = 4;
    let last = shop.send(["no JSON".to_owned()]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let rejected = open(&shop);
    let record = patient(rejected.get(0)).await.expect("the record");
    assert_eq!((record.truncated, record.transformed), (true, None));
    let refused = patient(rejected.retry(0)).await;
    assert!(
        matches!(refused, Err(RejectedError::NoRetry { offset: 0, .. })),
        "{refused:?}"
    );
    assert_eq!(page(&rejected, Filter::Open).await.counts, counts(1, 0, 0));
    patient(rejected.discard(0)).await.expect("discarded");
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_rejected_again_is_not_sent_again_and_says_what_would_be_valid() {
    let shop = Shop::open("hopeless").await;
    let bad = user("ada@example.org", "Ada").replace("2026-01-02T03:04:05Z", "yesterday");
    let last = shop.send([bad.clone(), "no JSON".to_owned(), bad]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    let rejected = open(&shop);
    let listed = page(&rejected, Filter::Open).await;
    let reasons: Vec<_> = listed
        .reasons
        .iter()
        .map(|one| (one.reason, one.records))
        .collect();
    assert_eq!(
        reasons,
        [(RejectReason::BadDate, 2), (RejectReason::MalformedJson, 1)]
    );
    assert!(listed.records[0].valid.contains("2026-01-02 03:04:05"));
    for record in &listed.records {
        assert!(record.no_retry.is_some(), "{record:?}");
        let refused = patient(rejected.retry(record.offset)).await;
        assert!(
            matches!(refused, Err(RejectedError::NoRetry { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(page(&rejected, Filter::Open).await.counts, counts(3, 0, 0));
    // The next event's offset says that nothing was sent.
    assert_eq!(shop.send([user("a@example.org", "A")]).await, last + 1);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_dead_letter_are_one_record() {
    let (shop, ingest, rejected) = with_rejected("copies", 2).await;
    let letters = shop.rejected().await;
    let copies = letters.iter().map(|letter| {
        let value = serde_json::to_string(letter).expect("JSON");
        (letter.key().into(), value)
    });
    let last = shop.produce(REJECTED, copies).await;
    let listed = page(&rejected, Filter::All).await;
    assert_eq!(
        (listed.counts, offsets(&listed.records)),
        (counts(2, 0, 0), vec![1, 0])
    );
    let copy = patient(rejected.discard(last)).await.expect("discarded");
    assert_eq!(copy.offset, 1);
    assert_eq!(page(&rejected, Filter::Open).await.counts, counts(1, 0, 1));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_was_killed_is_open_and_can_be_repeated_after_a_while() {
    let (mut shop, ingest, rejected) = with_rejected("killed", 1).await;
    // Creates the table.
    page(&rejected, Filter::Open).await;
    let claimed =
        "UPDATE millrace.rejected_actions SET action = 'retry', done_at = NULL, at = now()";
    patient(rejected.discard(0)).await.expect("a row");
    shop.postgres.execute(claimed).await.expect("as if killed");

    let record = patient(rejected.get(0)).await.expect("the record");
    assert_eq!(record.state, RejectedState::Open);
    assert!(record.acted_at.is_some());
    for act in [rejected.retry(0).await, rejected.discard(0).await] {
        assert!(
            matches!(act, Err(RejectedError::InDoubt { offset: 0, .. })),
            "{act:?}"
        );
    }
    let later = "UPDATE millrace.rejected_actions SET at = at - interval '2 minutes'";
    shop.postgres.execute(later).await.expect("time passes");
    let retried = patient(rejected.retry(0)).await.expect("sent again");
    assert_eq!(retried.state, RejectedState::Retried);
    ingest.reach(1).await;
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_do_not_stick_to_the_events_of_a_topic_created_again() {
    let (shop, ingest, rejected) = with_rejected("recreated", 2).await;
    for offset in [0, 1] {
        patient(rejected.discard(offset)).await.expect("discarded");
    }
    ingest.stop().await;
    let admin = shop.client().await.admin().await;
    patient(admin.delete::<TopicSpec>(REJECTED))
        .await
        .expect("deleted");
    let last = shop.send([eve(99)]).await;
    let ingest = shop.ingest();
    ingest.reach(last).await;
    assert_eq!(
        page(&open(&shop), Filter::All).await.counts,
        counts(1, 0, 0)
    );
    // The one that was following the old topic comes to see it too.
    let noticed = async {
        loop {
            match rejected.list(Filter::All, 9, None).await {
                Ok(page) if page.counts == counts(1, 0, 0) => return page,
                Ok(_) | Err(RejectedError::NotReady | RejectedError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let listed = patient(noticed).await;
    assert_eq!(
        listed.records[0].original.as_deref(),
        Some(eve(99).as_str())
    );
    patient(rejected.retry(0))
        .await
        .expect("the old action is void");
    ingest.stop().await;
}

struct Client {
    url: String,
    client: reqwest::Client,
}

impl Client {
    async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let answer = request
            .bearer_auth("secret")
            .send()
            .await
            .expect("an answer");
        (answer.status(), answer.json().await.expect("JSON"))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path).await
    }

    async fn post(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::POST, path).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_shows_retries_and_discards() {
    let (_shop, ingest, rejected) = with_rejected("api", 2).await;
    let server = Server::bind(([127, 0, 0, 1], 0).into())
        .await
        .expect("a port");
    let client = Client {
        url: format!("http://{}", server.address()),
        client: reqwest::Client::new(),
    };
    let api = control::api(ingest.handle.clone(), rejected, "secret");
    tokio::spawn(server.run(api, CancellationToken::new()));

    let (_, status) = client.get("/status").await;
    assert_eq!(
        (&status["state"], &status["rejected"]),
        (&"running".into(), &2.into())
    );
    let (status, listed) = client.get("/rejected?limit=1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        listed["counts"],
        serde_json::json!({"open": 2, "retried": 0, "discarded": 0})
    );
    assert_eq!(listed["next_before"], 1);
    let record = &listed["records"][0];
    let fields: Vec<_> = record.as_object().expect("an object").keys().collect();
    assert_eq!(fields.len(), 17, "{fields:?}");
    assert_eq!(
        (&record["reason"], &record["state"]),
        (&"refused_by_database".into(), &"open".into())
    );
    assert_eq!(
        listed["reasons"],
        serde_json::json!([{"reason": "refused_by_database", "records": 2}])
    );

    assert_eq!(client.post("/rejected/0/discard").await.0, StatusCode::OK);
    let (status, retried) = client.post("/rejected/1/retry").await;
    assert_eq!(
        (status, &retried["state"]),
        (StatusCode::OK, &"retried".into())
    );
    for (path, expected) in [
        ("/rejected/1/retry", StatusCode::CONFLICT),
        ("/rejected/0/retry", StatusCode::CONFLICT),
        ("/rejected/99/retry", StatusCode::NOT_FOUND),
        ("/rejected/-1/retry", StatusCode::NOT_FOUND),
        ("/rejected/one/retry", StatusCode::BAD_REQUEST),
    ] {
        let (status, answer) = client.post(path).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
    let unknown = client.get("/rejected?state=lost").await;
    assert_eq!(unknown.0, StatusCode::BAD_REQUEST);
    ingest.stop().await;
}
