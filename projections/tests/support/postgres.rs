//! A private Postgres with logical replication, one per test binary.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use super::{folder_for, free_port, is_root, program, NOBODY, WATCHDOG};

/// A running server.
pub(crate) struct Postgres {
    port: u16,
    _watchdog: Child,
}

static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();

impl Postgres {
    /// The server of this test binary.
    pub(crate) async fn shared() -> &'static Postgres {
        POSTGRES.get_or_init(Postgres::start).await
    }

    async fn start() -> Postgres {
        let folder = folder_for("postgres");
        let data = folder.join("data");
        let initdb = as_plain_user(Command::new(tool("initdb")))
            .current_dir(&folder)
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--username=owner",
                "--auth=trust",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb (apt-get install postgresql)");
        assert!(
            initdb.status.success(),
            "{}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        let port = free_port();
        let mut command = as_plain_user(Command::new("sh"));
        command
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .arg(tool("postgres"));
        command
            .args(server_arguments(&folder, port))
            .stdin(Stdio::piped())
            .current_dir(&folder)
            .process_group(0);
        let postgres = Postgres {
            port,
            _watchdog: command.spawn().expect("sh starts"),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = PgConnection::connect(&postgres.url("postgres")).await {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "postgres does not answer: {error}\n{}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        postgres
    }

    /// URL of a database on this server.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://owner@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database.
    pub(crate) async fn database(&self, name: &str) {
        let mut conn = self.connect("postgres").await;
        conn.execute(format!("CREATE DATABASE {name}").as_str())
            .await
            .expect("a new database");
    }

    /// A connection to a database.
    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database))
            .await
            .expect("the server answers")
    }
}

fn as_plain_user(mut command: Command) -> Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn server_arguments(folder: &Path, port: u16) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), folder.join("data").display().to_string()];
    arguments.extend([
        "-k".to_owned(),
        folder.display().to_string(),
        "-p".to_owned(),
        port.to_string(),
    ]);
    for setting in [
        "wal_level=logical",
        "fsync=off",
        "listen_addresses=127.0.0.1",
        "max_wal_senders=20",
        "max_replication_slots=20",
    ] {
        arguments.extend(["-c".to_owned(), setting.to_owned()]);
    }
    arguments
}

/// On the PATH, or in the folder of the newest version that Debian installed.
fn tool(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.path().join("bin").join(name))
                .collect()
        })
        .unwrap_or_default();
    versions.sort();
    versions
        .into_iter()
        .rfind(|path| path.is_file())
        .unwrap_or_else(|| program(name))
}
