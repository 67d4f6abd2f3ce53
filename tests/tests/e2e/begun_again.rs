//! What voids the log: it is noticed within seconds, MySQL keeps what it has, and the printed command brings everything
//! back while writers go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use sqlx::Executor;

use crate::binary::said;
use crate::cases::Remedy;
use crate::load::Loaded;

const WRITERS: u64 = 4;
/// Seconds, on a busy machine too. A restored server first has to come up.
const SOON: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until `status` says one of these, and what mends it.
async fn noticed(loaded: &Loaded, codes: &[&str]) -> anyhow::Result<Remedy> {
    let began = Instant::now();
    loop {
        let status = loaded.run(&["status"]).await?;
        let text = said(&status);
        let line = text.lines().find(|line| {
            codes.iter().any(|code| line.contains(code)) && line.contains("`millrace ")
        });
        if let Some(line) = line {
            println!("after {:.1} s: {line}", began.elapsed().as_secs_f64());
            ensure!(status.status.code() != Some(0), "{text}");
            return Remedy::printed(line);
        }
        ensure!(
            began.elapsed() < SOON,
            "{codes:?}: {text}\n{}",
            loaded.demo.log()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tables and marts can be read.
async fn rows(loaded: &Loaded) -> anyhow::Result<i64> {
    let mut target = loaded.target().await?;
    let count =
        "SELECT (SELECT COUNT(*) FROM kept) + (SELECT COUNT(*) FROM mart_user_loyalty_points)";
    Ok(sqlx::query_scalar(count).fetch_one(&mut target).await?)
}

/// A table that the writers leave alone.
const KEPT: &str = "CREATE TABLE source.kept (id int PRIMARY KEY, name text);
    INSERT INTO source.kept SELECT n, 'kept ' || n FROM generate_series(1, 100) n;";
/// Changes that nobody tells capture of.
const UNSEEN: &str = "UPDATE source.kept SET name = 'unseen' WHERE id % 2 = 0;
    DELETE FROM source.kept WHERE id % 7 = 0";

/// Notices, mends, and is equal.
async fn mended(loaded: &mut Loaded, codes: &[&str]) -> anyhow::Result<()> {
    let remedy = noticed(loaded, codes).await?;
    ensure!(rows(loaded).await? > 0);
    let before = loaded.commits();
    let began = Instant::now();
    let took = |what: &str| println!("{what} after {:.1} s", began.elapsed().as_secs_f64());
    remedy.apply(loaded).await?;
    took("begun again");
    ensure!(rows(loaded).await? > 0);
    loaded.all_live().await?;
    took("tables live");
    loaded.marts_live().await?;
    took("marts live");
    loaded.is_equal().await?;
    took("equal");
    ensure!(loaded.commits() > before, "that is no load");
    Ok(())
}

/// Ends the walsender and, before capture is back, does something to the slot.
async fn to_the_slot(loaded: &mut Loaded, what: &str) -> anyhow::Result<()> {
    let end =
        "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE active";
    let done = format!(
        "SELECT count({what}) FROM pg_replication_slots WHERE NOT active AND NOT temporary"
    );
    let deadline = Instant::now() + SOON;
    loop {
        let _ended: i64 = sqlx::query_scalar(end)
            .fetch_one(&mut loaded.source)
            .await?;
        loaded.in_source(UNSEEN).await?;
        let done: Result<i64, _> = sqlx::query_scalar(&done)
            .fetch_one(&mut loaded.source)
            .await;
        if matches!(done, Ok(1)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{what}: {done:?}");
    }
}

/// Case 18, and a slot that somebody drops or moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_and_a_slot_that_somebody_meddles_with() -> anyhow::Result<()> {
    let mut loaded = Loaded::open("case-18", KEPT, WRITERS).await?;
    let publication: String = sqlx::query_scalar("SELECT pubname::text FROM pg_publication")
        .fetch_one(&mut loaded.source)
        .await?;
    loaded
        .in_source(&format!("DROP PUBLICATION {publication}"))
        .await?;
    loaded.in_source(UNSEEN).await?;
    mended(&mut loaded, &["capture-publication-gone"]).await?;
    to_the_slot(&mut loaded, "pg_drop_replication_slot(slot_name)").await?;
    mended(&mut loaded, &["capture-slot-missing"]).await?;
    let advance = "pg_replication_slot_advance(slot_name, pg_current_wal_lsn())";
    to_the_slot(&mut loaded, advance).await?;
    mended(&mut loaded, &["capture-log-lost-records"]).await?;
    loaded.close().await
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp {} {}", from.display(), to.display());
    Ok(())
}

fn kept(data: &Path) -> PathBuf {
    data.with_extension("kept")
}

/// With a copy of the data directory as it was a while ago.
async fn with_a_copy(name: &str) -> anyhow::Result<Loaded> {
    let loaded = Loaded::open(name, KEPT, WRITERS).await?;
    let loaded = loaded
        .with_postgres_down(|data| copy(data, &kept(data)))
        .await?;
    let (before, began) = (loaded.commits(), Instant::now());
    while loaded.commits() < before + 50 {
        ensure!(began.elapsed() < SOON, "nobody writes");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let moved = loaded.run(&["wait-for", "--timeout", "60"]).await?;
    ensure!(moved.status.success(), "{}", said(&moved));
    Ok(loaded)
}

fn restore(data: &Path) -> anyhow::Result<()> {
    copy(&kept(data), data)
}

/// The next start recovers what there is, and begins a timeline of its own.
fn restore_and_promote(data: &Path) -> anyhow::Result<()> {
    restore(data)?;
    let cluster = [data.to_owned(), data.join("data")]
        .into_iter()
        .find(|folder| folder.join("PG_VERSION").exists())
        .context("no cluster")?;
    let settings = cluster.join("postgresql.auto.conf");
    let known = std::fs::read_to_string(&settings).unwrap_or_default();
    std::fs::write(
        settings,
        known + "restore_command = 'false'\nhot_standby = off\n",
    )?;
    let signal = cluster.join("recovery.signal");
    copy(&cluster.join("PG_VERSION"), &signal)
}

const RESTORED: [&str; 2] = ["capture-log-ahead", "capture-history-differs"];

#[tokio::test(flavor = "multi_thread")]
async fn a_source_restored_from_an_older_copy_under_everything() -> anyhow::Result<()> {
    let loaded = with_a_copy("restored").await?;
    let mut loaded = loaded.with_postgres_down(restore).await?;
    loaded.in_source(UNSEEN).await?;
    mended(&mut loaded, &RESTORED).await?;
    loaded.close().await
}

/// Nobody follows it until it has written more than was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_restored_and_promoted_while_nobody_followed() -> anyhow::Result<()> {
    let mut loaded = with_a_copy("promoted").await?;
    let (_, well) = loaded.demo.interrupt()?;
    ensure!(well, "{}", loaded.demo.log());
    let end = "SELECT pg_current_wal_lsn()::text";
    let lost: String = sqlx::query_scalar(end)
        .fetch_one(&mut loaded.source)
        .await?;
    loaded = loaded.with_postgres_down(restore_and_promote).await?;
    loaded.in_source(UNSEEN).await?;
    let beyond = format!("SELECT pg_current_wal_lsn() > '{lost}'");
    while !sqlx::query_scalar::<_, bool>(&beyond)
        .fetch_one(&mut loaded.source)
        .await?
    {
        loaded.source.execute("SELECT pg_switch_wal()").await?;
        loaded
            .source
            .execute("UPDATE source.kept SET name = name || '.'")
            .await?;
    }
    loaded.start_again()?;
    mended(&mut loaded, &RESTORED[1..]).await?;
    loaded.close().await
}
