//! Broker, capture and projector as processes of their own, each killed again and again while tables are copied under load.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_cli::servers::{free_ports, ScratchDir};
use millrace_events::Record;
use millrace_tests::harness::{Servers, PATIENCE};
use millrace_tests::seed;
use millrace_topic::{Cluster, Read};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sqlx::{Executor, PgConnection};
use tokio::task::JoinSet;

use crate::binary::{binary, said};

/// One large table, one of values out of line whose keys change, one of a composite key of text.
pub(crate) fn tables(rows: u64) -> String {
    format!(
        "CREATE TABLE source.ledger (id bigint PRIMARY KEY, account int NOT NULL, amount numeric(12, 2) NOT NULL, note text, at timestamptz NOT NULL);
         CREATE TABLE source.letters (id int PRIMARY KEY, opened boolean NOT NULL, body text);
         CREATE TABLE source.shelves (room text, shelf int, books int NOT NULL, PRIMARY KEY (room, shelf));
         ALTER TABLE source.letters ALTER body SET STORAGE EXTERNAL;
         INSERT INTO source.ledger SELECT i, i % 5000, i % 100000 / 100.0, 'entry ' || i, timestamptz '2026-01-01 00:00+00' + i * interval '1 second' FROM generate_series(1, {rows}) i;
         INSERT INTO source.letters SELECT i, false, repeat(md5(i::text), 90) FROM generate_series(1, {letters}) i;
         INSERT INTO source.shelves SELECT 'room ' || i % 40, i, i FROM generate_series(1, {shelves}) i;
         ANALYZE",
        letters = rows / 100,
        shelves = rows / 20,
    )
}

const WRITERS: u64 = 6;
pub(crate) const SERVICES: [&str; 3] = ["broker", "capture", "project"];
/// Rows of the large table; a long run sets `MILLRACE_TEST_ROWS`.
const ROWS: u64 = 60_000;
const KILLS_MIN: u64 = 6;
/// Resident memory that no service may exceed, in kB, however many rows there are.
pub(crate) const PEAK_MAX: u64 = 150 * 1024;

fn rows() -> anyhow::Result<u64> {
    match std::env::var("MILLRACE_TEST_ROWS") {
        Ok(text) => text.parse().context("MILLRACE_TEST_ROWS"),
        Err(_) => Ok(ROWS),
    }
}

/// The port in the URL of a database.
fn port_in(url: &str) -> anyhow::Result<String> {
    let address = url.rsplit_once('@').map(|(_, address)| address);
    let port = address.and_then(|address| address.split(['/', ':']).nth(1));
    Ok(port.with_context(|| format!("a port in {url}"))?.to_owned())
}

/// The services, and what is the same for all of them.
pub(crate) struct Services {
    folder: ScratchDir,
    settings: Vec<(&'static str, String)>,
    running: BTreeMap<&'static str, Child>,
    /// Largest resident memory of any process of a service so far, in kB.
    pub(crate) peaks: BTreeMap<&'static str, u64>,
}

impl Services {
    pub(crate) fn new(servers: &Servers) -> anyhow::Result<Services> {
        let folder = ScratchDir::new("services")?;
        let names = ["fluvio", "spu", "capture", "project"];
        let ports = free_ports(folder.path(), &names)?;
        let settings = [
            ("MILLRACE_TABLES", "source.*".to_owned()),
            ("MILLRACE_CONTROL_TOKEN", "token".to_owned()),
            ("POSTGRES_PORT", port_in(&servers.postgres.url())?),
            ("MYSQL_PORT", port_in(&servers.mysql.url())?),
            ("FLUVIO_PORT", ports["fluvio"].to_string()),
            ("FLUVIO_SPU_PORT", ports["spu"].to_string()),
            (
                "MILLRACE_CAPTURE_CONTROL_PORT",
                ports["capture"].to_string(),
            ),
            ("MILLRACE_CONTROL_PORT", ports["project"].to_string()),
            ("MILLRACE_SNAPSHOT_READERS", "4".to_owned()),
        ];
        Ok(Services {
            folder,
            settings: settings.to_vec(),
            running: BTreeMap::new(),
            peaks: BTreeMap::new(),
        })
    }

    fn setting(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.settings.iter().find(|(named, _)| *named == name);
        found.map(|(_, value)| value.as_str()).context("not set")
    }

    /// `millrace COMMAND`, without a settings file.
    pub(crate) fn command(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg(name).current_dir(self.folder.path());
        let settings = self.settings.iter();
        command.envs(settings.map(|(name, value)| (*name, value.as_str())));
        Ok(command)
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// The end of what a service said.
    fn log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.log_file(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn start(&mut self, name: &'static str) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file(name))?;
        let mut command = self.command(name)?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.running.insert(name, command.stderr(log).spawn()?);
        Ok(())
    }

    fn peak(&self, name: &str) -> u64 {
        self.running.get(name).map_or(0, peak_of)
    }

    pub(crate) fn note_peak(&mut self, name: &'static str) {
        let peak = self.peak(name);
        let largest = self.peaks.entry(name).or_default();
        *largest = peak.max(*largest);
    }

    pub(crate) fn kill(&mut self, name: &'static str) -> anyhow::Result<()> {
        self.note_peak(name);
        let mut child = self.running.remove(name).context("it does not run")?;
        let ended = child.try_wait()?;
        ensure!(ended.is_none(), "{name} has ended: {}", self.log(name));
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Runs a command of a person to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command(arguments[0])?;
        Ok(command.args(&arguments[1..]).output()?)
    }

    /// Whether so many tables are live, and none is being copied.
    pub(crate) fn all_live(&self, count: usize) -> bool {
        let listed = self.run(&["tables", "list", "--json"]);
        let listed = listed.ok().filter(|listed| listed.status.success());
        let answer = listed.and_then(|listed| serde_json::from_slice::<Value>(&listed.stdout).ok());
        let tables = answer.and_then(|answer| answer["tables"].as_array().cloned());
        let is_live = |table: &Value| table["state"] == "live" && table["copy"].is_null();
        tables.is_some_and(|tables| tables.len() == count && tables.iter().all(is_live))
    }

    /// Runs a command until it says yes.
    pub(crate) fn until_well(
        &self,
        arguments: &[&str],
        patience: Duration,
    ) -> anyhow::Result<Output> {
        let deadline = Instant::now() + patience;
        loop {
            let output = self.run(arguments)?;
            if output.status.success() {
                return Ok(output);
            }
            let logs = SERVICES.map(|name| format!("--- {name}\n{}", self.log(name)));
            let in_time = Instant::now() < deadline;
            ensure!(
                in_time,
                "{arguments:?}: {}\n{}",
                said(&output),
                logs.join("\n")
            );
        }
    }
}

/// The largest resident memory of a process so far (proc(5), `VmHWM`), in kB; 0 if it has ended.
pub(crate) fn peak_of(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

impl Drop for Services {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Sessions that change all three tables until stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: JoinSet<anyhow::Result<()>>,
}

impl Load {
    pub(crate) async fn start(servers: &Servers, rows: u64, seed: u64) -> anyhow::Result<Load> {
        let mut load = Load {
            stop: Arc::default(),
            committed: Arc::default(),
            writers: JoinSet::new(),
        };
        for number in 0..WRITERS {
            let connection = servers.source().await?;
            let rng = StdRng::seed_from_u64(seed + number);
            let (stop, committed) = (load.stop.clone(), load.committed.clone());
            let write = write(connection, rng, rows, stop, committed);
            load.writers.spawn(write);
        }
        Ok(load)
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        Ok(self.committed.load(Ordering::Relaxed))
    }
}

async fn write(
    mut connection: PgConnection,
    mut rng: StdRng,
    rows: u64,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let changes: Vec<String> = (0..rng.random_range(1..4))
            .map(|_| change(&mut rng, rows))
            .collect();
        let transaction = format!("BEGIN; {}; COMMIT", changes.join("; "));
        match connection.execute(sqlx::raw_sql(&transaction)).await {
            Ok(_) => _ = committed.fetch_add(1, Ordering::Relaxed),
            // A key was taken, or two waited for each other.
            Err(sqlx::Error::Database(_)) => _ = connection.execute("ROLLBACK").await?,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..40))).await;
    }
    Ok(())
}

fn change(rng: &mut StdRng, rows: u64) -> String {
    let id = rng.random_range(1..=rows);
    let other = rng.random_range(1..=rows + 1_000);
    let letter = rng.random_range(1..=rows / 100);
    let shelf = rng.random_range(1..=rows / 20);
    match rng.random_range(0..9) {
        0 => format!("UPDATE source.ledger SET amount = amount + 1 WHERE id BETWEEN {id} AND {id} + 20"),
        1 => format!("DELETE FROM source.ledger WHERE id = {id}"),
        2 => format!("INSERT INTO source.ledger VALUES ({other}, 1, 2.5, NULL, now()) ON CONFLICT DO NOTHING"),
        3 => format!("UPDATE source.ledger SET id = {other} WHERE id = {id}"),
        4 => format!("UPDATE source.letters SET opened = NOT opened WHERE id = {letter}"),
        5 => format!("UPDATE source.letters SET id = -id WHERE id IN ({letter}, -{letter})"),
        6 => format!("UPDATE source.letters SET body = repeat(md5(random()::text), 70) WHERE id = {letter}"),
        7 => format!("UPDATE source.shelves SET room = 'room ' || {letter}, books = books + 1 WHERE shelf = {shelf}"),
        _ => format!("DELETE FROM source.shelves WHERE shelf = {shelf}"),
    }
}

/// Kills one service after the other, each at a random moment, until all tables are live.
fn kill_until_live(
    services: &mut Services,
    rng: &mut StdRng,
    patience: Duration,
) -> anyhow::Result<u64> {
    let deadline = Instant::now() + patience;
    let mut kills = 0;
    while kills < KILLS_MIN || !services.all_live(3) {
        let pause = rng.random_range(100..1_500 + 500 * kills.min(20));
        std::thread::sleep(Duration::from_millis(pause));
        let victim = SERVICES[rng.random_range(0..SERVICES.len())];
        services.kill(victim)?;
        services.start(victim)?;
        kills += 1;
        ensure!(
            Instant::now() < deadline,
            "not live after {kills} kills: {}",
            services.log("project")
        );
    }
    Ok(kills)
}

/// Rows of all chunks of a topic, and of the copies that became complete.
async fn rows_in(cluster: &Cluster, topic: &str) -> anyhow::Result<(u64, u64)> {
    let (mut read, mut copied) = (0, 0);
    let mut reading = cluster.read(Read::new(topic).until_now()).await?;
    while let Some(record) = reading.next().await? {
        match Record::decode_counting_rows(&record.value)? {
            Record::Chunk(chunk) => read += chunk.rows.len() as u64,
            Record::Copied(table) => copied += table.rows,
            _ => {}
        }
    }
    Ok((read, copied))
}

/// Rows that the copies consist of, and how many more were read than that.
async fn rows_read(services: &Services) -> anyhow::Result<(u64, u64)> {
    let port = services.setting("FLUVIO_PORT")?;
    let cluster = Cluster::new(format!("127.0.0.1:{port}"));
    let (mut read, mut copied) = (0, 0);
    for topic in cluster.topics().await? {
        let rows = rows_in(&cluster, &topic.name).await?;
        read += rows.0;
        copied += rows.1;
    }
    Ok((copied, read - copied))
}

#[tokio::test(flavor = "multi_thread")]
async fn services_killed_one_by_one_during_a_copy_under_load_end_equal() -> anyhow::Result<()> {
    let (rows, seed) = (rows()?, seed());
    let patience = PATIENCE + Duration::from_millis(rows / 2);
    let servers = Servers::start("services").await?;
    let mut source = servers.source().await?;
    source.execute(sqlx::raw_sql(&tables(rows))).await?;
    let load = Load::start(&servers, rows, seed).await?;
    let mut services = Services::new(&servers)?;
    for name in SERVICES {
        services.start(name)?;
    }
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut services, kills) = tokio::task::spawn_blocking(move || {
        let kills = kill_until_live(&mut services, &mut rng, patience)?;
        anyhow::Ok((services, kills))
    })
    .await??;
    let took = began.elapsed();
    let committed = load.stop().await?;
    let report = services.until_well(&["verify"], patience)?;
    for name in SERVICES {
        services.note_peak(name);
    }
    let (copied, twice) = rows_read(&services).await?;
    println!(
        "{kills} kills of {SERVICES:?} in {took:?}, {committed} transactions meanwhile; {copied} rows copied, {twice} rows read twice; VmHWM in kB: {:?}\n{}",
        services.peaks,
        said(&report)
    );
    let too_large = services.peaks.values().any(|peak| *peak > PEAK_MAX);
    ensure!(!too_large, "more than {PEAK_MAX} kB: {:?}", services.peaks);
    drop(services);
    servers.stop().await
}
