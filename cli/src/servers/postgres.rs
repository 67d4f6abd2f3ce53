//! A private Postgres, ready for logical replication.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use super::discover::{self, PostgresBinaries};
use super::error::{io, Error};
use super::home::{remove_file, Home};
use super::private::{Basics, Kind, Private};
use super::process::{self, Launch, Signal, StopPlan};
use super::{no_control_characters, url_part};

const SERVER: &str = "Postgres";

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

/// Postgres.
#[derive(Debug)]
pub struct Postgres;

/// A running private Postgres.
pub type PrivatePostgres = Private<Postgres>;

impl Kind for Postgres {
    type Options = PostgresOptions;
    type Installation = PostgresBinaries;

    const SERVER: &'static str = SERVER;
    const PORT_VARIABLE: &'static str = "POSTGRES_PORT";
    const ACCOUNTS: &'static [&'static str] = &["postgres", "nobody"];
    /// Fast shutdown, then immediate (as safe as a crash: recovery follows), then the last resort.
    const STOP: StopPlan = &[
        (Signal::Int, Duration::from_secs(4)),
        (Signal::Quit, Duration::from_secs(1)),
        (Signal::Kill, Duration::from_millis(1500)),
    ];
    const STOP_HARD: StopPlan = &[
        (Signal::Quit, Duration::from_secs(3)),
        (Signal::Kill, Duration::from_secs(2)),
    ];
    const LOCK_FILE: &'static str = "postmaster.pid";

    fn basics(options: &PostgresOptions) -> Basics<'_> {
        Basics {
            data_dir: &options.data_dir,
            port: options.port,
            user: &options.user,
        }
    }

    fn check(options: &PostgresOptions) -> Result<(), Error> {
        no_control_characters("the Postgres database", &options.db)?;
        no_control_characters("the Postgres user", &options.user)?;
        no_control_characters("the Postgres password", &options.password)?;
        no_control_characters("the Postgres schema", &options.schema)
    }

    /// Another major version cannot serve the data.
    fn find(home: &Home, options: &PostgresOptions) -> Result<PostgresBinaries, Error> {
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

    fn command(
        home: &Home,
        binaries: &PostgresBinaries,
        options: &PostgresOptions,
    ) -> (PathBuf, Vec<String>) {
        (binaries.program("postgres"), arguments(home, options))
    }

    fn secret(
        _: &Home,
        _: &PostgresBinaries,
        _: &PostgresOptions,
    ) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    /// The first line of Postgres' own pid file is the postmaster's pid.
    fn noted_pid(home: &Home) -> Option<u32> {
        let file = std::fs::read_to_string(home.data().join(Self::LOCK_FILE)).ok()?;
        file.lines().next()?.trim().parse().ok()
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

    /// The database and its schema.
    async fn complete(options: &PostgresOptions) -> Result<(), Error> {
        let created = create_database(options).await;
        created.map_err(|source| Error::Sql {
            server: SERVER,
            source,
        })
    }
}

impl PrivatePostgres {
    /// `postgres://` URL of the owner, with password.
    #[must_use]
    pub fn url(&self) -> String {
        let PostgresOptions {
            user,
            password,
            port,
            db,
            ..
        } = self.options();
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
        } = self.options();
        format!(
            "jdbc:postgresql://127.0.0.1:{port}/{}?currentSchema={}",
            url_part(db),
            url_part(schema)
        )
    }
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

async fn create_database(options: &PostgresOptions) -> Result<(), sqlx::Error> {
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
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
