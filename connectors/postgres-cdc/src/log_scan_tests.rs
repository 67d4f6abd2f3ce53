//! The scan over the embedded broker.

use std::future::Future;
use std::time::Duration;

use chrono::Utc;
use millrace_broker::{Broker, Handle, Storage};
use millrace_events::{
    CapturedTable, Checkpoint, Column, CopyId, SchemaId, Start, TableId, TableSchema,
};
use millrace_topic::{AppendLimits, Retention};

use super::*;

/// Nothing here may take longer; a wait that ends by it is a failure.
const PATIENCE: Duration = Duration::from_secs(300);
const TOPIC: &str = "log";
/// What a start may read, however long the log is: up to the newest checkpoint and what stands before it, twice,
/// in windows of up to 8,192 records.
const READ_MAX: u64 = 2 * (16_384 + 2 * 16_384 + 2 * 8_192);

async fn patient<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// A log that is written without a Postgres.
struct World {
    broker: Handle,
    cluster: Cluster,
    log: Appender,
    lsn: u64,
}

impl World {
    async fn new(bytes: u64) -> World {
        let mut config = millrace_broker::Config::on_loopback(Storage::Temporary);
        config.limits.retention_interval = Duration::from_millis(100);
        let broker = patient(Broker::open(config)).await.expect("a broker");
        let cluster = Cluster::new(broker.sc_addr().to_string());
        let retention = Retention {
            age: Duration::from_secs(3_600),
            bytes,
        };
        let created = cluster.create(TOPIC, &retention);
        patient(created).await.expect("a topic");
        let log = cluster.appender(TOPIC, AppendLimits::default());
        let log = patient(log).await.expect("an appender");
        let mut world = World {
            broker,
            cluster,
            log,
            lsn: 100,
        };
        world.send(start(1)).await;
        world.send(Record::Baseline(baseline())).await;
        world
    }

    async fn send(&mut self, record: Record) {
        self.send_bytes(record.encode()).await;
    }

    async fn send_bytes(&mut self, value: Vec<u8>) {
        patient(self.log.append(value)).await.expect("it is sent");
    }

    /// Returns its offset.
    async fn send_and_wait(&mut self, record: Record) -> Offset {
        let sent = self.log.append_and_wait(record.encode());
        patient(sent).await.expect("it is acknowledged")
    }

    /// Moves the log on.
    fn progress(&mut self) -> Vec<u8> {
        let prev = Lsn(self.lsn);
        self.lsn += 10;
        let progress = Progress {
            epoch: Epoch(1),
            prev,
            end_lsn: Lsn(self.lsn),
            gap: false,
            at: Utc::now(),
        };
        Record::Progress(progress).encode()
    }

    fn checkpoint(&self, tables: Vec<CapturedTable>) -> Record {
        checkpoint(1, self.lsn, tables)
    }

    async fn scan(&mut self) -> LogScan {
        let mut scan = LogScan::default();
        let looked = patient(scan.look(&self.cluster, TOPIC)).await;
        assert_eq!(looked.expect("a look"), Some(baseline()));
        let found = scan.find_end(&self.cluster, TOPIC, &mut self.log);
        patient(found).await.expect("its end");
        scan
    }
}

fn start(epoch: u64) -> Record {
    Record::Start(Start {
        epoch: Epoch(epoch),
        owner: None,
        at: Utc::now(),
    })
}

fn baseline() -> Baseline {
    Baseline {
        epoch: Epoch(1),
        incarnation: "a".into(),
        lsn: Lsn(100),
        system: "1".into(),
        database: "db".into(),
        at: chrono::DateTime::UNIX_EPOCH,
        again: None,
    }
}

fn checkpoint(epoch: u64, lsn: u64, tables: Vec<CapturedTable>) -> Record {
    Record::Checkpoint(Box::new(Checkpoint {
        epoch: Epoch(epoch),
        lsn: Lsn(lsn),
        at: Utc::now(),
        baseline: baseline(),
        tables,
        source: None,
        last: None,
        removed: Vec::new(),
        former: Vec::new(),
        unseen: Vec::new(),
    }))
}

/// A table whose copy began there and goes on.
fn being_copied(offset: Offset) -> CapturedTable {
    CapturedTable {
        definition: TableSchema {
            id: SchemaId(1),
            table: TableId::new("public", "t"),
            columns: vec![Column {
                name: "id".into(),
                oid: 20,
                type_name: "bigint".into(),
                type_mod: -1,
                key: true,
            }],
        },
        estimated_rows: 1,
        published_lately: false,
        oid: None,
        copy: CopyId(1),
        topic: "t".into(),
        copy_offset: offset.to_i64(),
        copy_lsn: Lsn(100),
        copied: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_against_a_million_records_reads_what_happened_since_the_last_checkpoint() {
    let mut world = World::new(Retention::BYTES_DEFAULT).await;
    for n in 0..1_000_000 {
        if n % 16_384 == 0 {
            let record = world.checkpoint(Vec::new());
            world.send(record).await;
        }
        let record = world.progress();
        world.send_bytes(record).await;
    }
    patient(world.log.settle()).await.expect("all of it");
    let scan = world.scan().await;
    assert_eq!(scan.state.chain.position(), Some(Lsn(world.lsn)));
    assert!(scan.records <= READ_MAX, "{} records", scan.records);
    println!("read {} of {} records", scan.records, scan.next);
    patient(world.broker.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_need_what_retention_removed() {
    let mut world = World::new(16_000_000).await;
    for n in 0..60 {
        if n % 10 == 0 {
            let record = world.checkpoint(Vec::new());
            world.send(record).await;
        }
        let mut record = world.progress();
        record.pop();
        record.extend_from_slice(format!(",\"more\":\"{}\"}}", "x".repeat(1 << 20)).as_bytes());
        world.send_bytes(record).await;
    }
    patient(world.log.settle()).await.expect("all of it");
    patient(async {
        loop {
            let bounds = world.cluster.bounds(TOPIC).await.expect("bounds");
            if bounds.expect("a topic").start > Offset(1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let scan = world.scan().await;
    assert_eq!(scan.state.chain.position(), Some(Lsn(world.lsn)));
    assert_eq!(scan.state.baseline, Some(baseline()));
    patient(world.broker.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_from_before_a_copy_that_is_not_complete() {
    let mut world = World::new(Retention::BYTES_DEFAULT).await;
    let first = world.checkpoint(Vec::new());
    let first = world.send_and_wait(first).await;
    let copy = world.progress();
    let copy = patient(world.log.append_and_wait(copy)).await.expect("it");
    let second = world.checkpoint(vec![being_copied(copy)]);
    world.send_and_wait(second).await;
    let found = patient(checkpoint::newest(
        &world.cluster,
        TOPIC,
        copy.next().next(),
    ))
    .await;
    let begin = found.expect("an answer").begin.expect("a checkpoint");
    assert_eq!(begin.offset, first.0);
    patient(world.broker.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_a_killed_capture_brings_late_is_passed_over() {
    let mut world = World::new(Retention::BYTES_DEFAULT).await;
    let own = world.checkpoint(Vec::new());
    world.send(own).await;
    world.send(start(2)).await;
    world.send(checkpoint(1, 5_000, Vec::new())).await;
    patient(world.log.settle()).await.expect("all of it");
    let scan = world.scan().await;
    assert_eq!(scan.state.chain.position(), Some(Lsn(100)));
    assert_eq!(scan.state.chain.epoch(), Epoch(2));
    patient(world.broker.shutdown()).await;
}
