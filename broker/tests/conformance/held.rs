//! What the embedded broker keeps for consumers named as ours are, as the `fluvio` client sees it. A real cluster
//! keeps nothing for anybody.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fluvio::consumer::{ConsumerStream, OffsetManagementStrategy};
use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::topic::TopicSpec;
use fluvio::Offset;
use millrace_broker::{Broker, Config, Handle, Hold, Storage};

use crate::durability::{files, in_small_segments};
use crate::support::*;

const PROJECTOR: &str = "millrace-projector";
const AGE_SECONDS: u32 = 10;
const RECORDS: i64 = 300;
/// Swept after the topics that tests look at, in the order of the names.
const SENTINEL: &str = "zz-sentinel";

/// A broker that looks after retention all the time.
async fn broker(dir: &Path, bytes_max: u64) -> Handle {
    let mut config = Config::on_loopback(Storage::Directory(dir.to_owned()));
    config.limits.retention_interval = Duration::from_millis(20);
    config.hold = Some(Hold {
        bytes_max,
        ..Hold::default()
    });
    Broker::open(config).await.expect("broker opens")
}

async fn filled(broker: &Handle, topic: &str, bytes_max: u64) {
    let spec = in_small_segments(AGE_SECONDS, bytes_max);
    patient(admin(broker).await.create(topic.to_owned(), false, spec))
        .await
        .expect("topic is created");
    append(broker, topic).await;
}

async fn append(broker: &Handle, topic: &str) {
    let producer = producer(&client(broker).await, topic).await;
    // A batch fills more than half a segment.
    for start in (0..RECORDS).step_by(30) {
        send_all(&producer, (start..start + 30).map(|id| format!("{id:032}"))).await;
    }
}

/// As the services publish how far they are.
async fn publish(broker: &Handle, topic: &str, consumer_name: &str, offset: i64) {
    let client = client(broker).await;
    let config = consumer(topic)
        .offset_consumer(consumer_name)
        .offset_strategy(OffsetManagementStrategy::Manual)
        .offset_start(Offset::absolute(offset).expect("offset"))
        .build()
        .expect("config");
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    assert_eq!(next(&mut stream, 1).await[0].offset, offset);
    patient(stream.offset_commit()).await.expect("committed");
    patient(stream.offset_flush()).await.expect("flushed");
}

/// Makes everything in the topic older than its retention.
fn age(dir: &Path, topic: &str) {
    let old = SystemTime::now() - 2 * Duration::from_secs(u64::from(AGE_SECONDS));
    for log in files(dir, topic, "log") {
        let log = std::fs::File::options().append(true).open(log);
        log.expect("log").set_modified(old).expect("time");
    }
}

/// Waits until retention has looked at every topic once more.
async fn sweep(broker: &Handle, dir: &Path) {
    filled(broker, SENTINEL, 1 << 30).await;
    age(dir, SENTINEL);
    let swept = async {
        while partition(broker, SENTINEL).await.0 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patient(swept).await;
    patient(admin(broker).await.delete::<TopicSpec>(SENTINEL.to_owned()))
        .await
        .expect("deleted");
}

/// First offset and size of a topic, as its administrator is told.
async fn partition(broker: &Handle, topic: &str) -> (i64, i64) {
    let partitions = patient(admin(broker).await.all::<PartitionSpec>())
        .await
        .expect("partitions");
    let name = format!("{topic}-0");
    let found = partitions.iter().find(|partition| partition.name == name);
    let status = &found.expect("the partition").status;
    (status.base_offset, status.size)
}

/// That the topic begins at `first` and is whole, and that its size is that of its files.
async fn assert_kept(broker: &Handle, dir: &Path, topic: &str, first: i64) {
    let (start, size) = partition(broker, topic).await;
    assert!(start <= first, "{start}: {first} is kept");
    let records = read_to_end(&client(broker).await, consumer(topic)).await;
    assert_eq!(offsets(&records), (start..RECORDS).collect::<Vec<_>>());
    let bytes = |path: std::path::PathBuf| path.metadata().expect("file").len();
    let on_disk: u64 = files(dir, topic, "log").into_iter().map(bytes).sum();
    assert_eq!(u64::try_from(size).expect("a size"), on_disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_consumer_has_not_read_survives_age_and_a_restart_until_it_is_read() {
    let dir = tempfile::tempdir().expect("directory");
    let first = broker(dir.path(), 1 << 30).await;
    filled(&first, "orders", 1 << 30).await;
    publish(&first, "orders", PROJECTOR, 0).await;
    age(dir.path(), "orders");
    sweep(&first, dir.path()).await;
    assert_kept(&first, dir.path(), "orders", 0).await;
    first.shutdown().await;
    let second = broker(dir.path(), 1 << 30).await;
    sweep(&second, dir.path()).await;
    assert_kept(&second, dir.path(), "orders", 0).await;
    publish(&second, "orders", PROJECTOR, RECORDS - 1).await;
    sweep(&second, dir.path()).await;
    assert!(partition(&second, "orders").await.0 > 0, "read: it goes");
    assert_kept(&second, dir.path(), "orders", RECORDS - 1).await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_a_foreign_consumer_or_one_that_was_deleted() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = broker(dir.path(), 1 << 30).await;
    filled(&broker, "orders", 1 << 30).await;
    publish(&broker, "orders", "reporting", 0).await;
    publish(&broker, "orders", PROJECTOR, 100).await;
    age(dir.path(), "orders");
    sweep(&broker, dir.path()).await;
    assert_kept(&broker, dir.path(), "orders", 100).await;
    let start = partition(&broker, "orders").await.0;
    assert!(start > 0, "not for the foreign one");
    let client = client(&broker).await;
    patient(client.delete_consumer_offset(PROJECTOR, ("orders", 0_u32)))
        .await
        .expect("deleted");
    sweep(&broker, dir.path()).await;
    assert!(partition(&broker, "orders").await.0 > start.max(100));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_topic_gives_up_its_oldest_records_at_the_limit() {
    let dir = tempfile::tempdir().expect("directory");
    let limit = 12 << 10;
    let broker = broker(dir.path(), limit).await;
    filled(&broker, "orders", 4_096).await;
    publish(&broker, "orders", PROJECTOR, RECORDS - 1).await;
    sweep(&broker, dir.path()).await;
    let (start, size) = partition(&broker, "orders").await;
    assert!(
        start > 0 && size <= 4_096 + 2_048,
        "nothing is held: {start} {size}"
    );
    publish(&broker, "orders", PROJECTOR, start).await;
    let held = async {
        while partition(&broker, "orders").await.0 == start {
            append(&broker, "orders").await;
        }
    };
    patient(held).await;
    sweep(&broker, dir.path()).await;
    let (_, size) = partition(&broker, "orders").await;
    let limit = i64::try_from(limit).expect("a size");
    assert!(
        (4_096 + 2_048..=limit).contains(&size),
        "held to the limit: {size}"
    );
    broker.shutdown().await;
}
