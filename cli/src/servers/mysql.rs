//! A private MySQL or MariaDB, whichever the machine has.

use std::path::PathBuf;
use std::time::Duration;

use millrace_sessions::mysql::Flavour;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{ConnectOptions, Connection};

use super::discover::{self, MySqlBinary};
use super::error::{io, Error};
use super::home::Home;
use super::private::{Basics, Kind, Private};
use super::process::{self, Launch, Signal, StopPlan};
use super::{no_control_characters, url_part};

const SERVER: &str = "MySQL";
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

/// MySQL or MariaDB.
#[derive(Debug)]
pub struct MySql;

/// A running private MySQL or MariaDB.
pub type PrivateMySql = Private<MySql>;

impl Kind for MySql {
    type Options = MySqlOptions;
    type Installation = MySqlBinary;

    const SERVER: &'static str = SERVER;
    const PORT_VARIABLE: &'static str = "MYSQL_PORT";
    /// Debian's `mariadb-server-core` makes no account of its own.
    const ACCOUNTS: &'static [&'static str] = &["mysql", "postgres", "nobody"];
    /// A clean shutdown, then the last resort; InnoDB recovers from that as from a crash.
    const STOP: StopPlan = &[
        (Signal::Term, Duration::from_secs(5)),
        (Signal::Kill, Duration::from_millis(1500)),
    ];
    const STOP_HARD: StopPlan = &[(Signal::Kill, Duration::from_secs(3))];
    /// MySQL (not MariaDB) refuses to start beside it.
    const LOCK_FILE: &'static str = "mysqld.sock.lock";

    fn basics(options: &MySqlOptions) -> Basics<'_> {
        Basics {
            data_dir: &options.data_dir,
            port: options.port,
            user: &options.user,
        }
    }

    fn check(options: &MySqlOptions) -> Result<(), Error> {
        no_control_characters("the MySQL database", &options.db)?;
        no_control_characters("the MySQL user", &options.user)?;
        no_control_characters("the MySQL password", &options.password)
    }

    fn find(home: &Home, options: &MySqlOptions) -> Result<MySqlBinary, Error> {
        let binary = discover::mysql(options.binary.as_deref())?;
        check_flavour(home, &binary)?;
        Ok(binary)
    }

    async fn initialise(home: &Home, binary: &MySqlBinary, _: &MySqlOptions) -> Result<(), Error> {
        home.folder(TEMPORARY)?;
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

    fn command(
        home: &Home,
        binary: &MySqlBinary,
        options: &MySqlOptions,
    ) -> (PathBuf, Vec<String>) {
        (binary.server.clone(), arguments(home, binary, options))
    }

    /// Accounts and passwords.
    fn secret(
        home: &Home,
        binary: &MySqlBinary,
        options: &MySqlOptions,
    ) -> Result<Option<PathBuf>, Error> {
        let accounts = accounts_sql(options, binary.flavour);
        home.secret(INIT_FILE, &accounts).map(Some)
    }

    fn noted_pid(home: &Home) -> Option<u32> {
        let file = std::fs::read_to_string(home.dir.join("mysqld.pid")).ok()?;
        file.trim().parse().ok()
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

    /// The server itself has made the accounts before it listened.
    async fn complete(_: &MySqlOptions) -> Result<(), Error> {
        Ok(())
    }
}

impl PrivateMySql {
    /// `mysql://` URL of the user, with password.
    #[must_use]
    pub fn url(&self) -> String {
        let MySqlOptions {
            user,
            password,
            port,
            db,
            ..
        } = self.options();
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
        let MySqlOptions { port, db, .. } = self.options();
        let db = url_part(db);
        match self.installation().flavour {
            Flavour::MySql => {
                format!(
                    "jdbc:mysql://127.0.0.1:{port}/{db}?allowPublicKeyRetrieval=true&useSSL=false"
                )
            }
            Flavour::MariaDb => format!("jdbc:mariadb://127.0.0.1:{port}/{db}"),
        }
    }
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

#[cfg(test)]
#[path = "mysql_tests.rs"]
mod tests;
