//! Files that are opened when they are needed: a bounded number, those used last.
//!
//! A log has a file for each of its segments, and there may be more of them than a process may have open.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The system's "too many open files", of the process and of the whole machine.
const TOO_MANY: [i32; 2] = [24, 23];

/// The open ones among the files of all logs.
#[derive(Debug)]
pub(crate) struct Files {
    open: Mutex<Open>,
    max: usize,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<u64, Kept>,
    next_id: u64,
    clock: u64,
}

#[derive(Debug)]
struct Kept {
    file: Arc<File>,
    used: u64,
}

/// A file that is open while it is used, and for as long as there is room. Dropping this closes it.
#[derive(Debug)]
pub(crate) struct OnDemand {
    path: PathBuf,
    id: u64,
    files: Arc<Files>,
}

impl Files {
    /// Keeps at most `max` files open, not counting those in use.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            max: max.max(1),
        })
    }

    /// The file at `path`, not opened yet.
    pub(crate) fn at(self: &Arc<Self>, path: &Path) -> OnDemand {
        let mut open = self.lock();
        open.next_id += 1;
        OnDemand {
            path: path.to_owned(),
            id: open.next_id,
            files: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file; if the system allows no more, closes those that nobody uses first.
    fn open(&self, options: &OpenOptions, path: &Path) -> io::Result<File> {
        match options.open(path) {
            Err(error)
                if error
                    .raw_os_error()
                    .is_some_and(|code| TOO_MANY.contains(&code)) =>
            {
                self.lock().files.clear();
                options.open(path)
            }
            opened => opened,
        }
    }
}

impl Open {
    fn keep(&mut self, id: u64, file: Arc<File>, max: usize) {
        while self.files.len() >= max {
            let oldest = self.files.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.files.remove(&oldest);
        }
        self.clock += 1;
        let used = self.clock;
        self.files.insert(id, Kept { file, used });
    }

    fn used(&mut self, id: u64) -> Option<Arc<File>> {
        self.clock += 1;
        let kept = self.files.get_mut(&id)?;
        kept.used = self.clock;
        Some(kept.file.clone())
    }
}

impl OnDemand {
    /// The file, for reading and writing. Hold it from a write to its fsync, and no longer.
    pub(crate) fn get(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.files.lock().used(self.id) {
            return Ok(file);
        }
        self.open_with(&mut OpenOptions::new())
    }

    /// A new file, or what was there emptied.
    pub(crate) fn create(&self) -> io::Result<Arc<File>> {
        self.open_with(OpenOptions::new().create(true).truncate(true))
    }

    fn open_with(&self, options: &mut OpenOptions) -> io::Result<Arc<File>> {
        let options = options.read(true).write(true);
        let file = Arc::new(self.files.open(options, &self.path)?);
        let mut open = self.files.lock();
        open.keep(self.id, file.clone(), self.files.max);
        Ok(file)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OnDemand {
    fn drop(&mut self) {
        self.files.lock().files.remove(&self.id);
    }
}

/// Raises the number of files that this process may open to what the system allows it; returns that. Where
/// it cannot be raised, what was allowed before holds.
pub(crate) fn raise_limit() -> u64 {
    let allowed = rlimit::increase_nofile_limit(u64::MAX);
    allowed.unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files cannot be raised");
        rlimit::Resource::NOFILE.get_soft().unwrap_or(1024)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(files: &Files) -> usize {
        files.lock().files.len()
    }

    #[test]
    fn the_file_used_longest_ago_makes_room() {
        let dir = tempfile::tempdir().expect("directory");
        let files = Files::new(2);
        let create = |name| {
            let file = files.at(&dir.path().join(name));
            file.create().expect("created");
            file
        };
        let (first, second) = (create("first"), create("second"));
        first.get().expect("open");
        let third = create("third");
        assert_eq!(count(&files), 2);
        let open = |file: &OnDemand| files.lock().files.contains_key(&file.id);
        assert_eq!(
            (open(&first), open(&second), open(&third)),
            (true, false, true)
        );
        second.get().expect("opened again");
        assert_eq!(count(&files), 2);
        drop((first, second, third));
        assert_eq!(count(&files), 0);
    }
}
