//! Copies by chunk, each under a snapshot of its own, while others write.

use std::time::{Duration, Instant};

use millrace_events::{Lsn, TableId};
use millrace_postgres_cdc::{State, Status, TableRequest, TableState, TableStatus};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Executor;

use crate::model::Model;
use crate::postgres::Postgres;
use crate::rig::{Rig, Running};
use crate::storm::{self, Storm, LINES, SETUP, TABLES, USERS};

fn table(name: &str) -> TableId {
    TableId::new("source", name)
}

fn tables() -> Vec<TableId> {
    TABLES.map(table).to_vec()
}

fn seed() -> u64 {
    let given = std::env::var("MILLRACE_TEST_SEED").ok();
    given.map_or_else(rand::random, |seed| {
        seed.parse().expect("MILLRACE_TEST_SEED")
    })
}

/// How often tables are copied under load.
fn rounds(short: usize) -> usize {
    let given = std::env::var("MILLRACE_TEST_ROUNDS").ok();
    given.map_or(short, |rounds| {
        rounds.parse().expect("MILLRACE_TEST_ROUNDS")
    })
}

/// Copies the tables again and again while the storm goes on; every copy of them has to end as the database does.
async fn copied_in_a_storm(rig: &mut Rig, rounds: usize) {
    rig.config.chunk_rows_max = 25;
    rig.config.part_bytes = 20_000;
    let storm = Storm::start(rig, seed()).await;
    let mut running = rig.start();
    for round in 0..rounds {
        running.streaming().await;
        storm.truncate();
        let (before, goal) = (storm.committed(), 40);
        let progress = async {
            while storm.committed() < before + goal {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::rig::PATIENCE, progress)
            .await
            .expect("the storm goes on");
        if round + 1 < rounds {
            let again = TableRequest::Resnapshot(tables());
            running.handle.request(again).await.unwrap();
        }
    }
    let committed = storm.stop().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(rig).await;
    let copies = model.assert_every_copy_equals(rig, "users", USERS).await;
    assert_eq!(copies, rounds);
    assert_eq!(
        model.assert_every_copy_equals(rig, "lines", LINES).await,
        rounds
    );
    println!(
        "{rounds} rounds, {committed} commits, the last copies: {:?}",
        model.copied
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_and_what_they_do_not_see_end_as_the_database_does() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    copied_in_a_storm(&mut rig, rounds(4)).await;
}

/// Commits wait for a standby that does not exist, some longer and some shorter: they are decoded long before they are
/// visible, and become visible in another order.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_become_visible_late_are_not_lost() {
    let postgres = Postgres::own();
    let mut rig = Rig::on(postgres, SETUP, &TABLES).await;
    let standby = Standby::start(&rig).await;
    copied_in_a_storm(&mut rig, rounds(4)).await;
    standby.stop().await;
}

/// Run by `make test-snapshot`: the numbers of transactions come to the end of their 32 bits on the way.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long; run by make test-snapshot"]
async fn copies_go_on_across_the_end_of_the_transaction_numbers() {
    let postgres = tokio::task::spawn_blocking(|| Postgres::own_before_wraparound(2_000));
    let mut rig = Rig::on(postgres.await.unwrap(), SETUP, &TABLES).await;
    let xid = || rig.text("SELECT pg_current_xact_id()::text");
    let before: u64 = xid().await.parse().unwrap();
    assert!(before < 1 << 32, "{before}");
    copied_in_a_storm(&mut rig, rounds(10)).await;
    let after: u64 = rig
        .text("SELECT pg_current_xact_id()::text")
        .await
        .parse()
        .unwrap();
    assert!(after > 1 << 32, "from {before} to {after} only");
}

/// Makes commits wait, and lets them go, in turns.
struct Standby {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Standby {
    async fn start(rig: &Rig) -> Standby {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let mut rng = StdRng::seed_from_u64(7);
        let mut connection = rig.connect().await;
        let task = tokio::spawn(async move {
            let mut stopping = false;
            loop {
                for name in ["nobody", ""] {
                    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
                    connection.execute(set.as_str()).await.unwrap();
                    connection.execute("SELECT pg_reload_conf()").await.unwrap();
                    let pause = Duration::from_millis(rng.random_range(50..250));
                    stopping = stopping || tokio::time::timeout(pause, &mut stopped).await.is_ok();
                    if stopping && name.is_empty() {
                        return;
                    }
                }
            }
        });
        Standby { stop, task }
    }

    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

/// Waits until so many chunks of `users` are copied.
async fn chunks(running: &mut Running, wanted: u32) {
    let users = table("users");
    let enough = |status: &millrace_postgres_cdc::Status| {
        let found = status.tables.iter().find(|found| found.table == users);
        found.is_some_and(|found| found.chunks >= wanted)
    };
    running.until(enough).await;
}

fn is_copying(running: &Running) -> bool {
    let tables = running.handle.status().tables;
    tables
        .iter()
        .any(|found| found.table == table("users") && found.state == TableState::Copying)
}

/// The value of a changed key travels with it, out of line, and is not sent. The chunk of the old key shows the update, that of
/// the new key does not: the value is in neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_out_of_line_survives_a_key_that_changes_between_two_chunks() {
    let mut rig = Rig::new(SETUP, &["users"]).await;
    rig.config.chunk_rows_max = 1;
    rig.config.snapshot_readers = 1;
    let mut running = rig.start();
    chunks(&mut running, 20).await;
    // Into the first chunk, which has been read; and onto the key of a row that was deleted before.
    rig.sql("UPDATE source.users SET user_id = 0 WHERE user_id = 300")
        .await;
    rig.sql("DELETE FROM source.users WHERE user_id = 298; UPDATE source.users SET user_id = 298 WHERE user_id = 299")
        .await;
    // The old key lives again with another value.
    rig.sql("INSERT INTO source.users VALUES (299, 'another', 'short')")
        .await;
    assert!(
        is_copying(&running),
        "all chunks had been read before the keys changed"
    );
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    assert_eq!(model.copied.again, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_copies_it_reads_only_what_is_missing() {
    let setup = format!("{SETUP} INSERT INTO source.users SELECT i, 'u', repeat('y', 200) FROM generate_series(1000, 60000) i; ANALYZE");
    let mut rig = Rig::new(&setup, &TABLES).await;
    rig.config.chunk_rows_max = 1_500;
    rig.config.part_bytes = 30_000;
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let storm = Storm::start(&rig, seed).await;
    let mut kills = 0;
    let started = Instant::now();
    let mut last = Lsn::ZERO;
    loop {
        let mut running = rig.start();
        let pause = Duration::from_millis(rng.random_range(100..700));
        let copied = tokio::time::timeout(pause, running.streaming()).await;
        last = last.max(running.handle.status().last_lsn);
        if copied.is_ok() || kills == 40 {
            running.streaming().await;
            storm.stop().await;
            running.reaches(rig.end().await).await;
            running.stop().await;
            break;
        }
        running.kill().await;
        kills += 1;
    }
    let model = Model::read(&rig).await;
    model.assert_every_copy_equals(&rig, "users", USERS).await;
    model.assert_every_copy_equals(&rig, "lines", LINES).await;
    assert_eq!(model.baselines, 1);
    let tally = model.copied;
    println!(
        "seed {seed}: {kills} kills in {:?}; {} rows in {} chunks, {} rows read twice, {} read again for their keys",
        started.elapsed(),
        tally.rows,
        tally.chunks,
        tally.rows_read - tally.rows,
        tally.again
    );
    assert!(kills >= 2, "it was never killed while it copied");
    // At most what all readers had begun, each time.
    assert!(tally.rows_read - tally.rows <= kills * 4 * 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_and_go_while_all_others_stay() {
    let rig = Rig::new(SETUP, &TABLES).await;
    let storm = Storm::start(&rig, seed()).await;
    let mut running = rig.start();
    running.streaming().await;
    let lines = || vec![table("lines")];
    running
        .handle
        .request(TableRequest::Remove(lines()))
        .await
        .unwrap();
    running.until(|s| s.tables.len() == 1).await;
    let again = running.handle.request(TableRequest::Remove(lines())).await;
    assert!(again
        .unwrap_err()
        .to_string()
        .contains("source.lines is not captured"));
    let before = running.handle.status().transactions;
    running.until(|s| s.transactions > before + 50).await;
    running
        .handle
        .request(TableRequest::Add(lines()))
        .await
        .unwrap();
    running.streaming().await;
    let unselected = vec![table("unselected")];
    let refused = running.handle.request(TableRequest::Add(unselected)).await;
    assert!(refused.unwrap_err().to_string().contains("is not selected"));
    let before = running.handle.status().transactions;
    running.until(|s| s.transactions > before + 50).await;
    storm.stop().await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().last_error, None);
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
    model.assert_equals(&rig, "lines", LINES).await;
    assert_eq!((model.tables.len(), model.starts), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_redefined_while_it_is_copied_is_copied_anew() {
    let mut rig = Rig::new(SETUP, &["users"]).await;
    rig.config.chunk_rows_max = 1;
    rig.config.snapshot_readers = 1;
    let mut running = rig.start();
    chunks(&mut running, 20).await;
    rig.sql("ALTER TABLE source.users ADD COLUMN email text DEFAULT 'none'")
        .await;
    rig.sql("UPDATE source.users SET email = 'a@b' WHERE user_id = 5")
        .await;
    assert!(is_copying(&running), "all chunks had been read before");
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model
        .assert_equals(&rig, "users", &format!("{USERS}, email::text"))
        .await;
}

/// Keys whose order only Postgres knows, or whose text needs care.
const KEYS: &str = "
    CREATE TYPE source.mood AS ENUM ('z', 'a', 'm');
    CREATE DOMAIN source.code AS varchar(20);
    CREATE COLLATION source.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE source.k_text (k text PRIMARY KEY, v int);
    INSERT INTO source.k_text SELECT x, 1 FROM unnest(ARRAY['', ' ', 'a''b', E'tab\\t', E'line\\n', '\\', 'Ä', 'ä', 'Z', 'a', 'B', '%', '\\N', 'NULL', '{}', '10', '9']) x;
    CREATE TABLE source.k_nocase (k text COLLATE source.nocase PRIMARY KEY, v int);
    INSERT INTO source.k_nocase SELECT x, 1 FROM unnest(ARRAY['b', 'A', 'C', 'd', 'É', 'f']) x;
    CREATE TABLE source.k_char (k char(4) PRIMARY KEY, v int);
    INSERT INTO source.k_char SELECT x, 1 FROM unnest(ARRAY['', 'a', 'a b', 'abcd', 'b']) x;
    CREATE TABLE source.k_enum (k source.mood, n numeric, PRIMARY KEY (k, n));
    INSERT INTO source.k_enum SELECT m, n FROM unnest(ARRAY['z', 'a', 'm']::source.mood[]) m, unnest(ARRAY[1.50, -3, 'NaN', 1e20]) n;
    CREATE TABLE source.k_domain (k source.code PRIMARY KEY, v int);
    INSERT INTO source.k_domain SELECT 'c' || i, 1 FROM generate_series(1, 12) i;
    CREATE TABLE source.k_times (a timestamptz, b date, c interval, PRIMARY KEY (a, b, c));
    INSERT INTO source.k_times SELECT a, b, c FROM unnest(ARRAY['-infinity', '2026-01-01 00:00:00.000001+00', '0044-03-15 BC', 'infinity']::timestamptz[]) a,
        unnest(ARRAY['0001-01-01', 'infinity']::date[]) b, unnest(ARRAY['1 mon', '30 days 1 us', '-1 day']::interval[]) c;
    CREATE TABLE source.k_bytes (k bytea PRIMARY KEY, v int);
    INSERT INTO source.k_bytes SELECT x, 1 FROM unnest(ARRAY['\\x', '\\x00', '\\xff00', '\\x5c']::bytea[]) x;
    CREATE TABLE source.k_uuid (k uuid PRIMARY KEY, v int);
    INSERT INTO source.k_uuid SELECT gen_random_uuid(), 1 FROM generate_series(1, 12);
    CREATE TABLE source.k_float (k float8 PRIMARY KEY, v int);
    INSERT INTO source.k_float SELECT x, 1 FROM unnest(ARRAY['NaN', '-Infinity', 0.1, 1e-300, 5e-324, 123456789.123456789]::float8[]) x;
    CREATE TABLE source.k_bool (k bool, \"Quoted \"\" Key\" \"char\", PRIMARY KEY (k, \"Quoted \"\" Key\"));
    INSERT INTO source.k_bool SELECT k, c FROM unnest(ARRAY[true, false]) k, unnest(ARRAY['a', '''', ' ']::\"char\"[]) c;
    CREATE TABLE source.k_array (k int[] PRIMARY KEY, v int);
    INSERT INTO source.k_array SELECT x::int[], 1 FROM unnest(ARRAY['{}', '{1,2}', '{1,NULL}', '{{1},{2}}']) x;
    CREATE TABLE source.k_none (k int PRIMARY KEY, v int);";

const KEY_TABLES: [(&str, &str); 12] = [
    ("k_text", "k::text, v::text"),
    ("k_nocase", "k::text, v::text"),
    ("k_char", "v::text"),
    ("k_enum", "k::text, n::text"),
    ("k_domain", "k::text, v::text"),
    ("k_times", "a::text, b::text, c::text"),
    ("k_bytes", "k::text, v::text"),
    ("k_uuid", "k::text, v::text"),
    ("k_float", "k::text, v::text"),
    ("k_bool", "k::text"),
    ("k_array", "k::text, v::text"),
    ("k_none", "k::text, v::text"),
];

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_any_type_make_ranges_that_have_every_row_once() {
    let names = KEY_TABLES.map(|(name, _)| name);
    let mut rig = Rig::new(KEYS, &names).await;
    rig.config.chunk_rows_max = 2;
    let mut running = rig.start();
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    for (name, columns) in KEY_TABLES {
        model.assert_equals(&rig, name, columns).await;
    }
    assert_eq!(model.copied.rows_read, model.copied.rows);
    let stored: usize = model.tables.values().map(|rows| rows.len()).sum();
    assert_eq!(model.copied.rows, stored as u64, "a row in two chunks");
}

fn find<'a>(status: &'a Status, name: &str) -> Option<&'a TableStatus> {
    let name = table(name);
    status.tables.iter().find(|found| found.table == name)
}

fn status_of(running: &Running, name: &str) -> TableStatus {
    let status = running.handle.status();
    find(&status, name).expect("it is captured").clone()
}

/// Waits until the copy of a table says why it does not go on.
async fn notice(running: &mut Running, name: &str) -> String {
    let of = |status: &Status| find(status, name)?.notice.clone();
    let status = running.until(|status| of(status).is_some()).await;
    of(&status).expect("a notice")
}

async fn ask(running: &Running, what: TableRequest) {
    running.handle.request(what).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_whoever_wrote_before_the_table_was_published_and_nothing_else_does() {
    let rig = Rig::new(storm::SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    let lines = || vec![table("lines")];
    ask(&running, TableRequest::Remove(lines())).await;
    let mut writer = rig.connect().await;
    let write = "SET application_name = 'the one who waits';
        BEGIN; INSERT INTO source.lines VALUES ('early', 1, 'before it was published')";
    sqlx::raw_sql(write).execute(&mut writer).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut writer)
        .await
        .unwrap();
    ask(&running, TableRequest::Add(lines())).await;
    rig.sql("INSERT INTO source.lines VALUES ('late', 1, 'after it was published')")
        .await;
    running.reaches(rig.end().await).await;
    let why = notice(&mut running, "lines").await;
    for part in [
        &*format!("pid {pid} ("),
        "the one who waits",
        "open since 2",
    ] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(status_of(&running, "lines").state, TableState::Planned);
    // Another table is copied meanwhile, although its copy begins after that of the one that waits.
    let first = status_of(&running, "users").copy;
    ask(&running, TableRequest::Resnapshot(vec![table("users")])).await;
    let anew = |table: &TableStatus| table.copy > first && table.state == TableState::Captured;
    running.until(|s| s.tables.iter().any(anew)).await;
    assert_eq!(status_of(&running, "lines").state, TableState::Planned);
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    running.streaming().await;
    assert_eq!(status_of(&running, "lines").notice, None);
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "lines", LINES).await;
    model.assert_equals(&rig, "users", USERS).await;
}

/// It is the same transaction, whatever Postgres calls it from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_a_writer_that_is_prepared_meanwhile() {
    let rig = Rig::new(storm::SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    let lines = || vec![table("lines")];
    ask(&running, TableRequest::Remove(lines())).await;
    let mut writer = rig.connect().await;
    let write = "BEGIN; SAVEPOINT s; INSERT INTO source.lines VALUES ('early', 1, 'before it was published')";
    sqlx::raw_sql(write).execute(&mut writer).await.unwrap();
    // This one has the lock and writes only later, which comes through the stream: nobody waits for it.
    let mut idle = rig.connect().await;
    let begin = "BEGIN; DELETE FROM source.lines WHERE false";
    sqlx::raw_sql(begin).execute(&mut idle).await.unwrap();
    ask(&running, TableRequest::Add(lines())).await;
    let why = notice(&mut running, "lines").await;
    assert!(why.contains("pid "), "{why}");
    let prepare = "PREPARE TRANSACTION 'in two steps'";
    sqlx::raw_sql(prepare).execute(&mut writer).await.unwrap();
    let prepared = |status: &Status| {
        let notice = find(status, "lines").and_then(|found| found.notice.as_deref());
        notice.is_some_and(|notice| notice.contains("\"in two steps\""))
    };
    running.until(prepared).await;
    assert_eq!(status_of(&running, "lines").state, TableState::Planned);
    rig.sql("COMMIT PREPARED 'in two steps'").await;
    running.streaming().await;
    let write = "INSERT INTO source.lines VALUES ('late', 1, 'after it was published'); COMMIT";
    sqlx::raw_sql(write).execute(&mut idle).await.unwrap();
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "lines", LINES).await;
}

/// What it writes comes through the stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_table_that_was_published_all_the_time_waits_for_nobody() {
    let rig = Rig::new(storm::SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    let mut writer = rig.connect().await;
    let write = "BEGIN; INSERT INTO source.lines VALUES ('open', 1, 'for long')";
    sqlx::raw_sql(write).execute(&mut writer).await.unwrap();
    ask(&running, TableRequest::Resnapshot(tables())).await;
    running.streaming().await;
    running.reaches(rig.end().await).await;
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    assert_eq!(
        model.assert_every_copy_equals(&rig, "lines", LINES).await,
        2
    );
}

async fn synchronous_standby(rig: &Rig, name: &str) {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    rig.sql(&set).await;
    rig.sql("SELECT pg_reload_conf()").await;
}

/// The commit stands in the log before the copy, and no reader of the table sees it. No lock tells: the table was published
/// all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_the_log_that_is_not_visible_yet_is_waited_for() {
    let rig = Rig::on(Postgres::own(), SETUP, &TABLES).await;
    let mut running = rig.start();
    running.streaming().await;
    synchronous_standby(&rig, "nobody").await;
    let before = running.handle.status().transactions;
    let mut writer = rig.connect().await;
    let waits = tokio::spawn(async move {
        let write = "INSERT INTO source.users VALUES (1001, 'unseen', 'for a while')";
        writer.execute(write).await.unwrap();
    });
    running.until(|s| s.transactions > before).await;
    ask(&running, TableRequest::Resnapshot(vec![table("users")])).await;
    let why = notice(&mut running, "users").await;
    assert!(why.contains("waits for a synchronous standby"), "{why}");
    assert_eq!(status_of(&running, "users").state, TableState::Planned);
    synchronous_standby(&rig, "").await;
    waits.await.unwrap();
    running.streaming().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    assert_eq!(
        model.assert_every_copy_equals(&rig, "users", USERS).await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_copied_keeps_no_other_one_from_it() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.chunk_rows_max = 1;
    rig.config.snapshot_readers = 1;
    let mut running = rig.start();
    let begun = |status: &Status| find(status, "lines").is_some_and(|found| found.chunks >= 20);
    running.until(begun).await;
    rig.sql("DROP TABLE source.lines").await;
    let why = notice(&mut running, "lines").await;
    assert!(why.contains("tried again"), "{why}");
    let copied = |status: &Status| {
        find(status, "users").is_some_and(|found| found.state == TableState::Captured)
    };
    running.until(copied).await;
    ask(&running, TableRequest::Remove(vec![table("lines")])).await;
    running.streaming().await;
    running.reaches(rig.end().await).await;
    assert_eq!(running.handle.status().sessions, 1, "nothing else failed");
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_equals(&rig, "users", USERS).await;
}

/// Asks for something that may make no sense just now, or be cut off.
async fn try_to(running: &Running, what: TableRequest) {
    let asked = running.handle.request(what);
    let _ = tokio::time::timeout(Duration::from_secs(2), asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_for_altered_and_killed_no_row_is_lost() {
    let mut rig = Rig::new(SETUP, &TABLES).await;
    rig.config.chunk_rows_max = 25;
    rig.config.part_bytes = 20_000;
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let storm = Storm::start(&rig, seed).await;
    let mut running = rig.start();
    running.streaming().await;
    storm.truncate();
    let lines = || vec![table("lines")];
    let mut kills = 0;
    for round in 0..rounds(25) {
        match rng.random_range(0..6) {
            0 => try_to(&running, TableRequest::Remove(lines())).await,
            1 => try_to(&running, TableRequest::Add(lines())).await,
            2 => try_to(&running, TableRequest::Resnapshot(lines())).await,
            3 => try_to(&running, TableRequest::Resnapshot(tables())).await,
            4 => {
                let mut connection = rig.connect().await;
                let alter = format!("SET lock_timeout = 500; ALTER TABLE source.users ADD COLUMN extra_{round} int DEFAULT {round}");
                let _ = sqlx::raw_sql(&alter).execute(&mut connection).await;
            }
            _ => {}
        }
        let pause = Duration::from_millis(rng.random_range(20..300));
        tokio::time::sleep(pause).await;
        if rng.random_bool(0.5) {
            running.kill().await;
            running = rig.start();
            kills += 1;
        }
    }
    running
        .until(|s| s.state == State::Streaming && !s.tables.is_empty())
        .await;
    // What is not answered in time may be done later, or never.
    while running.handle.status().tables.len() < 2 {
        try_to(&running, TableRequest::Add(lines())).await;
        running.until(|s| s.state == State::Streaming).await;
    }
    running.streaming().await;
    storm.stop().await;
    running.reaches(rig.end().await).await;
    running.stop().await;
    let model = Model::read(&rig).await;
    model.assert_every_copy_equals(&rig, "users", USERS).await;
    model.assert_every_copy_equals(&rig, "lines", LINES).await;
    let copies = model.every_copy.len();
    println!("seed {seed}: {kills} kills, {copies} copies completed");
    assert_eq!(model.baselines, 1);
}
