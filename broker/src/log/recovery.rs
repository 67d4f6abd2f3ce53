//! Opening a log: what is left of a torn write, and what is damage?
//!
//! Whatever was acknowledged had been fsynced whole, so only what lies behind it can be torn:
//! 1. A segment behind which there is another one is whole, and ends where the next one begins.
//! 2. The last segment is whole up to the [`Mark`], the offset that was acknowledged last.
//! 3. What is not whole behind the mark was never acknowledged: it is cut off. A copy stays in `torn-tail`,
//!    because after a crash of the machine the mark may lag by what was acknowledged shortly before. Where the
//!    copy cannot be written, a full disk for example, there is none.
//! 4. Without a mark (a log of an older version), a batch that is not whole is a torn write only if no
//!    undamaged batch lies behind it.
//!
//! Anything else is damage. Then nothing is changed on the disk, and the log ends no earlier than the mark
//! says, so that nobody takes it for one that lost its end.
//!
//! A log that can be read opens on a full disk too: what cannot be written then is made up for by the repair in
//! front of the next append.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::damage::{Damage, Why};
use super::index::Index;
use super::mark::Mark;
use super::scan;
use super::segment::{self, Segment};
use crate::disk::{self, Sync};
use crate::files::{Files, OnDemand};

/// What was cut off last; kept until the next cut.
const TORN_TAIL: &str = "torn-tail";

/// A log as it was found.
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) mark: Mark,
    /// The offset that the next record gets.
    pub(super) end: i64,
    pub(super) damage: Option<Damage>,
    /// Mark or file could not be brought in line with the end.
    pub(super) needs_repair: bool,
}

/// Opens the log in `dir`, cutting off a torn write.
pub(super) fn recover(dir: &Path, files: &Arc<Files>, sync: Sync) -> io::Result<Recovered> {
    let mark = Mark::open(dir, files)?;
    let mut found = Found {
        dir,
        files,
        sync,
        acknowledged: mark.offset(),
        segments: Vec::new(),
        end: 0,
        damage: None,
        needs_repair: false,
    };
    let bases = without_empty(segment_files(dir)?)?;
    for (at, (base, path)) in bases.iter().enumerate() {
        found.connect(*base, path);
        found.add(*base, path, at + 1 == bases.len())?;
    }
    found.compare_with_mark();
    let behind_mark = found.end != mark.offset().unwrap_or(0);
    if found.damage.is_none() && behind_mark {
        // Whole batches behind the mark count from here on: readers see them.
        if let Err(error) = mark.set(found.end, sync).and_then(|()| mark.sync(sync)) {
            let dir = dir.display();
            tracing::warn!(%dir, %error, "how far the log is acknowledged could not be written; the next append tries again");
            found.needs_repair = true;
        }
    }
    Ok(Recovered {
        segments: found.segments,
        mark,
        end: found.end,
        damage: found.damage,
        needs_repair: found.needs_repair,
    })
}

/// What has been found of a log so far.
struct Found<'a> {
    dir: &'a Path,
    files: &'a Arc<Files>,
    sync: Sync,
    acknowledged: Option<i64>,
    segments: Vec<Arc<Segment>>,
    end: i64,
    damage: Option<Damage>,
    needs_repair: bool,
}

impl Found<'_> {
    fn damaged(&mut self, offset: i64, path: &Path, position: u64, why: Why) {
        let path = path.to_owned();
        self.damage.get_or_insert(Damage {
            offset,
            path,
            position,
            why,
        });
    }

    /// Rule 1: compares the end of the last segment found with where the next one begins.
    fn connect(&mut self, base: i64, path: &Path) {
        let Some(before) = self.segments.last().cloned() else {
            return;
        };
        let end = before.next_offset();
        if end < base {
            let next = base;
            self.damaged(end, before.path(), before.bytes(), Why::Gap { next });
        } else if end > base {
            self.damaged(base, path, 0, Why::Overlap { end });
        }
    }

    /// Opens a segment by its index, if that fits the file, and otherwise by reading it.
    fn add(&mut self, base: i64, path: &Path, last: bool) -> io::Result<()> {
        let file = self.files.at(path);
        let len = file.get()?.metadata()?.len();
        let segment = match Index::load(path, len)? {
            Some((index, next_offset)) => Segment::new(file, base, next_offset, len, index),
            None => self.read(file, base, last)?,
        };
        self.end = self.end.max(segment.next_offset());
        self.segments.push(Arc::new(segment));
        Ok(())
    }

    fn read(&mut self, file: OnDemand, base: i64, last: bool) -> io::Result<Segment> {
        let scanned = scan::scan(&*file.get()?, base)?;
        let (next_offset, bytes) = (scanned.next_offset, scanned.bytes);
        let segment = Segment::new(file, base, next_offset, bytes, scanned.index);
        match scanned.stop {
            // Bytes of an interrupted run may be in the page cache only: they count from here on.
            None if last => segment.sync(self.sync)?,
            None => self.save_index(&segment),
            Some(_) if last && self.is_torn(&segment)? => self.cut(&segment)?,
            Some(why) => self.damaged(next_offset, segment.path(), bytes, why.into()),
        }
        Ok(segment)
    }

    /// Rules 2 to 4: whether what follows the good batches of the last segment was never acknowledged.
    fn is_torn(&mut self, segment: &Segment) -> io::Result<bool> {
        if self.damage.is_some() {
            return Ok(false);
        }
        let next_offset = segment.next_offset();
        if let Some(acknowledged) = self.acknowledged {
            return Ok(next_offset >= acknowledged);
        }
        let file = segment.file()?;
        let behind = scan::find_behind(&file, segment.bytes(), next_offset)?;
        self.end = self.end.max(behind.unwrap_or(0));
        Ok(behind.is_none())
    }

    /// Without its index a segment is read as a whole at the next start too, and that is all.
    fn save_index(&self, segment: &Segment) {
        if let Err(error) = segment.save_index(self.sync) {
            let path = segment.path().display();
            tracing::warn!(%path, %error, "the next start will read the segment as a whole");
        }
    }

    /// Cuts off a torn write, after a copy of it was made where that is possible: a full disk must not keep the log
    /// from opening, and the cut makes room.
    fn cut(&mut self, segment: &Segment) -> io::Result<()> {
        let file = segment.file()?;
        let (kept, len) = (segment.bytes(), file.metadata()?.len());
        let mut torn = vec![0; usize::try_from(len - kept).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut torn, kept)?;
        let copy = self.dir.join(TORN_TAIL);
        let copied = disk::replace(&copy, &torn, self.sync);
        let (path, cut, copy) = (segment.path().display(), len - kept, copy.display());
        match copied {
            Ok(()) => {
                tracing::warn!(%path, kept, cut, %copy, "cut off a write that was never acknowledged");
            }
            Err(error) => {
                tracing::warn!(%path, kept, cut, %copy, %error, "cut off a write that was never acknowledged, without a copy");
            }
        }
        if let Err(error) = segment.truncate(kept, self.sync) {
            tracing::warn!(%path, kept, %error, "it could not be cut off yet; the next append tries again");
            self.needs_repair = true;
        }
        Ok(())
    }

    /// Rule 2, where the file ends with a whole batch.
    fn compare_with_mark(&mut self) {
        let Some(acknowledged) = self.acknowledged else {
            return;
        };
        if self.end < acknowledged {
            let (path, position) = match self.segments.last() {
                Some(last) => (last.path().to_owned(), last.bytes()),
                None => (self.dir.to_owned(), 0),
            };
            self.damaged(self.end, &path, position, Why::Short { acknowledged });
            self.end = acknowledged;
        }
    }
}

/// Where a log begins and how far it goes at least, as far as that can be seen of one that cannot be opened.
pub(super) fn extent(dir: &Path, files: &Arc<Files>) -> (i64, i64) {
    let segments = segment_files(dir).unwrap_or_default();
    let base = |segment: Option<&(i64, PathBuf)>| segment.map_or(0, |(base, _)| *base);
    let acknowledged = Mark::open(dir, files).ok().and_then(|mark| mark.offset());
    let end = base(segments.last()).max(acknowledged.unwrap_or(0));
    (base(segments.first()), end)
}

/// Segments by their first offsets, in order.
fn segment_files(dir: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let base = entry
            .file_name()
            .to_str()
            .and_then(segment::parse_file_name);
        files.extend(base.map(|base| (base, entry.path())));
    }
    files.sort_unstable_by_key(|(base, _)| *base);
    Ok(files)
}

/// Removes segments that begin behind `base`, that of the active one: their creation has failed.
pub(super) fn remove_behind(dir: &Path, base: i64) -> io::Result<()> {
    for (_, path) in segment_files(dir)?.iter().filter(|(at, _)| *at > base) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// An empty segment behind others holds nothing, and may be left of a creation that failed: it is removed.
/// An empty first one tells where the log goes on.
fn without_empty(files: Vec<(i64, PathBuf)>) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut kept: Vec<(i64, PathBuf)> = Vec::with_capacity(files.len());
    for (base, path) in files {
        if kept.is_empty() || fs::metadata(&path)?.len() > 0 {
            kept.push((base, path));
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(kept)
}
