//! What others do to a table between two ranges of a comparison: they wait for the end of a range, never for that of the
//! verification, and nothing that they do is told as a difference.

use std::time::{Duration, Instant};

use millrace_projections::marts::Marts;
use millrace_projections::verify::{verify, Error, Exit, Report};
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stage::{shop_marts, Stage, TABLES};
use crate::{differences, names};

/// Four ranges: by the key, and by blocks where the key's order is Postgres' own.
const LARGE: &str = r#"
    CREATE TABLE large (id bigint PRIMARY KEY, v text NOT NULL);
    INSERT INTO large SELECT n, 'value ' || n FROM generate_series(1, 65000) n;
    CREATE TABLE named (k text COLLATE "und-x-icu" PRIMARY KEY, v text NOT NULL);
    INSERT INTO named SELECT 'name ' || n, repeat('x', 90) FROM generate_series(1, 65000) n;"#;
const ROWS: u64 = 65_000;

const SOON: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The verification does not begin to compare before somebody lets go of it.
const START: &str = "SELECT pg_advisory_lock(4711)";
/// Nobody else reads or writes the table.
const EXCLUSIVE: &str = "BEGIN; LOCK TABLE source.TABLE IN ACCESS EXCLUSIVE MODE";

async fn large(table: &str) -> Stage {
    Stage::of(&[LARGE], &[table], Marts::none()).await
}

async fn session(stage: &Stage) -> PgConnection {
    let connected = PgConnection::connect(&stage.config.postgres_url).await;
    connected.expect("Postgres")
}

/// Waits until so many sessions wait for a lock on the table, or for the start.
async fn until_waiting(stage: &mut Stage, table: &str, sessions: i64) {
    let query = "SELECT count(DISTINCT pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE NOT granted AND d.datname = current_database() AND (relation = to_regclass($1) OR locktype = 'advisory')";
    let deadline = Instant::now() + SOON;
    loop {
        let waiting: i64 = sqlx::query_scalar(query)
            .bind(table)
            .fetch_one(&mut stage.postgres)
            .await
            .expect("locks");
        if waiting == sessions {
            return;
        }
        assert!(Instant::now() < deadline, "{waiting} sessions wait");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A verification that waits for the table at the beginning of a range, and the session it waits for.
struct Stopped {
    running: JoinHandle<Result<Report, Error>>,
    gate: PgConnection,
    lock: String,
}

impl Stopped {
    /// At its first look at the table.
    async fn first(stage: &mut Stage, table: &str) -> Stopped {
        let lock = EXCLUSIVE.replace("source.TABLE", &format!("source.{table}"));
        let mut start = session(stage).await;
        start.execute(START).await.expect("a lock");
        stage.afterwards(stage.in_source(START));
        let config = stage.config.clone();
        let running = tokio::spawn(async move { verify(&config, &CancellationToken::new()).await });
        until_waiting(stage, table, 1).await;
        let mut gate = session(stage).await;
        gate.execute(lock.as_str()).await.expect("a lock");
        start.close().await.expect("an end");
        until_waiting(stage, table, 1).await;
        Stopped {
            running,
            gate,
            lock,
        }
    }

    /// Lets it compare one range more: whoever waits for the table gets it at the range's end, and it waits again.
    async fn next(mut self, stage: &mut Stage, table: &str) -> Stopped {
        let mut gate = session(stage).await;
        let lock = self.lock.clone();
        let asked = tokio::spawn(async move { gate.execute(lock.as_str()).await.map(|_| gate) });
        until_waiting(stage, table, 2).await;
        self.gate.execute("ROLLBACK").await.expect("an end");
        self.gate = asked.await.expect("a task").expect("a lock");
        assert!(!self.running.is_finished(), "it kept its lock to its end");
        until_waiting(stage, table, 1).await;
        self
    }

    /// Lets go of it after a last statement.
    async fn end(mut self, last: &str) -> Report {
        let done = self.gate.execute(sqlx::raw_sql(last)).await;
        done.expect("a statement");
        self.running.await.expect("a task").expect("a report")
    }
}

#[tokio::test]
async fn a_truncate_waits_for_the_end_of_a_range_and_is_noticed_by_the_next_one() {
    for table in ["large", "named"] {
        let mut stage = large(table).await;
        let mut stopped = Stopped::first(&mut stage, table).await;
        for _ in 0..3 {
            stopped = stopped.next(&mut stage, table).await;
        }
        assert_eq!(stage.points(), 1, "{table}");
        let truncate = format!("TRUNCATE source.{table}; COMMIT");
        let report = stopped.end(&truncate).await;
        assert_eq!(stage.points(), 2, "it was compared at a point of its own");
        let subject = &report.tables[0];
        assert_eq!(
            (subject.rows, subject.differences_total),
            (0, ROWS),
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_replica_table_is_altered_between_two_ranges_and_compared_at_a_point_of_its_own() {
    for table in ["large", "named"] {
        let mut stage = large(table).await;
        let stopped = Stopped::first(&mut stage, table).await;
        let stopped = stopped.next(&mut stage, table).await;
        let stopped = stopped.next(&mut stage, table).await;
        // It has read two ranges of the table in MySQL, and holds no lock on it.
        stage.change("SET SESSION lock_wait_timeout = 5").await;
        stage.change(&format!("ALTER TABLE {table} FORCE")).await;
        assert!(!stopped.running.is_finished());
        let report = stopped.end("ROLLBACK").await;
        assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
        assert_eq!(
            (stage.points(), report.tables[0].rows),
            (2, ROWS),
            "{table}"
        );
    }
}

/// Two others wait for each other, one of them for the table, and longer than the verification does.
#[tokio::test]
async fn a_deadlock_of_others_that_ends_with_the_verification_is_nothing_to_it() {
    const PATIENT: &str = "SET deadlock_timeout = '9s'";
    let mut stage = large("large").await;
    let aside = "CREATE TABLE aside (id integer);
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''3s''', current_database()); END $$";
    let made = stage.postgres.execute(sqlx::raw_sql(aside)).await;
    made.expect("a table");
    let mut stopped = Stopped::first(&mut stage, "large").await;
    let mut other = session(&stage).await;
    let lock = EXCLUSIVE.replace("source.TABLE", "source.aside");
    other.execute(PATIENT).await.expect("a setting");
    other.execute(lock.as_str()).await.expect("a lock");
    stopped.gate.execute(PATIENT).await.expect("a setting");
    let wants_large = tokio::spawn(async move {
        let asked = "LOCK TABLE source.large IN ACCESS EXCLUSIVE MODE; ROLLBACK";
        let _ = other.execute(asked).await;
    });
    until_waiting(&mut stage, "large", 2).await;
    // Whichever of the two Postgres ends, its locks go with it.
    let wants_aside = "LOCK TABLE source.aside IN ACCESS EXCLUSIVE MODE";
    let _ = stopped.gate.execute(wants_aside).await;
    let report = stopped.end("ROLLBACK").await;
    wants_large.await.expect("a task");
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
}

/// A copy is half full when the snapshot is opened, and takes the table's place before it is read.
#[tokio::test]
async fn a_copy_that_takes_the_place_of_a_table_meanwhile_is_no_difference() {
    for table in ["large", "named"] {
        let mut stage = large(table).await;
        let half =
            format!("INSERT INTO {table}__shadow SELECT * FROM {table} ORDER BY v LIMIT 30000");
        stage
            .change(&format!("CREATE TABLE {table}__shadow LIKE {table}"))
            .await;
        stage.change(&half).await;
        let swap = format!(
            "INSERT IGNORE INTO {table}__shadow SELECT * FROM {table};
             RENAME TABLE {table} TO {table}__retired, {table}__shadow TO {table}"
        );
        stage.afterwards(stage.in_replica(&swap));
        let report = stage.report().await;
        assert_eq!(
            report.exit(),
            Exit::Equal,
            "{:?}",
            report.tables[0].differences.first()
        );
        assert_eq!(
            (stage.points(), report.tables[0].rows),
            (2, ROWS),
            "{table}"
        );
    }
}

/// What takes the table's place is read in MySQL as it is now, and the snapshot is older.
#[tokio::test]
async fn a_table_of_another_definition_that_takes_its_place_meanwhile_is_no_difference() {
    for shadow_is_there in [true, false] {
        let mut stage = large("large").await;
        let make =
            "CREATE TABLE large__shadow LIKE large; ALTER TABLE large__shadow ADD COLUMN w text";
        let swap = "RENAME TABLE large TO large__retired, large__shadow TO large";
        let swap = match shadow_is_there {
            true => {
                stage.change(make).await;
                swap.to_owned()
            }
            false => format!("{make}; {swap}"),
        };
        stage.afterwards(stage.in_replica(&swap));
        let nothing = stage.in_replica("DO 0");
        let back = stage.in_replica("RENAME TABLE large TO large__other, large__retired TO large");
        stage.meanwhile(&[nothing, back]);
        let report = stage.report().await;
        let found = report.tables[0].differences.first();
        assert_eq!(report.exit(), Exit::Equal, "{shadow_is_there}: {found:?}");
        assert_eq!(stage.points(), 2);
    }
}

#[tokio::test]
async fn a_mart_that_is_built_again_meanwhile_is_compared_at_a_point_of_its_own() {
    let mut stage = Stage::shop().await;
    // All columns have to be named: the key is invisible on MySQL.
    let columns = names(&mut stage, "mart_average_check").await;
    let build = format!(
        "CREATE TABLE mart_new LIKE mart_average_check;
         INSERT INTO mart_new ({columns}) SELECT {columns} FROM mart_average_check;
         RENAME TABLE mart_average_check TO mart_old, mart_new TO mart_average_check"
    );
    stage.afterwards(stage.in_replica(&build));
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    assert_eq!((stage.points(), report.marts.len()), (2, 4));
}

#[tokio::test]
async fn a_table_that_is_removed_meanwhile_is_not_missed() {
    let stage = Stage::new(&TABLES, Marts::none()).await;
    let remove = "UPDATE millrace_tables SET state = 'removed' WHERE source = 'source.reviews'; DROP TABLE reviews";
    stage.afterwards(stage.in_replica(remove));
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    assert_eq!((report.tables.len(), stage.points()), (6, 2));
}

#[tokio::test]
async fn a_mart_whose_table_was_dropped_by_hand_is_not_live_and_everything_else_is_compared() {
    let mut stage = Stage::new(&TABLES, shop_marts()).await;
    stage.change("DROP TABLE reviews").await;
    let report = stage.report().await;
    assert_eq!(report.exit(), Exit::Different);
    assert_eq!(report.not_live, ["mart_product_rating"]);
    assert_eq!((report.tables.len(), report.marts.len()), (7, 3));
    let found = differences(&report, "reviews");
    assert_eq!(found.len(), 1, "{found:#?}");
}
