//! Messages of Postgres' wire protocol, read with limits on their size and on silence.
//!
//! Of the messages of the replication stream, the logical ones of other applications are thrown away while they are
//! read: Postgres sends all of them, of any size, to whoever asks for its own.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use millrace_events::Lsn;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;

use super::replication::ReplicationError;

/// Bytes that the socket is asked for at once, and the memory that a skipped message takes.
const READ_BYTES: usize = 128 << 10;
/// `w`, and three numbers of 8 bytes: what stands before the content of a message of the stream.
const STREAM_HEADER_BYTES: usize = 25;
/// `M`, flags and position: what stands before the prefix of a logical message.
const LOGICAL_HEADER_BYTES: usize = 10;

/// One message.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) payload: Bytes,
}

/// What the replication stream brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of the output plugin.
    Data(Bytes),
    /// A part of a message of the output plugin that is larger than what is received whole: one of a row, with its
    /// `pg_class.oid` in the first part.
    Fragment {
        /// What follows upon the part before.
        data: Bytes,
        /// The message ends here.
        last: bool,
    },
    /// Everything that committed before `wal_end` has been sent.
    Alive {
        /// How far.
        wal_end: Lsn,
        /// The server wants to hear from us now.
        reply_wanted: bool,
    },
}

/// What is wanted of the stream.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Prefix of the logical messages that are delivered; others are skipped.
    pub message_prefix: String,
    /// Bytes of a message that is received whole. Larger ones of rows come in fragments; others are refused.
    pub message_bytes_max: usize,
    /// How long the stream may be silent until its first commit has come; then it is
    /// [`STREAM_SILENCE_MIN`](super::replication::STREAM_SILENCE_MIN).
    pub silence_max: Duration,
}

/// The reading side of a connection. Not cancel-safe: a read that was given up ends the connection.
pub(super) struct Frames<R> {
    io: BufReader<R>,
    silence_max: Duration,
    /// Bytes of a message that is received in fragments.
    remaining: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(io: R, silence_max: Duration) -> Self {
        Frames {
            io: BufReader::with_capacity(READ_BYTES, io),
            silence_max,
            remaining: 0,
        }
    }

    pub(super) fn set_silence_max(&mut self, silence_max: Duration) {
        self.silence_max = silence_max;
    }

    /// The next message, whatever it is.
    pub(super) async fn next(&mut self, bytes_max: usize) -> Result<Frame, ReplicationError> {
        let (tag, length) = self.header().await?;
        if length > bytes_max {
            return Err(ReplicationError::TooLarge {
                what: Oversized::Answer,
                bytes: length,
                limit: bytes_max,
            });
        }
        let mut payload = BytesMut::new();
        self.read(&mut payload, length).await?;
        let payload = payload.freeze();
        Ok(Frame { tag, payload })
    }

    /// The next event of a stream that was started.
    pub(super) async fn event(&mut self, wanted: &Wanted) -> Result<Event, ReplicationError> {
        if self.remaining > 0 {
            return self.fragment().await;
        }
        loop {
            let (tag, length) = self.header().await?;
            if tag != b'd' {
                let bytes_max = wanted.message_bytes_max;
                let payload = self.rest(BytesMut::new(), length, Oversized::Answer, bytes_max);
                ended(tag, &payload.await?)?;
                continue;
            }
            if let Some(event) = self.copy_data(length, wanted).await? {
                return Ok(event);
            }
        }
    }

    async fn fragment(&mut self) -> Result<Event, ReplicationError> {
        let count = self.remaining.min(READ_BYTES);
        let mut data = BytesMut::new();
        self.read(&mut data, count).await?;
        self.remaining -= count;
        Ok(Event::Fragment {
            data: data.freeze(),
            last: self.remaining == 0,
        })
    }

    /// A message of the stream, or the beginning of one, unless it is another application's.
    async fn copy_data(
        &mut self,
        length: usize,
        wanted: &Wanted,
    ) -> Result<Option<Event>, ReplicationError> {
        let prefix = wanted.message_prefix.as_bytes();
        let telling = STREAM_HEADER_BYTES + LOGICAL_HEADER_BYTES + prefix.len() + 1;
        let mut start = BytesMut::new();
        self.read(&mut start, length.min(telling)).await?;
        if is_foreign_message(&start, prefix) {
            self.skip(length - start.len()).await?;
            return Ok(None);
        }
        if length > wanted.message_bytes_max && is_of_row(&start) {
            self.remaining = length - start.len();
            start.advance(STREAM_HEADER_BYTES);
            return Ok(Some(Event::Fragment {
                data: start.freeze(),
                last: self.remaining == 0,
            }));
        }
        let what = Oversized::of(&start);
        let payload = self
            .rest(start, length, what, wanted.message_bytes_max)
            .await?;
        event(payload).map(Some)
    }

    /// What follows `start` in a message of `length` bytes, with it.
    async fn rest(
        &mut self,
        mut start: BytesMut,
        length: usize,
        what: Oversized,
        bytes_max: usize,
    ) -> Result<Bytes, ReplicationError> {
        if length > bytes_max {
            return Err(ReplicationError::TooLarge {
                what,
                bytes: length,
                limit: bytes_max,
            });
        }
        let missing = length - start.len();
        self.read(&mut start, missing).await?;
        Ok(start.freeze())
    }

    /// Tag and length of what follows.
    async fn header(&mut self) -> Result<(u8, usize), ReplicationError> {
        let mut header = BytesMut::new();
        self.read(&mut header, 5).await?;
        let tag = header.get_u8();
        let length = usize::try_from(header.get_i32()).ok();
        match length.and_then(|length| length.checked_sub(4)) {
            Some(length) => Ok((tag, length)),
            None => Err(ReplicationError::Protocol(
                "a message with an impossible length".into(),
            )),
        }
    }

    /// Appends `count` bytes.
    async fn read(&mut self, out: &mut BytesMut, count: usize) -> Result<(), ReplicationError> {
        out.reserve(count);
        let mut limited = (&mut self.io).take(count as u64);
        let mut missing = count;
        while missing > 0 {
            missing -= some(self.silence_max, limited.read_buf(out)).await?;
        }
        Ok(())
    }

    async fn skip(&mut self, mut count: usize) -> Result<(), ReplicationError> {
        let mut scratch = BytesMut::new();
        while count > 0 {
            scratch.clear();
            let piece = count.min(READ_BYTES);
            self.read(&mut scratch, piece).await?;
            count -= piece;
        }
        Ok(())
    }
}

/// Bytes that have come; none at all is the end of the connection.
async fn some(
    silence_max: Duration,
    reading: impl std::future::Future<Output = io::Result<usize>>,
) -> Result<usize, ReplicationError> {
    match timeout(silence_max, reading).await {
        Ok(Ok(0)) => Err(ReplicationError::Io(io::ErrorKind::UnexpectedEof.into())),
        Ok(Ok(count)) => Ok(count),
        Ok(Err(error)) => Err(ReplicationError::Io(error)),
        Err(_) => Err(ReplicationError::Silent {
            seconds: silence_max.as_secs(),
        }),
    }
}

/// `start` begins a message of a row.
fn is_of_row(start: &[u8]) -> bool {
    let kind = start.get(STREAM_HEADER_BYTES);
    start.first() == Some(&b'w') && matches!(kind, Some(b'I' | b'U' | b'D'))
}

/// `start` begins a logical message with another prefix.
fn is_foreign_message(start: &[u8], prefix: &[u8]) -> bool {
    let kind = start.get(STREAM_HEADER_BYTES);
    if start.first() != Some(&b'w') || kind != Some(&b'M') {
        return false;
    }
    let found = start.get(STREAM_HEADER_BYTES + LOGICAL_HEADER_BYTES..);
    let found = found.and_then(|found| found.strip_prefix(prefix));
    found.and_then(<[u8]>::first) != Some(&0)
}

fn event(mut payload: Bytes) -> Result<Event, ReplicationError> {
    let malformed = || ReplicationError::Protocol("a malformed message of the stream".into());
    match payload.first() {
        Some(b'w') if payload.len() > STREAM_HEADER_BYTES => {
            payload.advance(STREAM_HEADER_BYTES);
            Ok(Event::Data(payload))
        }
        Some(b'k') if payload.len() == 18 => {
            payload.advance(1);
            let wal_end = Lsn(payload.get_u64());
            payload.advance(8);
            Ok(Event::Alive {
                wal_end,
                reply_wanted: payload.get_u8() == 1,
            })
        }
        _ => Err(malformed()),
    }
}

/// A message that is no part of the stream: notices and parameters are passed over, everything else ends it.
fn ended(tag: u8, payload: &[u8]) -> Result<(), ReplicationError> {
    match tag {
        b'N' | b'S' => Ok(()),
        b'E' => Err(ReplicationError::server(payload)),
        b'c' | b'C' | b'Z' => Err(ReplicationError::Ended),
        tag => Err(ReplicationError::Protocol(format!(
            "a message of kind {:?} in the stream",
            char::from(tag)
        ))),
    }
}

/// What was too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversized {
    /// A logical message with our own prefix.
    Message,
    /// Another message of the stream, with its first byte.
    Other(char),
    /// An answer to a command.
    Answer,
}

impl Oversized {
    fn of(start: &[u8]) -> Oversized {
        let kind = start.get(STREAM_HEADER_BYTES).copied().unwrap_or_default();
        match kind {
            b'M' => Oversized::Message,
            kind => Oversized::Other(char::from(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(message_bytes_max: usize) -> Wanted {
        Wanted {
            message_prefix: "millrace".into(),
            message_bytes_max,
            silence_max: Duration::from_secs(60),
        }
    }

    fn frame(tag: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as i32 + 4).to_be_bytes();
        [&[tag][..], &length, payload].concat()
    }

    fn stream_message(content: &[u8]) -> Vec<u8> {
        frame(b'd', &[&[b'w'; 1][..], &[0; 24], content].concat())
    }

    fn logical(prefix: &str, bytes: usize) -> Vec<u8> {
        let head = [&b"M\x01"[..], &[0; 8], prefix.as_bytes(), b"\0"].concat();
        let length = (bytes as u32).to_be_bytes();
        stream_message(&[&head[..], &length, &vec![b'x'; bytes]].concat())
    }

    async fn events(bytes: &[u8], bytes_max: usize) -> (Vec<Event>, ReplicationError) {
        let mut frames = Frames::new(bytes, Duration::from_secs(1));
        let mut events = Vec::new();
        loop {
            match frames.event(&wanted(bytes_max)).await {
                Ok(event) => events.push(event),
                Err(error) => return (events, error),
            }
        }
    }

    #[tokio::test]
    async fn foreign_messages_of_any_size_are_skipped_and_ours_arrive() {
        let bytes = [
            logical("other_app", 3_000_000),
            logical("millrac", 1),
            logical("millraceX", 1),
            logical("", 0),
            logical("millrace", 2),
            stream_message(b"C"),
        ]
        .concat();
        let (events, error) = events(&bytes, 1000).await;
        assert!(matches!(error, ReplicationError::Io(_)), "the end: {error}");
        let [Event::Data(ours), Event::Data(last)] = &events[..] else {
            panic!("{events:?}");
        };
        assert!(ours.ends_with(b"millrace\0\0\0\0\x02xx"));
        assert_eq!(&last[..], b"C");
    }

    #[tokio::test]
    async fn a_large_row_comes_in_fragments_and_what_follows_it_whole() {
        let row = [&b"I"[..], &7u32.to_be_bytes(), &vec![5; 300_000]].concat();
        let bytes = [stream_message(&row), stream_message(b"C")].concat();
        let (events, _) = events(&bytes, 1000).await;
        let [fragments @ .., Event::Data(last)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(&last[..], b"C");
        let fragment = |event: &Event| match event {
            Event::Fragment { data, last } => (data.to_vec(), *last),
            other => panic!("{other:?}"),
        };
        let (parts, ends): (Vec<_>, Vec<_>) = fragments.iter().map(fragment).unzip();
        assert!(parts.iter().all(|part| part.len() <= READ_BYTES));
        assert_eq!(parts.concat(), row);
        let ended = ends.iter().position(|last| *last);
        assert_eq!(ended, Some(ends.len() - 1));
    }

    #[tokio::test]
    async fn what_is_too_large_is_named() {
        let (_, error) = events(&logical("millrace", 5000), 1000).await;
        assert!(error.to_string().contains("own logical message"), "{error}");
    }

    #[tokio::test]
    async fn signs_of_life_and_the_end_are_told_from_data() {
        let alive = [&b"k"[..], &9u64.to_be_bytes(), &[0; 8], &[1]].concat();
        let bytes = [
            frame(b'd', &alive),
            frame(b'N', b"notice"),
            frame(b'c', b""),
        ]
        .concat();
        let (events, error) = events(&bytes, 1000).await;
        let expected = Event::Alive {
            wal_end: Lsn(9),
            reply_wanted: true,
        };
        assert_eq!(events, [expected]);
        assert!(matches!(error, ReplicationError::Ended), "{error}");
    }

    #[tokio::test]
    async fn silence_ends_the_stream() {
        let (_server, client) = tokio::io::duplex(64);
        let mut frames = Frames::new(client, Duration::from_millis(50));
        let error = frames.event(&wanted(10)).await.expect_err("silent");
        assert!(matches!(error, ReplicationError::Silent { .. }));
    }
}
