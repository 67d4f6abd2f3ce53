//! How far a log is acknowledged: what separates a torn write from a damaged log.
//!
//! The file `acknowledged` has two slots, written in turn, so that a torn write of one leaves the other:
//! sealed `count u64 | offset i64`. It is written after the fsync of the records and before they are
//! acknowledged, and fsynced later. So it never names an offset that is not on the disk; after a crash of the
//! process it is exact, and after a crash of the machine it may lag by what was acknowledged shortly before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::disk::{self, Sync};
use crate::files::{Files, OnDemand};

const FILE: &str = "acknowledged";
const VERSION: i16 = 1;
/// Each slot has a sector of its own.
const SLOT_BYTES: u64 = 512;
const SLOTS: u64 = 2;

/// The offset that the next record gets, as of the last acknowledgement.
#[derive(Debug)]
pub(super) struct Mark {
    file: OnDemand,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    offset: Option<i64>,
    /// The count that an fsync has made durable; what was there at the start counts as that.
    synced: u64,
}

impl Mark {
    /// Reads the mark of the log in `dir`; there is none before the first record.
    pub(super) fn open(dir: &Path, files: &Arc<Files>) -> io::Result<Self> {
        let path = dir.join(FILE);
        let state = disk::read(&path)?.map_or(State::default(), |bytes| newest(&bytes));
        Ok(Self {
            file: files.at(&path),
            state: Mutex::new(state),
        })
    }

    /// The mark of a log that cannot be opened.
    pub(super) fn unknown(dir: &Path, files: &Arc<Files>) -> Self {
        Self {
            file: files.at(&dir.join(FILE)),
            state: Mutex::default(),
        }
    }

    /// What was acknowledged, if that is known.
    pub(super) fn offset(&self) -> Option<i64> {
        self.state().offset
    }

    /// Notes that everything before `offset` is on the disk.
    pub(super) fn set(&self, offset: i64, sync: Sync) -> io::Result<()> {
        let mut state = self.state();
        let file = match state.offset {
            Some(_) => self.file.get()?,
            None => self.create(sync)?,
        };
        let count = state.count + 1;
        file.write_all_at(&slot(count, offset), count % SLOTS * SLOT_BYTES)?;
        *state = State {
            count,
            offset: Some(offset),
            synced: state.synced,
        };
        Ok(())
    }

    /// Makes it durable, if it has changed. After an error it still counts as changed, and so does what was set
    /// meanwhile.
    pub(super) fn sync(&self, sync: Sync) -> io::Result<()> {
        let count = {
            let state = self.state();
            if state.synced == state.count {
                return Ok(());
            }
            state.count
        };
        disk::sync_data(&*self.file.get()?, sync)?;
        let mut state = self.state();
        state.synced = state.synced.max(count);
        Ok(())
    }

    fn create(&self, sync: Sync) -> io::Result<Arc<File>> {
        let file = self.file.create()?;
        disk::sync_parent(self.file.path(), sync)?;
        Ok(file)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot(count: u64, offset: i64) -> Vec<u8> {
    let mut body = BytesMut::with_capacity(16);
    body.put_u64(count);
    body.put_i64(offset);
    disk::seal(VERSION, &body)
}

/// The newer of the slots that are whole.
fn newest(bytes: &Bytes) -> State {
    let mut newest = State::default();
    for at in (0..SLOTS).map(|slot| (slot * SLOT_BYTES) as usize) {
        let mut slot = bytes.slice(at.min(bytes.len())..);
        let Some((VERSION, mut body)) = disk::unseal(&mut slot) else {
            continue;
        };
        if body.len() < 16 {
            continue;
        }
        let (count, offset) = (body.get_u64(), body.get_i64());
        if count > newest.count {
            newest = State {
                count,
                offset: Some(offset),
                synced: count,
            };
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_could_not_be_synced_is_synced_the_next_time() {
        let dir = tempfile::tempdir().expect("directory");
        let files = Files::new(1);
        let path = dir.path().join(FILE);
        let mark = Mark::open(dir.path(), &files).expect("mark");
        mark.set(10, Sync::Never).expect("written");
        // Another file takes its place among the open ones, so that it has to be opened again.
        let other = files.at(&dir.path().join("other"));
        other.create().expect("created");
        let hidden = dir.path().join("hidden");
        std::fs::rename(&path, &hidden).expect("renamed");
        for _ in 0..2 {
            mark.sync(Sync::Never).expect_err("it is not there");
        }
        std::fs::rename(&hidden, &path).expect("renamed");
        mark.sync(Sync::Never).expect("synced");
        std::fs::remove_file(&path).expect("removed");
        mark.sync(Sync::Never).expect("nothing to do");
    }

    #[test]
    fn a_torn_write_of_the_mark_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("directory");
        let files = Files::new(4);
        let open = || Mark::open(dir.path(), &files).expect("mark");
        assert_eq!(open().offset(), None);
        for offset in [10, 20, 30] {
            open().set(offset, Sync::Never).expect("written");
            assert_eq!(open().offset(), Some(offset));
        }
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).expect("mark");
        // The third is in the second slot, which ends the file.
        for len in SLOT_BYTES as usize..whole.len() {
            std::fs::write(&path, &whole[..len]).expect("torn");
            assert_eq!(open().offset(), Some(20), "{len}");
        }
        std::fs::write(&path, [0xff; 600]).expect("damaged");
        assert_eq!(open().offset(), None);
    }
}
