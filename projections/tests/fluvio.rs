//! The projector over the embedded broker, through the `fluvio` client.

#[path = "engine/memory_log.rs"]
#[allow(dead_code)]
mod memory_log;
#[path = "engine/source.rs"]
#[allow(dead_code)]
mod source;
mod support;
#[path = "engine/world.rs"]
#[allow(dead_code)]
mod world;

use std::time::Duration;

use fluvio::metadata::topic::TopicSpec;
use fluvio::{Fluvio, FluvioAdmin, FluvioClusterConfig, RecordKey};
use millrace_broker::{Broker, Config, Handle, Storage};
use millrace_projections::engine::{Service, State};
use tokio_util::sync::CancellationToken;

use source::{CHANGES, SNAPSHOT};
use world::{Running, World, PATIENCE};

async fn topics(broker: &Handle) {
    let config = FluvioClusterConfig::new(broker.sc_addr().to_string());
    let admin = FluvioAdmin::connect_with_config(&config)
        .await
        .expect("admin");
    for topic in [SNAPSHOT, CHANGES] {
        let spec = TopicSpec::new_computed(1, 1, None);
        admin
            .create(topic.to_owned(), false, spec)
            .await
            .expect("a topic");
    }
}

/// Produces the records of the source's log from number `from` on; returns their number.
async fn produce(broker: &Handle, world: &World, topic: &str, from: usize) -> usize {
    let config = FluvioClusterConfig::new(broker.sc_addr().to_string());
    let client = Fluvio::connect_with_config(&config)
        .await
        .expect("a client");
    let producer = client.topic_producer(topic).await.expect("a producer");
    let values = world.source.log.values(topic);
    let mut outputs = Vec::new();
    for value in &values[from..] {
        let output = producer.send(RecordKey::NULL, value.as_slice()).await;
        outputs.push(output.expect("it is queued"));
    }
    producer.flush().await.expect("a flush");
    for output in outputs {
        output.wait().await.expect("it is acknowledged");
    }
    values.len()
}

fn start(world: &World, fluvio: String) -> Running {
    let config = millrace_projections::engine::Config {
        fluvio,
        ..world.config()
    };
    let service = Service::new(config);
    let handle = service.handle();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(service.run(shutdown.clone()));
    Running {
        handle,
        task,
        shutdown,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_follows_a_topic_and_outlives_the_broker() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::on_loopback(Storage::Directory(folder.path().to_owned()));
    let broker = Broker::open(config.clone()).await.expect("a broker");
    config.sc_bind = broker.sc_addr();
    config.spu_bind = broker.spu_addr();
    let running = start(&world, broker.sc_addr().to_string());

    topics(&broker).await;
    for _ in 0..50 {
        world.source.random_transaction();
    }
    world.source.log.truncate(CHANGES, 0);
    world.source.history.clear();
    world.source.snapshot(3);
    produce(&broker, &world, SNAPSHOT, 0).await;
    let mut sent = produce(&broker, &world, CHANGES, 0).await;
    world.caught_up(&running).await;
    assert_eq!(running.handle.status().state, State::Live);

    for _ in 0..100 {
        world.source.random_transaction();
    }
    sent = produce(&broker, &world, CHANGES, sent).await;
    world.caught_up(&running).await;

    broker.shutdown().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let broker = Broker::open(config).await.expect("the same broker again");
    for _ in 0..100 {
        world.source.random_transaction();
    }
    produce(&broker, &world, CHANGES, sent).await;
    world.caught_up(&running).await;
    let mut status = running.handle.watch();
    let caught_up = status.wait_for(|s| s.lag_records == Some(0) && s.log_error.is_none());
    let caught_up = tokio::time::timeout(PATIENCE, caught_up).await.map(|_| ());
    caught_up.unwrap_or_else(|_| panic!("{:?}", running.handle.status()));
    running.stop().await;
    broker.shutdown().await;
}
