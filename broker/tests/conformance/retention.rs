//! What retention removes from a running broker, and what a reader of it is told.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fluvio::dataplane::link::ErrorCode;
use fluvio::Offset;
use futures_util::StreamExt;

use crate::durability::{files, in_small_segments};
use crate::support::*;

conforms!(segments_beyond_the_size_go_and_their_offsets_are_evicted);

/// The shortest retention that Fluvio accepts.
const AGE_SECONDS: u32 = 10;
/// How often to ask whether something is gone: a real cluster looks every ten seconds.
const ASKING_EVERY: Duration = Duration::from_millis(50);

/// Produces records of several segments.
async fn fill(cluster: &Cluster, topic: &str, count: i64) {
    let client = client(cluster).await;
    let producer = producer(&client, topic).await;
    for start in (0..count).step_by(50) {
        send_all(&producer, (start..start + 50).map(|id| id.to_string())).await;
    }
}

async fn segments_beyond_the_size_go_and_their_offsets_are_evicted(cluster: &Cluster) {
    let spec = in_small_segments(3600, 8192);
    let orders = &cluster.topic_with("orders", spec).await;
    fill(cluster, orders, 1000).await;
    let start = patient(first_kept(cluster, orders)).await;
    assert_kept(cluster, orders, start, 1000).await;
}

/// Makes the segments in `dir` old, or waits until those of a real cluster are.
async fn segments_beyond_the_age_go(cluster: &Cluster, dir: Option<&Path>) {
    let spec = in_small_segments(AGE_SECONDS, 1 << 30);
    let orders = &cluster.topic_with("orders", spec).await;
    fill(cluster, orders, 300).await;
    assert_kept(cluster, orders, 0, 300).await;
    let old = SystemTime::now() - 2 * Duration::from_secs(u64::from(AGE_SECONDS));
    for log in dir.map(|dir| files(dir, orders, "log")).unwrap_or_default() {
        let log = std::fs::File::options().append(true).open(log);
        log.expect("log").set_modified(old).expect("time");
    }
    let start = patient(first_kept(cluster, orders)).await;
    assert_kept(cluster, orders, start, 300).await;
}

mod segments_beyond_the_age_go {
    use crate::support::Cluster;

    #[tokio::test(flavor = "multi_thread")]
    async fn embedded() {
        let dir = tempfile::tempdir().expect("directory");
        let cluster = Cluster::embedded_in(dir.path()).await;
        super::segments_beyond_the_age_go(&cluster, Some(dir.path())).await;
        cluster.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a Fluvio cluster: MILLRACE_TEST_FLUVIO=host:port"]
    async fn real() {
        let cluster = Cluster::real();
        super::segments_beyond_the_age_go(&cluster, None).await;
        cluster.end().await;
    }
}

/// Reads from offset 0 until that is refused; what the refusal names instead.
async fn first_kept(cluster: &Cluster, topic: &str) -> i64 {
    let client = client(cluster).await;
    loop {
        let config = consumer(topic)
            .offset_start(Offset::absolute(0).expect("offset"))
            .build()
            .expect("config");
        let mut stream = client.consumer_with_config(config).await.expect("consumer");
        match stream.next().await.expect("an item") {
            Ok(record) => assert_eq!(record.offset, 0),
            Err(ErrorCode::OffsetEvicted {
                offset,
                next_available,
            }) => {
                assert_eq!(offset, 0);
                return next_available;
            }
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(ASKING_EVERY).await;
    }
}

/// That the topic begins at `start`, or later by now, and is whole from there.
async fn assert_kept(cluster: &Cluster, topic: &str, start: i64, end: i64) {
    let records = read_to_end(&client(cluster).await, consumer(topic)).await;
    let first = records.first().expect("the newest segment is kept").offset;
    assert!((start..end).contains(&first), "{start} {first}");
    assert_eq!(offsets(&records), (first..end).collect::<Vec<_>>());
    assert!(start > 0 || first == 0, "{first}");
}
