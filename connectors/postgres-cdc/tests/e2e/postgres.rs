//! A private PostgreSQL server for the tests of this process.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server; stopped and removed with its last user.
pub struct Postgres {
    folder: TempDir,
    port: u16,
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The server of this process, started by the first who asks.
    pub fn shared() -> Arc<Postgres> {
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Postgres::start());
        *shared = Arc::downgrade(&started);
        started
    }

    /// `postgres://` URL of the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A server of the caller's own.
    pub fn start() -> Postgres {
        let folder = tempfile::Builder::new()
            .prefix("millrace-pg-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&data));
        }
        let init = [
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ];
        run(as_user("initdb").args(init).arg(&data));
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let settings = format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nfsync = off\n\
             wal_level = logical\nmax_replication_slots = 200\nmax_wal_senders = 200\nmax_connections = 400\n"
        );
        let file = data.join("postgresql.conf");
        let defaults = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, defaults + &settings).unwrap();
        let started = Postgres { folder, port };
        started.start_again();
        started
    }

    /// Starts it after [`Postgres::stop`], at the same port.
    pub fn start_again(&self) {
        let log = self.data().join("log");
        run(as_user("pg_ctl")
            .args(["start", "-w", "-t", "60", "-l"])
            .arg(log)
            .arg("-D")
            .arg(self.data()));
    }

    /// As a crash would end it.
    pub fn stop(&self) {
        run(as_user("pg_ctl")
            .args(["stop", "-m", "immediate", "-w", "-D"])
            .arg(self.data()));
    }

    /// Keeps a copy of the data directory of the stopped server.
    pub fn keep(&self) {
        copy(&self.data(), &self.kept());
    }

    /// Puts the kept copy in place of the data directory of the stopped server.
    pub fn restore(&self) {
        copy(&self.kept(), &self.data());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = as_user("pg_ctl")
            .args(["stop", "-m", "immediate", "-w", "-D"])
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
        .unwrap_or(false)
}

/// Postgres refuses to run as root.
fn as_user(program: &str) -> Command {
    let program = find(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command
        .args(["-u", "postgres", "--"])
        .arg(program)
        .current_dir("/");
    command
}

fn find(program: &str) -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<_> = debian
        .map(|e| e.path().join("bin").join(program))
        .filter(|p| p.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(program).to_owned())
}

fn run(command: &mut Command) {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(
        status.as_ref().is_ok_and(|s| s.success()),
        "{command:?}: {status:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(120),
        "{command:?} took too long"
    );
}
