//! Administration: topics, partitions, the SPU.

use std::time::Duration;

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::spg::SpuGroupSpec;
use fluvio::metadata::spu::SpuSpec;
use fluvio::metadata::topic::{
    AddPartition, CleanupPolicy, CompressionAlgorithm, SegmentBasedPolicy, TopicResolution,
    TopicSpec, TopicStorageConfig, UpdateTopicAction,
};

use fluvio::FluvioAdmin;
use fluvio_sc_schema::mirror::MirrorSpec;
use fluvio_sc_schema::objects::Metadata;
use futures_util::StreamExt;

use crate::support::*;

conforms!(
    a_topic_can_be_created_listed_described_and_deleted,
    mistakes_have_the_texts_that_scripts_look_for,
    a_topic_that_cannot_be_placed_is_refused_at_once,
    a_topic_is_known_to_connected_clients_soon_after_its_creation,
    an_unknown_topic_is_refused_at_once,
    partitions_can_be_added_to_a_topic,
    what_there_is_none_of_is_an_empty_list,
);

/// What "at once" may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

async fn what_there_is_none_of_is_an_empty_list(cluster: &Cluster) {
    let admin = admin(cluster).await;
    assert!(admin
        .all::<SpuGroupSpec>()
        .await
        .expect("groups")
        .is_empty());
    assert!(admin.all::<MirrorSpec>().await.expect("mirrors").is_empty());
    assert!(!admin
        .all::<SpuSpec>()
        .await
        .expect("the connection goes on")
        .is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_what_there_is_none_of_stays_open() {
    let broker = start_temporary().await;
    let admin = admin(&broker).await;
    let mut groups = admin.watch::<SpuGroupSpec>().await.expect("watch");
    let first = patient(groups.next())
        .await
        .expect("a message")
        .expect("update");
    let first = first.inner();
    assert!(first.all.is_empty() && first.changes.is_empty());
    create_topic(&broker, "orders", 1).await;
    assert_eq!(admin.all::<TopicSpec>().await.expect("list").len(), 1);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_consumer_offsets_is_renewed_when_it_is_deleted_by_force() {
    let broker = start_temporary().await;
    create_topic(&broker, "orders", 1).await;
    let client = client(&broker).await;
    send_all(
        &producer(&client, "orders").await,
        ["a".to_owned(), "b".to_owned()],
    )
    .await;
    let known = crate::offsets::commit_at_end(&client, "orders", "reader").await;
    assert_eq!(known, 1);
    let admin = admin(&broker).await;
    assert!(admin.delete::<TopicSpec>("consumer-offset").await.is_err());
    admin
        .force_delete::<TopicSpec>("consumer-offset")
        .await
        .expect("deleted");
    let offsets = client.consumer_offsets().await.expect("offsets");
    assert!(offsets.is_empty(), "{offsets:?}");
    let later = crate::support::client(&broker).await;
    assert_eq!(
        crate::offsets::commit_at_end(&later, "orders", "reader").await,
        1
    );
    let error = patient(later.topic_producer("unknown")).await.err();
    assert!(
        error.is_some(),
        "and at once, because a topic is always named"
    );
    broker.shutdown().await;
}

/// A real cluster lists the partitions of all topics, whatever the filter.
async fn partitions_of(admin: &FluvioAdmin, topic: &str) -> Vec<Metadata<PartitionSpec>> {
    let mut partitions = admin
        .list::<PartitionSpec, _>(vec![topic.to_owned()])
        .await
        .expect("partitions");
    partitions.retain(|partition| {
        let named = partition.name.rsplit_once('-');
        named.is_some_and(|(of, _)| of == topic)
    });
    partitions
}

async fn a_topic_can_be_created_listed_described_and_deleted(cluster: &Cluster) {
    let admin = admin(cluster).await;
    let mut spec = TopicSpec::new_computed(3, 1, None);
    spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
        time_in_seconds: 3600,
    }));
    spec.set_compression_type(CompressionAlgorithm::Lz4);
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(1 << 20),
        max_partition_size: Some(1 << 30),
    });
    let orders = &cluster.topic_with("orders", spec.clone()).await;
    let all = admin.all::<TopicSpec>().await.expect("list");
    assert!(all.iter().any(|topic| &topic.name == orders));
    assert!(all.iter().all(|topic| topic.name != "consumer-offset"));
    let described = admin
        .list::<TopicSpec, _>(vec![orders.to_owned()])
        .await
        .expect("describe");
    assert_eq!(described.len(), 1);
    assert_eq!(described[0].spec, spec);
    assert_eq!(described[0].status.resolution, TopicResolution::Provisioned);
    assert_eq!(described[0].status.replica_map.len(), 3);
    let partitions = partitions_of(&admin, orders).await;
    assert_eq!(partitions.len(), 3);
    assert!(partitions
        .iter()
        .all(|partition| partition.status.is_online() && partition.status.size >= 0));
    admin.delete::<TopicSpec>(orders).await.expect("delete");
    let all = admin.all::<TopicSpec>().await.expect("list");
    assert!(all.iter().all(|topic| &topic.name != orders));
}

async fn mistakes_have_the_texts_that_scripts_look_for(cluster: &Cluster) {
    let admin = admin(cluster).await;
    let create = |name: &str, partitions| {
        let spec = TopicSpec::new_computed(partitions, 1, None);
        admin.create(name.to_owned(), false, spec)
    };
    let orders = &cluster.topic("orders", 1).await;
    let error = |result: anyhow::Result<()>| result.expect_err("refused").to_string();
    assert_eq!(error(create(orders, 1).await), "Topic already exists");
    let invalid = error(create("Orders!", 1).await);
    assert!(
        invalid.to_lowercase().starts_with("invalid topic name"),
        "{invalid}"
    );
    assert_eq!(
        error(create(&cluster.name("none"), 0).await),
        "partition must be greater than 0"
    );
    let mut short = TopicSpec::new_computed(1, 1, None);
    short.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy {
        time_in_seconds: 3,
    }));
    assert_eq!(
        error(admin.create(cluster.name("short"), false, short).await),
        "retention_secs 3 is less than minimum 10"
    );
    assert_eq!(
        error(admin.delete::<TopicSpec>("nothing").await),
        "Topic not found"
    );
    assert!(error(admin.delete::<TopicSpec>("consumer-offset").await)
        .contains("can only be deleted forcibly"));
}

async fn a_topic_that_cannot_be_placed_is_refused_at_once(cluster: &Cluster) {
    let spec = TopicSpec::new_computed(1, 1000, None);
    let name = cluster.name("thousand");
    cluster.remove_topic_later(&name);
    let admin = admin(cluster).await;
    let asked = admin.create(name, false, spec);
    let refused = match cluster.is_real() {
        true => tokio::time::timeout(Duration::from_secs(5), asked).await,
        false => Ok(patient(asked).await),
    };
    let refused = refused.is_ok_and(|answer| {
        answer.is_err_and(|error| error.to_string().contains("replication factor 1000"))
    });
    cluster.differs(Difference::Unplaceable, refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_spu_is_online_at_the_address_that_was_bound() {
    let broker = start_temporary().await;
    let spus = admin(&broker).await.all::<SpuSpec>().await.expect("list");
    assert_eq!(spus.len(), 1);
    assert_eq!(
        spus[0].spec.public_endpoint.addr(),
        broker.spu_addr().to_string()
    );
    assert!(spus[0].status.is_online());
    broker.shutdown().await;
}

async fn a_topic_is_known_to_connected_clients_soon_after_its_creation(cluster: &Cluster) {
    let others = [client(cluster).await, client(cluster).await];
    for other in &others {
        // Opens the second set of watches, which would otherwise begin with the new topics.
        let _ = patient(other.topic_producer("consumer-offset"))
            .await
            .expect("producer");
    }
    for round in 0..20 {
        let name = cluster.topic(&format!("round-{round}"), 1).await;
        for other in &others {
            // The client's own tasks may lag behind what the broker has sent, and a real cluster
            // tells other clients when it likes: try again.
            let started = std::time::Instant::now();
            while let Err(error) = patient(other.topic_producer(&name)).await {
                let patience = if cluster.is_real() { PATIENCE } else { SOON };
                assert!(started.elapsed() < patience, "{error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn an_unknown_topic_is_refused_at_once(cluster: &Cluster) {
    let client = client(cluster).await;
    let started = std::time::Instant::now();
    assert!(client.topic_producer("nothing").await.is_err());
    assert!(
        started.elapsed().as_secs() < 10,
        "waited for metadata that never came"
    );
}

async fn partitions_can_be_added_to_a_topic(cluster: &Cluster) {
    let orders = &cluster.topic("orders", 1).await;
    let admin = admin(cluster).await;
    let action = UpdateTopicAction::AddPartition(AddPartition { count: 2 });
    admin
        .update::<TopicSpec>(orders.to_owned(), action)
        .await
        .expect("update");
    let started = std::time::Instant::now();
    loop {
        let partitions = partitions_of(&admin, orders).await;
        if partitions.len() == 3 {
            return;
        }
        // A real cluster answers before the partitions are there.
        let patience = if cluster.is_real() {
            PATIENCE
        } else {
            Duration::ZERO
        };
        assert!(
            started.elapsed() < patience,
            "{} partitions",
            partitions.len()
        );
    }
}
