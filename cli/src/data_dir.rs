//! The data directory of `up`: how it is known for ours, what is in it, and how it is removed.
//!
//! A marker file says that a folder is a data directory of millrace, and of which layout. `up` writes it into a
//! new or empty folder and refuses any other that has none. `clean` removes what stands in [`CHILDREN`] and
//! nothing else, and only where there is a marker.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context};

use crate::endpoints::write_private;
use crate::servers::{self, PrivateMySql, PrivatePostgres};

/// Name of the marker.
pub const MARKER: &str = ".millrace-data";
/// Changes when an older millrace could no longer use the directory.
const LAYOUT: u32 = 1;
const FIRST_LINE: &str = "millrace data directory, layout ";
const EXPLANATION: &str =
    "`millrace up` keeps its private servers, its topics and its ports here; \
                           `millrace clean` removes them, and nothing else.";

/// Held while somebody uses the directory; empty.
const LOCK: &str = "lock";
/// Held by a broker, which may also run alone on its folder.
const BROKER_LOCK: &str = "LOCK";
/// Entries that are named in a refusal; a home folder has thousands.
const NAMED_MAX: usize = 3;

/// What millrace makes in a data directory, the one list of it.
const CHILDREN: [Child; 13] = [
    Child::home("postgres", Server::Postgres, &["password"]),
    Child::home(
        "mysql",
        Server::MySql,
        &["accounts.sql", "flavour", "mysqld.pid", "tmp"],
    ),
    Child::folder(
        "broker",
        &[
            "FORMAT*",
            BROKER_LOCK,
            "catalog",
            "consumer-offsets*",
            "topics",
        ],
    ),
    Child::folder("dashboard", &["history.json*"]),
    Child::file("control-token"),
    Child::file("control-token.partial"),
    Child::file("endpoints.json"),
    Child::file("endpoints.json.partial"),
    Child::file("ports.json"),
    Child::file("ports.json.new"),
    PARTIAL,
    Child::file(MARKER),
    // Last: whoever removes the directory holds it.
    Child::file(LOCK),
];

/// The marker before it is whole.
const PARTIAL: Child = Child::file(".millrace-data.partial");

/// What every private server keeps beside its own files.
const HOME: [&str; 7] = [
    "data",
    "data.new-*",
    "lock",
    "server.log",
    "server.log.old",
    "server.pid",
    "server.pid.new",
];

struct Child {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    File,
    /// With its entries; a star stands for any ending.
    Folder(&'static [&'static str]),
    /// Of a private server, with its entries beyond [`HOME`].
    Home(Server, &'static [&'static str]),
}

#[derive(Clone, Copy)]
enum Server {
    Postgres,
    MySql,
}

impl Child {
    const fn file(name: &'static str) -> Child {
        let kind = Kind::File;
        Child { name, kind }
    }

    const fn folder(name: &'static str, entries: &'static [&'static str]) -> Child {
        let kind = Kind::Folder(entries);
        Child { name, kind }
    }

    const fn home(name: &'static str, server: Server, entries: &'static [&'static str]) -> Child {
        let kind = Kind::Home(server, entries);
        Child { name, kind }
    }
}

/// A data directory that this process has for itself, for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, which is made if it is not there. One without a marker gets it if it is empty, or
    /// if nothing is in it but what an earlier millrace made.
    ///
    /// # Errors
    /// If it is another program's, of a newer millrace, or in use.
    pub fn claim(path: &Path) -> anyhow::Result<DataDir> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        if !is_marked(path)? {
            let strangers = strangers(path)?;
            if !strangers.is_empty() {
                bail!(refusal(path, &strangers));
            }
            let marker = format!("{FIRST_LINE}{LAYOUT}\n{EXPLANATION}\n");
            write_private(&path.join(MARKER), marker.as_bytes())?;
        }
        DataDir::lock(path)
    }

    fn lock(path: &Path) -> anyhow::Result<DataDir> {
        let file = path.join(LOCK);
        if fs::symlink_metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
            bail!("{} is not a file: remove it", file.display());
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => bail!(
                "another millrace runs on {}: stop it (Ctrl-C in its terminal), or choose another --data-dir",
                path.display()
            ),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", file.display()))
            }
        }
    }
}

fn refusal(path: &Path, strangers: &[String]) -> String {
    let mut named = strangers[..strangers.len().min(NAMED_MAX)].join(", ");
    if strangers.len() > NAMED_MAX {
        named += &format!(" and {} more", strangers.len() - NAMED_MAX);
    }
    format!(
        "{} is not empty and not a data directory of millrace: it has no {MARKER}, and millrace did not make {named}. \
         Choose a new or empty folder with --data-dir; if it is the data directory of an earlier millrace, \
         move that out of it",
        path.display()
    )
}

/// Whether the marker is there.
///
/// # Errors
/// If it is of a newer millrace, or cannot be read.
fn is_marked(path: &Path) -> anyhow::Result<bool> {
    let marker = path.join(MARKER);
    match fs::symlink_metadata(&marker) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Ok(metadata) if metadata.is_file() => {}
        _ => bail!(
            "{} is not a marker of millrace: remove it",
            marker.display()
        ),
    }
    let text =
        fs::read_to_string(&marker).with_context(|| format!("cannot read {}", marker.display()))?;
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix(FIRST_LINE).and_then(|layout| layout.trim().parse::<u32>().ok()) {
        Some(layout) if layout <= LAYOUT => Ok(true),
        Some(layout) => bail!(
            "{} was made by a newer millrace (layout {layout}, this one knows {LAYOUT}): use that one",
            path.display()
        ),
        None => bail!("{} is damaged: its first line must be {FIRST_LINE}{LAYOUT}", marker.display()),
    }
}

/// Entries of a folder without a marker that an earlier millrace did not make. Names alone prove nothing: one of
/// the locks that it always left must be there too.
fn strangers(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = entries(path)?;
    // Left by a claim that a full disk or a kill cut off.
    names.retain(|name| *name != PARTIAL.name || !PARTIAL.is_plain(path));
    let is_empty_file = |name: &str| {
        fs::symlink_metadata(path.join(name)).is_ok_and(|found| found.is_file() && found.len() == 0)
    };
    if !is_empty_file(LOCK) && !is_empty_file(&format!("broker/{BROKER_LOCK}")) {
        return Ok(names);
    }
    let ours = |name: &String| {
        let child = CHILDREN.iter().find(|child| child.name == *name);
        child.is_some_and(|child| child.looks_ours(path))
    };
    Ok(names.into_iter().filter(|name| !ours(name)).collect())
}

/// Names in a folder, sorted.
fn entries(path: &Path) -> anyhow::Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        let entries = fs::read_dir(path)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let mut names = read().with_context(|| format!("cannot read {}", path.display()))?;
    names.sort();
    Ok(names)
}

impl Child {
    /// Strict, for a directory without a marker: the right kind of entry, with nothing unknown in it.
    fn looks_ours(&self, dir: &Path) -> bool {
        let known = match self.kind {
            Kind::File => return self.is_plain(dir),
            Kind::Folder(entries) => entries.to_vec(),
            Kind::Home(_, entries) => [&HOME, entries].concat(),
        };
        let inside = entries(&dir.join(self.name)).unwrap_or_default();
        let knows = |name: &String| known.iter().any(|pattern| matches(pattern, name));
        self.is_plain(dir) && !inside.is_empty() && inside.iter().all(knows)
    }

    /// A file or a folder as it should be, and no link to one. A server's home may be the link that leads to the
    /// place that millrace chooses for root.
    fn is_plain(&self, dir: &Path) -> bool {
        let path = dir.join(self.name);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return false;
        };
        match self.kind {
            Kind::File => metadata.is_file(),
            Kind::Folder(_) => metadata.is_dir(),
            Kind::Home(..) => metadata.is_dir() || servers::is_own_link(&path),
        }
    }

    async fn remove(&self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(self.name);
        match self.kind {
            Kind::File => fs::remove_file(&path),
            Kind::Folder(_) => {
                let _alone = alone(&path)?;
                fs::remove_dir_all(&path)
            }
            Kind::Home(server, _) => {
                match server {
                    Server::Postgres => PrivatePostgres::stop_orphan(&path).await?,
                    Server::MySql => PrivateMySql::stop_orphan(&path).await?,
                }
                servers::remove(&path)?;
                Ok(())
            }
        }
        .with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// The lock of a broker's folder, if it has one that is free.
fn alone(folder: &Path) -> anyhow::Result<Option<File>> {
    let Ok(lock) = File::open(folder.join(BROKER_LOCK)) else {
        return Ok(None);
    };
    match lock.try_lock() {
        Err(fs::TryLockError::WouldBlock) => bail!(
            "`millrace broker` still runs on {}: stop it first",
            folder.display()
        ),
        _ => Ok(Some(lock)),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// What became of a directory that was to be removed.
#[derive(Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// It was not there.
    Absent,
    /// Nothing is left of it.
    Removed,
    /// What millrace made is gone; these entries are not millrace's.
    Kept(Vec<String>),
}

/// Removes a data directory that nobody uses, after stopping what a killed run may have left running in it.
///
/// # Errors
/// If it has no marker, is in use, or something cannot be removed.
pub async fn clean(path: &Path) -> anyhow::Result<Cleaned> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Cleaned::Absent),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        Ok(metadata) if metadata.is_symlink() => bail!(
            "{} is a link, and links are not followed here: name the folder that it leads to",
            path.display()
        ),
        Ok(_) => {}
    }
    if !is_marked(path)? && !strangers(path)?.is_empty() {
        bail!(
            "{} is not a data directory of millrace (it has no {MARKER}): nothing was removed",
            path.display()
        );
    }
    let held = DataDir::lock(path)?;
    for child in CHILDREN.iter().filter(|child| child.is_plain(&held.path)) {
        child.remove(&held.path).await?;
    }
    let kept = entries(path)?;
    if !kept.is_empty() {
        return Ok(Cleaned::Kept(kept));
    }
    fs::remove_dir(path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(Cleaned::Removed)
}

#[cfg(test)]
#[path = "data_dir_tests.rs"]
mod tests;
