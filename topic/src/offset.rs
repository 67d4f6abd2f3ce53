//! The number of a record.

use std::fmt;

use serde::Serialize;

/// Number of a record in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset behind this one.
    #[must_use]
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }

    /// From where numbers have a sign: Fluvio and databases. `None` if it is negative, which says "unknown" there.
    #[must_use]
    pub fn of(offset: i64) -> Option<Offset> {
        u64::try_from(offset).ok().map(Offset)
    }

    /// For where numbers have a sign. No topic holds so many records that it could not be said.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
