//! What does the broker cost, what does its fsync cost, and how does it compare with a real SPU?
//!
//! `cargo run --release -p millrace-broker --example broker_bench [ROUNDS] [RECORDS] [BYTES]`
//!
//! The same unmodified client meets, in turn within each round: this broker with fsync, this
//! broker without, and, if `MILLRACE_BENCH_FLUVIO=host:port` names its controller, a real cluster
//! (whose SPU never fsyncs). Each is a process of its own, and gets a new topic in each round.
//! What is printed are medians over the rounds; ratios are medians of the ratios within one round.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::topic::{TopicSpec, TopicStorageConfig};
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, TopicProducerConfigBuilder,
    TopicProducerPool,
};
use futures_util::StreamExt;
use millrace_broker::{Broker, Config, Storage};

/// A read of a whole segment is not cut in the middle of a batch by a real SPU.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
const READ_BYTES: i32 = 32 * 1024 * 1024;
const LATENCY_SAMPLES: usize = 300;
/// A real controller does not answer every creation; see the table in `broker/README.md`.
const CREATION_PATIENCE: Duration = Duration::from_secs(10);
const CREATIONS_MAX: usize = 5;

struct Contender {
    name: &'static str,
    cluster: FluvioClusterConfig,
    /// Ours ends when its standard input does.
    broker: Option<Child>,
}

/// Of one contender in one round.
#[derive(Clone, Copy)]
struct Measured {
    produced: f64,
    consumed: f64,
    p50: f64,
    p99: f64,
}

/// A measure's name and unit, where it stands in [`Measured`], and its decimals.
type Measure = (&'static str, fn(&Measured) -> f64, usize);
const MEASURES: [Measure; 4] = [
    ("produce, MiB/s", |of| of.produced, 0),
    ("consume, MiB/s", |of| of.consumed, 0),
    ("acknowledgement p50, ms", |of| of.p50, 2),
    ("acknowledgement p99, ms", |of| of.p99, 2),
];

/// As first argument: be a broker; a directory may follow.
const SERVE: &str = "serve";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some(SERVE) {
        return serve(std::env::args().nth(2)).await;
    }
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let rounds: usize = arguments.next().transpose()?.unwrap_or(5);
    let records: usize = arguments.next().transpose()?.unwrap_or(200_000);
    let bytes: usize = arguments.next().transpose()?.unwrap_or(500);
    anyhow::ensure!(
        rounds > 0 && records > 0,
        "at least one round of one record"
    );
    let dir = tempfile::tempdir_in(".")?;
    let mut contenders = vec![
        embedded("here, fsync", Some(dir.path()))?,
        embedded("here, no fsync", None)?,
    ];
    match std::env::var("MILLRACE_BENCH_FLUVIO") {
        Ok(address) => contenders.push(Contender {
            name: "real SPU",
            cluster: FluvioClusterConfig::new(address),
            broker: None,
        }),
        Err(_) => println!("no real cluster: MILLRACE_BENCH_FLUVIO=host:port is not set"),
    }
    println!("{rounds} rounds of {records} records of {bytes} bytes");
    let mut results: Vec<Vec<Measured>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        // Whoever comes first meets a colder machine: each round begins with another one.
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let contender = &contenders[which];
            let measured = measure(&contender.cluster, records, bytes)
                .await
                .with_context(|| format!("{}, round {}", contender.name, round + 1))?;
            println!(
                "round {}, {}: produce {:.0} MiB/s, consume {:.0} MiB/s, p50 {:.2} ms, p99 {:.2} ms",
                round + 1,
                contender.name,
                measured.produced,
                measured.consumed,
                measured.p50,
                measured.p99
            );
            results[which].push(measured);
        }
    }
    print_table(&contenders, &results);
    for contender in contenders {
        if let Some(mut broker) = contender.broker {
            drop(broker.stdin.take());
            broker.wait()?;
        }
    }
    Ok(())
}

fn embedded(name: &'static str, dir: Option<&std::path::Path>) -> anyhow::Result<Contender> {
    let mut broker = Command::new(std::env::current_exe()?)
        .arg(SERVE)
        .args(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = broker.stdout.take().context("standard output is piped")?;
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address)?;
    Ok(Contender {
        name,
        cluster: FluvioClusterConfig::new(address.trim()),
        broker: Some(broker),
    })
}

async fn serve(dir: Option<String>) -> anyhow::Result<()> {
    let storage = dir.map_or(Storage::Temporary, |dir| Storage::Directory(dir.into()));
    let broker = Broker::open(Config::on_loopback(storage)).await?;
    println!("{}", broker.sc_addr());
    let until_closed = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(until_closed).await??;
    broker.shutdown().await;
    Ok(())
}

async fn measure(
    cluster: &FluvioClusterConfig,
    records: usize,
    bytes: usize,
) -> anyhow::Result<Measured> {
    let admin = FluvioAdmin::connect_with_config(cluster).await?;
    let topic = create(&admin).await?;
    let client = Fluvio::connect_with_config(cluster).await?;
    let [p50, p99] = acknowledgements(&client, &topic).await?;
    let produced = produce(&client, &topic, records, bytes).await?;
    let consumed = consume(&client, &topic, records, bytes).await?;
    admin.delete::<TopicSpec>(topic).await?;
    Ok(Measured {
        produced,
        consumed,
        p50,
        p99,
    })
}

async fn create(admin: &FluvioAdmin) -> anyhow::Result<String> {
    let mut spec = TopicSpec::new_computed(1, 1, None);
    spec.set_storage(TopicStorageConfig {
        segment_size: Some(SEGMENT_BYTES),
        max_partition_size: None,
    });
    for _ in 0..CREATIONS_MAX {
        let now = std::time::UNIX_EPOCH.elapsed()?.as_millis();
        let name = format!("broker-bench-{now}");
        let creation = admin.create(name.clone(), false, spec.clone());
        if let Ok(created) = tokio::time::timeout(CREATION_PATIENCE, creation).await {
            created?;
            return Ok(name);
        }
        println!("the creation of {name} was not answered");
    }
    anyhow::bail!("{CREATIONS_MAX} creations were not answered")
}

/// Milliseconds from sending one record alone to its acknowledgement: p50 and p99.
async fn acknowledgements(client: &Fluvio, topic: &str) -> anyhow::Result<[f64; 2]> {
    let producer = producer(client, topic, Duration::ZERO).await?;
    let mut samples = Vec::with_capacity(LATENCY_SAMPLES);
    for _ in 0..LATENCY_SAMPLES {
        let started = Instant::now();
        let sent = producer.send(RecordKey::NULL, "one").await?;
        sent.wait().await?;
        samples.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    samples.sort_by(f64::total_cmp);
    Ok([0.5, 0.99].map(|quantile| samples[(quantile * samples.len() as f64) as usize]))
}

async fn produce(
    client: &Fluvio,
    topic: &str,
    records: usize,
    bytes: usize,
) -> anyhow::Result<f64> {
    let producer = producer(client, topic, Duration::from_millis(5)).await?;
    let value = vec![b'x'; bytes];
    let started = Instant::now();
    let mut outputs = Vec::with_capacity(records);
    for _ in 0..records {
        outputs.push(producer.send(RecordKey::NULL, value.clone()).await?);
    }
    for output in outputs {
        output.wait().await?;
    }
    Ok(mebibytes(records, bytes, started))
}

async fn producer(
    client: &Fluvio,
    topic: &str,
    linger: Duration,
) -> anyhow::Result<TopicProducerPool> {
    let config = TopicProducerConfigBuilder::default()
        .linger(linger)
        .batch_size(512 * 1024)
        .max_request_size(12 * 1024 * 1024)
        .build()?;
    client.topic_producer_with_config(topic, config).await
}

async fn consume(
    client: &Fluvio,
    topic: &str,
    records: usize,
    bytes: usize,
) -> anyhow::Result<f64> {
    let config = ConsumerConfigExtBuilder::default()
        .topic(topic)
        .partition(0)
        .offset_start(Offset::absolute(LATENCY_SAMPLES as i64)?)
        .max_bytes(READ_BYTES)
        .retry_mode(RetryMode::Disabled)
        .build()?;
    let started = Instant::now();
    let mut stream = client.consumer_with_config(config).await?;
    for _ in 0..records {
        let record = stream.next().await.context("the stream ended")??;
        anyhow::ensure!(record.value().len() == bytes, "a record was damaged");
    }
    Ok(mebibytes(records, bytes, started))
}

fn mebibytes(records: usize, bytes: usize, started: Instant) -> f64 {
    (records * bytes) as f64 / started.elapsed().as_secs_f64() / 1_048_576.0
}

fn print_table(contenders: &[Contender], results: &[Vec<Measured>]) {
    let mut head = String::from("\n| |");
    for contender in contenders {
        head.push_str(&format!(" {} |", contender.name));
    }
    for contender in &contenders[1..] {
        head.push_str(&format!(" {} / {} |", contenders[0].name, contender.name));
    }
    println!("{head}\n|{}", "---|".repeat(2 * contenders.len()));
    for (name, measure, decimals) in MEASURES {
        let mut row = format!("| {name} |");
        for of in results {
            let middle = median(of.iter().map(measure));
            row.push_str(&format!(" {middle:.decimals$} |"));
        }
        for other in &results[1..] {
            let ratios = results[0].iter().zip(other);
            let ratio = median(ratios.map(|(first, other)| measure(first) / measure(other)));
            row.push_str(&format!(" {ratio:.2} |"));
        }
        println!("{row}");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
