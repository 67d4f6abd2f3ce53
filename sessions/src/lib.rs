//! How every service talks to the two databases.
//!
//! Whatever connects to Postgres or MySQL takes its session from here: how to connect, which session settings are
//! pinned and why, how long connecting and a statement may take, and which errors may pass by themselves.
//! `docs/sessions.md` goes through all settings that the servers have, pinned or not.

pub mod mysql;
pub mod postgres;
