//! The codes under which `docs/errors` explains what the services say.

use millrace_control as control;
use millrace_postgres_cdc as capture;
use millrace_projections::{engine, marts};
use millrace_users_data as ingest;

/// The code of the first cause that has one.
pub fn code(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let captured = cause.downcast_ref::<capture::Error>();
        let ingested = cause.downcast_ref::<ingest::Error>();
        let projected = cause.downcast_ref::<engine::Error>();
        let described = cause.downcast_ref::<marts::ReadError>();
        let controlled = cause.downcast_ref::<control::Error>();
        captured
            .and_then(capture::Error::code)
            .or(ingested.map(ingest::Error::code))
            .or(projected.map(engine::Error::code))
            .or(described.map(marts::ReadError::code))
            .or(controlled.map(control::Error::code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_below_what_was_added() {
        let error = anyhow::Error::from(engine::Error::Superseded).context("projector stopped");
        assert_eq!(code(&error), Some("MR-P013"));
        let found = "replica".to_owned();
        let error = anyhow::Error::from(capture::Error::WalLevel { found });
        assert_eq!(
            code(&error.context("capture stopped")),
            Some("capture-wal-level")
        );
        assert_eq!(code(&anyhow::anyhow!("anything else")), None);
    }
}
