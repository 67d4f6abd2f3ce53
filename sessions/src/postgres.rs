//! Sessions with Postgres.
