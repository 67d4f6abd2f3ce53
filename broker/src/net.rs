//! Frames on a socket: a length, then a request or a response.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fluvio_protocol::Encoder;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::sync::CancellationToken;

/// Responses waiting for a slow client, per connection.
const OUTBOX_FRAMES_MAX: usize = 32;
/// What is ready for a client that has ended its side may be read for so long.
const FAREWELL: Duration = Duration::from_secs(10);
/// Small frames that are ready together leave in one write.
const COALESCE_BYTES: usize = 16 * 1024;
/// Room for a request of which little has come yet.
pub(crate) const READ_AHEAD_BYTES: usize = 64 * 1024;

/// One response: an encoded head (its length prefix included) and raw bytes that end it.
#[derive(Debug)]
pub(crate) struct Frame {
    head: Bytes,
    body: Bytes,
    /// Given back when the frame is written or dropped.
    room: Option<OwnedSemaphorePermit>,
}

impl Frame {
    /// Encodes a response to the request with this correlation id, at the request's version.
    pub(crate) fn response<R: Encoder>(
        correlation: i32,
        version: i16,
        response: &R,
    ) -> io::Result<Self> {
        Self::with_body(correlation, version, response, Bytes::new())
    }

    /// As [`Frame::response`], followed by `records`; the response must end in an empty byte
    /// string, whose length field is replaced. The records are not copied.
    pub(crate) fn with_records<R: Encoder>(
        correlation: i32,
        version: i16,
        response: &R,
        records: Bytes,
        room: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Self> {
        let frame = Self::with_body(correlation, version, response, records)?;
        Ok(Self { room, ..frame })
    }

    fn with_body<R: Encoder>(
        correlation: i32,
        version: i16,
        response: &R,
        body: Bytes,
    ) -> io::Result<Self> {
        let mut head = BytesMut::with_capacity(256);
        head.put_i32(0);
        head.put_i32(correlation);
        response.encode(&mut head, version)?;
        let frame_len = length(head.len() - 4 + body.len())?;
        head[..4].copy_from_slice(&frame_len.to_be_bytes());
        if !body.is_empty() {
            let at = head.len() - 4;
            head[at..].copy_from_slice(&length(body.len())?.to_be_bytes());
        }
        Ok(Self {
            head: head.freeze(),
            body,
            room: None,
        })
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

fn length(len: usize) -> io::Result<i32> {
    i32::try_from(len)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "response over 2 GiB"))
}

/// Where a connection's tasks put their responses; one task writes them in this order.
pub(crate) type Outbox = mpsc::Sender<Frame>;

/// The task that writes them.
pub(crate) type Writing = JoinHandle<()>;

/// Requests of a connection; a length that is negative or above the limit ends it.
pub(crate) type Inbox = FramedRead<ReadHalf, Requests>;

pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection, encrypted or not.
pub(crate) struct Socket {
    read: ReadHalf,
    write: WriteHalf,
}

impl Socket {
    pub(crate) fn new(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            read: Box::new(read),
            write: Box::new(write),
        }
    }
}

/// Cuts a stream of bytes into request frames.
#[derive(Debug)]
pub(crate) struct Requests {
    frame_bytes_max: usize,
}

impl Requests {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max }
    }
}

impl Decoder for Requests {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        let Some(announced) = src.first_chunk::<4>() else {
            return Ok(None);
        };
        let len = usize::try_from(i32::from_be_bytes(*announced)).unwrap_or(usize::MAX);
        if len > self.frame_bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "frame length is negative or above the limit",
            ));
        }
        let missing = (len + 4).saturating_sub(src.len());
        if missing > 0 {
            // Room for as much again as has come, not for what a stranger says will come.
            src.reserve(missing.min(src.len().max(READ_AHEAD_BYTES)));
            return Ok(None);
        }
        src.advance(4);
        let frame = src.split_to(len);
        if len > READ_AHEAD_BYTES {
            // Or the connection would keep the room of its largest request for as long as it lives.
            *src = BytesMut::from(&src[..]);
        }
        Ok(Some(frame))
    }
}

/// Splits a connection into its requests and an outbox, written by a task that ends with the last
/// sender, at `stop`, or a little after `gone`: who sends nothing any more and does not read either is not
/// waited for.
pub(crate) fn split(
    socket: Socket,
    frame_bytes_max: usize,
    stop: CancellationToken,
    gone: CancellationToken,
) -> (Inbox, Outbox, Writing) {
    let Socket { read, write } = socket;
    let requests = Requests::new(frame_bytes_max);
    let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let writing = tokio::spawn(async move {
        let _ = stop
            .run_until_cancelled(write_until_gone(write, frames, gone))
            .await;
    });
    (FramedRead::new(read, requests), outbox, writing)
}

async fn write_until_gone(
    write: WriteHalf,
    frames: mpsc::Receiver<Frame>,
    gone: CancellationToken,
) {
    let mut writing = std::pin::pin!(write_frames(write, frames));
    tokio::select! {
        () = &mut writing => return,
        () = gone.cancelled() => {}
    }
    let _ = tokio::time::timeout(FAREWELL, writing).await;
}

async fn write_frames(mut write: WriteHalf, mut frames: mpsc::Receiver<Frame>) {
    let mut small = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        if let Err(error) = write_ready(&mut write, &mut frames, frame, &mut small).await {
            tracing::debug!(%error, "client went away while being written to");
            return;
        }
    }
    let _ = write.shutdown().await;
}

async fn write_ready(
    write: &mut WriteHalf,
    frames: &mut mpsc::Receiver<Frame>,
    first: Frame,
    small: &mut BytesMut,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(frame) = next {
        if small.len() + frame.len() > COALESCE_BYTES {
            write.write_all_buf(small).await?;
        }
        if frame.len() > COALESCE_BYTES {
            let Frame { head, body, room } = frame;
            write.write_all_buf(&mut head.chain(body)).await?;
            drop(room);
        } else {
            small.put(frame.head);
            small.put(frame.body);
        }
        next = frames.try_recv().ok();
    }
    write.write_all_buf(small).await?;
    // TLS may still hold what the socket had no room for.
    write.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_at_any_split_and_a_lie_reserves_nothing() {
        let mut requests = Requests {
            frame_bytes_max: 1 << 30,
        };
        let mut src = BytesMut::new();
        let mut frames = Vec::new();
        for byte in [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 1, b'c'] {
            src.put_u8(byte);
            frames.extend(requests.decode(&mut src).expect("valid"));
        }
        assert_eq!(frames, [&b"ab"[..], b"", b"c"]);
        src.put_i32(4 << 20);
        src.put_bytes(b'd', 4 << 20);
        let large = requests.decode(&mut src).expect("valid");
        assert_eq!(large.map(|frame| frame.len()), Some(4 << 20));
        assert!(src.capacity() < 1 << 20, "its room goes with it");
        src.put_i32(1 << 30);
        assert_eq!(requests.decode(&mut src).expect("allowed"), None);
        assert!(src.capacity() < 1 << 20);
        for lie in [-1, i32::MIN, (1 << 30) + 1] {
            assert!(requests
                .decode(&mut BytesMut::from(&i32::to_be_bytes(lie)[..]))
                .is_err());
        }
    }
}
