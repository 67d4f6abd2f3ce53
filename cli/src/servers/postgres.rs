//! A private Postgres, ready for logical replication.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio::time::{sleep, timeout};

use super::discover::{self, PostgresBinaries};
use super::error::{io, Error};
use super::home::{remove_file, Home};
use super::patience::{Patience, Wait};
use super::process::{self, Launch, ServerProcess, Signal, StopPlan};
use super::{no_control_characters, ports, url_part};

const SERVER: &str = "Postgres";
const PORT_VARIABLE: &str = "POSTGRES_PORT";
/// For root: under whom it runs.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

const ATTEMPT: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Fast shutdown, then immediate (as safe as a crash: recovery follows), then the last resort. Together
/// with the three seconds of the services they must fit the ten that Ctrl-C may take.
const STOP: StopPlan = &[
    (Signal::Int, Duration::from_secs(4)),
    (Signal::Quit, Duration::from_secs(1)),
    (Signal::Kill, Duration::from_millis(1500)),
];
const STOP_HARD: StopPlan = &[
    (Signal::Quit, Duration::from_secs(3)),
    (Signal::Kill, Duration::from_secs(2)),
];

/// What the private Postgres shall be like.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Its own folder; made if it is not there.
    pub data_dir: PathBuf,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The database; made if it is not there.
    pub db: String,
    /// The owner of everything in it.
    pub user: String,
    /// The owner's password.
    pub password: String,
    /// The schema; made if it is not there.
    pub schema: String,
    /// The folder with `initdb` and `postgres`; `None`: see [`find_postgres`](super::find_postgres).
    pub binaries: Option<PathBuf>,
    /// Further server settings, name and value.
    pub settings: Vec<(String, String)>,
}

/// A running private Postgres. Dropping it stops it hard; see [`stop`](Self::stop).
#[derive(Debug)]
pub struct PrivatePostgres {
    options: PostgresOptions,
    binaries: PostgresBinaries,
    home: Home,
    process: ServerProcess,
    adopted: bool,
    keep: bool,
}

impl PrivatePostgres {
    /// Starts it, or adopts the one that a killed process left behind. When this returns, the database and the
    /// schema exist and connections are accepted.
    ///
    /// # Errors
    /// See [`Error`]; a port taken by somebody else is [`Error::PortTaken`].
    pub async fn start(options: PostgresOptions) -> Result<Self, Error> {
        check(&options)?;
        let home = Home::open(&options.data_dir, SERVER, &ACCOUNTS)?;
        let binaries = binaries_for(&home, &options)?;
        initialise(&home, &binaries, &options).await?;
        let arguments = arguments(&home, &options);
        let program = binaries.program("postgres");
        let launch = Launch {
            server: SERVER,
            program: &program,
            arguments: &arguments,
            environment: &[],
        };

        if let Some(process) = adopt(&home, &launch, &options).await? {
            return Ok(Self {
                options,
                binaries,
                home,
                process,
                adopted: true,
                keep: false,
            });
        }
        ports::check_free(options.port, PORT_VARIABLE)?;
        let process = ServerProcess::start(&home, &launch)?;
        let mut server = Self {
            options,
            binaries,
            home,
            process,
            adopted: false,
            keep: false,
        };
        answers(
            &mut server.process,
            &server.home,
            &server.options,
            Patience::START,
        )
        .await?;
        create_database(&server.options).await?;
        Ok(server)
    }

    /// `postgres://` URL of the owner, with password.
    #[must_use]
    pub fn url(&self) -> String {
        let PostgresOptions {
            user,
            password,
            port,
            db,
            ..
        } = &self.options;
        format!(
            "postgres://{}:{}@127.0.0.1:{port}/{}",
            url_part(user),
            url_part(password),
            url_part(db)
        )
    }

    /// The same place for JDBC tools, without user and password.
    #[must_use]
    pub fn jdbc_url(&self) -> String {
        let PostgresOptions {
            port, db, schema, ..
        } = &self.options;
        format!(
            "jdbc:postgresql://127.0.0.1:{port}/{}?currentSchema={}",
            url_part(db),
            url_part(schema)
        )
    }

    /// Its options, as given.
    #[must_use]
    pub fn options(&self) -> &PostgresOptions {
        &self.options
    }

    /// The installation that it runs from.
    #[must_use]
    pub fn binaries(&self) -> &PostgresBinaries {
        &self.binaries
    }

    /// Its postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it was left behind by a killed process and found again.
    #[must_use]
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// [`Error::Ended`] with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), Error> {
        self.process.check_alive()
    }

    /// Stops it cleanly: open sessions are ended, within 7 s in the worst case.
    ///
    /// # Errors
    /// [`Error::Unstoppable`] when it outlives every signal.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.process.stop(STOP).await
    }

    /// Waits until it has ended by itself, and says how.
    pub async fn ended(&mut self) -> Error {
        self.process.ended().await
    }

    /// Stops what a killed process left running on this folder, if anything.
    ///
    /// # Errors
    /// [`Error::InUse`] while a live millrace holds the folder, [`Error::Unstoppable`].
    pub async fn stop_orphan(data_dir: &Path) -> Result<(), Error> {
        let Some(home) = Home::existing(data_dir)? else {
            return Ok(());
        };
        match orphan(&home)? {
            Some(mut process) => process.stop(STOP).await,
            None => Ok(()),
        }
    }

    /// Forgets the server and leaves it running, as a `kill -9` of this process would; the next start finds it.
    pub fn abandon(mut self) {
        self.keep = true;
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if !self.keep {
            self.process.stop_hard(STOP_HARD);
        }
    }
}

fn check(options: &PostgresOptions) -> Result<(), Error> {
    no_control_characters("the Postgres database", &options.db)?;
    no_control_characters("the Postgres user", &options.user)?;
    no_control_characters("the Postgres password", &options.password)?;
    no_control_characters("the Postgres schema", &options.schema)
}

/// The installation that can serve the data: another major version cannot.
fn binaries_for(home: &Home, options: &PostgresOptions) -> Result<PostgresBinaries, Error> {
    let made_by = std::fs::read_to_string(home.data().join("PG_VERSION")).ok();
    let wanted = made_by.as_deref().and_then(|text| text.trim().parse().ok());
    let binaries = discover::postgres(options.binaries.as_deref(), wanted)?;
    match wanted {
        Some(major) if major != binaries.version.major => Err(Error::OtherVersion {
            dir: home.dir.clone(),
            made_by: format!("PostgreSQL {major}"),
            found: format!("PostgreSQL {}", binaries.version),
        }),
        _ => Ok(binaries),
    }
}

/// `initdb` into a folder that becomes the data by a rename: after a kill it is simply made again.
async fn initialise(
    home: &Home,
    binaries: &PostgresBinaries,
    options: &PostgresOptions,
) -> Result<(), Error> {
    if home.data().exists() {
        return Ok(());
    }
    let new = home.fresh_folder()?;
    let password = home.secret("password", &options.password)?;
    let initdb = binaries.program("initdb");
    let locale = if cfg!(target_os = "linux") {
        "C.UTF-8"
    } else {
        "C"
    };
    let arguments = [
        format!("--pgdata={}", new.display()),
        format!("--username={}", options.user),
        format!("--pwfile={}", password.display()),
        "--auth=scram-sha-256".into(),
        "--encoding=UTF8".into(),
        format!("--locale={locale}"),
    ];
    let launch = Launch {
        server: SERVER,
        program: &initdb,
        arguments: &arguments,
        environment: &[],
    };
    let made = process::run(home, &launch).await;
    remove_file(&password)?;
    made?;
    std::fs::rename(&new, home.data()).map_err(io("rename", &new))
}

/// Everything is said on the command line, so that a changed default reaches data made earlier.
fn arguments(home: &Home, options: &PostgresOptions) -> Vec<String> {
    let port = options.port.to_string();
    let fixed = [
        ("listen_addresses", "127.0.0.1"),
        ("port", port.as_str()),
        ("unix_socket_directories", ""),
        ("wal_level", "logical"),
        ("max_replication_slots", "20"),
        ("max_wal_senders", "20"),
        ("max_connections", "100"),
        ("shared_buffers", "128MB"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("logging_collector", "off"),
        ("password_encryption", "scram-sha-256"),
        ("jit", "off"),
    ];
    let mut arguments = vec!["-D".to_owned(), home.data().display().to_string()];
    let own = fixed
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"));
    let further = options
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    for setting in own.chain(further) {
        arguments.extend(["-c".to_owned(), setting]);
    }
    arguments
}

/// The orphan of a killed parent if it runs as we would run it and answers; otherwise it is stopped.
async fn adopt(
    home: &Home,
    launch: &Launch<'_>,
    options: &PostgresOptions,
) -> Result<Option<ServerProcess>, Error> {
    let Some(mut process) = orphan(home)? else {
        return Ok(None);
    };
    if process.was_started_as(launch) {
        let ready = answers(&mut process, home, options, Patience::ADOPT).await;
        if ready.is_ok() && create_database(options).await.is_ok() {
            tracing::info!(
                server = SERVER,
                pid = process.pid(),
                "adopted the server that an earlier run left behind"
            );
            return Ok(Some(process));
        }
    }
    tracing::info!(
        server = SERVER,
        pid = process.pid(),
        "stopping the server that an earlier run left behind"
    );
    process.stop(STOP).await?;
    Ok(None)
}

/// A server that a killed process left running on this folder. What a copied folder says of the original's is
/// forgotten.
fn orphan(home: &Home) -> Result<Option<ServerProcess>, Error> {
    let found = ServerProcess::orphan(home, SERVER)?.or_else(|| unnoted(home));
    if found.is_none() {
        process::forget_copied(home, &home.data().join("postmaster.pid"))?;
    }
    Ok(found)
}

/// The first line of Postgres' own pid file is the postmaster's pid.
fn unnoted(home: &Home) -> Option<ServerProcess> {
    let file = std::fs::read_to_string(home.data().join("postmaster.pid")).ok()?;
    ServerProcess::unnoted(home, SERVER, file.lines().next()?.trim().parse().ok()?)
}

/// Waits until our own server, not another one on that port, accepts our user.
async fn answers(
    process: &mut ServerProcess,
    home: &Home,
    options: &PostgresOptions,
    patience: Patience,
) -> Result<(), Error> {
    let mut wait = Wait::begin(SERVER, patience);
    loop {
        process.check_alive()?;
        let (last, is_starting) = match timeout(ATTEMPT, data_directory(options)).await {
            Ok(Ok(dir)) if Path::new(&dir) == home.data() => return Ok(()),
            Ok(Ok(dir)) => (format!("another server answers, with data in {dir}"), false),
            Ok(Err(error)) if is_refusal(&error) => {
                return Err(Error::Refused {
                    server: SERVER,
                    user: options.user.clone(),
                    dir: home.dir.clone(),
                })
            }
            Ok(Err(error)) => (error.to_string(), is_starting(&error)),
            Err(_) => ("no answer to a connection".into(), false),
        };
        wait.go_on(last, is_starting)?;
        sleep(RETRY_AFTER).await;
    }
}

async fn data_directory(options: &PostgresOptions) -> Result<String, sqlx::Error> {
    let mut connection = connect(options, "postgres").await?;
    let dir = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(dir)
}

/// `invalid_authorization_specification` and `invalid_password`.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("28000" | "28P01"))
}

/// `cannot_connect_now`: it starts up, or recovers from a crash.
fn is_starting(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("57P03")
}

async fn connect(options: &PostgresOptions, database: &str) -> Result<PgConnection, sqlx::Error> {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(options.port)
        .username(&options.user)
        .password(&options.password)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
}

async fn create_database(options: &PostgresOptions) -> Result<(), Error> {
    let create = async {
        let mut server = connect(options, "postgres").await?;
        let exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(&options.db)
                .fetch_one(&mut server)
                .await?;
        if !exists {
            let statement = format!("CREATE DATABASE {}", quoted(&options.db));
            server.execute(statement.as_str()).await?;
        }
        server.close().await?;
        let mut database = connect(options, &options.db).await?;
        let statement = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&options.schema));
        database.execute(statement.as_str()).await?;
        database.close().await
    };
    create.await.map_err(|source| Error::Sql {
        server: SERVER,
        source,
    })
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
