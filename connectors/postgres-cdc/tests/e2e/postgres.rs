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

    /// A server of the test's own.
    pub fn own() -> Arc<Postgres> {
        Arc::new(Postgres::start())
    }

    /// The same, whose numbers of transactions come to the end of their 32 bits after `left` more. A server is never
    /// further than half of them from its oldest row, so that it gets there in steps.
    pub fn own_before_wraparound(left: u32) -> Arc<Postgres> {
        let postgres = Postgres::start();
        for next in [2_000_000_000, 4_000_000_000, u32::MAX - left] {
            postgres.continue_at(next);
        }
        Arc::new(postgres)
    }

    /// Lets the next transaction have this number, and freezes all rows.
    fn continue_at(&self, next: u32) {
        let data = self.data();
        run(as_user("pg_ctl")
            .args(["stop", "-m", "fast", "-w", "-D"])
            .arg(&data));
        // Where the states of the transactions before it would be: 2 bits each, 32 pages a file.
        let states = data.join(format!("pg_xact/{:04X}", next / (4 * 8192 * 32)));
        run(as_user("truncate").args(["-s", "262144"]).arg(states));
        run(as_user("pg_resetwal")
            .args(["-x", &next.to_string()])
            .arg(&data));
        self.serve();
        let port = self.port.to_string();
        let server = ["-h", "127.0.0.1", "-U", "postgres", "-p", port.as_str()];
        let open = "UPDATE pg_database SET datallowconn = true";
        run(as_user("psql").args(server).args(["-c", open, "postgres"]));
        run(as_user("vacuumdb")
            .env("PGOPTIONS", "-c client_min_messages=error")
            .args(server)
            .args(["--all", "--freeze", "--quiet"]));
    }

    /// Starts it after [`Postgres::stop`], at the same port.
    pub fn start_again(&self) {
        self.serve();
    }

    /// The next start of the stopped server recovers what it has and begins a timeline of its own.
    pub fn promote_at_start(&self) {
        let data = self.data();
        let settings = data.join("postgresql.auto.conf");
        let more = "restore_command = 'false'\nhot_standby = off\n";
        let known = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(settings, known + more).unwrap();
        run(as_user("touch").arg(data.join("recovery.signal")));
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

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn serve(&self) {
        let data = self.data();
        run(as_user("pg_ctl")
            .args(["start", "-w", "-t", "60", "-l"])
            .arg(data.join("log"))
            .arg("-D")
            .arg(&data));
    }

    /// `postgres://` URL of the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn start() -> Postgres {
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
             wal_level = logical\nmax_replication_slots = 200\nmax_wal_senders = 200\nmax_connections = 400\nmax_prepared_transactions = 64\n"
        );
        let file = data.join("postgresql.conf");
        let defaults = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, defaults + &settings).unwrap();
        let postgres = Postgres { folder, port };
        postgres.serve();
        postgres
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stop = ["stop", "-m", "immediate", "-w", "-D"];
        // A test may have stopped it already.
        let mut stop_it = as_user("pg_ctl");
        stop_it.args(stop).arg(self.data());
        let _ = stop_it.stdout(Stdio::null()).stderr(Stdio::null()).status();
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
