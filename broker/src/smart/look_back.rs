//! Building up a module's state from the last records of a log.

use std::time::{SystemTime, UNIX_EPOCH};

use fluvio_protocol::link::ErrorCode;
use fluvio_smartmodule::dataplane::smartmodule::{
    Lookback, SmartModuleLookbackErrorStatus, SmartModuleLookbackOutput,
};

use super::chain::{input_around, numbered_payload, Stage};
use super::{other, GUEST_VERSION};
use crate::batch::{self, Header};
use crate::config::Limits;
use crate::log::{Log, Slice};
use crate::record::{self, Records};
use crate::request;

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Which records a module wants to see.
struct Window {
    from_offset: i64,
    from_timestamp: i64,
}

impl Stage {
    /// Shows the module what it asked for, if it has a `look_back` at all.
    pub(super) fn look_back(&mut self, log: &Log, limits: &Limits) -> Result<(), ErrorCode> {
        let looks_back = self
            .instance
            .as_ref()
            .is_some_and(|instance| instance.looks_back());
        let Some(asked) = self.params.lookback().filter(|_| looks_back) else {
            return Ok(());
        };
        let window = Window::of(asked, log);
        let end = log.bounds().end;
        let mut position = window.from_offset;
        while position < end {
            let Some(slice) = log.read(position, READ_BYTES).map_err(other)? else {
                break;
            };
            self.show(&slice, &window, limits)?;
            position = slice.next_offset;
        }
        Ok(())
    }

    fn show(&mut self, slice: &Slice, window: &Window, limits: &Limits) -> Result<(), ErrorCode> {
        for (at, header) in batch::walk(&slice.batches) {
            let payload =
                numbered_payload(&slice.batches.slice(at..at + header.bytes), &header, limits)?;
            let mut records = Records::parse(&payload).map_err(other)?.list;
            records.retain(|record| {
                window.holds(
                    header.base_offset + record.offset_delta,
                    header.first_timestamp + record.timestamp_delta,
                )
            });
            if !records.is_empty() {
                self.show_records(&header, &record::renumbered(&records))?;
            }
        }
        Ok(())
    }

    fn show_records(&mut self, header: &Header, payload: &[u8]) -> Result<(), ErrorCode> {
        let (head, tail) = input_around(payload.len(), header).map_err(other)?;
        let instance = self.instance.as_mut().ok_or_else(|| other("not started"))?;
        let (status, output) = instance.look_back(&[&head, payload, &tail])?;
        match status {
            0.. => Ok(()),
            status if status == SmartModuleLookbackErrorStatus::PropagatedError as i32 => {
                let output: SmartModuleLookbackOutput =
                    request::decode(output, GUEST_VERSION).map_err(other)?;
                Err(ErrorCode::SmartModuleLookBackError(
                    output.error.to_string(),
                ))
            }
            status => Err(ErrorCode::SmartModuleLookBackError(format!(
                "{}: look_back returned {status}",
                self.name
            ))),
        }
    }
}

impl Window {
    fn of(asked: &Lookback, log: &Log) -> Self {
        let bounds = log.bounds();
        let last = i64::try_from(asked.last).unwrap_or(i64::MAX);
        let by_count = bounds.end.saturating_sub(last).max(bounds.start);
        match asked.age {
            None => Self {
                from_offset: by_count,
                from_timestamp: i64::MIN,
            },
            Some(age) => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let from_timestamp = now.saturating_sub(age).as_millis() as i64;
                let from_offset = if last > 0 { by_count } else { bounds.start };
                Self {
                    from_offset,
                    from_timestamp,
                }
            }
        }
    }

    fn holds(&self, offset: i64, timestamp: i64) -> bool {
        offset >= self.from_offset && timestamp >= self.from_timestamp
    }
}
