//! The demonstration shop: its Postgres schema, its history, its trade and its newcomers.
//!
//! - [`prepare`] creates the seven tables and fills them with a seeded history, in one transaction.
//! - [`trade::Trader`] keeps the shop trading: orders, deliveries, reviews, prices, deletions.
//! - [`user_events::UserEvents`] announces new users on a topic, for the ingest service to store.
//!
//! What is written is decided by pure functions of a seed ([`plan`], [`trade::decide`]); the rest is
//! IO. The shop is an application like any other: it knows nothing of capture or projections.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backoff;
pub mod control;
mod fill;
mod money;
pub mod people;
pub mod plan;
mod schema;
pub mod shop;
pub mod trade;
pub mod user_events;

pub use fill::{fill, prepare, Filled, Progress};
pub use money::Cents;
pub use schema::{create_schema, Created, Error, InvalidSchemaName, SchemaName};
