//! What the broker calls.

use std::fmt::Display;
use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{eyre, smartmodule, RecordData, Result, SmartModuleRecord};

use crate::{apply, Policy};

static POLICY: OnceLock<Policy> = OnceLock::new();

/// A missing or wrong policy ends the stream before its first record.
#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let Some(policy) = params.get("policy") else {
        return Err(eyre!("redact: parameter policy is needed"));
    };
    let policy = Policy::parse(policy, params.get("salt").map(String::as_str))
        .map_err(|error| eyre!("redact: {error}"))?;
    // `init` is called once for each instance of the module.
    let _ = POLICY.set(policy);
    Ok(())
}

#[smartmodule(map)]
pub(crate) fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let key = record.key().cloned();
    let Some(policy) = POLICY.get() else {
        return Ok((
            key,
            error_record(record.offset(), &"there is no policy").into(),
        ));
    };
    let value = match apply(policy, record.value().as_ref()) {
        Ok(None) => record.value().clone(),
        Ok(Some(redacted)) => redacted.into(),
        Err(refusal) => error_record(record.offset(), &refusal).into(),
    };
    Ok((key, value))
}

/// What stands in place of a record that could not be redacted.
pub fn error_record(offset: i64, reason: &impl Display) -> Vec<u8> {
    let record = serde_json::json!({
        "kind": "error", "module": "redact", "offset": offset, "reason": reason.to_string(),
    });
    record.to_string().into_bytes()
}
