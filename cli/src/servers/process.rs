//! Server processes: started in their own process group, recognised after their parent was killed, stopped within
//! a bound.
//!
//! A pid file of ours says which process was started and with which arguments. A pid alone proves nothing, pids
//! are used again; the file therefore also holds when the process started, counted from this boot. Nor does the file
//! prove anything, it may be a copy: the process must also work in our folder, as the kernel sees it (see `place`).

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::time::{sleep, Instant};

use super::error::{io, Error};
use super::home::{remove_file, Home};
use super::place::{self, Place};

/// A log that grew beyond this is started anew with the server.
const LOG_BYTES_MAX: u64 = 16 << 20;
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;
/// How often a process that is not our child is looked at while it ends.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How soon the end of a running server is noticed.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// What to run: `program` with `arguments`, as the home's account, inside the home.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) server: &'static str,
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    /// Extra environment; beyond it only PATH, LC_ALL, TZ and TMPDIR are set.
    pub(super) environment: &'a [(&'static str, String)],
}

/// The signals that end a server.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Int,
    Quit,
    Term,
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// For a process whose start could not be written down.
const STOP_UNNOTED: StopPlan = &[(Signal::Kill, Duration::from_secs(2))];

/// Signals in order, each with the time it is given to work.
pub(super) type StopPlan = &'static [(Signal, Duration)];

/// A running server: our child, or an orphan that we adopted.
#[derive(Debug)]
pub(super) struct ServerProcess {
    server: &'static str,
    identity: Identity,
    child: Option<Child>,
    home: PathBuf,
}

/// What the pid file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: u32,
    /// Boot and start time as the system tells them; equal only for the same process.
    started: String,
    arguments: Vec<String>,
}

impl ServerProcess {
    pub(super) fn start(home: &Home, launch: &Launch<'_>) -> Result<Self, Error> {
        let log = log_file(&home.dir)?;
        let mut command = command(home, launch);
        command
            .stdout(log.try_clone().map_err(io("open the log in", &home.dir))?)
            .stderr(log);
        let child = command.spawn().map_err(io("run", launch.program))?;
        let pid = child.id().unwrap_or_default();
        let started = observe(pid).unwrap_or_default();
        let identity = Identity {
            pid,
            started,
            arguments: command_line(launch),
        };
        let mut process = Self {
            server: launch.server,
            identity,
            child: Some(child),
            home: home.dir.clone(),
        };
        if let Err(error) = write_identity(&home.dir, &process.identity) {
            // It has done nothing yet, and nobody would know that it is ours.
            process.stop_hard(STOP_UNNOTED);
            return Err(error);
        }
        Ok(process)
    }

    /// The process that a killed parent left running in this home.
    pub(super) fn orphan(home: &Home, server: &'static str) -> Result<Option<Self>, Error> {
        let path = pid_file(&home.dir);
        let identity: Identity = match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(identity)) => identity,
            _ => return Ok(None),
        };
        let runs = observe(identity.pid).as_ref() == Some(&identity.started);
        if !runs || place::of(identity.pid, home) == Place::Elsewhere {
            remove_file(&path)?;
            return Ok(None);
        }
        Ok(Some(Self {
            server,
            identity,
            child: None,
            home: home.dir.clone(),
        }))
    }

    /// A server that its own pid file names and ours does not: killed between the start and our note of it.
    pub(super) fn unnoted(home: &Home, server: &'static str, pid: u32) -> Option<Self> {
        // A shell that stands in the folder may have got the pid since.
        if place::of(pid, home) != Place::Ours || !place::is_told_ours(pid, home) {
            return None;
        }
        let identity = Identity {
            pid,
            started: observe(pid)?,
            arguments: Vec::new(),
        };
        Some(Self {
            server,
            identity,
            child: None,
            home: home.dir.clone(),
        })
    }

    /// Waits until the process has ended, and says how.
    pub(super) async fn ended(&mut self) -> Error {
        loop {
            if let Err(error) = self.check_alive() {
                return error;
            }
            sleep(WATCH_EVERY).await;
        }
    }

    /// Whether it was started exactly so.
    pub(super) fn was_started_as(&self, launch: &Launch<'_>) -> bool {
        self.identity.arguments == command_line(launch)
    }

    pub(super) fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// [`Error::Ended`] with the end of the log if the process is gone.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        if !self.has_ended() {
            return Ok(());
        }
        let log = self.home.join(LOG);
        let tail = tail(&log);
        Err(Error::Ended {
            server: self.server,
            status: self.exit_status(),
            log,
            tail,
        })
    }

    /// Only a parent is told.
    fn exit_status(&mut self) -> String {
        let child = self.child.as_mut();
        match child.map(|child| child.try_wait()) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "how is not known".to_owned(),
        }
    }

    fn has_ended(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            return matches!(child.try_wait(), Ok(Some(_)) | Err(_));
        }
        observe(self.identity.pid).as_ref() != Some(&self.identity.started)
    }

    /// Sends the signals of the plan one after the other until the process has ended.
    pub(super) async fn stop(&mut self, plan: StopPlan) -> Result<(), Error> {
        for (signal, patience) in plan {
            if self.has_ended() {
                break;
            }
            send(self.identity.pid, *signal);
            if self.wait(*patience).await {
                break;
            }
            tracing::warn!(
                server = self.server,
                pid = self.pid(),
                signal = signal.name(),
                "did not end in time"
            );
        }
        if !self.has_ended() {
            return Err(Error::Unstoppable {
                server: self.server,
                pid: self.pid(),
            });
        }
        remove_file(&pid_file(&self.home))
    }

    async fn wait(&mut self, patience: Duration) -> bool {
        if let Some(child) = &mut self.child {
            return tokio::time::timeout(patience, child.wait()).await.is_ok();
        }
        let deadline = Instant::now() + patience;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Ends the process at once, as far as data safety allows it, and returns when it has ended. Needs no runtime; in
    /// one, the other tasks of the thread go on elsewhere where that is possible. For `Drop`.
    pub(super) fn stop_hard(&mut self, plan: StopPlan) {
        use tokio::runtime::{Handle, RuntimeFlavor};
        let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        match runtime {
            Ok(RuntimeFlavor::MultiThread) => {
                tokio::task::block_in_place(|| self.stop_blocking(plan));
            }
            _ => self.stop_blocking(plan),
        }
    }

    fn stop_blocking(&mut self, plan: StopPlan) {
        for (signal, patience) in plan {
            if self.has_ended() {
                break;
            }
            send(self.identity.pid, *signal);
            let deadline = std::time::Instant::now() + *patience;
            while !self.has_ended() && std::time::Instant::now() < deadline {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        let _ = remove_file(&pid_file(&self.home));
    }
}

/// Runs a program to its end, as the home's account.
pub(super) async fn run(home: &Home, launch: &Launch<'_>) -> Result<(), Error> {
    let mut command = command(home, launch);
    command.kill_on_drop(true);
    let output = command.output().await.map_err(io("run", launch.program))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Error::Failed {
        program: launch.program.display().to_string(),
        status: output.status.to_string(),
        output: last_lines(&String::from_utf8_lossy(&text)),
    })
}

/// In a process group of its own: Ctrl-C in a terminal must reach us, not the servers.
fn command(home: &Home, launch: &Launch<'_>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(launch.program);
    command
        .args(launch.arguments)
        .env_clear()
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()),
        )
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("TMPDIR", &home.dir)
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&home.dir)
        .process_group(0)
        .stdin(Stdio::null());
    if let Some(account) = home.account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn command_line(launch: &Launch<'_>) -> Vec<String> {
    let program = launch.program.display().to_string();
    std::iter::once(program)
        .chain(launch.arguments.iter().cloned())
        .collect()
}

const LOG: &str = "server.log";

fn pid_file(home: &Path) -> PathBuf {
    home.join("server.pid")
}

fn write_identity(home: &Path, identity: &Identity) -> Result<(), Error> {
    let path = pid_file(home);
    let new = path.with_extension("pid.new");
    let bytes = serde_json::to_vec(identity).map_err(|error| io("write", &path)(error.into()))?;
    let mut file = File::create(&new).map_err(io("create", &new))?;
    file.write_all(&bytes).map_err(io("write", &new))?;
    fs::rename(&new, &path).map_err(io("rename", &new))
}

fn log_file(home: &Path) -> Result<File, Error> {
    let path = home.join(LOG);
    let large = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX);
    if large {
        fs::rename(&path, home.join("server.log.old")).map_err(io("rename", &path))?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(io("open", &path))
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    last_lines(&read().unwrap_or_default())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The shell's own `kill` is everywhere; the program of that name is not. A process that is gone is no error.
fn send(pid: u32, signal: Signal) {
    let _ = Command::new("sh")
        .args([
            "-c",
            "kill -s \"$1\" \"$2\"",
            "sh",
            signal.name(),
            &pid.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Removes a note of a server's own (its pid, in a file that copies of a data folder hold too) if the process runs
/// on other data: the server would take it for another one on its own.
pub(super) fn forget_copied(home: &Home, note: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(note).unwrap_or_default();
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    match pid.filter(|pid| observe(*pid).is_some()) {
        Some(pid) if place::of(pid, home) == Place::Elsewhere => remove_file(note),
        _ => Ok(()),
    }
}

/// When the process started, or `None` if it is gone. One that ended and waits for its parent to notice is gone.
fn observe(pid: u32) -> Option<String> {
    if !Path::new("/proc/self/stat").exists() {
        return observe_with_ps(pid);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it are numbered from 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{} {}", boot.trim(), fields.get(19)?))
}

fn observe_with_ps(pid: u32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (state, started) = text.trim().split_once(' ')?;
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_and_gone_when_it_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let seen = observe(child.id()).expect("alive");
        assert_eq!(observe(child.id()), Some(seen));
        send(child.id(), Signal::Kill);
        // Not waited for yet: a zombie, which counts as gone. Its death is an event of the kernel's.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while observe(child.id()).is_some() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(observe(child.id()), None);
        child.wait().expect("reaped");
    }

    #[test]
    fn only_the_last_lines_of_a_log_are_shown() {
        let text: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let shown = last_lines(&text);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.ends_with("line 99") && !shown.contains("\n\n"));
    }
}
