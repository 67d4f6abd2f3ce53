//! Positions of the services as consumer offsets.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use millrace_cli::endpoints::Endpoints;
use millrace_cli::mirror;
use millrace_topic::Cluster;

use crate::binary::Demo;

const WITHIN: Duration = Duration::from_secs(60);

/// Whatever is in a topic at some moment is behind its consumer's offset soon after, and no consumer is
/// ever beyond the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_consumers_follows_the_projector_and_ingest() -> anyhow::Result<()> {
    let mut demo = Demo::new("mirror")?;
    demo.start()?;
    let demo = tokio::task::spawn_blocking(move || demo.wait_for().map(|()| demo)).await??;
    let endpoint = Endpoints::read(&demo.data_dir())?.fluvio;
    let cluster = Cluster::new(endpoint);
    let topics = [
        (mirror::PROJECTOR, "shop-changes"),
        (mirror::INGEST, "users-data"),
    ];
    for (consumer, topic) in topics {
        let mut last = cluster.end(topic).await?.to_i64() - 1;
        let deadline = Instant::now() + WITHIN;
        loop {
            let known = cluster.consumers().await?;
            let mut offsets: HashMap<_, _> = known
                .into_iter()
                .map(|known| ((known.name, known.topic), known.offset.to_i64()))
                .collect();
            let shown = offsets.remove(&(consumer.to_owned(), topic.to_owned()));
            let end = cluster.end(topic).await?.to_i64();
            // The first user may arrive later than the test.
            if last < 0 {
                last = end - 1;
            }
            ensure!(shown < Some(end), "{consumer}: {shown:?} of {end}");
            if last >= 0 && shown >= Some(last) {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{consumer} shows {shown:?}, {topic} ended at {last}\n{}",
                demo.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}
