//! Every command ends quietly when nobody reads its output any more: no panic, and the exit code that it would have had.

// Helpers of tests, which the setting in clippy.toml does not cover.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{commands, leaves, millrace};

const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Which of the streams nobody reads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Closed {
    Neither,
    Stdout,
    Stderr,
    Both,
}

/// The writing end of a pipe whose reading end is closed.
fn broken() -> Stdio {
    let (_reader, writer) = std::io::pipe().unwrap();
    writer.into()
}

/// Exit code and what could be read of standard error.
fn run(mut command: Command, closed: Closed) -> (Option<i32>, String) {
    let is = |one: Closed| closed == one || closed == Closed::Both;
    command.stdout(if is(Closed::Stdout) {
        broken()
    } else {
        Stdio::null()
    });
    command.stderr(if is(Closed::Stderr) {
        broken()
    } else {
        Stdio::piped()
    });
    let mut child = command.spawn().unwrap();
    let stderr = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default())
    });
    let code = ended(&mut child);
    (
        code,
        stderr.map_or(String::new(), |stderr| stderr.join().unwrap()),
    )
}

fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end within {ENDS_WITHIN:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The code is the same whoever reads.
fn assert_quiet(make: impl Fn() -> Command, expected: i32) {
    for closed in [
        Closed::Neither,
        Closed::Stdout,
        Closed::Stderr,
        Closed::Both,
    ] {
        let command = make();
        let shown = format!("{command:?} with {closed:?} closed");
        let (code, stderr) = run(command, closed);
        assert!(!stderr.contains("panicked"), "{shown}: {stderr}");
        assert_eq!(code, Some(expected), "{shown}: {stderr}");
    }
}

#[test]
fn every_help() {
    for command in commands() {
        let make = || {
            let mut run = millrace();
            run.args(&command).arg("--help");
            run
        };
        assert_quiet(make, 0);
    }
}

#[test]
fn every_error() {
    for command in leaves() {
        let make = || {
            let mut run = millrace();
            run.args(&command).env("MILLRACE_USERS", "many");
            if ["show", "retry", "discard"].contains(&command[command.len() - 1].as_str()) {
                run.arg("7");
            }
            run
        };
        assert_quiet(make, 2);
    }
}

/// Answers what the commands ask of the services.
fn services() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let _head = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .count();
    // Another log each time, for whoever waits for one.
    static INCARNATION: AtomicU64 = AtomicU64::new(0);
    let incarnation = INCARNATION.fetch_add(1, Ordering::Relaxed);
    let body = r#"{"counts":{"open":0,"retried":0,"discarded":0},"records":[],"projections":[],"tables":[],"marts":[{"name":"7","state":"live"}],"incarnation":"N"}"#;
    let body = body.replace('N', &incarnation.to_string());
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
    let _ = write!(
        stream,
        "{head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn closed_port() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// The commands that end by themselves, as they are used, and their exit codes where only the control APIs answer.
const USES: &[(&str, i32)] = &[
    ("status", 2),
    ("status --json", 2),
    ("verify", 2),
    ("wait-for --lsn 0/10", 0),
    ("wait-for --timeout 0.3", 1),
    ("projection list", 0),
    ("projection list --json", 0),
    ("projection pause", 0),
    ("projection resume", 0),
    ("rejected list", 0),
    ("rejected show 7", 0),
    ("rejected retry 7", 0),
    ("rejected discard 7", 0),
    ("tables list", 0),
    ("tables list --json", 0),
    ("tables add public.a", 0),
    ("tables remove public.a", 0),
    ("tables resnapshot public.a", 0),
    ("tables begin-again", 0),
    ("marts list", 0),
    ("marts rebuild 7", 0),
    ("quarantine list", 0),
    ("consumers list", 2),
    ("consumers delete public.a", 2),
    ("clean --data-dir /tmp/millrace-nothing-is-here", 0),
    ("health", 1),
    ("config", 0),
    ("version", 0),
    ("up --data-dir /proc/none", 2),
    ("capture", 2),
    ("ingest", 2),
    ("project", 2),
];
/// Those that run until they are told to end: tested below, or waiting for servers for a minute.
const RUNNING: &[&str] = &["broker", "dashboard", "generate", "init"];

#[test]
fn every_result() {
    let (control, closed) = (services().to_string(), closed_port());
    for (arguments, code) in USES {
        let make = || {
            let mut run = millrace();
            run.args(arguments.split(' '));
            for name in [
                "MILLRACE_CONTROL_PORT",
                "MILLRACE_CAPTURE_CONTROL_PORT",
                "MILLRACE_INGEST_CONTROL_PORT",
            ] {
                run.env(name, &control);
            }
            for name in [
                "POSTGRES_PORT",
                "MYSQL_PORT",
                "FLUVIO_PORT",
                "DASHBOARD_PORT",
            ] {
                run.env(name, &closed);
            }
            run
        };
        assert_quiet(make, *code);
    }
    let used = USES
        .iter()
        .map(|(arguments, _)| arguments.split(" -").next().unwrap_or_default());
    let used: BTreeSet<_> = used
        .map(|used| used.trim_end_matches(" 7").trim_end_matches(" public.a"))
        .chain(RUNNING.iter().copied())
        .collect();
    let known: Vec<String> = leaves().iter().map(|command| command.join(" ")).collect();
    assert_eq!(
        used,
        known.iter().map(String::as_str).collect(),
        "a command that is not tested"
    );
}

#[test]
fn a_watch_that_nobody_watches_ends_with_the_last_exit_code() {
    let closed = closed_port();
    let mut watch = millrace();
    watch.args(["status", "--watch"]);
    for name in [
        "POSTGRES_PORT",
        "MYSQL_PORT",
        "FLUVIO_PORT",
        "DASHBOARD_PORT",
    ] {
        watch.env(name, &closed);
    }
    let (code, stderr) = run(watch, Closed::Stdout);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Services go on: nobody who reads their log any more is no reason to stop serving.
#[test]
fn services_go_on_until_they_are_told_to_end() {
    let folder = tempfile_dir();
    for command in [vec!["broker", "--log-dir", &folder], vec!["dashboard"]] {
        let port = closed_port();
        let mut service = millrace();
        service.args(&command).stdout(broken()).stderr(broken());
        for name in ["FLUVIO_PORT", "DASHBOARD_PORT"] {
            service.env(name, &port);
        }
        service.env("FLUVIO_SPU_PORT", closed_port());
        let mut child = service.spawn().unwrap();
        let deadline = Instant::now() + ENDS_WITHIN;
        while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "{command:?} ended");
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert_eq!(ended(&mut child), Some(0), "{command:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile_dir() -> String {
    let folder = std::env::temp_dir().join(format!("millrace-closed-pipe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.display().to_string()
}
