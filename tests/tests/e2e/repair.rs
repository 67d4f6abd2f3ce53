//! `verify` at work all the time under writers that change keys, truncate and toast: it finds nothing that is not there,
//! and everything that is; and what `verify --repair` mends is equal afterwards.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sqlx::Executor;

use crate::binary::said;
use crate::load::{is_live, Loaded};

/// Rows that the writers leave alone, in one table that stands still and in one that does not.
const VICTIMS: &str = "
    CREATE TABLE source.still (id int PRIMARY KEY, v text, at timestamptz DEFAULT '2026-01-01 00:00+00');
    INSERT INTO source.still SELECT n, 'value ' || n FROM generate_series(1, 500) n;
    CREATE TABLE source.moving (k text COLLATE \"und-x-icu\" PRIMARY KEY, v text, n numeric);
    INSERT INTO source.moving SELECT 'key ' || n, repeat('v', 3000), n * 1.5 FROM generate_series(1, 500) n;";
/// Somebody keeps changing other rows of the second.
const MOVE: &str = "UPDATE source.moving SET n = n + 1 WHERE k = 'key 500'";

const MART: &str = "mart_user_loyalty_points";

const WRITERS: u64 = 8;
const ROUNDS: usize = 8;
const SOON: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One change of MySQL by hand: where, and what.
fn tampering(random: &mut StdRng) -> (&'static str, String) {
    let row = random.random_range(1..=400);
    let changes = [
        (
            "still",
            format!("UPDATE still SET v = CONCAT(v, ' ') WHERE id = {row}"),
        ),
        (
            "still",
            format!("UPDATE still SET v = NULL WHERE id = {row}"),
        ),
        (
            "still",
            format!("UPDATE still SET at = at + INTERVAL 1 MICROSECOND WHERE id = {row}"),
        ),
        (
            "still",
            format!("UPDATE still SET id = 1000 WHERE id = {row}"),
        ),
        ("still", format!("DELETE FROM still WHERE id = {row}")),
        (
            "still",
            "INSERT INTO still (id, v) VALUES (2000, '')".to_owned(),
        ),
        (
            "moving",
            format!("UPDATE moving SET v = REVERSE(CONCAT('w', v)) WHERE k = 'key {row}'"),
        ),
        (
            "moving",
            format!("UPDATE moving SET n = n + 0.000001 WHERE k = 'key {row}'"),
        ),
        (
            "moving",
            format!("DELETE FROM moving WHERE k = 'key {row}'"),
        ),
        (
            "moving",
            "INSERT INTO moving (k, v) VALUES ('KEY 1', 'v')".to_owned(),
        ),
    ];
    let (table, sql) = &changes[random.random_range(0..changes.len())];
    (table, sql.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_at_random_is_found_and_repaired_under_eight_writers() -> anyhow::Result<()> {
    let seed = rand::random();
    println!("tampering with seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut loaded = Loaded::open("repair", VICTIMS, WRITERS).await?;
    let mut target = loaded.target().await?;
    for round in 0..ROUNDS {
        loaded.in_source(MOVE).await?;
        loaded
            .is_equal()
            .await
            .with_context(|| format!("round {round}"))?;
        let before = loaded.commits();
        let (table, sql) = tampering(&mut random);
        let changed = target.execute(sql.as_str()).await?.rows_affected();
        ensure!(changed == 1, "{changed} rows: {sql}");
        let source = format!("source.{table}");
        // Every other time by name.
        let named = ["--repair", &source];
        let (code, report) = loaded.answer(&named[..1 + round % 2]).await?;
        ensure!(code == Some(1), "{sql}: {report:#}");
        let found = different(&report);
        ensure!(found == [&source], "{sql}: {found:?} in {report:#}");
        loaded.until(&source, is_live).await?;
        ensure!(loaded.commits() > before + 10, "that is no load");
    }
    loaded.close().await
}

/// Tables and marts that differ.
fn different(report: &Value) -> Vec<&str> {
    let subjects = ["tables", "marts"].map(|part| report[part].as_array());
    let subjects = subjects.into_iter().flatten().flatten();
    subjects
        .filter(|subject| subject["equal"] != true)
        .filter_map(|subject| subject["name"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mart_that_was_edited_or_dropped_by_hand_is_built_again() -> anyhow::Result<()> {
    let loaded = Loaded::open("repair-mart", VICTIMS, 0).await?;
    let nothing = loaded.run(&["verify", "--repair"]).await?;
    ensure!(nothing.status.code() == Some(0), "{}", said(&nothing));
    ensure!(
        said(&nothing).contains("nothing to repair"),
        "{}",
        said(&nothing)
    );

    let mut target = loaded.target().await?;
    let stranger =
        "INSERT INTO mart_user_loyalty_points (millrace_key, user_id, total_loyalty_points) \
        VALUES (UNHEX(SHA2('stranger', 256)), 987654, 5)";
    target.execute(stranger).await?;
    let repaired = loaded.run(&["verify", "--repair"]).await?;
    ensure!(repaired.status.code() == Some(1), "{}", said(&repaired));
    let told = said(&repaired);
    ensure!(
        told.contains("built again: mart_user_loyalty_points"),
        "{told}"
    );
    until_equal(&loaded).await?;

    // The projector misses it, too.
    target
        .execute("DROP TABLE mart_user_loyalty_points")
        .await?;
    let repaired = loaded.run(&["verify", "--repair"]).await?;
    println!("dropped by hand: {}", said(&repaired));
    until_equal(&loaded).await?;

    // By name, as a person would who has read what `verify` says.
    target.execute(stranger).await?;
    let before = mart(&loaded).await?;
    let asked = loaded.run(&["marts", "rebuild", MART]).await?;
    ensure!(asked.status.success(), "{}", said(&asked));
    let is_new = |now: &Value| now["state"] == "live" && now["since"] != before["since"];
    let deadline = Instant::now() + SOON;
    while !is_new(&mart(&loaded).await?) {
        ensure!(Instant::now() < deadline, "{}", loaded.demo.log());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (code, report) = loaded.answer(&[]).await?;
    ensure!(code == Some(0), "{report:#}");
    let unknown = loaded.run(&["marts", "rebuild", "nowhere"]).await?;
    ensure!(unknown.status.code() == Some(1), "{}", said(&unknown));
    ensure!(
        said(&unknown).contains("keeps no mart nowhere"),
        "{}",
        said(&unknown)
    );
    drop(target);
    loaded.close().await
}

/// The mart as `marts list` shows it.
async fn mart(loaded: &Loaded) -> anyhow::Result<Value> {
    let listed = loaded.run(&["marts", "list", "--json"]).await?;
    let answer: Value = serde_json::from_slice(&listed.stdout)?;
    let mut marts = answer["marts"].as_array().into_iter().flatten();
    let found = marts.find(|mart| mart["name"] == MART);
    found.cloned().with_context(|| said(&listed))
}

/// A mart that is built again says so nowhere but in what `verify` finds.
async fn until_equal(loaded: &Loaded) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let (code, report) = loaded.answer(&[]).await?;
        if code == Some(0) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{report:#}\n{}",
            loaded.demo.log()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
