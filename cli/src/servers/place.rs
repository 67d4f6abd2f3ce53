//! On which data a process works.
//!
//! Both servers go into their data folder when they start and stay there. Folders are compared by device and inode:
//! a path may have been renamed, replaced or copied since. Where the kernel does not let us look (root without the
//! right to trace other accounts' processes), the account itself is asked, and last the command line.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::home::{Account, Home};

/// Where a process works, seen from one server's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the folder, or in the data below it.
    Ours,
    /// In another folder.
    Elsewhere,
    /// Nobody says.
    Unknown,
}

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Folder(u64, u64);

/// Where the process works.
pub(super) fn of(pid: u32, home: &Home) -> Place {
    let works_in = working_folder(pid).or_else(|| asked_as(home.account?, pid));
    match works_in.or_else(|| told_folder(pid)) {
        None => Place::Unknown,
        Some(found) if [folder(&home.dir), folder(&home.data())].contains(&Some(found)) => {
            Place::Ours
        }
        Some(_) => Place::Elsewhere,
    }
}

/// Whether its command line names our data.
pub(super) fn is_told_ours(pid: u32, home: &Home) -> bool {
    let told = told_folder(pid);
    told.is_some() && told == folder(&home.data())
}

fn folder(path: &Path) -> Option<Folder> {
    let metadata = fs::metadata(path).ok()?;
    Some(Folder(metadata.dev(), metadata.ino()))
}

fn working_folder(pid: u32) -> Option<Folder> {
    folder(Path::new(&format!("/proc/{pid}/cwd")))
}

/// A process may look at those of its own account.
fn asked_as(account: Account, pid: u32) -> Option<Folder> {
    let output = Command::new("stat")
        .args(["-L", "-c", "%d %i", &format!("/proc/{pid}/cwd")])
        .uid(account.uid)
        .gid(account.gid)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (device, inode) = text.trim().split_once(' ')?;
    Some(Folder(device.parse().ok()?, inode.parse().ok()?))
}

/// The data folder of its command line, as the path leads today.
fn told_folder(pid: u32) -> Option<Folder> {
    folder(Path::new(&data_argument(&arguments(pid)?)?))
}

fn arguments(pid: u32) -> Option<Vec<String>> {
    if let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) {
        let arguments = bytes.split(|byte| *byte == 0);
        return Some(
            arguments
                .map(|argument| String::from_utf8_lossy(argument).into_owned())
                .collect(),
        );
    }
    let output = Command::new("ps")
        .args(["-o", "args=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// `-D PATH` of Postgres, `--datadir=PATH` of MySQL.
fn data_argument(arguments: &[String]) -> Option<String> {
    let after_d = || {
        let at = arguments.iter().position(|argument| argument == "-D")?;
        arguments.get(at + 1).cloned()
    };
    let long = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--datadir="));
    long.map(str::to_owned).or_else(after_d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::ScratchDir;

    #[test]
    fn a_process_is_where_the_kernel_says_and_not_where_its_path_led() {
        let scratch = ScratchDir::new("place").expect("scratch");
        let wanted = scratch.path().join("server");
        let home = Home::open(&wanted, "test", &["nobody"]).expect("home");
        let data = home.folder("data").expect("data");
        let sleep = |arguments: &[&str]| {
            let mut command = Command::new("sh");
            command.args(["-c", "read line", "sh"]).args(arguments);
            command.current_dir(&data).stdin(Stdio::piped());
            command.spawn().expect("sh")
        };
        let path = data.display().to_string();
        let mut child = sleep(&["-D", &path]);
        // The kernel shows the command line a moment after the program has begun.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !is_told_ours(child.id(), &home) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let there = (of(child.id(), &home), is_told_ours(child.id(), &home));
        assert_eq!(there, (Place::Ours, true));

        // The folder is renamed, and another one takes its name.
        fs::rename(&data, scratch.path().join("renamed")).expect("rename");
        fs::create_dir(&data).expect("mkdir");
        let there = (of(child.id(), &home), is_told_ours(child.id(), &home));
        assert_eq!(there, (Place::Elsewhere, true));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(of(child.id(), &home), Place::Unknown);
    }

    #[test]
    fn the_data_folder_is_taken_from_either_command_line() {
        let told = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            data_argument(&words)
        };
        assert_eq!(told("postgres -D /a -c port=1").as_deref(), Some("/a"));
        assert_eq!(
            told("mysqld --no-defaults --datadir=/b").as_deref(),
            Some("/b")
        );
        assert_eq!(told("bash"), None);
    }
}
