//! What a reader of Postgres has seen: its MVCC snapshot.

use std::fmt;
use std::str::FromStr;

use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

use crate::Xid;

/// The transactions that a query could see: the text of `pg_current_snapshot()`, `xmin:xmax:xip,…`, with transaction
/// numbers of 64 bits.
///
/// Everything below `xmin` had ended, nothing from `xmax` on had, and of those between the ones listed were still
/// running. A commit may stand in the WAL for a while before it becomes visible, and commits may become visible in
/// another order than that of the WAL: only this, never an LSN, says what rows contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    xmin: u64,
    xmax: u64,
    /// Ascending, all within `xmin..xmax`.
    running: Vec<u64>,
}

/// Half of what 64 bits hold, so that differences keep their sign.
const XID_MAX: u64 = u64::MAX >> 1;

impl Visibility {
    /// Whether the transaction had ended, and could be seen, when the snapshot was taken.
    ///
    /// `xid` has the low 32 bits of its number, as the replication stream has them. Meant is the number closest to
    /// `xmin`: Postgres stops before running transactions are 2^31 apart.
    pub fn sees(&self, xid: Xid) -> bool {
        let distance = xid.0.wrapping_sub(self.xmin as u32) as i32;
        let Ok(ahead) = u64::try_from(distance) else {
            return true;
        };
        let full = self.xmin + ahead;
        full < self.xmax && self.running.binary_search(&full).is_err()
    }

    /// What both see. For the snapshots of several chunks: what nobody has to apply any more.
    #[must_use]
    pub fn both(&self, other: &Visibility) -> Visibility {
        let xmax = self.xmax.min(other.xmax);
        let mut running: Vec<u64> = (self.running.iter().chain(&other.running))
            .copied()
            .filter(|xid| *xid < xmax)
            .collect();
        running.sort_unstable();
        running.dedup();
        let xmin = running.first().copied().unwrap_or(xmax);
        Visibility {
            xmin,
            xmax,
            running,
        }
    }

    /// Whether this sees everything that `other` sees.
    pub fn sees_all_of(&self, other: &Visibility) -> bool {
        let other_sees = |xid: u64| xid < other.xmax && other.running.binary_search(&xid).is_err();
        !self.running.iter().any(|xid| other_sees(*xid)) && !(self.xmax..other.xmax).any(other_sees)
    }

    fn is_valid(&self) -> bool {
        let range = self.xmin..self.xmax;
        0 < self.xmin
            && self.xmin <= self.xmax
            && self.xmax <= XID_MAX
            && self.running.iter().all(|xid| range.contains(xid))
            && self.running.windows(2).all(|pair| pair[0] < pair[1])
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (position, xid) in self.running.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

/// The text is no `pg_snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pg_snapshot; expected xmin:xmax:xip,… as in 10:20:10,14,15")]
pub struct ParseVisibilityError(String);

impl FromStr for Visibility {
    type Err = ParseVisibilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVisibilityError(text.to_owned());
        let (xmin, rest) = text.split_once(':').ok_or_else(error)?;
        let (xmax, listed) = rest.split_once(':').ok_or_else(error)?;
        let listed = listed.split(',').filter(|_| !listed.is_empty());
        let running: Option<Vec<u64>> = listed.map(number).collect();
        let xmin = number(xmin).ok_or_else(error)?;
        let xmax = number(xmax).ok_or_else(error)?;
        let visibility = Visibility {
            xmin,
            // Of an imported snapshot Postgres may print an xmax below xmin, and looks at xmin first.
            xmax: xmax.max(xmin),
            running: running.ok_or_else(error)?,
        };
        visibility
            .is_valid()
            .then_some(visibility)
            .ok_or_else(error)
    }
}

/// Rust would also take a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

impl Serialize for Visibility {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Visibility {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Visibility;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pg_snapshot such as \"10:20:10,14,15\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Visibility, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
#[path = "visibility_tests.rs"]
mod tests;
