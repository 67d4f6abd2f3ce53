//! Ingest: stores the users announced on topic `users-data` in the shop's table `users`.
//!
//! The broker runs SmartModule `user-event` over the topic, so that what arrives here is either a
//! normalised user or a rejection with its reason. Users are upserted by e-mail address, the last event wins;
//! the position in the topic moves in the same Postgres transaction, so that every event counts
//! exactly once whatever is killed. Rejected events are acknowledged in `users-data-rejected`
//! *before* that transaction commits: none is lost, and one may stand there twice after a kill, which
//! its key (topic, partition, offset) tells.
//!
//! - [`Config`] to [`Service::run`], watched through a [`Handle`];
//! - `session`: one attempt, from connecting to the first failure; the service starts the next;
//! - `batch`: what the events of one transaction amount to, without IO;
//! - `position`, `users`, `refusal` (whose fault a refusal is): the Postgres side; `topic`, `reader`, `original`, `dead_letter`: the Fluvio
//!   side;
//! - [`Rejected`]: the rejected events for people, who look at them, send them again or discard them;
//! - [`control`]: the HTTP interface over all that.

mod batch;
mod bookkeeping;
mod config;
pub mod control;
mod dead_letter;
mod error;
mod original;
mod position;
mod reader;
mod readiness;
mod refusal;
mod rejected;
mod service;
mod session;
mod status;
mod users;

pub use config::Config;
pub use error::Error;
pub use position::stored_offset;
pub use rejected::{
    Counts, Filter, Page, ReasonCount, Rejected, RejectedError, RejectedRecord, RejectedState,
};
pub use service::Service;
pub use status::{Handle, State, Status};
