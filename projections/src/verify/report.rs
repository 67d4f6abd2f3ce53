//! What verify found.

use millrace_events::{Lsn, TableId};
use serde::Serialize;
use serde_json::{Map, Value};

use super::position::Position;
use super::quarantine::Expected;
use super::Config;

/// The answer, as it is printed in JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Consistent point: both sides were compared as of exactly the commits before it.
    pub lsn: Lsn,
    /// Everything that is live is equal, and everything is live.
    pub equal: bool,
    /// Replica tables against Postgres.
    pub tables: Vec<Subject>,
    /// Marts, their state tables included, against their SQL over the replica.
    pub marts: Vec<Subject>,
    /// What is not live: it could not be compared, or does not get all changes any more.
    pub not_live: Vec<String>,
    /// Marts that the projector keeps and that could not be compared, because their files are not in the folder of marts.
    pub not_compared: Vec<String>,
}

/// One table or mart.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// The source's table, as `schema.table`, or the mart.
    pub name: String,
    /// Rows that it should have.
    pub rows: u64,
    /// Ranges of rows whose sums were compared inside the databases; 0: the rows themselves were.
    pub ranges: u64,
    /// Rows that were read from both databases, because the sums of their range differ.
    pub rows_read: u64,
    /// Values that MySQL cannot hold: their columns are NULL there, and they stand in quarantine as they are in Postgres.
    pub quarantined: u64,
    /// No difference was found.
    pub equal: bool,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// All differences, those included that are not listed.
    pub differences_total: u64,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The source's table, as `schema.table`; for a mart, the MySQL table, which may be one of its state.
    pub table: String,
    /// What is wrong with it.
    pub kind: DifferenceKind,
    /// Key of the row: column names and values.
    pub key: Map<String, Value>,
    /// The column; `*` where a whole row is missing or too many.
    pub column: String,
    /// What should be there, as text; the whole row as an object for `*`.
    pub expected: Value,
    /// What is there.
    pub found: Value,
}

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// A column has another value.
    Value,
    /// The row is not there.
    Missing,
    /// The row should not be there.
    Unexpected,
    /// The tables have other columns or keys, or are not both there.
    Definition,
    /// A value that MySQL cannot hold does not stand in quarantine, or another one does.
    Quarantine,
}

/// The exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is live and equal.
    Equal = 0,
    /// Something is different.
    Different = 1,
    /// Nothing is different, but something is not live, or was not compared.
    NotLive = 2,
}

impl Report {
    pub(super) fn new(lsn: Lsn) -> Report {
        Report {
            lsn,
            equal: true,
            tables: Vec::new(),
            marts: Vec::new(),
            not_live: Vec::new(),
            not_compared: Vec::new(),
        }
    }

    /// No table is live yet.
    pub(super) fn nothing_live(config: &Config, position: Option<&Position>) -> Report {
        let mut report = Report::new(Lsn::ZERO);
        let known = position.map(|position| position.not_live.as_slice());
        let tables = match config.tables.is_empty() {
            true => known.unwrap_or_default(),
            false => &config.tables,
        };
        report
            .not_live
            .extend(tables.iter().map(TableId::to_string));
        report.not_live.extend(config.marts.names());
        if report.not_live.is_empty() {
            report.not_live.push("replica".into());
        }
        report.finish()
    }

    pub(super) fn wrong_position(&mut self, expected: String, found: String) {
        let mut subject = Tally::new("millrace_position", 1);
        subject.add(Difference {
            table: "millrace_position".into(),
            kind: DifferenceKind::Value,
            key: Map::new(),
            column: "end_lsn".into(),
            expected: expected.into(),
            found: found.into(),
        });
        self.tables.push(subject.finish(1));
    }

    /// Adds tables that are not live, each once.
    pub(super) fn are_not_live(&mut self, tables: Vec<TableId>) {
        for table in tables {
            let name = table.to_string();
            if !self.not_live.contains(&name) {
                self.not_live.push(name);
            }
        }
    }

    pub(super) fn finish(mut self) -> Report {
        self.equal = self.exit() == Exit::Equal;
        self
    }

    /// How the command line ends.
    pub fn exit(&self) -> Exit {
        if self
            .tables
            .iter()
            .chain(&self.marts)
            .any(|subject| !subject.equal)
        {
            Exit::Different
        } else if !self.not_live.is_empty() || !self.not_compared.is_empty() {
            Exit::NotLive
        } else {
            Exit::Equal
        }
    }
}

/// Counts differences and keeps the first.
#[derive(Debug)]
pub(super) struct Tally {
    name: String,
    kept_max: usize,
    kept: Vec<Difference>,
    total: u64,
    /// The values that have to stand in quarantine.
    pub(super) unfit: Expected,
}

impl Tally {
    pub(super) fn new(name: &str, kept_max: usize) -> Tally {
        Tally {
            name: name.to_owned(),
            kept_max,
            kept: Vec::new(),
            total: 0,
            unfit: Expected::default(),
        }
    }

    pub(super) fn add(&mut self, difference: Difference) {
        self.total += 1;
        if self.kept.len() < self.kept_max {
            self.kept.push(difference);
        }
    }

    pub(super) fn finish(self, rows: u64) -> Subject {
        Subject {
            name: self.name,
            rows,
            ranges: 0,
            rows_read: 0,
            quarantined: self.unfit.total,
            equal: self.total == 0,
            differences: self.kept,
            differences_total: self.total,
        }
    }
}
