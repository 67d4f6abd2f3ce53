//! What stays for whom, until when, and what is said of it: on real logs, with times that were set.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use fluvio_sc_schema::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use tokio_util::task::TaskTracker;

use super::*;
use crate::batch;
use crate::broker::{open_data, spu_spec, Parts};
use crate::config::{Config, Storage};
use crate::disk::Sync;

const TOPIC: &str = "shop-changes";
const PROJECTOR: &str = "millrace-projector";
const RETENTION: Duration = Duration::from_secs(10);
/// Two batches of one record fit into a segment.
const RECORDS_PER_SEGMENT: i64 = 2;
const PAYLOAD_BYTES: usize = 400;
const SEGMENT_BYTES: u64 = 2 * (batch::HEADER_BYTES + PAYLOAD_BYTES) as u64;

/// Room for all that the tests write, and less than any disk has.
const PLENTY: u64 = 1 << 24;

struct Rig {
    dir: tempfile::TempDir,
    tasks: TaskTracker,
    parts: Parts,
    sweep: Sweep,
}

impl Rig {
    /// A topic that retention by size leaves alone, where nothing else is said.
    async fn new() -> Rig {
        Rig::keeping(PLENTY, PLENTY).await
    }

    /// A topic that keeps `bytes_max`, and `held_max` for a consumer.
    async fn keeping(bytes_max: u64, held_max: u64) -> Rig {
        let dir = tempfile::tempdir().expect("directory");
        let tasks = TaskTracker::new();
        let (parts, sweep) = open(dir.path(), held_max, &tasks);
        let mut spec = TopicSpec::new_computed(1, 1, None);
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
            time_in_seconds: RETENTION.as_secs() as u32,
        }));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(1_024),
            max_partition_size: Some(bytes_max),
        });
        let created = parts.catalog.create_topic(TOPIC, spec, false);
        created.expect("created");
        Rig {
            dir,
            tasks,
            parts,
            sweep,
        }
    }

    /// The same broker after a restart.
    async fn restarted(self) -> Rig {
        self.tasks.close();
        self.tasks.wait().await;
        drop((self.parts, self.sweep));
        let (dir, tasks) = (self.dir, TaskTracker::new());
        let (parts, sweep) = open(dir.path(), PLENTY, &tasks);
        Rig {
            dir,
            tasks,
            parts,
            sweep,
        }
    }

    async fn append(&self, records: i64) {
        let log = self.log();
        for _ in 0..records {
            let mut bytes = BytesMut::new();
            batch::encode(&mut bytes, 0, 0, (1, 1), &[7; PAYLOAD_BYTES]);
            let appended = log.append(bytes.freeze()).await.expect("answered");
            appended.expect("appended");
        }
    }

    fn log(&self) -> crate::log::PartitionLog {
        self.parts.catalog.partition(TOPIC, 0).expect("partition")
    }

    /// Makes all that is stored older than retention.
    fn age(&self) {
        let old = SystemTime::now() - 2 * RETENTION;
        for log in self.segments() {
            let log = std::fs::File::options().append(true).open(log);
            log.expect("log").set_modified(old).expect("time");
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut topics = std::fs::read_dir(self.dir.path().join("topics")).expect("topics");
        let ours = |entry: &std::fs::DirEntry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(TOPIC)
        };
        let topic = topics.find_map(|entry| entry.ok().filter(ours));
        let partition = topic.expect("topic").path().join("0");
        let files = std::fs::read_dir(partition).expect("partition");
        let paths = files.map(|file| file.expect("file").path());
        paths
            .filter(|path| path.extension().is_some_and(|of| of == "log"))
            .collect()
    }

    async fn publish(&self, consumer: &str, offset: i64) {
        let replica = ReplicaKey::new(TOPIC, 0_u32);
        let stored = self.parts.positions.store(consumer, replica, offset);
        stored.await.expect("answered").expect("stored");
    }

    async fn delete(&self, consumer: &str) {
        let replica = ReplicaKey::new(TOPIC, 0_u32);
        let deleted = self.parts.positions.delete(consumer, replica);
        deleted.await.expect("answered").expect("deleted");
    }

    /// The first offset that is kept after a look, and the codes of what is said then.
    fn look(&mut self) -> (i64, Vec<&'static str>) {
        let notices = self.sweep.once();
        let codes = notices.iter().map(Notice::code).collect();
        (self.log().bounds().start, codes)
    }

    /// The same, when what was said before is forgotten: an hour later.
    fn look_later(&mut self) -> (i64, Vec<&'static str>) {
        self.sweep.said.clear();
        self.look()
    }
}

fn open(dir: &Path, held_max: u64, tasks: &TaskTracker) -> (Parts, Sweep) {
    let config = Config::on_loopback(Storage::Directory(dir.to_owned()));
    let spu = spu_spec(&config, config.spu_bind);
    let parts = open_data(dir, Sync::Never, spu, &config.limits, tasks).expect("opened");
    let hold = Hold {
        bytes_max: held_max,
        ..Hold::default()
    };
    let (catalog, positions) = (parts.catalog.clone(), parts.positions.clone());
    let sweep = Sweep::new(catalog, positions, parts.data.clone(), Some(hold));
    (parts, sweep)
}

#[tokio::test]
async fn what_our_consumer_needs_stays_beyond_its_age_and_goes_when_the_consumer_has_moved() {
    let mut rig = Rig::new().await;
    rig.append(10).await;
    rig.publish(PROJECTOR, 3).await;
    rig.age();
    // The segment of record 3 is the second.
    assert_eq!(rig.look(), (2, vec!["broker-records-held"]));
    assert_eq!(rig.look(), (2, vec![]), "it is said once");
    rig.publish(PROJECTOR, 7).await;
    assert_eq!(rig.look_later(), (6, vec!["broker-records-held"]));
    rig.publish(PROJECTOR, 9).await;
    assert_eq!(
        rig.look_later(),
        (8, vec![]),
        "only the active segment is left"
    );
}

#[tokio::test]
async fn what_our_consumer_needs_stays_beyond_the_size_until_the_limit_is_passed() {
    let mut rig = Rig::keeping(2_048, 4 * SEGMENT_BYTES).await;
    rig.append(4 * RECORDS_PER_SEGMENT).await;
    rig.publish(PROJECTOR, 0).await;
    assert_eq!(rig.look(), (0, vec!["broker-records-held"]));
    rig.append(1).await;
    let (start, said) = rig.look();
    assert_eq!((start, said), (2, vec!["broker-held-records-removed"]));
    let replica = ReplicaKey::new(TOPIC, 0_u32);
    let held = |lost: Lost| {
        Notice::Lost(
            Held {
                replica: replica.clone(),
                consumer: PROJECTOR.to_owned(),
                offset: 0,
                bytes_max: 4 * SEGMENT_BYTES,
            },
            lost,
        )
    };
    let text = held(Lost { first: 0, end: 2 }).to_string();
    for named in [TOPIC, PROJECTOR, "offsets 0 to 1", "at offset 0"] {
        assert!(text.contains(named), "{named}: {text}");
    }
    rig.append(2 * RECORDS_PER_SEGMENT).await;
    assert_eq!(
        rig.look(),
        (6, vec![]),
        "within the hour nothing is said again"
    );
    rig.sweep.said.clear();
    let notices = rig.sweep.once();
    let later = held(Lost { first: 2, end: 6 });
    assert!(notices.contains(&later), "all that went since: {notices:?}");
}

#[tokio::test]
async fn a_consumer_that_is_not_ours_and_one_that_was_deleted_hold_nothing() {
    let mut rig = Rig::new().await;
    rig.append(6).await;
    rig.publish("reporting", 0).await;
    rig.publish("not-millrace-projector", 0).await;
    rig.publish("millrace-ingest", 2).await;
    rig.age();
    assert_eq!(rig.look(), (2, vec!["broker-records-held"]));
    rig.delete("millrace-ingest").await;
    assert_eq!(rig.look_later(), (4, vec![]));
}

#[tokio::test]
async fn of_two_consumers_the_one_further_behind_holds() {
    let mut rig = Rig::new().await;
    rig.append(8).await;
    rig.publish("millrace-a", 7).await;
    rig.publish("millrace-b", 2).await;
    rig.publish("millrace-c", 5).await;
    rig.age();
    let notices = rig.sweep.once();
    let holders: Vec<&str> = notices.iter().map(|n| n.held().consumer.as_str()).collect();
    assert_eq!(holders, ["millrace-b"]);
    assert_eq!(rig.log().bounds().start, 2);
}

#[tokio::test]
async fn an_offset_that_is_published_late_holds_what_is_left() {
    let mut rig = Rig::new().await;
    rig.append(6).await;
    rig.age();
    assert_eq!(rig.look(), (4, vec![]));
    rig.append(4).await;
    rig.publish(PROJECTOR, 1).await;
    rig.age();
    assert_eq!(rig.look(), (4, vec!["broker-records-held"]));
}

#[tokio::test]
async fn what_is_held_is_held_after_a_restart() {
    let mut rig = Rig::new().await;
    rig.append(8).await;
    rig.publish(PROJECTOR, 2).await;
    rig.age();
    assert_eq!(rig.look().0, 2);
    let mut rig = rig.restarted().await;
    assert_eq!(rig.look(), (2, vec!["broker-records-held"]));
}

#[tokio::test]
async fn a_consumer_that_has_not_moved_for_longer_than_retention_is_named_if_the_topic_grew() {
    let mut rig = Rig::new().await;
    rig.append(1).await;
    let long_ago = SystemTime::now() - 3 * RETENTION;
    let seconds = long_ago
        .duration_since(std::time::UNIX_EPOCH)
        .expect("time")
        .as_secs();
    let replica = ReplicaKey::new(TOPIC, 0_u32);
    let stored = rig.parts.positions.store_at(PROJECTOR, replica, 0, seconds);
    stored.await.expect("answered").expect("stored");
    // Published again without having moved, as after a restart of the service.
    rig.publish(PROJECTOR, 0).await;
    assert_eq!(rig.look(), (0, vec![]), "nothing came after it");
    rig.append(1).await;
    assert_eq!(rig.look(), (0, vec!["broker-consumer-still"]));
}

#[tokio::test]
async fn a_disk_with_less_room_than_a_held_topic_may_take_is_said_before_it_is_full() {
    let mut rig = Rig::keeping(PLENTY, u64::MAX).await;
    rig.append(6).await;
    rig.publish(PROJECTOR, 0).await;
    assert_eq!(rig.look(), (0, vec![]), "nothing is held yet");
    rig.age();
    let said = vec!["broker-records-held", "broker-disk-short"];
    assert_eq!(rig.look(), (0, said));
}

#[tokio::test]
async fn a_topic_deleted_while_it_is_held_is_forgotten_and_a_new_one_of_its_name_holds_nothing() {
    let mut rig = Rig::new().await;
    rig.append(8).await;
    rig.publish(PROJECTOR, 2).await;
    rig.age();
    assert_eq!(rig.look(), (2, vec!["broker-records-held"]));
    let spec = rig.parts.catalog.topic_spec(TOPIC).expect("topic");
    let tasks = TaskTracker::new();
    let (controller, _) = rig
        .parts
        .services(&Config::on_loopback(Storage::Temporary).limits, &tasks);
    controller.delete_topic(TOPIC, false).expect("deleted");
    // A client that was connected before stores where it was.
    rig.publish(PROJECTOR, 1).await;
    assert_eq!(rig.sweep.once(), [], "nothing to look after");
    controller
        .create_topic(TOPIC, spec, false)
        .expect("created");
    assert_eq!(rig.parts.positions.list(None, None).len(), 0);
    rig.append(8).await;
    rig.age();
    assert_eq!(rig.look_later(), (6, vec![]), "nobody needs these");
}
