//! A private MySQL or MariaDB, whichever the machine has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_sessions::mysql::Flavour;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{sleep, timeout};

use super::discover::{self, MySqlBinary};
use super::error::{io, Error};
use super::home::{remove_file, Home};
use super::patience::{Patience, Wait};
use super::process::{self, Launch, ServerProcess, Signal, StopPlan};
use super::{no_control_characters, ports, url_part};

const SERVER: &str = "MySQL";
const PORT_VARIABLE: &str = "MYSQL_PORT";
/// For root: under whom it runs. Debian's `mariadb-server-core` makes no account of its own.
const ACCOUNTS: [&str; 3] = ["mysql", "postgres", "nobody"];

const ATTEMPT: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A clean shutdown, then the last resort; InnoDB recovers from that as from a crash. Together with the
/// three seconds of the services they must fit the ten that Ctrl-C may take.
const STOP: StopPlan = &[
    (Signal::Term, Duration::from_secs(5)),
    (Signal::Kill, Duration::from_millis(1500)),
];
const STOP_HARD: StopPlan = &[(Signal::Kill, Duration::from_secs(3))];

/// What the private MySQL shall be like.
#[derive(Debug, Clone)]
pub struct MySqlOptions {
    /// Its own folder; made if it is not there.
    pub data_dir: PathBuf,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The database; made if it is not there.
    pub db: String,
    /// The user who owns it. Name and password are set at every start.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// All rights on the whole server instead of those on `db`: for tests that make databases of their own.
    pub all_rights: bool,
    /// The server program; `None`: see [`find_mysql`](super::find_mysql).
    pub binary: Option<PathBuf>,
    /// Further server options as on the command line, for example `--max-connections=500`.
    pub arguments: Vec<String>,
}

/// A running private MySQL or MariaDB. Dropping it stops it hard; see [`stop`](Self::stop).
#[derive(Debug)]
pub struct PrivateMySql {
    options: MySqlOptions,
    binary: MySqlBinary,
    process: ServerProcess,
    adopted: bool,
    keep: bool,
    /// Holds the lock.
    _home: Home,
}

impl PrivateMySql {
    /// Starts it, or adopts the one that a killed process left behind. When this returns, the database and the
    /// user exist and connections are accepted.
    ///
    /// # Errors
    /// See [`Error`]; a port taken by somebody else is [`Error::PortTaken`].
    pub async fn start(options: MySqlOptions) -> Result<Self, Error> {
        check(&options)?;
        let home = Home::open(&options.data_dir, SERVER, &ACCOUNTS)?;
        let binary = discover::mysql(options.binary.as_deref())?;
        check_flavour(&home, &binary)?;
        home.folder(TEMPORARY)?;
        initialise(&home, &binary).await?;
        let arguments = arguments(&home, &binary, &options);
        let launch = Launch {
            server: SERVER,
            program: &binary.server,
            arguments: &arguments,
            environment: &[],
        };

        if let Some(process) = adopt(&home, &launch, &options).await? {
            return Ok(Self {
                options,
                binary,
                process,
                adopted: true,
                keep: false,
                _home: home,
            });
        }
        ports::check_free(options.port, PORT_VARIABLE)?;
        let accounts = home.secret(INIT_FILE, &accounts_sql(&options, binary.flavour))?;
        let process = ServerProcess::start(&home, &launch)?;
        let mut server = Self {
            options,
            binary,
            process,
            adopted: false,
            keep: false,
            _home: home,
        };
        let ready = answers(
            &mut server.process,
            &server._home,
            &server.options,
            Patience::START,
        )
        .await;
        remove_file(&accounts)?;
        ready.map(|()| server)
    }

    /// `mysql://` URL of the user, with password.
    #[must_use]
    pub fn url(&self) -> String {
        let MySqlOptions {
            user,
            password,
            port,
            db,
            ..
        } = &self.options;
        format!(
            "mysql://{}:{}@127.0.0.1:{port}/{}",
            url_part(user),
            url_part(password),
            url_part(db)
        )
    }

    /// The same place for JDBC tools, without user and password.
    #[must_use]
    pub fn jdbc_url(&self) -> String {
        let MySqlOptions { port, db, .. } = &self.options;
        let db = url_part(db);
        match self.binary.flavour {
            Flavour::MySql => {
                format!(
                    "jdbc:mysql://127.0.0.1:{port}/{db}?allowPublicKeyRetrieval=true&useSSL=false"
                )
            }
            Flavour::MariaDb => format!("jdbc:mariadb://127.0.0.1:{port}/{db}"),
        }
    }

    /// Its options, as given.
    #[must_use]
    pub fn options(&self) -> &MySqlOptions {
        &self.options
    }

    /// The server program: flavour and version.
    #[must_use]
    pub fn binary(&self) -> &MySqlBinary {
        &self.binary
    }

    /// Its process.
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

impl Drop for PrivateMySql {
    fn drop(&mut self) {
        if !self.keep {
            self.process.stop_hard(STOP_HARD);
        }
    }
}

fn check(options: &MySqlOptions) -> Result<(), Error> {
    no_control_characters("the MySQL database", &options.db)?;
    no_control_characters("the MySQL user", &options.user)?;
    no_control_characters("the MySQL password", &options.password)
}

const INIT_FILE: &str = "accounts.sql";
const FLAVOUR_FILE: &str = "flavour";

/// A server that starts removes what looks like a table left behind in its folder for temporary files, also when it
/// belongs to another server that runs: never the machine's `/tmp`, not even while the data are made.
const TEMPORARY: &str = "tmp";

/// MySQL and MariaDB cannot open each other's data; the flavour is noted beside it.
fn check_flavour(home: &Home, binary: &MySqlBinary) -> Result<(), Error> {
    let here = binary.flavour.to_string();
    match std::fs::read_to_string(home.dir.join(FLAVOUR_FILE)) {
        Ok(made_by) if made_by.trim() != here && home.data().exists() => Err(Error::OtherVersion {
            dir: home.dir.clone(),
            made_by: made_by.trim().to_owned(),
            found: format!("{here} {}", binary.version),
        }),
        _ => Ok(()),
    }
}

/// Into a folder that becomes the data by a rename: after a kill it is simply made again.
async fn initialise(home: &Home, binary: &MySqlBinary) -> Result<(), Error> {
    if home.data().exists() {
        return Ok(());
    }
    let new = home.fresh_folder()?;
    let datadir = format!("--datadir={}", new.display());
    let (program, arguments) = match &binary.install {
        Some(install) => (
            install,
            vec![
                "--no-defaults".to_owned(),
                datadir,
                "--auth-root-authentication-method=socket".into(),
                "--skip-test-db".into(),
                "--skip-name-resolve".into(),
            ],
        ),
        None => (
            &binary.server,
            vec![
                "--no-defaults".to_owned(),
                "--initialize-insecure".into(),
                datadir,
                "--innodb-use-native-aio=0".into(),
            ],
        ),
    };
    // The script cannot pass a path with a blank on to the server; the environment can.
    let temporary = home.dir.join(TEMPORARY).display().to_string();
    let launch = Launch {
        server: SERVER,
        program,
        arguments: &arguments,
        environment: &[("TMPDIR", temporary)],
    };
    process::run(home, &launch).await?;
    let note = home.dir.join(FLAVOUR_FILE);
    std::fs::write(&note, binary.flavour.to_string()).map_err(io("write", &note))?;
    std::fs::rename(&new, home.data()).map_err(io("rename", &new))
}

/// Everything is said on the command line, so that no option file of the machine matters. The socket's path is
/// relative to the data, because the whole path may be longer than sockets allow.
fn arguments(home: &Home, binary: &MySqlBinary, options: &MySqlOptions) -> Vec<String> {
    let inside = |name: &str| home.dir.join(name).display().to_string();
    let collation = collation(binary.flavour);
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", home.data().display()),
        format!("--port={}", options.port),
        "--bind-address=127.0.0.1".into(),
        "--socket=mysqld.sock".into(),
        format!("--pid-file={}", inside("mysqld.pid")),
        format!("--tmpdir={}", inside(TEMPORARY)),
        format!("--init-file={}", inside(INIT_FILE)),
        "--skip-name-resolve".into(),
        "--skip-log-bin".into(),
        "--character-set-server=utf8mb4".into(),
        format!("--collation-server={collation}"),
        "--default-time-zone=+00:00".into(),
        "--innodb-flush-log-at-trx-commit=1".into(),
        "--innodb-buffer-pool-size=256M".into(),
        "--innodb-use-native-aio=0".into(),
        "--max-allowed-packet=1G".into(),
        "--max-connections=100".into(),
        "--performance-schema=OFF".into(),
    ];
    if binary.flavour == Flavour::MySql {
        arguments.push("--mysqlx=OFF".into());
    }
    arguments.extend(options.arguments.iter().cloned());
    arguments
}

/// Text compares byte by byte, trailing spaces included; each flavour has its own name for that.
fn collation(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MySql => "utf8mb4_0900_bin",
        Flavour::MariaDb => "utf8mb4_nopad_bin",
    }
}

/// Run by the server itself before it listens; one statement a line. Rights on the database only, and no way in
/// for the server's own root but the socket.
fn accounts_sql(options: &MySqlOptions, flavour: Flavour) -> String {
    let account = format!("{}@'%'", text(&options.user));
    let password = text(&options.password);
    let db = format!("`{}`", options.db.replace('`', "``"));
    // In GRANT, an underscore or a percent sign would be a pattern.
    let pattern = db.replace('_', "\\_").replace('%', "\\%");
    let (scope, option) = if options.all_rights {
        ("*", " WITH GRANT OPTION")
    } else {
        (pattern.as_str(), "")
    };
    let mut statements = vec![
        format!(
            "CREATE DATABASE IF NOT EXISTS {db} CHARACTER SET utf8mb4 COLLATE {};",
            collation(flavour)
        ),
        format!("CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {password};"),
        format!("ALTER USER {account} IDENTIFIED BY {password};"),
        format!("GRANT ALL PRIVILEGES ON {scope}.* TO {account}{option};"),
    ];
    if flavour == Flavour::MySql {
        statements.push("ALTER USER 'root'@'localhost' ACCOUNT LOCK;".into());
    }
    statements.join("\n") + "\n"
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The orphan of a killed parent if it runs as we would run it and answers; otherwise it is stopped.
async fn adopt(
    home: &Home,
    launch: &Launch<'_>,
    options: &MySqlOptions,
) -> Result<Option<ServerProcess>, Error> {
    let Some(mut process) = orphan(home)? else {
        return Ok(None);
    };
    if process.was_started_as(launch)
        && answers(&mut process, home, options, Patience::ADOPT)
            .await
            .is_ok()
    {
        tracing::info!(
            server = SERVER,
            pid = process.pid(),
            "adopted the server that an earlier run left behind"
        );
        return Ok(Some(process));
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
/// forgotten: MySQL (not MariaDB) refuses its socket's lock.
fn orphan(home: &Home) -> Result<Option<ServerProcess>, Error> {
    let found = ServerProcess::orphan(home, SERVER)?.or_else(|| unnoted(home));
    if found.is_none() {
        process::forget_copied(home, &home.data().join("mysqld.sock.lock"))?;
    }
    Ok(found)
}

fn unnoted(home: &Home) -> Option<ServerProcess> {
    let file = std::fs::read_to_string(home.dir.join("mysqld.pid")).ok()?;
    ServerProcess::unnoted(home, SERVER, file.trim().parse().ok()?)
}

/// Waits until our own server, not another one on that port, accepts our user.
async fn answers(
    process: &mut ServerProcess,
    home: &Home,
    options: &MySqlOptions,
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

async fn data_directory(options: &MySqlOptions) -> Result<String, sqlx::Error> {
    let mut connection = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(options.port)
        .username(&options.user)
        .password(&options.password)
        .database(&options.db)
        .ssl_mode(MySqlSslMode::Disabled)
        .connect()
        .await?;
    let dir: String = sqlx::query_scalar("SELECT CAST(@@datadir AS CHAR)")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(dir)
}

/// Access denied, for the user or for the database.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("28000" | "42000"))
}

/// It does not listen yet, and does not before it has recovered; that it lives is known.
fn is_starting(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
#[path = "mysql_tests.rs"]
mod tests;
