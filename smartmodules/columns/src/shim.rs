//! What the broker calls.

use std::fmt::Display;
use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{eyre, smartmodule, RecordData, Result, SmartModuleRecord};

use crate::{apply, Plan};

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

/// A wrong plan ends the stream before its first record, which is not lost that way.
#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let plan = params.get("plan").map(|text| Plan::parse(text)).transpose();
    let plan = plan.map_err(|error| eyre!("columns: {error}"))?;
    // `init` is called once for each instance of the module.
    let _ = PLAN.set(plan);
    Ok(())
}

/// Returns the record itself, without copying it, where nothing is dropped.
#[smartmodule(map)]
pub(crate) fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let key = record.key().cloned();
    let Some(Some(plan)) = PLAN.get() else {
        return Ok((key, record.value().clone()));
    };
    let value = match apply(plan, record.value().as_ref()) {
        Ok(None) => record.value().clone(),
        Ok(Some(kept)) => kept.into(),
        Err(refusal) => error_record(record.offset(), &refusal).into(),
    };
    Ok((key, value))
}

/// What stands in place of a record that could not be cut. Readers of the log do not know its kind
/// and stop there, rather than going on without the record.
pub fn error_record(offset: i64, reason: &impl Display) -> String {
    let reason = serde_json::Value::String(reason.to_string());
    format!(r#"{{"kind":"error","module":"columns","offset":{offset},"reason":{reason}}}"#)
}
