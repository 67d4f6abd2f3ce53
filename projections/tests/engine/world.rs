//! A source, a log, a server and projectors between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_events::{Lsn, TableSchema, Value};
use millrace_projections::engine::{
    Config, Error, Handle, Hooks, Limits, Point, Service, State, Status,
};
use millrace_projections::marts::Marts;
use millrace_projections::replica::{
    canonical, exact, from_server, quoted, Column, Policies, Table,
};
use millrace_sessions::mysql::Session;
use millrace_topic::SmartModule;
use rand::rngs::StdRng;
use rand::SeedableRng;
use sqlx::{Executor, Row};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::memory_log::MemoryLog;
use crate::source::{self, Source};
use crate::support;

/// Nothing in these tests takes longer, on a machine that does other things as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) source: Source,
    pub(crate) url: String,
    pub(crate) conn: Session,
    pub(crate) limits: Limits,
    pub(crate) hooks: Hooks,
    pub(crate) smartmodule: Option<SmartModule>,
    pub(crate) main_schema: Option<String>,
    pub(crate) marts: Marts,
    pub(crate) values: Policies,
}

pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) task: JoinHandle<Result<(), Error>>,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) type Commits = mpsc::Receiver<(Lsn, oneshot::Sender<()>)>;
pub(crate) type Points = mpsc::Receiver<(Point, oneshot::Sender<()>)>;

/// A seed from the environment to repeat a failure, else a new one; printed either way.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("MILLRACE_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random);
    println!("MILLRACE_TEST_SEED={seed}");
    seed
}

impl World {
    pub(crate) async fn new() -> World {
        World::on(support::Server::shared().await).await
    }

    pub(crate) async fn on(server: &support::Server) -> World {
        let database = server.database().await;
        let rng = StdRng::seed_from_u64(seed());
        World {
            source: Source::new(MemoryLog::new(), rng),
            url: server.url(&database),
            conn: server.connect(&database).await,
            limits: Limits::default(),
            hooks: Hooks::default(),
            smartmodule: None,
            main_schema: Some(source::MAIN_SCHEMA.into()),
            marts: Marts::none(),
            values: Policies::default(),
        }
    }

    /// Makes a user without any right beyond this database, and lets the projector log in as it. Returns how SQL writes it.
    pub(crate) async fn user(&mut self, name: &str) -> String {
        let user = format!("'{name}_{:x}'@'%'", rand::random::<u32>());
        let create = format!("CREATE USER {user} IDENTIFIED BY ''");
        self.conn.execute(create.as_str()).await.expect("a user");
        self.log_in_as(&user).await;
        user
    }

    /// Lets the projector log in as this user.
    pub(crate) async fn log_in_as(&mut self, user: &str) {
        let (server, database) = self.url.rsplit_once('/').expect("a database");
        let grant = format!("GRANT ALL ON `{database}`.* TO {user}");
        let name = user.split('\'').nth(1).expect("a name");
        let url = format!("{}/{database}", server.replace("root", name));
        self.conn.execute(grant.as_str()).await.expect("its rights");
        self.url = url;
    }

    /// Ends all connections to the database but our own.
    pub(crate) async fn end_connections(&mut self) {
        let own = self.conn.server().connection;
        let others: Vec<i64> = sqlx::query_scalar(
            "SELECT CAST(id AS SIGNED) FROM information_schema.processlist \
             WHERE db = DATABASE() AND id <> ?",
        )
        .bind(own)
        .fetch_all(&mut self.conn)
        .await
        .expect("a process list");
        for id in others {
            // It may be gone by itself meanwhile.
            let _ = self.conn.execute(format!("KILL {id}").as_str()).await;
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            mysql_url: self.url.clone(),
            fluvio: String::new(),
            changes_topic: source::CHANGES.into(),
            smartmodule: self.smartmodule.clone(),
            main_schema: self.main_schema.clone(),
            values: self.values.clone(),
            marts: self.marts.clone(),
            limits: self.limits,
            hooks: self.hooks.clone(),
        }
    }

    pub(crate) fn start(&self) -> Running {
        let service = Service::over(self.config(), Arc::new(self.source.log.clone()));
        let handle = service.handle();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        Running {
            handle,
            task,
            shutdown,
        }
    }

    /// From now on projectors wait after every commit until the receiver lets them go on.
    pub(crate) fn watch_commits(&mut self) -> Commits {
        let (sender, receiver) = mpsc::channel(1);
        self.hooks.after_commit = Some(sender);
        receiver
    }

    /// From now on projectors wait at every point of copying until the receiver lets them go on.
    pub(crate) fn watch_copying(&mut self) -> Points {
        let (sender, receiver) = mpsc::channel(1);
        self.hooks.while_copying = Some(sender);
        receiver
    }

    /// Compares every table with what the source held at `lsn`.
    pub(crate) async fn compare(&mut self, lsn: Lsn) {
        let tables: Vec<String> = (self.source.schemas.iter())
            .map(|schema| schema.table.name.clone())
            .collect();
        for table in tables {
            self.compare_one(&table, lsn).await;
        }
    }

    pub(crate) async fn compare_one(&mut self, name: &str, lsn: Lsn) {
        let expected = self.source.history.get(&lsn);
        let expected = expected.unwrap_or_else(|| panic!("{lsn} is no commit of the source"));
        let named = |schema: &&TableSchema| schema.table.name == name;
        for schema in self.source.schemas.iter().filter(named) {
            let table = self.replica(schema);
            let (mut wanted, mut unfit) = (BTreeMap::new(), BTreeMap::new());
            for values in expected[&schema.table].values() {
                let row = fitting(&table, values, &mut unfit);
                wanted.insert(key(&table, &row), row);
            }
            let found = read(&mut self.conn, &table, "").await;
            assert_eq!(found, wanted, "table {} at {lsn}", schema.table);
            let quarantined = quarantined(&mut self.conn, &table.name).await;
            assert_eq!(
                quarantined, unfit,
                "quarantine of {} at {lsn}",
                schema.table
            );
        }
    }

    /// How a table looks in MySQL.
    pub(crate) fn replica(&self, schema: &TableSchema) -> Table {
        let name = source::mysql_name(&schema.table);
        Table::of(schema, &name, &self.values.of(schema)).expect("replicable")
    }

    /// Waits until what is not set aside stands where the source does, and says where that is.
    pub(crate) async fn the_rest_goes_on(&self, running: &Running) -> Lsn {
        let lsn = self.source.lsn;
        let there = running.handle.wait_for(lsn, PATIENCE).await;
        there.expect("the rest goes on");
        lsn
    }

    pub(crate) async fn caught_up(&mut self, running: &Running) {
        let wanted = self.source.lsn;
        let reached = |status: &Status| {
            let live = !status.tables.is_empty() && status.not_live().next().is_none();
            status.state == State::Stopped
                || (live && status.end_lsn.is_some_and(|end| end >= wanted))
        };
        let mut status = running.handle.watch();
        let _ = tokio::time::timeout(PATIENCE, status.wait_for(reached)).await;
        let waited = running.handle.wait_for(wanted, Duration::ZERO).await;
        waited.unwrap_or_else(|error| panic!("{error}; {:?}", running.handle.status()));
        assert_eq!(running.handle.status().end_lsn, Some(wanted));
        self.compare(wanted).await;
    }
}

impl Running {
    pub(crate) async fn live(&self) {
        let mut status = self.handle.watch();
        let live = status.wait_for(|status| [State::Live, State::Stopped].contains(&status.state));
        let _ = tokio::time::timeout(PATIENCE, live).await;
        let status = self.handle.status();
        assert_eq!(status.state, State::Live, "{status:?}");
    }

    /// The first status that is as wanted, what is counted at the moment of asking included.
    pub(crate) async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut changes = self.handle.watch();
        let reached = async {
            loop {
                let status = self.handle.status();
                if wanted(&status) {
                    return status;
                }
                changes.changed().await.expect("it runs");
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("stuck: {:?}", self.handle.status()))
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    /// Ends it as a kill does: at whatever point it is.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) async fn error(self) -> Error {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended
            .expect("it ends")
            .expect("no panic")
            .expect_err("it cannot go on")
    }
}

/// By key of the row, as JSON, and column.
pub(crate) type Quarantined = BTreeMap<(String, String), String>;

/// The row as it should stand in MySQL, with the texts beside. What does not fit goes into `unfit`.
fn fitting(table: &Table, values: &[Value], unfit: &mut Quarantined) -> Texts {
    let mut texts = Texts::new();
    let mut beside = vec![None; table.beside.len()];
    let key_columns = table.key_columns().zip(table.key_of(values));
    let key: serde_json::Map<String, serde_json::Value> = key_columns
        .map(|(column, value)| {
            (
                column.name.clone(),
                exact(&value).map(|text| text.into_owned()).into(),
            )
        })
        .collect();
    let key = serde_json::Value::Object(key).to_string();
    for (i, (column, value)) in table.columns.iter().zip(values).enumerate() {
        let Ok(text) = canonical(value, column) else {
            let text = exact(value).expect("a value").into_owned();
            if let Some(at) = table.beside.iter().position(|beside| beside.of == i) {
                beside[at] = Some(text.clone());
            }
            unfit.insert((key.clone(), column.name.clone()), text);
            texts.push(None);
            continue;
        };
        texts.push(text.map(|text| text.into_owned()));
    }
    texts.extend(beside);
    texts
}

/// What stands in quarantine of a MySQL table.
pub(crate) async fn quarantined(conn: &mut Session, name: &str) -> Quarantined {
    let sql = "SELECT row_key, column_name, value FROM millrace_quarantine WHERE name = ?";
    let rows = sqlx::query(sql).bind(name).fetch_all(conn).await;
    let rows = rows.expect("the quarantine");
    let entry = |row: &sqlx::mysql::MySqlRow| {
        let key = (row.get_unchecked(0), row.get_unchecked(1));
        (key, row.get_unchecked(2))
    };
    rows.iter().map(entry).collect()
}

fn key(table: &Table, row: &[Option<String>]) -> Vec<Option<String>> {
    table.key.iter().map(|&i| row[i].clone()).collect()
}

type Texts = Vec<Option<String>>;

pub(crate) async fn read(
    conn: &mut Session,
    table: &Table,
    suffix: &str,
) -> BTreeMap<Texts, Texts> {
    let beside = table.beside.iter().map(|beside| quoted(&beside.name));
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(Column::select_expression)
        .chain(beside)
        .collect();
    let name = quoted(&format!("{}{suffix}", table.name));
    let sql = format!("SELECT {} FROM {name}", columns.join(", "));
    let rows = conn
        .fetch_all(sql.as_str())
        .await
        .expect("the replica's rows");
    let texts = |row: &sqlx::mysql::MySqlRow| -> Texts {
        let text = |i: usize| {
            let text: Option<String> = row.get_unchecked(i);
            match table.columns.get(i) {
                Some(column) => text.map(|text| from_server(&text, column).into_owned()),
                None => text,
            }
        };
        (0..row.len()).map(text).collect()
    };
    rows.iter()
        .map(|row| (key(table, &texts(row)), texts(row)))
        .collect()
}
