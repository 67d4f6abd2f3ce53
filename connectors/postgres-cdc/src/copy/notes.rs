//! What is noted of the log for copies. Pure.

use millrace_events::{Change, Xid};

use super::fence::Unseen;
use super::moved::Moved;

/// What copies have to know of the transactions of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) moved: Moved,
    pub(crate) unseen: Unseen,
}

impl Notes {
    /// A change stands in the log, or will.
    pub(crate) fn change(&mut self, change: &Change) {
        self.moved.note(change);
    }

    /// A transaction stands in the log whole.
    pub(crate) fn committed(&mut self, xid: Xid) {
        self.unseen.note(xid);
    }
}
