//! Parts of `millrace up` that are down.

use millrace_control::Fault;
use serde::{Deserialize, Serialize};

use super::Time;

/// A part that has no control API to say so itself: a private server, the example's trade, a publisher of offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartDown {
    /// As `up` calls it.
    pub name: String,
    /// Since when it has not worked.
    pub since: Time,
    /// Why.
    pub fault: Fault,
    /// In words: when it is tried again, if ever.
    pub outlook: String,
}
