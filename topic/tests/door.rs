//! The door over the embedded broker.

use std::time::Duration;

use millrace_broker::{Broker, Config, Handle, Storage};
use millrace_topic::{
    AppendLimits, Appender, Cluster, Entry, Offset, Read, Reading, Retention, TopicError,
};

/// Nothing here may take longer; a wait that ends by it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "log";

fn retention() -> Retention {
    Retention {
        age: Duration::from_secs(3_600),
        bytes: 1 << 30,
    }
}

async fn patient<T>(work: impl std::future::Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// A broker, the door to it, and a topic.
struct World {
    broker: Option<Handle>,
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(retention: Retention) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::on_loopback(Storage::Directory(folder.path().to_owned()));
        config.limits.retention_interval = Duration::from_millis(100);
        let broker = patient(Broker::open(config)).await.expect("a broker");
        let cluster = Cluster::new(broker.sc_addr().to_string());
        patient(cluster.create(TOPIC, &retention))
            .await
            .expect("a topic");
        World {
            broker: Some(broker),
            cluster,
            folder,
        }
    }

    async fn restart(&mut self) {
        let mut config = Config::on_loopback(Storage::Directory(self.folder.path().to_owned()));
        let broker = self.broker.take().expect("it runs");
        (config.sc_bind, config.spu_bind) = (broker.sc_addr(), broker.spu_addr());
        patient(broker.shutdown()).await;
        self.broker = Some(patient(Broker::open(config)).await.expect("it again"));
    }

    async fn appender(&self) -> Appender {
        let appender = self.cluster.appender(TOPIC, AppendLimits::default());
        patient(appender).await.expect("an appender")
    }

    async fn append(&self, values: std::ops::Range<u64>) {
        let mut appender = self.appender().await;
        for value in values {
            let sent = appender.append(value.to_be_bytes().to_vec());
            patient(sent).await.expect("it is sent");
        }
        patient(appender.settle())
            .await
            .expect("all are acknowledged");
    }

    async fn read(&self, read: Read) -> Reading {
        patient(self.cluster.read(read)).await.expect("a reading")
    }

    /// The error with which reading from this offset ends.
    async fn refused(&self, from: u64) -> TopicError {
        let mut reading = self.read(Read::new(TOPIC).from(Offset(from))).await;
        patient(reading.next()).await.expect_err("it is not there")
    }
}

async fn all(mut reading: Reading) -> Vec<u64> {
    let mut values = Vec::new();
    while let Some(record) = patient(reading.next()).await.expect("a record") {
        let value = record.value.as_slice().try_into().map(u64::from_be_bytes);
        assert_eq!(record.offset.0, value.expect("eight bytes"), "in its place");
        values.push(record.offset.0);
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_appended_is_read_up_to_a_record_of_ones_own() {
    let world = World::new(retention()).await;
    world.append(0..50_000).await;
    let mut appender = world.appender().await;
    let fence = patient(appender.fence(50_000_u64.to_be_bytes().to_vec()))
        .await
        .expect("it is acknowledged");
    world.append(50_001..50_010).await;
    let whole = all(world.read(Read::new(TOPIC).until(fence.clone())).await).await;
    assert!(whole.into_iter().eq(0..=50_000), "all, once, in order");
    // In the middle of a batch.
    let rest = Read::new(TOPIC).from(Offset(49_990)).until(fence);
    assert!(all(world.read(rest).await)
        .await
        .into_iter()
        .eq(49_990..=50_000));
    let some = Read::new(TOPIC).from(Offset(7)).up_to(Offset(9));
    assert_eq!(all(world.read(some).await).await, [7, 8, 9]);
    let now = Read::new(TOPIC).from(Offset(50_008)).until_now();
    assert_eq!(all(world.read(now).await).await, [50_008, 50_009]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_record_in_the_place_of_ones_own_is_noticed() {
    let world = World::new(retention()).await;
    let mut appender = world.appender().await;
    let mut fence = patient(appender.fence(vec![1]))
        .await
        .expect("it is acknowledged");
    fence.value = vec![2];
    let mut reading = world.read(Read::new(TOPIC).until(fence)).await;
    let error = patient(reading.next()).await.expect_err("it is another");
    assert!(matches!(error, TopicError::Replaced { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_the_retention_that_it_was_created_with() {
    let world = World::new(retention()).await;
    let other = Retention {
        bytes: 2 << 30,
        ..retention()
    };
    let found = patient(world.cluster.ensure(TOPIC, &other)).await;
    let found = found.expect("it is there");
    assert_eq!(
        (found.partitions, found.retention_bytes),
        (1, Some(1 << 30))
    );
    assert_eq!(found.retention_age, retention().age);
    let made = patient(world.cluster.ensure("other", &other)).await;
    assert_eq!(made.expect("it was created").retention_bytes, Some(2 << 30));
    patient(world.cluster.delete("other"))
        .await
        .expect("it is deleted");
    let names = patient(world.cluster.topics()).await.expect("topics");
    assert!(names.iter().all(|topic| topic.name != "other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_apart() {
    let world = World::new(retention()).await;
    world.append(0..10).await;
    let beyond = world.refused(100).await;
    assert!(matches!(beyond, TopicError::Beyond { wanted, .. } if wanted == Offset(100)));
    let read = patient(world.cluster.read(Read::new("nowhere"))).await;
    let error = read.err().expect("there is no such topic");
    assert!(matches!(error, TopicError::NoTopic { .. }), "{error}");
    let appender = world
        .cluster
        .appender::<()>("nowhere", AppendLimits::default());
    let error = patient(appender)
        .await
        .err()
        .expect("there is no such topic");
    assert!(matches!(error, TopicError::NoTopic { .. }), "{error}");
    assert_eq!(
        patient(world.cluster.bounds("nowhere"))
            .await
            .expect("an answer"),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_removed_are_told_with_the_first_that_is_left() {
    let world = World::new(Retention {
        bytes: 16_000_000,
        ..retention()
    })
    .await;
    let mut appender = world.appender().await;
    for _ in 0..6 {
        let sent = appender.append_and_wait(vec![0; 10_000_000]);
        patient(sent).await.expect("it is acknowledged");
    }
    let first = patient(async {
        loop {
            let bounds = world.cluster.bounds(TOPIC).await.expect("bounds");
            match bounds.expect("the topic").start {
                Offset(0) => tokio::time::sleep(Duration::from_millis(20)).await,
                start => return start,
            }
        }
    })
    .await;
    let error = world.refused(0).await;
    let TopicError::Evicted { wanted, next, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(wanted, Offset(0));
    assert!(next >= first, "{next} {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_went_away_and_came_back_is_found_again() {
    let mut world = World::new(retention()).await;
    world.append(0..3).await;
    let mut reading = world.read(Read::new(TOPIC).from(Offset(3))).await;
    let mut appender = world.appender().await;
    world.restart().await;
    patient(reading.next())
        .await
        .expect_err("its stream is gone");
    // Also where nobody has noticed yet, the first failure makes the next attempt a new one.
    let _ = patient(appender.append_and_wait(vec![0])).await;
    patient(async { while world.cluster.bounds(TOPIC).await.is_err() {} }).await;
    let there = all(world.read(Read::new(TOPIC).up_to(Offset(2))).await).await;
    assert_eq!(there, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_listed_where_it_said_it_is_until_it_is_deleted() {
    let world = World::new(retention()).await;
    world.append(0..5).await;
    let consumers = || async { patient(world.cluster.consumers()).await.expect("a list") };
    for offset in [1, 4] {
        let published = world.cluster.publish_consumer("us", TOPIC, Offset(offset));
        patient(published).await.expect("it is published");
        let listed = consumers().await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(
            (listed[0].name.as_str(), listed[0].offset.0),
            ("us", offset)
        );
    }
    let gone = patient(world.cluster.publish_consumer("us", TOPIC, Offset(9))).await;
    gone.expect_err("there is no such record");
    let deleted = world.cluster.delete_consumer("us", TOPIC, 0);
    patient(deleted).await.expect("it is deleted");
    assert_eq!(consumers().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_owner_notes_comes_back_in_order() {
    #[derive(Default)]
    struct Notes(Vec<(u32, u64)>);
    impl millrace_topic::Tally for Notes {
        type Note = u32;
        fn acknowledged(&mut self, note: u32, offset: Offset) {
            self.0.push((note, offset.0));
        }
    }
    let world = World::new(retention()).await;
    let appender = world
        .cluster
        .appender::<Notes>(TOPIC, AppendLimits::default());
    let mut appender = patient(appender).await.expect("an appender");
    for note in [30, 10, 20] {
        let entry = Entry {
            key: Some("key".to_owned()),
            value: vec![0],
            note,
        };
        patient(appender.append(entry)).await.expect("it is sent");
    }
    let last = patient(appender.settle())
        .await
        .expect("all are acknowledged");
    assert_eq!(last, Some(Offset(2)));
    let notes = &appender.acknowledged().borrow().0.clone();
    assert_eq!(notes, &[(30, 0), (10, 1), (20, 2)]);
    let first = world.read(Read::new(TOPIC)).await.next().await;
    let first = first.expect("a record").expect("there is one");
    assert_eq!(first.key.as_deref(), Some(&b"key"[..]));
}
