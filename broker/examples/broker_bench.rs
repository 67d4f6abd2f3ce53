//! How fast is the broker on this machine? `cargo run --release -p millrace-broker --example broker_bench [records] [bytes]`

use std::time::{Duration, Instant};

use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, TopicProducerConfigBuilder,
};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Storage};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let records: usize = arguments.next().transpose()?.unwrap_or(500_000);
    let bytes: usize = arguments.next().transpose()?.unwrap_or(500);
    let dir = tempfile::tempdir_in(".")?;
    let broker = Broker::open(Config::on_loopback(Storage::Directory(
        dir.path().to_owned(),
    )))
    .await?;
    let cluster = FluvioClusterConfig::new(broker.sc_addr().to_string());
    let admin = FluvioAdmin::connect_with_config(&cluster).await?;
    admin
        .create(
            "speed".to_owned(),
            false,
            TopicSpec::new_computed(1, 1, None),
        )
        .await?;
    let client = Fluvio::connect_with_config(&cluster).await?;
    one_by_one(&client).await?;
    produce(&client, records, bytes).await?;
    consume(&client, records).await?;
    broker.shutdown().await;
    Ok(())
}

/// One record at a time: the time of an fsync and the way there and back.
async fn one_by_one(client: &Fluvio) -> anyhow::Result<()> {
    const COUNT: u32 = 200;
    let producer = client.topic_producer("speed").await?;
    let started = Instant::now();
    for _ in 0..COUNT {
        producer.send(RecordKey::NULL, "one").await?.wait().await?;
    }
    println!("one at a time: {:?} each", started.elapsed() / COUNT);
    Ok(())
}

async fn produce(client: &Fluvio, records: usize, bytes: usize) -> anyhow::Result<()> {
    let config = TopicProducerConfigBuilder::default()
        .linger(Duration::from_millis(5))
        .batch_size(512 * 1024)
        .max_request_size(12 * 1024 * 1024)
        .build()?;
    let producer = client.topic_producer_with_config("speed", config).await?;
    let value = vec![b'x'; bytes];
    let started = Instant::now();
    let mut outputs = Vec::with_capacity(records);
    for _ in 0..records {
        outputs.push(producer.send(RecordKey::NULL, value.clone()).await?);
    }
    for output in outputs {
        output.wait().await?;
    }
    report("produced", records, bytes, started);
    Ok(())
}

async fn consume(client: &Fluvio, records: usize) -> anyhow::Result<()> {
    let config = ConsumerConfigExtBuilder::default()
        .topic("speed")
        .partition(0)
        .offset_start(Offset::from_end(u32::try_from(records)?))
        .max_bytes(32 * 1024 * 1024)
        .retry_mode(RetryMode::Disabled)
        .build()?;
    let started = Instant::now();
    let mut stream = client.consumer_with_config(config).await?;
    let mut bytes = 0;
    for _ in 0..records {
        bytes += stream
            .next()
            .await
            .ok_or_else(|| anyhow::anyhow!("stream ended"))??
            .value()
            .len();
    }
    report("consumed", records, bytes / records.max(1), started);
    Ok(())
}

fn report(what: &str, records: usize, bytes: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let (rate, mib) = (
        records as f64 / seconds,
        (records * bytes) as f64 / seconds / 1_048_576.0,
    );
    println!("{what} {records} records of {bytes} bytes: {rate:.0} records/s, {mib:.0} MiB/s");
}
