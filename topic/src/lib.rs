//! The door to Fluvio: everything that services do with a cluster, and nothing of Fluvio's own client behind it.
//!
//! A [`Cluster`] connects when it is first asked for something, and anew after a failure. Every request has a time
//! limit. What a real server does to a careless client is dealt with here (`fluvio` is the only crate beside the broker that
//! knows it):
//!
//! - Reading ([`Read`], [`Reading`]): one stream for one partition, whole batches, offsets without a gap. A batch that was cut
//!   on its way, a stream that went on elsewhere, records that retention removed and a topic that ends too early are
//!   different errors ([`TopicError`]). A reading never goes on by itself after one: its caller knows where to resume.
//! - The end of a topic is believed in one case only: behind a record of one's own ([`Fence`], ADR 11).
//! - Appending ([`Appender`]): in order, bounded in records and bytes, every acknowledgement awaited.
//! - Topics are created with an explicit [`Retention`], and with segments that one fetch can bring.
//!
//! It does not retry: when and how often is the service's own business. How long a stream is waited for is not
//! ([`Patience`]).

mod append;
mod backwards;
mod cluster;
mod consumers;
mod endpoint;
mod error;
mod kept;
mod limits;
mod modules;
mod offset;
mod patience;
mod read;
mod sequence;
mod topics;
mod units;

pub use append::{AppendLimits, Appender, Entry, Sent, Tally};
pub use backwards::{Backwards, Windows};
pub use cluster::Cluster;
pub use consumers::Consumer;
pub use endpoint::{endpoint, SpuAddress, UnknownAddress};
pub use error::TopicError;
pub use kept::SegmentsTooSmall;
pub use limits::RECORD_BYTES_MAX;
pub use modules::{Lookup, ModuleError, Package, SmartModule, StoredModule};
pub use offset::Offset;
pub use patience::Patience;
pub use read::{Fence, Read, Reading, RecordStream};
pub use sequence::Record;
pub use topics::{Bounds, Partition, Retention, RetentionError, Topic};
pub use units::{StreamingUnit, UnitAddress};
