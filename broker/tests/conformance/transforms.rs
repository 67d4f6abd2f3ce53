//! The other kinds of SmartModules on the way to a consumer, and what they see of the log before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fluvio::consumer::ConsumerConfigExt;
use fluvio::{Compression, SmartModuleContextData, SmartModuleInvocation, SmartModuleKind};
use fluvio_smartmodule::dataplane::smartmodule::Lookback;
use futures_util::StreamExt;

use crate::modules::{sent, tens};
use crate::support::*;
use crate::wat;

conforms!(
    a_filter_map_drops_and_changes_records,
    an_array_map_makes_several_records_of_one,
    a_chain_of_two_passes_on_what_the_first_has_left,
    an_aggregate_carries_its_accumulator_over_batches,
    a_module_is_shown_the_last_records_by_count,
    a_module_is_shown_the_records_younger_than_an_age,
);

/// What starting a stream and looking back may take before another record is worth sending.
const LOOKING_BACK: Duration = Duration::from_secs(1);

fn ids(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

fn through(topic: &str, chain: Vec<SmartModuleInvocation>) -> ConsumerConfigExt {
    consumer(topic).smartmodule(chain).build().expect("config")
}

async fn a_filter_map_drops_and_changes_records(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 30, Compression::None).await;
    let config = through(orders, vec![sent(&wat::second_incremented(), &[])]);
    let records = cluster.read(config, 15).await;
    let even: Vec<i64> = (0..30).step_by(2).collect();
    let odd: Vec<String> = even.iter().map(|id| (id + 1).to_string()).collect();
    assert_eq!(values(&records), odd);
    cluster.differs(Difference::FilteredOffsets, offsets(&records) == even);
}

async fn an_array_map_makes_several_records_of_one(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 30, Compression::None).await;
    let config = through(orders, vec![sent(&wat::twice(), &[])]);
    let doubled: Vec<String> = ids(0..30)
        .into_iter()
        .flat_map(|id| [id.clone(), id])
        .collect();
    assert_eq!(values(&cluster.read(config, 60).await), doubled);
}

async fn a_chain_of_two_passes_on_what_the_first_has_left(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 30, Compression::None).await;
    let twice = || sent(&wat::twice(), &[]);
    let every = |n| sent(&wat::every(), &[("n", n)]);
    let halved = cluster
        .read(through(orders, vec![twice(), every("2")]), 30)
        .await;
    assert_eq!(values(&halved), ids(0..30));
    let thinned = cluster
        .read(through(orders, vec![every("5"), twice()]), 12)
        .await;
    let fives: Vec<String> = (0..30)
        .step_by(5)
        .flat_map(|id| [id.to_string(), id.to_string()])
        .collect();
    assert_eq!(values(&thinned), fives);
}

async fn an_aggregate_carries_its_accumulator_over_batches(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 20, Compression::None).await;
    for initial in ["", "so far: "] {
        let mut module = sent(&wat::last_bytes(), &[]);
        module.kind = SmartModuleKind::Generic(SmartModuleContextData::Aggregate {
            accumulator: initial.into(),
        });
        let records = cluster.read(through(orders, vec![module]), 20).await;
        let digits = "01234567890123456789";
        let expected: Vec<String> = (1..=20)
            .map(|count| format!("{initial}{}", &digits[..count]))
            .collect();
        assert_eq!(values(&records), expected);
        assert_eq!(offsets(&records), (0..20).collect::<Vec<_>>());
    }
}

/// Drops what it is shown of the log, up to 64 records, and what follows in the stream again.
fn unseen(look_back: Lookback) -> SmartModuleInvocation {
    let mut module = sent(&wat::unseen(), &[]);
    module.params.set_lookback(Some(look_back));
    module
}

async fn a_module_is_shown_the_last_records_by_count(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 30, Compression::None).await;
    // All of them, in the middle of a batch, and more than there are.
    for (last, left) in [(0, 30), (3, 27), (10, 20), (14, 16), (29, 1)] {
        let config = through(orders, vec![unseen(Lookback::last(last))]);
        let records = cluster.read(config, left as usize).await;
        assert_eq!(values(&records), ids(0..left), "last {last}");
    }
    let all = through(orders, vec![unseen(Lookback::last(1000))]);
    assert_only_what_follows(cluster, orders, all).await;
}

async fn a_module_is_shown_the_records_younger_than_an_age(cluster: &Cluster) {
    let orders = &tens(cluster, "orders", 30, Compression::None).await;
    let raw = cluster
        .read(consumer(orders).build().expect("config"), 30)
        .await;
    let newest = raw.iter().map(|record| record.timestamp()).max();
    let moment = Duration::from_millis(1);
    until_older(newest.expect("records"), moment).await;
    let hour = Duration::from_secs(3600);
    for (look_back, left) in [
        (Lookback::age(moment, None), 30),
        (Lookback::age(moment, Some(5)), 30),
        (Lookback::age(hour, Some(5)), 25),
    ] {
        let config = through(orders, vec![unseen(look_back.clone())]);
        let records = cluster.read(config, left as usize).await;
        assert_eq!(values(&records), ids(0..left), "{look_back:?}");
    }
    let all = through(orders, vec![unseen(Lookback::age(hour, None))]);
    assert_only_what_follows(cluster, orders, all).await;
}

/// That a stream over the ids 0 to 29 yields none of them, only what follows.
async fn assert_only_what_follows(cluster: &Cluster, topic: &str, config: ConsumerConfigExt) {
    let client = client(cluster).await;
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    let producer = producer(&client, topic).await;
    // What comes before the stream has looked back is dropped too, so one record is not enough.
    for id in 30..60 {
        send_all(&producer, [id.to_string()]).await;
        if let Ok(item) = tokio::time::timeout(LOOKING_BACK, stream.next()).await {
            let first = item.expect("the stream goes on").expect("a record");
            let first: i64 = values(&[first])[0].parse().expect("id");
            assert!(first >= 30, "{first}");
            return;
        }
    }
    panic!("nothing came");
}

/// Waits until the clock, which stamps the records too, has passed this age.
async fn until_older(timestamp_millis: i64, age: Duration) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    let age_max = Duration::from_millis(timestamp_millis as u64) + age;
    while now() <= age_max + Duration::from_millis(1) {
        tokio::task::yield_now().await;
    }
}
