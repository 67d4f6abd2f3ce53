//! A private MySQL or MariaDB for the tests of this crate, one per test binary.
//!
//! `MILLRACE_MYSQL_BIN` names a server program, such as a real MySQL's `mysqld`; otherwise `mariadbd` from
//! the PATH or the distribution's folders is started. It has a folder of its own, and ends with the
//! test process, however that ends.

#![allow(dead_code)]

pub(crate) mod postgres;
pub(crate) mod proxy;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millrace_sessions::mysql::{connect, Purpose, Session};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Executor};
use tokio::sync::OnceCell;

/// Ends the server when our end of its standard input closes, which every death of ours brings about.
pub(crate) const WATCHDOG: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill "$server"; wait "$server"; rm -rf "$folder"
"#;

/// The same for a server that is started again whenever it ends.
const AGAIN_AND_AGAIN: &str = r#"
folder=$1; shift
(
    trap 'kill "$server"; wait "$server"; exit' TERM
    while :; do
        "$@" >>"$folder/log" 2>&1 </dev/null &
        server=$!
        wait "$server"
    done
) &
keeper=$!
cat >/dev/null
kill "$keeper"; wait "$keeper"; rm -rf "$folder"
"#;

/// User and group that servers run as where the tests run as root.
pub(crate) const NOBODY: u32 = 65534;

/// A running server.
pub(crate) struct Server {
    url: String,
    port: u16,
    folder: PathBuf,
    _watchdog: Child,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// The server of this test binary.
    pub(crate) async fn shared() -> &'static Server {
        SERVER.get_or_init(Server::start).await
    }

    async fn start() -> Server {
        Server::start_with(&[]).await
    }

    /// A server of its own, with further arguments: for a test that changes what holds for all sessions.
    pub(crate) async fn start_with(arguments: &[&str]) -> Server {
        Server::start_under(WATCHDOG, arguments).await
    }

    /// A server of its own that comes back when it is killed.
    pub(crate) async fn start_again_and_again() -> Server {
        Server::start_under(AGAIN_AND_AGAIN, &[]).await
    }

    async fn start_under(watchdog: &str, arguments: &[&str]) -> Server {
        let folder = folder_for("mysql");
        install(&folder, arguments);
        let port = free_port();
        let mut command = Command::new("sh");
        command
            .args(["-c", watchdog, "watchdog"])
            .arg(&folder)
            .arg(mysqld().unwrap_or_else(|| program("mariadbd")));
        command
            .args(server_arguments(&folder, port))
            .args(arguments)
            .stdin(Stdio::piped())
            .process_group(0);
        let watchdog = command.spawn().expect("sh starts");
        let server = Server {
            url: format!("mysql://root@127.0.0.1:{port}"),
            port,
            folder,
            _watchdog: watchdog,
        };
        server.wait().await;
        server
    }

    /// Kills the server as a machine that loses its power does, and waits until it has come back.
    pub(crate) async fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).expect("its pid file");
        let killed = Command::new("kill").args(["-9", pid.trim()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "{pid}");
        while Path::new("/proc").join(pid.trim()).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.wait().await;
    }

    async fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.options("").connect().await {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "mariadbd does not answer: {error}\n{}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn options(&self, database: &str) -> MySqlConnectOptions {
        let options: MySqlConnectOptions = self.url.parse().expect("a MySQL URL");
        let options = options.charset("utf8mb4").statement_cache_capacity(1024);
        if database.is_empty() {
            options
        } else {
            options.database(database)
        }
    }

    /// Where it listens, on this machine.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// URL of a database on this server.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.url)
    }

    /// Creates an empty database with a name of its own and returns the name.
    pub(crate) async fn database(&self) -> String {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut conn = self.connect("").await;
        conn.execute(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4").as_str())
            .await
            .expect("a new database");
        name
    }

    /// A session as the projector has it.
    pub(crate) async fn connect(&self, database: &str) -> Session {
        connect(&self.url(database), Purpose::Project)
            .await
            .expect("the server answers")
    }
}

/// A folder for the data of a server, which the server's user may enter.
pub(crate) fn folder_for(server: &str) -> PathBuf {
    let name = format!(
        "millrace-test-{server}-{}-{:x}",
        std::process::id(),
        rand::random::<u32>()
    );
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).expect("a temporary folder");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    if is_root() {
        std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).expect("its owner");
    }
    folder
}

/// A server program that was told explicitly.
fn mysqld() -> Option<PathBuf> {
    std::env::var_os("MILLRACE_MYSQL_BIN").map(PathBuf::from)
}

fn is_mariadb(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("MariaDB"))
}

/// A server that starts removes what looks like a table left behind in its folder for temporary files, also when it
/// belongs to a server that runs: each has a folder of its own, here too.
fn install(folder: &Path, arguments: &[&str]) {
    let mut command = match mysqld().filter(|program| !is_mariadb(program)) {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(["--no-defaults", "--initialize-insecure"]);
            // MySQL keeps what it was made with.
            command.args(arguments.iter().filter(|it| it.contains("lower-case")));
            command
        }
        None => {
            let mut command = Command::new(program("mariadb-install-db"));
            command.args(["--no-defaults", "--skip-test-db"]);
            command.arg("--auth-root-authentication-method=normal");
            command
        }
    };
    let output = command
        .arg(format!("--datadir={}", folder.join("data").display()))
        .env("TMPDIR", folder)
        .args(as_other_user())
        .output()
        .expect("a server (apt-get install mariadb-server-core)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// mariadbd refuses to run as root without being told to change its user.
fn as_other_user() -> Vec<&'static str> {
    if is_root() {
        vec!["--user=nobody"]
    } else {
        Vec::new()
    }
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn server_arguments(folder: &Path, port: u16) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", path("data")),
        format!("--tmpdir={}", folder.display()),
        format!("--socket={}", path("socket")),
        format!("--pid-file={}", path("pid")),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
        "--innodb-buffer-pool-size=128M".to_owned(),
        // MariaDB's default; MySQL's is four times that, and a test wants a row that is longer.
        "--max-allowed-packet=16M".to_owned(),
    ];
    arguments.extend(as_other_user().into_iter().map(str::to_owned));
    arguments
}

pub(crate) fn program(name: &str) -> PathBuf {
    let folders = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
