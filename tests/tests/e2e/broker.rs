//! The broker as a process of its own, killed and starved.

use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Context};
use fluvio::consumer::{ConsumerConfigExtBuilder, RetryMode};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig, Offset, RecordKey, TopicProducerConfigBuilder,
    TopicProducerPool,
};
use futures_util::StreamExt;
use millrace_cli::servers::ScratchDir;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::binary::binary;

const KILLS: u32 = 100;
const PARTITIONS: u32 = 2;
/// More numbers than one round can send.
const ROUND: u64 = 1_000_000;
/// For everything that must not hang; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// `millrace broker` on ports and a directory of its own.
struct Process {
    folder: ScratchDir,
    ports: [u16; 2],
    child: Option<Child>,
}

impl Process {
    fn new(name: &str) -> anyhow::Result<Process> {
        // Both are held until both are known, so that they differ.
        let held = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)));
        let mut ports = [0; 2];
        for (port, listener) in ports.iter_mut().zip(held) {
            *port = listener?.local_addr()?.port();
        }
        Ok(Process {
            folder: ScratchDir::new(name)?,
            ports,
            child: None,
        })
    }

    fn log_dir(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts it and returns when clients may connect.
    fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        // A write beyond the limit of a file's size shall fail, not end the process.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(binary()?)
            .args(["broker", "--log-dir"])
            .arg(self.log_dir())
            .current_dir(self.folder.path())
            .env("FLUVIO_PORT", self.ports[0].to_string())
            .env("FLUVIO_SPU_PORT", self.ports[1].to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
        self.child = Some(child);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if line.starts_with("clients connect to") {
                // Whatever it says from now on must not fill the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
            said.push(line);
        }
        anyhow::bail!("the broker did not start:\n{}", said.join("\n"))
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("nothing runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The soft limit of the size of the files it writes.
    fn limit_file_size(&self, limit: &str) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("nothing runs")?;
        let status = Command::new("prlimit")
            .args(["--pid", &child.id().to_string()])
            .arg(format!("--fsize={limit}:"))
            .status()
            .context("prlimit")?;
        ensure!(status.success(), "prlimit");
        Ok(())
    }

    fn cluster(&self) -> FluvioClusterConfig {
        FluvioClusterConfig::new(format!("127.0.0.1:{}", self.ports[0]))
    }

    async fn client(&self) -> anyhow::Result<Fluvio> {
        in_time(Fluvio::connect_with_config(&self.cluster())).await?
    }

    async fn create_topic(&self, partitions: u32) -> anyhow::Result<()> {
        let admin = in_time(FluvioAdmin::connect_with_config(&self.cluster())).await??;
        let spec = TopicSpec::new_computed(partitions, 1, None);
        in_time(admin.create("load".to_owned(), false, spec)).await?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            drop(self.kill());
        }
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .context("no answer in time")
}

async fn producer(client: &Fluvio) -> anyhow::Result<TopicProducerPool> {
    let config = TopicProducerConfigBuilder::default()
        .linger(Duration::from_millis(1))
        .batch_size(4096)
        .build()?;
    in_time(client.topic_producer_with_config("load", config)).await?
}

/// Sends values from `next` on until sending fails, and notes where the acknowledged ones are.
async fn load(
    client: Fluvio,
    mut next: u64,
    acknowledged: tokio::sync::mpsc::UnboundedSender<(u64, u32, i64)>,
) -> anyhow::Result<()> {
    let producer = producer(&client).await?;
    loop {
        let mut sent = Vec::new();
        for _ in 0..50 {
            let value = format!("{next:08}{}", "x".repeat(next as usize % 300));
            sent.push((next, in_time(producer.send(RecordKey::NULL, value)).await??));
            next += 1;
        }
        for (number, output) in sent {
            let metadata = in_time(output.wait()).await??;
            acknowledged.send((number, metadata.partition_id(), metadata.offset()))?;
        }
    }
}

/// The numbers in a partition from this offset to its end, whose offsets must follow each other.
async fn read(client: &Fluvio, partition: u32, from: i64) -> anyhow::Result<Vec<u64>> {
    let config = ConsumerConfigExtBuilder::default()
        .topic("load")
        .partition(partition)
        .offset_start(Offset::absolute(from)?)
        .retry_mode(RetryMode::Disabled)
        .disable_continuous(true)
        .build()?;
    let mut stream = in_time(client.consumer_with_config(config)).await??;
    let mut numbers = Vec::new();
    while let Some(record) = in_time(stream.next()).await? {
        let record = record?;
        let expected = from + numbers.len() as i64;
        ensure!(
            record.offset == expected,
            "partition {partition}: offset {} where {expected} comes next",
            record.offset
        );
        let value = std::str::from_utf8(record.value())?;
        let (number, padding) = value.split_at(8);
        let number: u64 = number.parse()?;
        ensure!(
            padding.len() == number as usize % 300 && padding.bytes().all(|byte| byte == b'x'),
            "record {number} is damaged"
        );
        numbers.push(number);
    }
    Ok(numbers)
}

/// What the log must hold, and what of it has been seen.
#[derive(Default)]
struct Ledger {
    acknowledged: HashMap<u64, (u32, i64)>,
    found: HashMap<u64, (u32, i64)>,
    ends: [i64; PARTITIONS as usize],
}

impl Ledger {
    /// Reads what is new in the log.
    async fn read(&mut self, client: &Fluvio) -> anyhow::Result<()> {
        for (partition, end) in (0..).zip(&mut self.ends) {
            for number in read(client, partition, *end).await? {
                let before = self.found.insert(number, (partition, *end));
                ensure!(before.is_none(), "record {number} is there twice");
                *end += 1;
            }
        }
        Ok(())
    }

    /// Each acknowledged record is where its acknowledgement says.
    fn check(&self) -> anyhow::Result<()> {
        for (number, place) in &self.acknowledged {
            ensure!(
                self.found.get(number) == Some(place),
                "record {number} was acknowledged at {place:?} and is at {:?}",
                self.found.get(number)
            );
        }
        Ok(())
    }
}

/// Kills fall into writes, fsyncs and starts. What was acknowledged is there once, at its offset.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_lose_nothing_that_was_acknowledged() -> anyhow::Result<()> {
    let seed = millrace_tests::seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut broker = Process::new("broker-kill")?;
    broker.start()?;
    broker.create_topic(PARTITIONS).await?;
    let mut ledger = Ledger::default();
    let mut first = 0;
    for kill in 1..=KILLS {
        let (noted, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(load(broker.client().await?, first, noted));
        // At least one acknowledgement, then a random instant: there is no event to wait for.
        let seen = in_time(acknowledged.recv()).await?.context("no load")?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        broker.kill()?;
        // The client goes on trying to reach what is dead; that is not looked at here.
        task.abort();
        ledger.acknowledged.insert(seen.0, (seen.1, seen.2));
        while let Some((number, partition, offset)) = acknowledged.recv().await {
            ledger.acknowledged.insert(number, (partition, offset));
        }
        first += ROUND;
        broker.start()?;
        let checked = async {
            ledger.read(&broker.client().await?).await?;
            ledger.check()
        };
        checked
            .await
            .with_context(|| format!("after kill {kill}, seed {seed}"))?;
    }
    // Once more from the beginning, as somebody who sees the log for the first time.
    let mut again = Ledger {
        acknowledged: ledger.acknowledged,
        ..Ledger::default()
    };
    again.read(&broker.client().await?).await?;
    again.check()?;
    println!(
        "{KILLS} kills, {} records acknowledged, {} in the log",
        again.acknowledged.len(),
        again.found.len()
    );
    Ok(())
}

/// A disk that takes no more is played by a limit on the size of files: the same write fails half-way.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_more_can_be_written_producers_are_told_and_it_goes_on_with_room(
) -> anyhow::Result<()> {
    let mut broker = Process::new("broker-full")?;
    broker.start()?;
    broker.create_topic(PARTITIONS).await?;
    let mut ledger = Ledger::default();
    let mut first = 0;
    for kib in [64, 200, 333] {
        broker.limit_file_size(&(kib * 1024).to_string())?;
        let (noted, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
        let refused = in_time(load(broker.client().await?, first, noted)).await?;
        let error = refused.expect_err("more than the limit was taken");
        println!("at {kib} KiB: {error:#}");
        while let Some((number, partition, offset)) = acknowledged.recv().await {
            ledger.acknowledged.insert(number, (partition, offset));
        }
        first += ROUND;
        // Full, and yet everything else works.
        ledger.read(&broker.client().await?).await?;
        ledger.check()?;
    }
    broker.limit_file_size("unlimited")?;
    let client = broker.client().await?;
    let producer = producer(&client).await?;
    for number in first..first + 1000 {
        let value = format!("{number:08}{}", "x".repeat(number as usize % 300));
        let sent = in_time(producer.send(RecordKey::NULL, value)).await??;
        let metadata = in_time(sent.wait()).await??;
        ledger
            .acknowledged
            .insert(number, (metadata.partition_id(), metadata.offset()));
    }
    ledger.read(&client).await?;
    ledger.check()?;
    // What failed left nothing behind for a start to find.
    broker.kill()?;
    broker.start()?;
    let mut again = Ledger {
        acknowledged: ledger.acknowledged,
        ..Ledger::default()
    };
    again.read(&broker.client().await?).await?;
    again.check()?;
    ensure!(again.ends == ledger.ends, "the log changed by a restart");
    Ok(())
}
