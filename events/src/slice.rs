//! Values that are too large for a record: they travel in slices, ahead of the row that they belong to.

use serde::{Deserialize, Serialize};

use crate::TableId;

/// A part of the text of a value. The slices of a value stand in order, in the records before the one with its row or
/// in that one; together they are its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The table of the row.
    pub table: TableId,
    /// The column of the value.
    pub column: String,
    /// Name of the value: no other one in the log, or in the topic of the copy, has it.
    pub value: String,
    /// 0, 1, 2, … without gap.
    pub slice: u32,
    /// Whole characters, and an even number of bytes where the text has no others than ASCII.
    pub text: String,
}

/// What stands in a row for a value that came in slices. JSON: an object, which no other value is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sliced {
    /// Name of the value.
    pub sliced: String,
    /// How many slices it came in.
    pub slices: u32,
    /// Bytes of its text.
    pub bytes: u64,
}
