//! The data directory: its lock, its format, and files that are replaced atomically.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// Version of everything in the data directory. Another one is refused, never guessed at.
pub(crate) const FORMAT: &str = "millrace-broker 1\n";
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const ENVELOPE_MAGIC: &[u8; 4] = b"MRB1";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another broker, in this process or another, has the directory open.
    #[error("{0} is in use by another broker")]
    Locked(PathBuf),
    /// The directory was written by another version, or is not a broker's at all.
    #[error("{path} holds data of another format ({found:?})")]
    Format {
        /// The directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// The directory is not empty and was not made by a broker.
    #[error("{0} is not empty and not a broker's data directory")]
    Foreign(PathBuf),
    /// The file system said no.
    #[error("{path} cannot be used")]
    Io {
        /// What was being used.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
}

/// An open data directory; the lock is held until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    pub(crate) sync: Sync,
    _lock: File,
}

/// Whether writes are forced to the disk before they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Always,
    Never,
}

impl DataDir {
    /// Creates or opens the directory and takes its lock.
    pub(crate) fn open(path: &Path, sync: Sync) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(io)?;
        refuse_foreign(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        check_format(path, sync)?;
        Ok(Self {
            path: path.to_owned(),
            sync,
            _lock: lock,
        })
    }
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io {
        path: path.to_owned(),
        source,
    };
    if path.join(FORMAT_FILE).exists() || path.join(LOCK_FILE).exists() {
        return Ok(());
    }
    match fs::read_dir(path).map_err(io)?.next() {
        None => Ok(()),
        Some(_) => Err(DataDirError::Foreign(path.to_owned())),
    }
}

fn check_format(path: &Path, sync: Sync) -> Result<(), DataDirError> {
    let file = path.join(FORMAT_FILE);
    match fs::read_to_string(&file) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => Err(DataDirError::Format {
            path: path.to_owned(),
            found,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(&file, FORMAT.as_bytes(), sync)
                .map_err(|source| DataDirError::Io { path: file, source })
        }
        Err(source) => Err(DataDirError::Io { path: file, source }),
    }
}

/// Replaces a file as a whole: after a crash it holds the old bytes or the new ones. After an error nothing is left
/// beside it that would take room on a full disk.
pub(crate) fn replace(path: &Path, content: &[u8], sync: Sync) -> io::Result<()> {
    put(path, content, sync)?;
    sync_parent(path, sync)
}

/// As [`replace`], but for [`sync_parent`]; the new file, which has its name from here on.
pub(crate) fn put(path: &Path, content: &[u8], sync: Sync) -> io::Result<File> {
    let temporary = path.with_extension("tmp");
    let written = write(&temporary, content, sync);
    let put = written.and_then(|file| fs::rename(&temporary, path).map(|()| file));
    if put.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    put
}

fn write(path: &Path, content: &[u8], sync: Sync) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    if sync == Sync::Always {
        file.sync_all()?;
    }
    Ok(file)
}

/// Makes the creation, renaming or removal of `path` durable.
pub(crate) fn sync_parent(path: &Path, sync: Sync) -> io::Result<()> {
    match path.parent() {
        Some(parent) => sync_dir(parent, sync),
        None => Ok(()),
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path, sync: Sync) -> io::Result<()> {
    match sync {
        Sync::Always => File::open(path)?.sync_all(),
        Sync::Never => Ok(()),
    }
}

/// Makes a file's bytes durable.
pub(crate) fn sync_data(file: &File, sync: Sync) -> io::Result<()> {
    match sync {
        Sync::Always => file.sync_data(),
        Sync::Never => Ok(()),
    }
}

/// Bytes that may still be written where `path` lies.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Wraps `body` as `MRB1 | version i16 | length u32 | crc32c u32 | body`.
pub(crate) fn seal(version: i16, body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(14 + body.len());
    sealed.extend_from_slice(ENVELOPE_MAGIC);
    sealed.extend_from_slice(&version.to_be_bytes());
    sealed.extend_from_slice(&(body.len() as u32).to_be_bytes());
    sealed.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    sealed.extend_from_slice(body);
    sealed
}

/// Takes the next sealed body off `bytes`; `None` where they are not whole or not ours.
pub(crate) fn unseal(bytes: &mut Bytes) -> Option<(i16, Bytes)> {
    let head: [u8; 14] = bytes.get(..14)?.try_into().ok()?;
    let (magic, rest) = head.split_at(4);
    let version = i16::from_be_bytes(rest[..2].try_into().ok()?);
    let len = u32::from_be_bytes(rest[2..6].try_into().ok()?) as usize;
    let crc = u32::from_be_bytes(rest[6..10].try_into().ok()?);
    let body = bytes.get(14..14usize.checked_add(len)?)?;
    if magic != ENVELOPE_MAGIC || crc32c::crc32c(body) != crc {
        return None;
    }
    let body = bytes.slice(14..14 + len);
    *bytes = bytes.slice(14 + len..);
    Some((version, body))
}

/// Where the next sealed body begins that is whole, behind the start of `bytes`.
pub(crate) fn find_sealed(bytes: &Bytes) -> Option<usize> {
    let begins = |at: &usize| bytes[*at..].starts_with(ENVELOPE_MAGIC);
    let whole = |at: &usize| unseal(&mut bytes.slice(*at..)).is_some();
    (1..bytes.len()).filter(begins).find(whole)
}

/// Reads a whole file, `None` if there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Bytes>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Bytes::from(bytes)))
}
