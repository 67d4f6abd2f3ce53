//! What is acknowledged survives: restarts, crashes, torn writes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, DataDirError, OpenError, Storage};

use crate::support::*;

async fn produce(broker: &millrace_broker::Handle, topic: &str, ids: std::ops::Range<i64>) {
    let client = client(broker).await;
    let producer = producer(&client, topic).await;
    assert_eq!(
        send_all(&producer, ids.clone().map(|id| format!("value-{id}"))).await,
        ids.collect::<Vec<_>>()
    );
}

async fn expect(broker: &millrace_broker::Handle, topic: &str, count: i64) {
    let records = read_to_end(&client(broker).await, consumer(topic)).await;
    assert_eq!(offsets(&records), (0..count).collect::<Vec<_>>());
    assert!(values(&records)
        .iter()
        .enumerate()
        .all(|(at, value)| *value == format!("value-{at}")));
}

/// The files of a topic's first partition with this extension, oldest first.
pub(crate) fn files(dir: &Path, topic: &str, extension: &str) -> Vec<PathBuf> {
    let mut topics = fs::read_dir(dir.join("topics"))
        .expect("topics")
        .map(|entry| entry.expect("entry").path());
    let prefix = format!("{topic}.");
    let of_topic = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    };
    let partition = topics.find(of_topic).expect("topic").join("0");
    let mut files: Vec<_> = fs::read_dir(partition)
        .expect("partition")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for entry in fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        match entry.file_type().expect("type").is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).expect("copy")),
        }
    }
}

pub(crate) fn in_small_segments(retention_seconds: u32, bytes_max: u64) -> TopicSpec {
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
        time_in_seconds: retention_seconds,
    }));
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(2048),
        max_partition_size: Some(bytes_max),
    });
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_modules_and_records_survive_restarts() {
    let dir = tempfile::tempdir().expect("directory");
    for round in 0..3 {
        let broker = start(dir.path()).await;
        if round == 0 {
            create_topic(&broker, "orders", 2).await;
        }
        produce_to_first(&broker, round).await;
        broker.shutdown().await;
    }
    let broker = start(dir.path()).await;
    expect(&broker, "single", 300).await;
    let topics = admin(&broker).await.all::<TopicSpec>().await.expect("list");
    assert_eq!(
        topics
            .iter()
            .map(|topic| (topic.name.as_str(), topic.spec.partitions()))
            .collect::<Vec<_>>(),
        [("orders", 2), ("single", 1)]
    );
    broker.shutdown().await;
}

async fn produce_to_first(broker: &millrace_broker::Handle, round: i64) {
    if round == 0 {
        create_topic(broker, "single", 1).await;
    }
    produce(broker, "single", round * 100..(round + 1) * 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_while_running_holds_every_acknowledged_record() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    admin(&broker)
        .await
        .create("orders".to_owned(), false, in_small_segments(3600, 1 << 30))
        .await
        .expect("create");
    for (round, acknowledged) in [100, 200, 300].into_iter().enumerate() {
        produce(&broker, "orders", acknowledged - 100..acknowledged).await;
        // As after a kill -9: nothing was closed, and the lock file is just a file.
        let copied = tempfile::tempdir().expect("directory");
        copy(dir.path(), copied.path());
        let survivor = start(copied.path()).await;
        expect(&survivor, "orders", acknowledged).await;
        assert!(
            files(copied.path(), "orders", "log").len() > round,
            "the test wants several segments"
        );
        produce(&survivor, "orders", acknowledged..acknowledged + 10).await;
        survivor.shutdown().await;
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_written_over() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    create_topic(&broker, "orders", 1).await;
    produce(&broker, "orders", 0..50).await;
    broker.shutdown().await;
    let log = files(dir.path(), "orders", "log").pop().expect("segment");
    let whole = fs::read(&log).expect("log");
    let seed = std::time::UNIX_EPOCH.elapsed().expect("time").as_nanos() as usize;
    println!("seed {seed}");
    let half_a_batch = whole[..whole.len().min(40 + seed % 20)].to_vec();
    for (case, tail) in [vec![0; 4096], half_a_batch, vec![0xff; 100], whole.clone()]
        .into_iter()
        .enumerate()
    {
        fs::OpenOptions::new()
            .append(true)
            .open(&log)
            .expect("log")
            .write_all(&tail)
            .expect("tail");
        let broker = start(dir.path()).await;
        let count = 50 + case as i64 * 10;
        expect(&broker, "orders", count).await;
        produce(&broker, "orders", count..count + 10).await;
        expect(&broker, "orders", count + 10).await;
        broker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_topic_stops_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    for topic in ["orders", "others"] {
        create_topic(&broker, topic, 1).await;
        produce(&broker, topic, 0..10).await;
        produce(&broker, topic, 10..20).await;
    }
    broker.shutdown().await;
    let log = files(dir.path(), "orders", "log").pop().expect("segment");
    for index in files(dir.path(), "orders", "index") {
        fs::remove_file(index).expect("index");
    }
    let mut bytes = fs::read(&log).expect("log");
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&log, &bytes).expect("log");
    let broker = start(dir.path()).await;
    assert_stopped(&broker, "orders", 10).await;
    expect(&broker, "others", 20).await;
    produce(&broker, "others", 20..30).await;
    broker.shutdown().await;
    assert_eq!(fs::read(&log).expect("log"), bytes, "nothing was changed");
}

/// That the records from 0 to below `good`, or some more, can be read, and then only the error; and that
/// nothing is appended.
async fn assert_stopped(broker: &millrace_broker::Handle, topic: &str, good: usize) {
    let client = client(broker).await;
    let config = consumer(topic).build().expect("config");
    let mut stream = patient(client.consumer_with_config(config))
        .await
        .expect("consumer");
    let mut read = 0;
    let error = loop {
        match patient(stream.next()).await.expect("an error ends it") {
            Ok(record) => assert_eq!(record.offset, read),
            Err(error) => break error.to_string(),
        }
        read += 1;
    };
    assert!(error.contains("broker-log-damaged"), "{error}");
    assert!(read >= good as i64, "{read}");
    let producer = producer(&client, topic).await;
    let sent = producer
        .send(fluvio::RecordKey::NULL, "more")
        .await
        .expect("sent");
    let refused = patient(sent.wait()).await.expect_err("refused").to_string();
    assert!(refused.contains("broker-log-damaged"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_description_is_damaged_keeps_its_name_and_its_records() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    for topic in ["orders", "others"] {
        create_topic(&broker, topic, 1).await;
        produce(&broker, topic, 0..10).await;
    }
    broker.shutdown().await;
    let object = dir.path().join("catalog/topics/orders.object");
    let whole = fs::read(&object).expect("object");
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&object, &damaged).expect("written");
    let broker = start(dir.path()).await;
    expect(&broker, "others", 10).await;
    let spec = TopicSpec::new_computed(1, 1, None);
    let created = admin(&broker)
        .await
        .create("orders".to_owned(), false, spec)
        .await;
    let refused = created.expect_err("refused").to_string();
    assert!(refused.contains("broker-object-damaged"), "{refused}");
    broker.shutdown().await;
    assert_eq!(
        fs::read(&object).expect("object"),
        damaged,
        "nothing was changed"
    );
    fs::write(&object, &whole).expect("written");
    let broker = start(dir.path()).await;
    expect(&broker, "orders", 10).await;
    broker.shutdown().await;
}

/// A reader at the end of a topic is told when somebody else meets damage before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_reader_is_told_of_damage() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    create_topic(&broker, "orders", 1).await;
    produce(&broker, "orders", 0..10).await;
    let other = client(&broker).await;
    let config = consumer("orders")
        .offset_start(fluvio::Offset::end())
        .build()
        .expect("config");
    let mut waiting = patient(other.consumer_with_config(config))
        .await
        .expect("consumer");
    let log = files(dir.path(), "orders", "log").pop().expect("segment");
    let mut bytes = fs::read(&log).expect("log");
    bytes[60] ^= 1;
    fs::write(&log, &bytes).expect("log");
    assert_stopped(&broker, "orders", 0).await;
    let told = patient(waiting.next())
        .await
        .expect("told")
        .err()
        .expect("damage");
    assert!(told.to_string().contains("broker-log-damaged"), "{told}");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_are_rebuilt_where_they_are_lost() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    admin(&broker)
        .await
        .create("orders".to_owned(), false, in_small_segments(3600, 1 << 30))
        .await
        .expect("create");
    for start in (0..300).step_by(50) {
        produce(&broker, "orders", start..start + 50).await;
    }
    broker.shutdown().await;
    let indexes = files(dir.path(), "orders", "index");
    assert!(indexes.len() > 2);
    fs::remove_file(&indexes[0]).expect("remove");
    fs::write(&indexes[1], b"nonsense").expect("write");
    let broker = start(dir.path()).await;
    expect(&broker, "orders", 300).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_beyond_the_size_limit_go_and_their_offsets_are_evicted() {
    let dir = tempfile::tempdir().expect("directory");
    let mut config = Config::on_loopback(Storage::Directory(dir.path().to_owned()));
    config.limits.retention_interval = std::time::Duration::from_millis(20);
    let broker = Broker::open(config).await.expect("broker opens");
    let spec = in_small_segments(3600, 8192);
    admin(&broker)
        .await
        .create("orders".to_owned(), false, spec.clone())
        .await
        .expect("create");
    for start in (0..1000).step_by(50) {
        produce(&broker, "orders", start..start + 50).await;
    }
    let first = patient(base_offset_once_within(&broker, 8192)).await;
    assert!(first > 0);
    let records = read_to_end(&client(&broker).await, consumer("orders")).await;
    assert_eq!(offsets(&records), (first..1000).collect::<Vec<_>>());
    let listed = admin(&broker).await.all::<TopicSpec>().await.expect("list");
    assert_eq!(
        listed[0].spec, spec,
        "the topic's settings are kept as they were given"
    );
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let records = read_to_end(&client(&broker).await, consumer("orders")).await;
    assert_eq!(offsets(&records), (first..1000).collect::<Vec<_>>());
    broker.shutdown().await;
}

/// The first offset kept, once the partition is no larger than this.
async fn base_offset_once_within(broker: &millrace_broker::Handle, bytes_max: i64) -> i64 {
    let admin = admin(broker).await;
    loop {
        let partitions = admin
            .list::<PartitionSpec, _>(vec!["orders".to_owned()])
            .await
            .expect("list");
        if partitions[0].status.size <= bytes_max {
            return partitions[0].status.base_offset;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_belongs_to_one_broker_and_one_format() {
    let dir = tempfile::tempdir().expect("directory");
    let open = || {
        Broker::open(Config::on_loopback(Storage::Directory(
            dir.path().to_owned(),
        )))
    };
    let broker = open().await.expect("broker opens");
    assert!(matches!(
        open().await,
        Err(OpenError::DataDir(DataDirError::Locked(_)))
    ));
    broker.shutdown().await;
    open().await.expect("free again").shutdown().await;
    fs::write(dir.path().join("FORMAT"), "millrace-broker 99\n").expect("write");
    assert!(matches!(
        open().await,
        Err(OpenError::DataDir(DataDirError::Format { .. }))
    ));
    let foreign = tempfile::tempdir().expect("directory");
    fs::write(foreign.path().join("precious"), "data").expect("write");
    let opened = Broker::open(Config::on_loopback(Storage::Directory(
        foreign.path().to_owned(),
    )))
    .await;
    assert!(matches!(
        opened,
        Err(OpenError::DataDir(DataDirError::Foreign(_)))
    ));
}

/// The creation of a segment failed half-way, its file could not be removed, and the log went on in the one
/// before.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_segment_in_the_middle_hides_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    create_topic(&broker, "orders", 1).await;
    produce(&broker, "orders", 0..6).await;
    broker.shutdown().await;
    let stray = files(dir.path(), "orders", "log")[0].with_file_name("00000000000000000003.log");
    fs::write(&stray, "").expect("written");
    let broker = start(dir.path()).await;
    expect(&broker, "orders", 6).await;
    produce(&broker, "orders", 6..9).await;
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    expect(&broker, "orders", 9).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_overlap_stop_their_topic_only() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = start(dir.path()).await;
    create_topic(&broker, "orders", 1).await;
    produce(&broker, "orders", 0..6).await;
    broker.shutdown().await;
    let whole = files(dir.path(), "orders", "log")[0].clone();
    let other = whole.with_file_name("00000000000000000003.log");
    fs::copy(&whole, &other).expect("copied");
    let broker = start(dir.path()).await;
    assert_stopped(&broker, "orders", 0).await;
    create_topic(&broker, "others", 1).await;
    produce(&broker, "others", 0..6).await;
    broker.shutdown().await;
}
