//! At every commit of MySQL, the replica equals Postgres at one LSN and each mart its definition.
//!
//! Three sessions write random transactions while capture takes its snapshot. An independent slot
//! with `test_decoding` is folded into a model per commit; the model is anchored by a full SELECT at the
//! end. From when all tables have joined, the projector is held after *every* commit until all tables and marts have
//! been compared with the model at exactly that LSN.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_events::Lsn;
use millrace_postgres_cdc::State;
use millrace_projections::engine;
use millrace_tests::harness::{
    start_capture, start_projector, Commits, Running, Servers, PATIENCE,
};
use millrace_tests::model::{as_mysql_shows, Columns, Model};
use millrace_tests::workload::{Workload, SCHEMA, TABLES};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection, Row};

const TRANSACTIONS_BEFORE: usize = 60;
const TRANSACTIONS_PER_SESSION: usize = 120;
const SESSIONS: u64 = 3;
/// How often it is asked who has joined, while no commit comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const MARTS: [&str; 4] = [
    "mart_user_activity",
    "mart_product_rating",
    "mart_user_loyalty_points",
    "mart_average_check",
];

/// The model at each commit, by `end_lsn`.
struct Oracle {
    base: Model,
    commits: BTreeMap<Lsn, Vec<String>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_and_marts_equal_the_model_at_every_commit() -> anyhow::Result<()> {
    let seed = millrace_tests::seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let servers = Servers::start("oracle").await?;
    let mut source = servers.source().await?;
    source.execute(SCHEMA).await?;
    let mut before = Workload::new(rng.random());
    for _ in 0..TRANSACTIONS_BEFORE {
        before.run(&mut source).await?;
    }
    source
        .execute("SELECT pg_create_logical_replication_slot('oracle', 'test_decoding')")
        .await?;
    let base = read_source(&mut source).await?;

    let (mut capturing, capture) = start_capture(servers.capture_config())?;
    // Once into the snapshot, and once into the stream.
    write_concurrently(&servers, &mut rng).await?;
    tokio::time::timeout(
        PATIENCE,
        capturing.wait_for(|status| status.state == State::Streaming),
    )
    .await?
    .context("capture ended")?;
    let mut one_by_one = Projecting::start(&servers, "one_by_one", 1).await?;
    let mut at_random = Projecting::start(&servers, "at_random", rng.random_range(2..40)).await?;
    for projecting in [&mut one_by_one, &mut at_random] {
        projecting.until_everything_is_live().await?;
    }
    write_concurrently(&servers, &mut rng).await?;
    let last: String =
        sqlx::query_scalar("SELECT pg_logical_emit_message(true, 'millrace', 'end')::text")
            .fetch_one(&mut source)
            .await?;
    let oracle = Oracle {
        base,
        commits: read_oracle(&mut source).await?,
    };
    ensure!(
        oracle.at(Lsn(u64::MAX)) == read_source(&mut source).await?,
        "the model is wrong, seed {seed}"
    );

    for projecting in [one_by_one, at_random] {
        let (database, limit) = (projecting.database, projecting.transactions_max);
        let commits = projecting.check(&oracle, last.parse()?).await;
        let commits = commits.with_context(|| {
            format!("{database}: at most {limit} transactions a commit, seed {seed}")
        })?;
        println!(
            "{database}: {commits} commits compared, {} transactions",
            oracle.commits.len()
        );
        ensure!(
            limit > 1 || commits > 50,
            "only {commits} commits were compared"
        );
    }
    capture.stop().await?;
    servers.stop().await
}

/// A projector into a database of its own, commit by commit.
struct Projecting {
    database: &'static str,
    transactions_max: u64,
    target: MySqlConnection,
    columns: BTreeMap<String, Vec<(String, String)>>,
    commits: Commits,
    projector: Running<engine::Error>,
}

impl Projecting {
    async fn start(
        servers: &Servers,
        database: &'static str,
        transactions_max: u64,
    ) -> anyhow::Result<Projecting> {
        let target = servers.target(database).await?;
        let columns = columns(&mut servers.source().await?).await?;
        let mut config = servers.projector_config(database);
        config.limits.transactions = transactions_max;
        let (commits, projector) = start_projector(config);
        Ok(Projecting {
            database,
            transactions_max,
            target,
            columns,
            commits,
            projector,
        })
    }

    /// Lets it commit until all tables and marts have joined. It is held at its next commit after that.
    async fn until_everything_is_live(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !Live::read(&mut self.target).await?.is_everything() {
            ensure!(Instant::now() < deadline, "not everything joins");
            let next = tokio::time::timeout(LOOK_EVERY, self.commits.recv()).await;
            if let Ok(next) = next {
                let (_, go_on) = next.context("the projector ended")?;
                let _ = go_on.send(());
            }
        }
        Ok(())
    }

    /// Compares all tables and marts at every commit up to `last`; returns how many there were.
    async fn check(mut self, oracle: &Oracle, last: Lsn) -> anyhow::Result<usize> {
        let mut compared = 0;
        loop {
            let next = tokio::time::timeout(PATIENCE, self.commits.recv()).await;
            let Some((lsn, go_on)) = next.context("no commit came")? else {
                // It ended by itself: say why.
                self.projector.stop().await?;
                anyhow::bail!("the projector ended after {compared} commits");
            };
            let live = Live::read(&mut self.target).await?;
            ensure!(live.is_everything(), "not everything is live at {lsn}");
            compare(&mut self.target, &oracle.at(lsn), &self.columns)
                .await
                .with_context(|| format!("at {lsn}"))?;
            compared += 1;
            if lsn > last {
                drop(go_on);
                break;
            }
            // If it is gone, the next receive says so.
            let _ = go_on.send(());
        }
        drop(self.commits);
        self.projector.stop().await?;
        Ok(compared)
    }
}

async fn write_concurrently(servers: &Servers, rng: &mut StdRng) -> anyhow::Result<()> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let mut workload = Workload::new(rng.random());
        let mut connection = servers.source().await?;
        sessions.push(tokio::spawn(async move {
            let mut committed = 0;
            for _ in 0..TRANSACTIONS_PER_SESSION {
                committed += usize::from(workload.run(&mut connection).await?);
            }
            connection.close().await?;
            Ok::<usize, sqlx::Error>(committed)
        }));
    }
    for session in sessions {
        let committed = session.await??;
        ensure!(
            committed > TRANSACTIONS_PER_SESSION / 4,
            "only {committed} transactions committed"
        );
    }
    Ok(())
}

impl Oracle {
    /// The source at `lsn`: the commits whose records end there or before.
    fn at(&self, lsn: Lsn) -> Model {
        let mut model = self.base.clone();
        for lines in self.commits.range(..=lsn).map(|(_, lines)| lines) {
            lines.iter().for_each(|line| model.apply(line));
        }
        model
    }
}

async fn read_oracle(source: &mut PgConnection) -> anyhow::Result<BTreeMap<Lsn, Vec<String>>> {
    let rows = sqlx::query(
        "SELECT lsn::text, data FROM pg_logical_slot_get_changes('oracle', NULL, NULL)",
    )
    .fetch_all(source)
    .await?;
    let (mut commits, mut open) = (BTreeMap::new(), Vec::new());
    for row in rows {
        let data: String = row.get(1);
        if data.starts_with("COMMIT") {
            // For a commit, this is the end of its record.
            commits.insert(row.get::<String, _>(0).parse()?, std::mem::take(&mut open));
        } else if !data.starts_with("BEGIN") {
            open.push(data);
        }
    }
    Ok(commits)
}

/// Columns of each table with their Postgres types.
async fn columns(
    source: &mut PgConnection,
) -> anyhow::Result<BTreeMap<String, Vec<(String, String)>>> {
    let rows = sqlx::query(
        "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_schema = 'source' ORDER BY table_name, ordinal_position",
    )
    .fetch_all(source)
    .await?;
    let mut columns = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        columns
            .entry(row.get(0))
            .or_default()
            .push((row.get(1), row.get(2)));
    }
    Ok(columns)
}

async fn read_source(source: &mut PgConnection) -> anyhow::Result<Model> {
    let mut model = Model::default();
    let columns = columns(source).await?;
    for (table, key, _) in TABLES {
        let columns = &columns[table];
        let list: Vec<String> = columns
            .iter()
            .map(|(name, _)| format!("{name}::text"))
            .collect();
        let query = format!("SELECT {key}, {} FROM source.{table}", list.join(", "));
        let rows = sqlx::query(&query).fetch_all(&mut *source).await?;
        let table = model.tables.entry(table.to_owned()).or_default();
        for row in rows {
            let values: Columns = columns
                .iter()
                .enumerate()
                .map(|(i, (name, kind))| {
                    let value: Option<String> = row.get(i + 1);
                    (name.clone(), value.map(|text| as_mysql_shows(kind, text)))
                })
                .collect();
            table.insert(row.get(0), values);
        }
    }
    Ok(model)
}

/// How many tables and marts move with every commit.
struct Live {
    tables: i64,
    marts: i64,
}

impl Live {
    /// None before the projector has made its first tables.
    async fn read(target: &mut MySqlConnection) -> anyhow::Result<Live> {
        let made = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'millrace_marts'";
        let made: i64 = sqlx::query_scalar(made).fetch_one(&mut *target).await?;
        if made == 0 {
            return Ok(Live {
                tables: 0,
                marts: 0,
            });
        }
        let tables = "SELECT COUNT(*) FROM millrace_tables WHERE state = 'live'";
        let marts = "SELECT COUNT(*) FROM millrace_marts WHERE state = 'live'";
        Ok(Live {
            tables: sqlx::query_scalar(tables).fetch_one(&mut *target).await?,
            marts: sqlx::query_scalar(marts).fetch_one(target).await?,
        })
    }

    fn is_everything(&self) -> bool {
        (self.tables, self.marts) == (TABLES.len() as i64, MARTS.len() as i64)
    }
}

async fn compare(
    target: &mut MySqlConnection,
    model: &Model,
    columns: &BTreeMap<String, Vec<(String, String)>>,
) -> anyhow::Result<()> {
    for (table, key, _) in TABLES {
        let list: Vec<&str> = columns[table]
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let found = read(target, table, &list, &format!("ORDER BY {key}")).await?;
        same(table, &found, &model.replica(table))?;
    }
    for mart in MARTS {
        let mut found = read(target, mart, mart_columns(mart), "").await?;
        found.sort();
        same(mart, &found, &model.mart(mart))?;
    }
    Ok(())
}

fn mart_columns(mart: &str) -> &'static [&'static str] {
    match mart {
        "mart_user_activity" => &[
            "user_id",
            "first_name",
            "last_name",
            "status",
            "order_count",
            "total_spent",
        ],
        "mart_product_rating" => &["product_id", "name", "rating"],
        "mart_user_loyalty_points" => &[
            "user_id",
            "first_name",
            "last_name",
            "loyalty_status",
            "total_loyalty_points",
        ],
        _ => &["status", "loyalty_status", "average_check"],
    }
}

async fn read(
    target: &mut MySqlConnection,
    table: &str,
    columns: &[&str],
    order: &str,
) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    let list: Vec<String> = columns
        .iter()
        .map(|name| format!("CAST({name} AS CHAR)"))
        .collect();
    let query = format!("SELECT {} FROM {table} {order}", list.join(", "));
    let rows = sqlx::query(&query).fetch_all(target).await?;
    rows.iter()
        .map(|row| {
            (0..columns.len())
                .map(|i| Ok(row.try_get_unchecked::<Option<String>, _>(i)?))
                .collect()
        })
        .collect()
}

fn same(
    name: &str,
    found: &[Vec<Option<String>>],
    expected: &[Vec<Option<String>>],
) -> anyhow::Result<()> {
    let missing = expected.iter().find(|row| !found.contains(row));
    let extra = found.iter().find(|row| !expected.contains(row));
    ensure!(
        found == expected,
        "{name} differs: {} rows, expected {}; first missing {missing:?}, first extra {extra:?}",
        found.len(),
        expected.len()
    );
    Ok(())
}
