//! The pipeline on real servers: a private Postgres, a private MySQL or MariaDB, the embedded broker,
//! and the services in this process. Everything takes free ports and a folder of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_broker::{Broker, Storage};
use millrace_cli::cluster;
use millrace_cli::servers::{
    MySqlOptions, PostgresOptions, PrivateMySql, PrivatePostgres, ScratchDir,
};
use millrace_cli::smartmodules;
use millrace_events::Lsn;
use millrace_postgres_cdc::Capture;
use millrace_projections::engine;
use millrace_projections::marts::Marts;
use millrace_topic::{Lookup, SmartModule};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::workload::TABLES;

/// Nothing in a test may take longer than this; a wait that ends here is a failure, not a delay.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The marts of the demo, wherever a test runs.
pub fn marts_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../projections/marts")
}

/// Both databases and the broker.
pub struct Servers {
    /// The source.
    pub postgres: PrivatePostgres,
    /// The target; its user may create databases.
    pub mysql: PrivateMySql,
    /// The topics.
    pub broker: millrace_broker::Handle,
    _folder: ScratchDir,
}

impl Servers {
    /// Starts everything and registers the SmartModules.
    pub async fn start(name: &str) -> anyhow::Result<Servers> {
        let folder = ScratchDir::new(name)?;
        let ports = millrace_cli::servers::free_ports(folder.path(), &["postgres", "mysql"])?;
        let (postgres, mysql) = tokio::join!(
            PrivatePostgres::start(PostgresOptions {
                data_dir: folder.path().join("postgres"),
                port: ports["postgres"],
                db: "postgres_db".into(),
                user: "db_user".into(),
                password: "qwerty".into(),
                schema: "source".into(),
                binaries: None,
                settings: vec![],
            }),
            PrivateMySql::start(MySqlOptions {
                data_dir: folder.path().join("mysql"),
                port: ports["mysql"],
                db: "mysql_db".into(),
                user: "db_user".into(),
                password: "qwerty".into(),
                all_rights: true,
                arguments: vec![],
                binary: std::env::var_os("MILLRACE_MYSQL_BIN").map(Into::into),
            })
        );
        let broker = Broker::open(millrace_broker::Config::on_loopback(Storage::Directory(
            folder.path().join("broker"),
        )))
        .await?;
        let servers = Servers {
            postgres: postgres?,
            mysql: mysql?,
            broker,
            _folder: folder,
        };
        let cluster = cluster::connect(&servers.fluvio()).await?;
        cluster
            .register(smartmodules::MODULES, Lookup::Exact)
            .await?;
        Ok(servers)
    }

    /// `host:port` of the controller.
    pub fn fluvio(&self) -> String {
        self.broker.sc_addr().to_string()
    }

    /// A connection to the source.
    pub async fn source(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.postgres.url()).await?)
    }

    /// A connection to a database of the target; it is created if it is not there.
    pub async fn target(&self, database: &str) -> anyhow::Result<MySqlConnection> {
        let mut connection = MySqlConnection::connect(&self.mysql.url()).await?;
        connection
            .execute(format!("CREATE DATABASE IF NOT EXISTS `{database}`").as_str())
            .await?;
        connection
            .execute(format!("USE `{database}`").as_str())
            .await?;
        Ok(connection)
    }

    /// URL of a database of the target.
    pub fn mysql_url(&self, database: &str) -> String {
        let url = self.mysql.url();
        let (server, _) = url.rsplit_once('/').expect("a database in the URL");
        format!("{server}/{database}")
    }

    /// Settings of a capture of the shop.
    pub fn capture_config(&self) -> millrace_postgres_cdc::Config {
        millrace_postgres_cdc::Config::new(
            self.postgres.url(),
            self.fluvio(),
            "source.*".parse().expect("a selection"),
        )
    }

    /// Settings of a projector into a database of the target.
    pub fn projector_config(&self, database: &str) -> engine::Config {
        let plan = TABLES
            .map(|table| format!("\"source.{}\":\"*\"", table.0))
            .join(",");
        engine::Config {
            mysql_url: self.mysql_url(database),
            fluvio: self.fluvio(),
            changes_topic: self.capture_config().topic_changes,
            smartmodule: Some(SmartModule {
                name: smartmodules::full_name("columns").expect("ours"),
                params: [("plan".to_owned(), format!("{{{plan}}}"))].into(),
            }),
            main_schema: Some("source".to_owned()),
            values: millrace_projections::replica::Policies::default(),
            marts: Marts::read(&marts_folder()).expect("the marts of the demo"),
            limits: engine::Limits::default(),
            hooks: engine::Hooks::default(),
        }
    }

    /// Stops Postgres, does something to its folder, and starts it again at the same place.
    pub async fn with_postgres_down(
        self,
        change: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Servers> {
        let options = self.postgres.options().clone();
        self.postgres.stop().await?;
        change(&options.data_dir)?;
        Ok(Servers {
            postgres: PrivatePostgres::start(options).await?,
            ..self
        })
    }

    /// Stops everything.
    pub async fn stop(self) -> anyhow::Result<()> {
        let (postgres, mysql, ()) = tokio::join!(
            self.postgres.stop(),
            self.mysql.stop(),
            self.broker.shutdown()
        );
        postgres?;
        mysql?;
        Ok(())
    }
}

/// A service running in this process.
pub struct Running<E> {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), E>>,
}

impl<E: std::error::Error + Send + Sync + 'static> Running<E> {
    /// Spawns a service given its `run`.
    pub fn spawn<F>(run: impl FnOnce(CancellationToken) -> F) -> Running<E>
    where
        F: std::future::Future<Output = Result<(), E>> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(shutdown.clone()));
        Running { shutdown, task }
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await???;
        Ok(())
    }
}

/// Starts a capture.
pub fn start_capture(
    config: millrace_postgres_cdc::Config,
) -> anyhow::Result<(
    millrace_postgres_cdc::Handle,
    Running<millrace_postgres_cdc::Error>,
)> {
    let capture = Capture::new(config)?;
    let handle = capture.handle();
    Ok((handle, Running::spawn(|shutdown| capture.run(shutdown))))
}

/// Told the LSN of each commit; the projector goes on when the answer is sent.
pub type Commits = mpsc::Receiver<(Lsn, oneshot::Sender<()>)>;

/// Starts a projector that waits after every commit.
pub fn start_projector(mut config: engine::Config) -> (Commits, Running<engine::Error>) {
    let (sender, commits) = mpsc::channel(1);
    config.hooks.after_commit = Some(sender);
    let projector = engine::Service::new(config);
    (commits, Running::spawn(|shutdown| projector.run(shutdown)))
}
