//! What the embedder decides: where the data lives, where to listen, and every limit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fluvio_types::defaults::SPU_PARTITION_MAX_BYTES;

/// Where a broker keeps its data.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A directory that survives restarts. An acknowledged record has been fsynced there.
    Directory(PathBuf),
    /// A directory of its own under the system's temporary directory, removed at shutdown.
    /// Nothing is fsynced: for tests and throw-away demos only.
    Temporary,
}

/// Everything a [`Broker`](crate::Broker) is opened with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the data lives.
    pub storage: Storage,
    /// Address of the controller's public API, the one clients are given. Port 0 picks a free one.
    pub sc_bind: SocketAddr,
    /// Address of the data plane. Clients learn it from the controller. Port 0 picks a free one.
    pub spu_bind: SocketAddr,
    /// Host and port at which clients reach `spu_bind` where something forwards to it; by default its own
    /// address. Port 0 is the port of `spu_bind`. Clients that ask for local addresses are told that one in any case, `127.0.0.1` for `0.0.0.0`.
    pub advertised: Option<(String, u16)>,
    /// Encryption of both listeners; by default none.
    pub tls: Option<Tls>,
    /// Whom retention leaves what they have not read; by default millrace's own consumers. `None`: nobody, as on
    /// a real cluster.
    pub hold: Option<Hold>,
    /// Limits on everything that could grow.
    pub limits: Limits,
}

/// Named consumers for whom retention keeps what they have not read yet, however old it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Those whose names begin so.
    pub consumers: String,
    /// Bytes beyond which a partition gives up its oldest segments all the same. A topic whose own retention
    /// by size is larger goes by that.
    pub bytes_max: u64,
}

impl Default for Hold {
    /// A consumer that stays away may take what a partition took before anybody said a size: 100 GiB, which
    /// every server assumes.
    fn default() -> Self {
        Self {
            consumers: "millrace-".to_owned(),
            bytes_max: SPU_PARTITION_MAX_BYTES,
        }
    }
}

/// Certificates and key, as PEM files. They are read once, when the broker opens.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate, followed by those that lead to its root, if any.
    pub certificate: PathBuf,
    /// Private key of the server's certificate: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// Roots of the certificates that clients must show; without it they need none.
    pub client_ca: Option<PathBuf>,
}

impl Config {
    /// A broker on free loopback ports, with default limits.
    #[must_use]
    pub fn on_loopback(storage: Storage) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            storage,
            sc_bind: any_port,
            spu_bind: any_port,
            advertised: None,
            tls: None,
            hold: Some(Hold::default()),
            limits: Limits::default(),
        }
    }
}

/// Limits, each with the reason for its default.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once on each listener; more are closed at once.
    pub connections_max: usize,
    /// A request frame. A client sends all batches that are ready in one request, a hundred of
    /// them by default, whatever their size; a real SPU has no limit. Memory grows with what has
    /// arrived, not with what a header announces.
    pub frame_bytes_max: usize,
    /// A batch of records, as on a real SPU.
    pub batch_bytes_max: usize,
    /// Produced bytes waiting for their fsync, over all connections.
    pub inflight_bytes_max: usize,
    /// Record bytes read for one connection's streams and not yet written to it.
    pub outgoing_bytes_max: usize,
    /// Bytes in one fetch response, whatever the client asks for (at least one batch is sent). Larger ones are no faster,
    /// because the next is sent while the client reads this one, and the allocator keeps many times what each stream
    /// has taken.
    pub response_bytes_max: usize,
    /// Streams open on one connection. A client does not say when it drops one, so the one
    /// longest without an acknowledgement makes room.
    pub streams_per_connection_max: usize,
    /// Partitions of one topic.
    pub partitions_per_topic_max: u32,
    /// Partitions of all topics that deduplicate. Each keeps an instance of a module with its memory, and a
    /// thread while it waits for its turn.
    pub deduplicating_partitions_max: u32,
    /// Segment size where the topic does not set one.
    pub segment_bytes_default: u64,
    /// Segments' files open at once, not counting those that are being read or written. A broker that may
    /// open few files at all keeps fewer.
    pub open_segments_max: usize,
    /// How often closed segments are checked against the topics' retention.
    pub retention_interval: Duration,
    /// An inflated SmartModule.
    pub wasm_bytes_max: usize,
    /// Linear memory of one SmartModule instance.
    pub wasm_memory_bytes_max: usize,
    /// The guest code leaks its output buffers; an instance is replaced after so much output.
    pub wasm_recycle_bytes: usize,
    /// Time for one call (one batch through one module).
    pub wasm_call_time_max: Duration,
    /// A decompressed batch given to a SmartModule.
    pub inflated_batch_bytes_max: usize,
}

const MIB: usize = 1024 * 1024;

impl Limits {
    /// These limits where the process may open so many files at once: sockets need most of them.
    pub(crate) fn within(mut self, files_max: u64) -> Self {
        let share = usize::try_from(files_max / 4).unwrap_or(usize::MAX);
        self.open_segments_max = self.open_segments_max.min(share).max(1);
        self
    }

    /// Produced bytes that may wait for a topic's deduplication: a quarter of all.
    pub(crate) fn inflight_share(&self) -> usize {
        (self.inflight_bytes_max / 4).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            frame_bytes_max: 1024 * MIB,
            batch_bytes_max: 32 * MIB,
            inflight_bytes_max: 256 * MIB,
            outgoing_bytes_max: 96 * MIB,
            response_bytes_max: MIB,
            streams_per_connection_max: 1024,
            partitions_per_topic_max: 1024,
            deduplicating_partitions_max: 16,
            segment_bytes_default: 128 * MIB as u64,
            open_segments_max: 512,
            retention_interval: Duration::from_secs(10),
            wasm_bytes_max: 64 * MIB,
            wasm_memory_bytes_max: 1024 * MIB,
            wasm_recycle_bytes: 64 * MIB,
            wasm_call_time_max: Duration::from_secs(30),
            inflated_batch_bytes_max: 128 * MIB,
        }
    }
}
