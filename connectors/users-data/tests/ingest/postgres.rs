//! A private Postgres, one per test binary; it ends with the test process, however that ends.

use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

/// Ends the server when our end of its standard input closes, which every death of ours brings about.
const WATCHDOG: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT "$server"; wait "$server"; rm -rf "$folder"
"#;

/// Postgres refuses to run as root.
const NOBODY: u32 = 65534;

pub(crate) struct Postgres {
    port: u16,
    _watchdog: Child,
}

static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();

impl Postgres {
    pub(crate) async fn shared() -> &'static Postgres {
        POSTGRES.get_or_init(Postgres::start).await
    }

    async fn start() -> Postgres {
        let folder = std::env::temp_dir().join(format!("millrace-ingest-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a temporary folder");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("its mode");
        if is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
        let mut initdb = plain_user(tool("initdb"), &folder);
        initdb.args([
            "--no-sync",
            "-EUTF8",
            "--locale=C.UTF-8",
            "-Uowner",
            "-Atrust",
            "-Ddata",
        ]);
        let made = initdb
            .output()
            .expect("initdb (apt-get install postgresql)");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        drop(listener);
        let mut server = plain_user(PathBuf::from("sh"), &folder);
        server
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .arg(tool("postgres"));
        server
            .args(["-Ddata", "-k.", "-h127.0.0.1,::1", "-F", "-p"])
            .arg(port.to_string());
        let _watchdog = server
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        let postgres = Postgres { port, _watchdog };
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = PgConnection::connect(&postgres.url("postgres")).await {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "postgres does not answer: {error}\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        postgres
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://owner@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database))
            .await
            .expect("the server answers")
    }

    /// An empty database.
    pub(crate) async fn create(&self, database: &str) -> PgConnection {
        let sql = format!("CREATE DATABASE {database}");
        self.connect("postgres")
            .await
            .execute(sql.as_str())
            .await
            .expect("a new database");
        self.connect(database).await
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn plain_user(program: PathBuf, folder: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir(folder);
    command
}

/// On the PATH, or in the newest of Debian's folders.
fn tool(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let debian = (14..=18)
        .rev()
        .map(|version| format!("/usr/lib/postgresql/{version}/bin/{name}"));
    let mut found = on_path
        .chain(debian.map(PathBuf::from))
        .filter(|file| file.is_file());
    found.next().unwrap_or_else(|| PathBuf::from(name))
}
