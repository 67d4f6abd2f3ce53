//! Administration: topics, partitions, the SPU.

use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::spu::SpuSpec;
use fluvio::metadata::topic::{AddPartition, TopicSpec, UpdateTopicAction};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_can_be_created_listed_described_and_deleted() {
    let broker = start_temporary().await;
    let admin = admin(&broker).await;
    admin
        .create(
            "orders".to_owned(),
            false,
            TopicSpec::new_computed(3, 1, None),
        )
        .await
        .expect("create");
    let topics = admin.all::<TopicSpec>().await.expect("list");
    assert_eq!(
        topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect::<Vec<_>>(),
        ["orders"]
    );
    let partitions = admin
        .list::<PartitionSpec, _>(vec!["orders".to_owned()])
        .await
        .expect("partitions");
    assert_eq!(partitions.len(), 3);
    assert!(partitions
        .iter()
        .all(|partition| partition.status.is_online() && partition.status.size >= 0));
    admin.delete::<TopicSpec>("orders").await.expect("delete");
    assert!(admin.all::<TopicSpec>().await.expect("list").is_empty());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_have_the_texts_that_scripts_look_for() {
    let broker = start_temporary().await;
    let admin = admin(&broker).await;
    let create = |name: &str, partitions, replicas| {
        let spec = TopicSpec::new_computed(partitions, replicas, None);
        admin.create(name.to_owned(), false, spec)
    };
    create("orders", 1, 1).await.expect("create");
    let error = |result: anyhow::Result<()>| result.expect_err("refused").to_string();
    assert_eq!(
        error(create("orders", 1, 1).await.map(|_| ())),
        "Topic already exists"
    );
    assert!(error(create("Orders!", 1, 1).await.map(|_| ())).starts_with("Invalid topic name"));
    assert!(error(create("two", 1, 2).await.map(|_| ())).contains("replication factor 2"));
    assert!(error(create("none", 0, 1).await.map(|_| ())).contains("0 partitions"));
    assert_eq!(
        error(admin.delete::<TopicSpec>("nothing").await),
        "Topic not found"
    );
    assert!(error(admin.delete::<TopicSpec>("consumer-offset").await)
        .contains("can only be deleted forcibly"));
    broker.shutdown().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_known_to_connected_clients_soon_after_its_creation() {
    let broker = start_temporary().await;
    let others = [client(&broker).await, client(&broker).await];
    for other in &others {
        // Opens the second set of watches, which would otherwise begin with the new topics.
        let _ = patient(other.topic_producer("consumer-offset"))
            .await
            .expect("producer");
    }
    for round in 0..20 {
        let name = format!("round-{round}");
        create_topic(&broker, &name, 1).await;
        for other in &others {
            // The client's own tasks may lag behind what the broker has sent: try again, not often.
            let mut tries = 0;
            while let Err(error) = patient(other.topic_producer(&name)).await {
                tries += 1;
                assert!(tries < 100, "{error}");
                tokio::task::yield_now().await;
            }
        }
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_refused_at_once() {
    let broker = start_temporary().await;
    let client = client(&broker).await;
    let started = std::time::Instant::now();
    assert!(client.topic_producer("nothing").await.is_err());
    assert!(
        started.elapsed().as_secs() < 10,
        "waited for metadata that never came"
    );
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_can_be_added_to_a_topic() {
    let broker = start_temporary().await;
    create_topic(&broker, "orders", 1).await;
    let admin = admin(&broker).await;
    let action = UpdateTopicAction::AddPartition(AddPartition { count: 2 });
    admin
        .update::<TopicSpec>("orders".to_owned(), action)
        .await
        .expect("update");
    let partitions = admin
        .list::<PartitionSpec, _>(vec!["orders".to_owned()])
        .await
        .expect("partitions");
    assert_eq!(partitions.len(), 3);
    broker.shutdown().await;
}
