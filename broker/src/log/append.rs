//! Appending a group of requests with one fsync.

use std::io;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use fluvio_protocol::link::ErrorCode;
use tokio::sync::oneshot;

use super::segment::Segment;
use super::{recovery, AppendError, Log};
use crate::batch;
use crate::group::Sink;

/// A request may be far larger than memory should hold twice: what is staged is written from here on.
const FLUSH_BYTES: usize = 16 * 1024 * 1024;

/// Admitted batches to append, and whom to tell.
pub(crate) struct Append {
    pub(super) batches: Bytes,
    pub(super) done: oneshot::Sender<Result<i64, AppendError>>,
}

/// What only the one who appends knows.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// A write or fsync failed: the file may hold bytes behind its durable end, or the mark may not be there.
    pub(super) needs_repair: bool,
}

/// Bytes of a group written to one segment and not yet synced.
struct Pending {
    segment: Arc<Segment>,
    buffer: Vec<u8>,
    next_offset: i64,
}

impl Sink for Log {
    type Item = Append;

    fn commit(&self, group: Vec<Append>) {
        let mut answers = Vec::with_capacity(group.len());
        let result = self.write_group(&group, &mut answers);
        if result.is_err() {
            self.forget_what_was_seen();
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.needs_repair = true;
        }
        for (at, append) in group.into_iter().enumerate() {
            let answer = match (answers.get(at), &result) {
                (Some(Err(refused)), _) => Err(refused.clone()),
                (Some(Ok(base)), Ok(())) => Ok(*base),
                (_, Err(error)) => Err(error.clone()),
                (None, Ok(())) => Err(AppendError::Storage("not written".to_owned())),
            };
            let _ = append.done.send(answer);
        }
    }
}

impl Log {
    /// Writes and syncs the group; `answers` gets an entry for each request looked at. An error
    /// fails all of them, the ones already synced included: to a client a failed produce is an
    /// unknown outcome, and never a lost one.
    fn write_group(
        &self,
        group: &[Append],
        answers: &mut Vec<Result<i64, AppendError>>,
    ) -> Result<(), AppendError> {
        if self.bounds.borrow().deleted {
            return Err(AppendError::Deleted);
        }
        if let Some(damage) = self.damage() {
            return Err(damage.into());
        }
        self.repair()?;
        let mut pending = self.active_segment()?;
        for append in group {
            answers.push(self.stage(append, &mut pending)?);
        }
        self.flush(&mut pending)
    }

    fn stage(
        &self,
        append: &Append,
        pending: &mut Pending,
    ) -> Result<Result<i64, AppendError>, AppendError> {
        let batches = match self.deduplicated(&append.batches, pending)? {
            Ok(batches) => batches,
            Err(code) => return Ok(Err(AppendError::Module(code))),
        };
        let limit = self.options.segment_bytes;
        if batch::walk(&batches).any(|(_, header)| header.bytes as u64 > limit) {
            self.forget_what_was_seen();
            return Ok(Err(AppendError::TooLarge));
        }
        let first = pending.next_offset;
        for (at, header) in batch::walk(&batches) {
            let used = pending.segment.bytes() + pending.buffer.len() as u64;
            if used > 0 && used + header.bytes as u64 > limit {
                self.roll(pending)?;
            }
            if pending.buffer.len() >= FLUSH_BYTES {
                self.flush(pending)?;
            }
            let start = pending.buffer.len();
            pending
                .buffer
                .extend_from_slice(&batches[at..at + header.bytes]);
            batch::set_base_offset(&mut pending.buffer[start..], pending.next_offset);
            pending.next_offset += header.offsets();
        }
        Ok(Ok(first))
    }

    /// What is to be written of an append, which may be nothing.
    fn deduplicated(
        &self,
        batches: &Bytes,
        pending: &mut Pending,
    ) -> Result<Result<Bytes, ErrorCode>, AppendError> {
        let Some(deduplicator) = &self.options.deduplicator else {
            return Ok(Ok(batches.clone()));
        };
        if !deduplicator.has_seen_the_log() {
            // It will read the log, where what is staged must be by then.
            self.flush(pending)?;
        }
        Ok(deduplicator.pass(self, batches))
    }

    /// What passed the deduplication was not written: it may come again.
    fn forget_what_was_seen(&self) {
        if let Some(deduplicator) = &self.options.deduplicator {
            deduplicator.forget();
        }
    }

    fn active_segment(&self) -> Result<Pending, AppendError> {
        let active = self.segments().last().cloned();
        let segment = match active {
            Some(segment) => segment,
            None => self.add_segment(self.bounds.borrow().end)?,
        };
        let next_offset = segment.next_offset();
        Ok(Pending {
            segment,
            buffer: Vec::new(),
            next_offset,
        })
    }

    fn add_segment(&self, base: i64) -> Result<Arc<Segment>, AppendError> {
        let (files, sync) = (&self.options.files, self.options.sync);
        let segment = Arc::new(Segment::create(&self.dir, base, files, sync)?);
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(segment.clone());
        Ok(segment)
    }

    fn roll(&self, pending: &mut Pending) -> Result<(), AppendError> {
        self.flush(pending)?;
        pending.segment.save_index(self.options.sync)?;
        pending.segment = self.add_segment(pending.next_offset)?;
        Ok(())
    }

    /// Makes the staged bytes durable, notes that they are, and makes them visible.
    fn flush(&self, pending: &mut Pending) -> Result<(), AppendError> {
        if pending.buffer.is_empty() {
            return Ok(());
        }
        let sync = self.options.sync;
        pending.segment.write(&pending.buffer, sync)?;
        self.mark.set(pending.next_offset, sync)?;
        pending.segment.publish(&pending.buffer);
        pending.buffer.clear();
        self.bounds
            .send_modify(|bounds| bounds.end = pending.next_offset);
        Ok(())
    }

    /// After a failure: takes the mark back, cuts what may have been written behind the durable end, and
    /// removes a segment that was begun there.
    fn repair(&self) -> Result<(), AppendError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.needs_repair {
            if let Some(active) = self.segments().last() {
                self.mark.set(active.next_offset(), self.options.sync)?;
                self.mark.sync(self.options.sync)?;
                active.truncate(active.bytes(), self.options.sync)?;
                recovery::remove_behind(&self.dir, active.base)?;
            }
            writer.needs_repair = false;
        }
        Ok(())
    }
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Storage(error.to_string()),
        }
    }
}
