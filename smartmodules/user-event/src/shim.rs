//! What the broker calls.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{eyre, smartmodule, RecordData, Result, SmartModuleRecord};

use crate::{validate, BYTES_MAX_DEFAULT};

static BYTES_MAX: OnceLock<usize> = OnceLock::new();

/// A wrong limit ends the stream before its first record, which is not lost that way.
#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    if let Some(text) = params.get("max_bytes") {
        let Some(bytes_max) = text.parse().ok().filter(|bytes_max| *bytes_max > 0) else {
            return Err(eyre!(
                "user-event: max_bytes is {text:?}, not a positive number"
            ));
        };
        // `init` is called once for each instance of the module.
        let _ = BYTES_MAX.set(bytes_max);
    }
    Ok(())
}

#[smartmodule(map)]
pub(crate) fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let bytes_max = *BYTES_MAX.get().unwrap_or(&BYTES_MAX_DEFAULT);
    let event = validate(record.value().as_ref(), bytes_max);
    // All keys are strings, so there is no error; an empty value would be refused by ingest.
    let value = serde_json::to_vec(&event).unwrap_or_default();
    Ok((record.key().cloned(), value.into()))
}
