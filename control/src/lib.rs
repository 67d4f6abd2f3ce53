//! What the control APIs of the services share: a small HTTP server that answers JSON, with a bearer token.
//!
//! A service brings its routes and says whether it lives and whether it is ready; [`api`] puts `/health`, `/ready`
//! and the token around them and [`Server`] serves them. What a service can be told, and its words for that, stay
//! with the service.
//!
//! - Everything but `/health` and `/ready` wants `Authorization: Bearer <token>`.
//! - Every refusal is an HTTP status and `{"error": "…"}`.
//! - Times are RFC 3339 in UTC with microseconds, see [`time`].

mod answer;
mod fault;
mod front;
mod readiness;
mod running;
mod server;
pub mod time;
mod words;

pub use answer::{api, problem, Params};
pub use fault::Fault;
pub use front::{Down, Front, Outlook};
pub use readiness::NotReady;
pub use running::Running;
pub use server::{Error, Server};
pub use words::in_words;
