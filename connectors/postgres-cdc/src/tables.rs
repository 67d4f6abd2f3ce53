//! The captured tables, as those who watch capture see them, and what can be asked for.

use chrono::{DateTime, TimeDelta, Utc};
use millrace_events::{CapturedTable, CopyId, TableId};

use crate::copy::Done;

/// A captured table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// Its name.
    pub table: TableId,
    /// How far its copy is.
    pub state: TableState,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Number of the copy that counts.
    pub copy: CopyId,
    /// Chunks that were read.
    pub chunks: u32,
    /// Rows in them.
    pub rows: u64,
    /// Rows of the table, about.
    pub rows_estimated: u64,
    /// What its copy waits for, or what was wrong with it when it was tried last.
    pub notice: Option<String>,
    /// What an earlier start had read when this one went on.
    rows_found: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// It has not begun.
    Planned,
    /// It runs.
    Copying,
    /// It is complete: all changes since stand in the log.
    Captured,
}

/// A change of what is captured. All other tables go on meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableRequest {
    /// Captures tables that are selected and not captured.
    Add(Vec<TableId>),
    /// Captures tables no longer.
    Remove(Vec<TableId>),
    /// Copies captured tables again.
    Resnapshot(Vec<TableId>),
    /// Begins a log that cannot go on again, with another slot and copies of all tables.
    BeginAgain,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It makes no sense as things are.
    #[error("{0}")]
    Refused(String),
    /// Capture does not follow the stream now.
    #[error("{0}")]
    NotNow(String),
}

impl TableState {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            TableState::Planned => "planned",
            TableState::Copying => "copying",
            TableState::Captured => "captured",
        }
    }
}

impl TableStatus {
    /// As the log says, with what was `known` of the same copy.
    pub(crate) fn of(
        captured: &CapturedTable,
        known: Option<&TableStatus>,
        now: DateTime<Utc>,
    ) -> TableStatus {
        let known = known.filter(|known| known.copy == captured.copy);
        let mut status = known.cloned().unwrap_or_else(|| TableStatus {
            table: captured.definition.table.clone(),
            state: TableState::Planned,
            since: now,
            copy: captured.copy,
            chunks: 0,
            rows: 0,
            rows_estimated: captured.estimated_rows,
            notice: None,
            rows_found: 0,
        });
        if let Some(copied) = captured.copied {
            status.enter(TableState::Captured, now);
            status.chunks = copied.chunks;
            status.rows = copied.rows;
        }
        status
    }

    /// A chunk was read, or an earlier start had read so much.
    pub(crate) fn copying(&mut self, done: Done, now: DateTime<Utc>) {
        if self.state != TableState::Copying {
            self.rows_found = done.rows;
        }
        self.enter(TableState::Copying, now);
        self.chunks = done.chunks;
        self.rows = done.rows;
    }

    fn enter(&mut self, state: TableState, now: DateTime<Utc>) {
        if self.state != state {
            self.state = state;
            self.since = now;
            self.notice = None;
        }
    }

    /// When its copy will be complete if it goes on as it did since it was begun, or taken up again.
    pub fn expected_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.state != TableState::Copying {
            return None;
        }
        let read = self.rows.saturating_sub(self.rows_found);
        let left = self.rows_estimated.saturating_sub(self.rows);
        let took_ms = (now - self.since).num_milliseconds().max(0) as f64;
        let needed_ms = took_ms * left as f64 / read as f64;
        let whole = needed_ms.is_finite().then_some(needed_ms as i64)?;
        now.checked_add_signed(TimeDelta::try_milliseconds(whole)?)
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::{Copied, Lsn, SchemaId, TableSchema};

    use super::*;

    fn captured(copy: u64) -> CapturedTable {
        CapturedTable {
            definition: TableSchema {
                id: SchemaId(1),
                table: TableId::new("s", "t"),
                columns: Vec::new(),
            },
            estimated_rows: 1_000,
            published_lately: false,
            oid: None,
            copy: CopyId(copy),
            topic: format!("shop-snapshot-{copy}"),
            copy_offset: 2,
            copy_lsn: Lsn(1),
            copied: None,
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    fn done(chunks: u32, rows: u64) -> Done {
        Done {
            rows,
            chunks,
            lsn: Lsn(1),
        }
    }

    #[test]
    fn the_end_of_a_copy_is_expected_by_what_this_start_has_read() {
        let mut table = TableStatus::of(&captured(1), None, at(0));
        assert_eq!(
            (table.state, table.expected_at(at(0))),
            (TableState::Planned, None)
        );
        table.copying(done(2, 200), at(10));
        assert_eq!(
            table.expected_at(at(10)),
            None,
            "nothing is known of its pace"
        );
        table.copying(done(4, 400), at(20));
        assert_eq!(table.expected_at(at(20)), Some(at(50)));
        assert_eq!(table.since, at(10));
    }

    #[test]
    fn another_copy_of_a_table_begins_at_nothing() {
        let mut known = TableStatus::of(&captured(1), None, at(0));
        known.copying(done(4, 400), at(10));
        let same = TableStatus::of(&captured(1), Some(&known), at(20));
        assert_eq!(same, known);
        let complete = CapturedTable {
            copied: Some(Copied {
                chunks: 5,
                rows: 990,
                lsn: Lsn(9),
            }),
            ..captured(1)
        };
        let complete = TableStatus::of(&complete, Some(&known), at(30));
        assert_eq!(
            (complete.state, complete.since, complete.rows),
            (TableState::Captured, at(30), 990)
        );
        let another = TableStatus::of(&captured(2), Some(&complete), at(40));
        assert_eq!(
            (another.state, another.rows, another.chunks),
            (TableState::Planned, 0, 0)
        );
    }
}
