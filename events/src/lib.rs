//! The change log of millrace: what a record looks like and by which rules a reader accepts it.
//!
//! One record of the topic `<name>-changes` is one committed Postgres transaction, or one part of a
//! large one, in commit order. This crate has no IO, no clock and no randomness; it builds for
//! `wasm32-unknown-unknown`, so that connectors, projections and SmartModules share one definition.
//!
//! - [`Record`]: everything that may stand in a topic, and its JSON form;
//! - [`PartWriter`] and [`ChunkWriter`]: build the parts of a transaction, and the pieces of a chunk, without holding
//!   rows twice;
//! - [`Slice`]: a part of a value that is too large for a record;
//! - [`Chain`]: the rules of the log, the only way to decide whether a record counts;
//! - [`Copies`]: which tables are captured, and which copy of each counts;
//! - [`CopyReader`]: the rules of a snapshot topic; [`Visibility`]: what its rows contain;
//! - [`Checkpoint`], [`CheckpointSearch`]: where a reader may begin without reading what is before it;
//! - [`InTransit`]: the transactions between two ends, for measuring lag;
//! - [`TableId`]: the name of a table; [`Glob`]: a pattern of names;
//! - [`Lsn`], [`Epoch`], [`Xid`]: positions, as types of their own.

mod chain;
mod checkpoint;
mod copies;
mod copy;
mod copy_reader;
mod glob;
mod in_transit;
mod position;
mod record;
mod row;
mod schema;
mod slice;
mod source;
mod table;
mod visibility;
mod writer;

pub use chain::{Chain, PartVerdict, Verdict};
pub use checkpoint::{Begin, Checkpoint, CheckpointSearch, Passed, Sign, StaleMax};
pub use copies::{CapturedTable, Copied, Copies};
pub use copy::{
    Baseline, BegunAgain, Chunk, ChunkPlanned, CopyBegun, CopyId, CopyTable, TableCopied,
    TableRemoved,
};
pub use copy_reader::{ChunkVerdict, CopyReader, TableChunks};
pub use glob::{split_unquoted, Glob};
pub use in_transit::InTransit;
pub use position::{Epoch, Lsn, ParseLsnError, Xid};
pub use record::{Change, DecodeError, Op, Progress, Record, Start, TransactionPart};
pub use row::{Row, Value};
pub use schema::{Column, SchemaId, TableSchema};
pub use slice::{Slice, Sliced};
pub use source::{CatalogRow, Source, SourceTable, Witness};
pub use table::{ParseTableIdError, TableId};
pub use visibility::{ParseVisibilityError, Visibility};
pub use writer::{ChunkWriter, PartHeader, PartWriter};
