//! The real binary, run as a person would run it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_cli::servers::ScratchDir;
use millrace_tests::harness::marts_folder;

/// The demo's.
fn settings_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env")
}

/// A data directory with a small shop that trades fast.
pub(crate) struct Demo {
    folder: ScratchDir,
    settings: Vec<(&'static str, String)>,
    child: Option<Child>,
    killed: bool,
}

impl Demo {
    /// Nothing runs yet.
    pub(crate) fn new(name: &str) -> anyhow::Result<Demo> {
        let settings = [
            ("MILLRACE_USERS", "60"),
            ("MILLRACE_PRODUCTS", "80"),
            ("MILLRACE_ORDERS", "300"),
            ("MILLRACE_REVIEWS", "200"),
            ("MILLRACE_LOYALTY_ROWS", "200"),
            ("MILLRACE_TRADES_PER_SECOND", "100"),
            ("MILLRACE_USER_EVENT_PERIOD_MS", "300"),
        ];
        let mut settings = settings
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec();
        settings.push(("MILLRACE_MARTS", marts_folder().display().to_string()));
        Ok(Demo {
            folder: ScratchDir::new(name)?,
            settings,
            child: None,
            killed: false,
        })
    }

    /// From its next start on, a setting has this value.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        // Outside of the checkout: the demo's settings file is named, and its folder of marts is relative.
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.arg("--env-file").arg(settings_file());
        command.envs(
            self.settings
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        Ok(command)
    }

    /// Starts `up --demo`; its output goes to `up.log` in the folder.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.start_with(&["up", "--demo"])
    }

    /// Starts `up --demo` with an empty shop that nobody trades in and nobody joins.
    pub(crate) fn start_empty(&mut self) -> anyhow::Result<()> {
        let sizes = self.settings.iter_mut();
        for (_, value) in sizes.filter(|(name, _)| *name != "MILLRACE_MARTS") {
            *value = "0".to_owned();
        }
        self.settings.push(("MILLRACE_CATEGORIES", "0".to_owned()));
        self.start()
    }

    /// Starts `up` on servers of one's own, with these flags. The settings file stays that of the demo.
    pub(crate) fn start_on(
        &mut self,
        postgres: &str,
        mysql: &str,
        flags: &[&str],
    ) -> anyhow::Result<()> {
        self.settings.retain(|(name, _)| *name != "MILLRACE_MARTS");
        let servers = ["up", "--postgres", postgres, "--mysql", mysql];
        self.start_with(&[&servers, flags].concat())
    }

    /// Starts `up --demo --once`.
    pub(crate) fn start_once(&mut self) -> anyhow::Result<()> {
        self.start_with(&["up", "--demo", "--once"])
    }

    /// Starts `up --demo` with a log as talkative as it gets, into a pipe that nobody reads until it is asked for
    /// with [`Demo::read`].
    pub(crate) fn start_unread(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let mut command = self.up(&["up", "--demo"])?;
        command.env("RUST_LOG", "trace").stdout(Stdio::null());
        self.child = Some(command.stderr(Stdio::piped()).spawn()?);
        self.killed = false;
        Ok(())
    }

    /// Reads the pipe of [`Demo::start_unread`] from now on.
    pub(crate) fn read(&mut self) -> anyhow::Result<impl std::io::Read> {
        let child = self.child.as_mut().context("nothing runs")?;
        child.stderr.take().context("there is no pipe")
    }

    /// Whether the process that was started has not ended.
    pub(crate) fn runs(&mut self) -> anyhow::Result<bool> {
        let child = self.child.as_mut().context("nothing runs")?;
        Ok(child.try_wait()?.is_none())
    }

    /// Waits until the process that was started has the data directory for itself: from then on it
    /// listens to Ctrl-C.
    pub(crate) fn wait_for_lock(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.data_dir().join("lock").exists() {
            ensure!(Instant::now() < deadline, "nothing started\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn start_with(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("up.log"))?;
        let mut command = self.up(arguments)?;
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        self.killed = false;
        Ok(())
    }

    fn up(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.command()?;
        command
            .args(arguments)
            .args(["--free-ports", "--data-dir"])
            .arg(self.data_dir());
        Ok(command)
    }

    /// The most memory that the process has taken.
    pub(crate) fn peak_kilobytes(&self) -> anyhow::Result<u64> {
        let child = self.child.as_ref().context("nothing runs")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.context("the kernel does not say")?;
        Ok(peak.trim().trim_end_matches(" kB").parse()?)
    }

    /// `kill -9` of the process; the databases it started are left behind.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("nothing runs")?;
        child.kill()?;
        child.wait()?;
        self.killed = true;
        Ok(())
    }

    /// Ctrl-C; how long it took to end, and whether it ended well.
    pub(crate) fn interrupt(&mut self) -> anyhow::Result<(Duration, bool)> {
        let mut child = self.child.take().context("nothing runs")?;
        let began = Instant::now();
        signal("INT", u64::from(child.id()))?;
        let ended = child.wait()?;
        Ok((began.elapsed(), ended.success()))
    }

    /// Runs `millrace COMMAND --data-dir …` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command()?;
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir());
        Ok(command.output()?)
    }

    /// Waits until MySQL has everything that Postgres has committed.
    pub(crate) fn wait_for(&self) -> anyhow::Result<()> {
        let output = self.run(&["wait-for", "--timeout", "120"])?;
        ensure!(
            output.status.success(),
            "wait-for: {}\n{}",
            said(&output),
            self.log()
        );
        Ok(())
    }

    /// `verify`, which must find everything equal.
    pub(crate) fn verify(&self) -> anyhow::Result<()> {
        let output = self.run(&["verify"])?;
        ensure!(
            output.status.code() == Some(0),
            "verify: {}\n{}",
            said(&output),
            self.log()
        );
        Ok(())
    }

    /// Stops the private Postgres in its tracks, so that it neither answers nor hangs up, until the guard is
    /// dropped.
    pub(crate) fn freeze_postgres(&self) -> anyhow::Result<Frozen> {
        let postmaster = self.server("postgres").context("no pid")?;
        // The postmaster first: it makes no new ones then.
        let mut frozen = Frozen(vec![postmaster]);
        frozen.signal("STOP")?;
        frozen.0.extend(children(postmaster)?);
        frozen.signal("STOP")?;
        Ok(frozen)
    }

    /// Process of the private server `postgres` or `mysql`, as its pid file tells it.
    pub(crate) fn server(&self, name: &str) -> Option<u64> {
        let file = std::fs::read(self.data_dir().join(name).join("server.pid")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&file).ok()?["pid"].as_u64()
    }

    /// `kill -9` of that server as soon as there is one, while `up` starts.
    pub(crate) fn kill_server_at_once(&mut self, name: &str) -> anyhow::Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.server(name).is_none() {
            ensure!(self.runs()?, "`up` ended\n{}", self.log());
            ensure!(Instant::now() < deadline, "no {name}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill_server(name)
    }

    /// `kill -9` of that server; waits until another one runs in its place, and returns that one's process.
    pub(crate) fn kill_server(&mut self, name: &str) -> anyhow::Result<u64> {
        let killed = self.server(name).context("no pid")?;
        signal("KILL", killed)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.server(name) {
                Some(pid) if pid != killed => return Ok(pid),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
            ensure!(self.runs()?, "`up` ended with {name}\n{}", self.log());
            ensure!(
                Instant::now() < deadline,
                "{name} stays down\n{}",
                self.log()
            );
        }
    }

    /// The end of what `up` said.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(60).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A failed test still ends what it started. The databases that a kill left behind are adopted
        // by the next start, which then stops them.
        if self.child.is_some() || (self.killed && self.start().is_ok()) {
            drop(self.interrupt());
        }
    }
}

/// By the shell's own kill: a bare machine has no such program.
pub(crate) fn signal(name: &str, pid: u64) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill -s {name} {pid}");
    Ok(())
}

/// Processes that stand still until this is dropped.
pub(crate) struct Frozen(Vec<u64>);

impl Frozen {
    fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|pid| signal(name, *pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.signal("CONT");
    }
}

/// Processes whose parent this is (proc(5), the fourth field of `stat`).
fn children(parent: u64) -> anyhow::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
        let its_parent = fields.and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
        if its_parent == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Standard output and error of a command that has ended.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// `millrace` lies two folders above the test, or one in an unusual layout.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    test.ancestors()
        .map(|folder: &Path| folder.join("millrace"))
        .find(|file| file.is_file())
        .context("millrace is not built; run the tests with `make test`")
}
