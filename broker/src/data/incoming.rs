//! The requests of one connection, read ahead a little where its end must be noticed.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;
use futures_util::StreamExt;

use crate::net::Inbox;

/// Bytes of requests that are read while another one is answered. A client that has sent more and leaves is not
/// noticed until its requests have their turn.
const AHEAD_BYTES_MAX: usize = 1024 * 1024;

/// Requests in their order.
pub(super) struct Incoming {
    inbox: Inbox,
    ahead: VecDeque<BytesMut>,
    /// Why none follow those that were read ahead.
    ended: Option<io::Result<()>>,
}

impl Incoming {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            ahead: VecDeque::new(),
            ended: None,
        }
    }

    /// The next request; `None` if the client has ended its side.
    pub(super) async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Ok(Some(frame));
        }
        match self.ended.take() {
            Some(ended) => ended.map(|()| None),
            None => self.inbox.next().await.transpose(),
        }
    }

    /// Waits until the client sends nothing any more. May be given up at any time.
    pub(super) async fn ended(&mut self) {
        while self.ended.is_none() {
            let bytes: usize = self.ahead.iter().map(|frame| frame.len()).sum();
            if bytes >= AHEAD_BYTES_MAX {
                return std::future::pending().await;
            }
            match self.inbox.next().await {
                Some(Ok(frame)) => self.ahead.push_back(frame),
                Some(Err(error)) => self.ended = Some(Err(error)),
                None => self.ended = Some(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};
    use tokio::io::AsyncWriteExt;
    use tokio_util::codec::FramedRead;

    use super::*;
    use crate::net::{ReadHalf, Requests};

    fn frame(bytes: usize) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_u32(bytes as u32);
        frame.put_bytes(7, bytes);
        frame.freeze()
    }

    #[tokio::test]
    async fn the_end_is_noticed_behind_requests_that_are_still_handed_out_in_order() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let read: ReadHalf = Box::new(ours);
        let mut incoming = Incoming::new(FramedRead::new(read, Requests::new(1 << 20)));
        for bytes in [1, 2] {
            theirs.write_all(&frame(bytes)).await.expect("sent");
        }
        drop(theirs);
        incoming.ended().await;
        for bytes in [1, 2] {
            let next = incoming.next().await.expect("whole");
            assert_eq!(next.expect("a request").len(), bytes);
        }
        assert!(incoming.next().await.expect("a clean end").is_none());
    }

    #[tokio::test]
    async fn no_more_is_read_ahead_than_the_limit() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let read: ReadHalf = Box::new(ours);
        let mut incoming = Incoming::new(FramedRead::new(read, Requests::new(1 << 20)));
        let part = frame(AHEAD_BYTES_MAX / 4);
        let flood = async {
            let mut taken = 0_usize;
            loop {
                theirs.write_all(&part).await.expect("open");
                taken += 1;
                assert!(taken < 6, "everything is read");
            }
        };
        let waiting = async { tokio::join!(incoming.ended(), flood) };
        let within = std::time::Duration::from_millis(200);
        let ended = tokio::time::timeout(within, waiting).await;
        assert!(ended.is_err(), "nothing ends while nothing is read");
        assert_eq!(incoming.ahead.len(), 4);
    }
}
