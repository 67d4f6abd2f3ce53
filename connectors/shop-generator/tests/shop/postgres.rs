//! A private Postgres for one test: its own data, reached by a socket in its own folder, no port.

use std::os::unix::fs::{chown, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::PgPool;
use tempfile::TempDir;

pub(crate) struct Postgres {
    folder: TempDir,
    owner: Option<u32>,
}

impl Postgres {
    /// Blocks until it answers.
    pub(crate) fn start() -> Postgres {
        // A socket's path has to be short, and open to the user that Postgres runs as.
        let folder = tempfile::Builder::new()
            .prefix("shop-")
            .tempdir_in("/tmp")
            .unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        let postgres = Postgres {
            owner: owner(folder.path()),
            folder,
        };
        postgres.run(
            "initdb",
            &[
                "-U",
                "shop",
                "-A",
                "trust",
                "-N",
                "--locale=C",
                "-E",
                "UTF8",
            ],
        );
        postgres.boot();
        postgres
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://shop@localhost/postgres?host={}",
            self.folder.path().display()
        )
    }

    pub(crate) async fn pool(&self) -> PgPool {
        PgPool::connect(&self.url()).await.unwrap()
    }

    pub(crate) fn boot(&self) {
        let options = format!(
            "-k {} -c listen_addresses='' -c fsync=off",
            self.folder.path().display()
        );
        self.run(
            "pg_ctl",
            &["-w", "-o", &options, "-l", &self.data("log"), "start"],
        );
    }

    pub(crate) fn crash(&self) {
        self.run("pg_ctl", &["-w", "-m", "immediate", "stop"]);
    }

    fn data(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(binary(program));
        command
            .args(["-D", &self.data("data")])
            .args(arguments)
            .stdin(Stdio::null());
        if let Some(uid) = self.owner {
            command.uid(uid).gid(uid).current_dir("/");
        }
        let status = command.stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{program}: {status}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if Path::new(&self.data("data/postmaster.pid")).exists() {
            self.crash();
        }
    }
}

/// Postgres refuses to run as root: then the folder goes to `nobody` (65534).
fn owner(folder: &Path) -> Option<u32> {
    const NOBODY: u32 = 65534;
    chown(folder, Some(NOBODY), Some(NOBODY))
        .ok()
        .map(|()| NOBODY)
}

fn binary(program: &str) -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(debian.map(|version| version.path().join("bin")));
    let found = folders
        .iter()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} not found: install PostgreSQL's server"))
}
