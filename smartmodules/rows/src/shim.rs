//! What the broker calls.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{eyre, smartmodule, RecordData, Result, SmartModuleRecord};

use crate::{error_record, rows, Filter};

static FILTER: OnceLock<Filter> = OnceLock::new();

/// A table that cannot be one ends the stream before its first record.
#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let filter = match params.get("table") {
        Some(table) => Filter::table(table).map_err(|error| eyre!("rows: {error}"))?,
        None => Filter::default(),
    };
    // `init` is called once for each instance of the module.
    let _ = FILTER.set(filter);
    Ok(())
}

#[smartmodule(array_map)]
pub(crate) fn array_map(
    record: &SmartModuleRecord,
) -> Result<Vec<(Option<RecordData>, RecordData)>> {
    let filter = FILTER.get_or_init(Filter::default);
    let rows = rows(filter, record.value().as_ref())
        .unwrap_or_else(|error| vec![error_record(record.offset(), &error)]);
    Ok(rows
        .into_iter()
        .map(|row| (record.key().cloned(), row.into()))
        .collect())
}
