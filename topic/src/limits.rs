//! The limits of everything that goes through the door.

use std::time::Duration;

/// Bytes of a segment of a topic: less than what one fetch may bring, because a real server cuts batches where a fetch
/// ends.
pub(crate) const SEGMENT_BYTES: u32 = 16_000_000;
/// Bytes that one fetch may bring: above the segment size of our topics.
pub(crate) const FETCH_BYTES_MAX: i32 = 32 << 20;

/// Bytes that one request may have.
pub(crate) const REQUEST_BYTES_MAX: usize = 12 << 20;
/// Bytes at which a batch of records is sent, and the room it needs in a request: Fluvio's client refuses a record that
/// does not fit *behind* what stands in the batch already.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// Bytes that the value of one record may have: what remains of a request, with room for headers.
pub const RECORD_BYTES_MAX: usize = REQUEST_BYTES_MAX - BATCH_BYTES - (64 << 10);

/// No answer for longer than this counts as a failure. The client itself may wait a minute.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for creating a topic, which waits until its partition is online.
pub(crate) const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// The next batch of a topic that is known to have more may take so long to come.
pub(crate) const BATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The client's metadata may lag behind a topic that was just created.
pub(crate) const VISIBLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often that is looked at.
pub(crate) const VISIBLE_PERIOD: Duration = Duration::from_millis(50);
