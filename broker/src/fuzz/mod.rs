//! What `broker/fuzz` drives with bytes of any kind, and what must hold whatever they are: it panics
//! if it does not. Not an API.

mod connection;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder as _;

use crate::batch::{self, Header};
use crate::config::Limits;
use crate::log::Slice;
use crate::net::Requests;
use crate::smart;

pub use connection::{request, THREAD};

/// Small, so that what ignores a limit is seen.
const FRAME_BYTES_MAX: usize = 1 << 20;
const INFLATED_BYTES_MAX: usize = 1 << 22;

/// A stream of bytes is cut into the same frames wherever it is interrupted, and room is made for
/// what has come, not for what is announced. The first byte says how it is interrupted.
pub fn frame(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else {
        return;
    };
    let whole = cut(stream, stream.len().max(1));
    let pieces = cut(stream, usize::from(piece).max(1));
    assert_eq!(whole, pieces, "frames depend on where the stream is cut");
}

/// The frames of a stream that arrives in pieces of this size, and whether it ended in an error.
fn cut(stream: &[u8], piece: usize) -> (Vec<BytesMut>, bool) {
    let mut requests = Requests::new(FRAME_BYTES_MAX);
    let (mut src, mut frames) = (BytesMut::new(), Vec::new());
    for arrived in stream.chunks(piece) {
        src.extend_from_slice(arrived);
        loop {
            match requests.decode(&mut src) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        let room = 2 * stream.len() + 2 * crate::net::READ_AHEAD_BYTES;
        assert!(src.capacity() <= room, "room for what was only announced");
    }
    (frames, false)
}

/// What a producer sends as a batch, and what is left of it after it has been unpacked for
/// SmartModules and packed again: whole, undamaged batches that reach as far as it did.
pub fn batch(data: &[u8]) {
    let _ = batch::admit(data);
    for (at, header) in batch::walk(data) {
        assert!(at + header.bytes <= data.len(), "beyond the end");
    }
    let Some(mut mended) = mended(data) else {
        return;
    };
    let Ok(header) = batch::admit(&mended) else {
        return;
    };
    let limits = Limits {
        inflated_batch_bytes_max: INFLATED_BYTES_MAX,
        ..Limits::default()
    };
    if let Ok(compacted) = smart::compacted(&Bytes::copy_from_slice(&mended), &limits) {
        whole(&compacted);
    }
    batch::set_base_offset(&mut mended, 1000);
    let slice = Slice {
        batches: mended.into(),
        next_offset: 1000 + header.offsets(),
    };
    if let Ok(output) = smart::repacked(&slice, &limits) {
        assert_eq!(whole(&output.batches), Some(slice.next_offset));
    }
}

/// `data` as one batch with the right length, magic and checksum, so that what lies behind them is
/// reached.
fn mended(data: &[u8]) -> Option<Vec<u8>> {
    let mut batch = data.to_vec();
    let length = i32::try_from(batch.len().checked_sub(batch::PREAMBLE_BYTES)?).ok()?;
    batch.get_mut(8..12)?.copy_from_slice(&length.to_be_bytes());
    *batch.get_mut(16)? = batch::MAGIC;
    let delta = i32::from_be_bytes(batch.get(23..27)?.try_into().ok()?);
    batch::set_last_offset_delta(&mut batch, delta);
    Some(batch)
}

/// Asserts that all of it is undamaged batches; the offset after the last.
fn whole(batches: &[u8]) -> Option<i64> {
    let (mut end, mut next_offset) = (0, None);
    for (at, header) in batch::walk(batches) {
        assert_eq!(Header::verify(&batches[at..]), Ok(header));
        (end, next_offset) = (at + header.bytes, Some(header.next_offset()));
    }
    assert_eq!(end, batches.len(), "something behind the batches");
    next_offset
}
