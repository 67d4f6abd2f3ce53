//! Copies of tables, in chunks, while the stream goes on (ADR 21).
//!
//! A copy begins with a record in the log. Everything that stands there before becomes visible before rows are read
//! ([`fence`]), and what never comes there has ended ([`writers`]); so whoever has the rows goes on from that record.
//! A table that has to wait keeps no other one waiting ([`work`]). Each chunk is a range of keys ([`keys`]), read in a short
//! transaction of its own ([`read`]) by one of several sessions ([`sessions`], [`table`]), and carries the snapshot that it was read
//! under. Values that are too large for a line are read by themselves ([`wide`]). Chunks are planned in the snapshot topic before they are read, so that the next start of capture knows what is
//! left ([`resume`]). When all are acknowledged, the log says so.
//!
//! Who copies does not write to the log itself: it asks the session that follows the stream ([`desk`]).

mod copier;
mod desk;
mod estimate;
mod fence;
mod keys;
mod moved;
mod notes;
mod output;
mod pieces;
mod publish;
mod read;
mod requests;
mod resume;
mod sessions;
mod table;
mod wide;
mod work;
mod writers;

pub(crate) use copier::Copier;
pub(crate) use desk::{Announcement, Asked, Desk};
pub(crate) use fence::{now, until_point_is_seen};
pub(crate) use notes::Notes;
pub(crate) use requests::{Request, Requests};
pub(crate) use table::Done;
