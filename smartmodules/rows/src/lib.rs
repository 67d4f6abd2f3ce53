//! SmartModule `rows`: one record per row change of the change log, or per row of a snapshot, for
//! people and third parties. It never fails: what is no record of the log comes out as an error
//! record with its offset, and without any value of the input.
//!
//! Transactions cannot be told apart in what comes out, and offsets are those of the broker's
//! output: no projection is built on it.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

#[cfg_attr(target_arch = "wasm32", allow(unsafe_code, unreachable_pub))]
mod shim;

use chrono::{DateTime, Utc};
use millrace_events::{
    DecodeError, Lsn, Op, ParseTableIdError, Record, Row, TableId, TransactionPart,
};
use serde::Serialize;

/// One line of output.
#[derive(Serialize)]
struct RowChange<'a> {
    table: &'a TableId,
    op: &'a str,
    lsn: Lsn,
    #[serde(skip_serializing_if = "Option::is_none")]
    xid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Row>,
}

/// The table to show; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(Wanted);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    All,
    /// The tables of this name, whatever their schema.
    Named(String),
    Table(TableId),
}

impl Filter {
    /// Shows only the table of this text: `source.orders`, or `orders` for the tables of that name in any schema.
    pub fn table(text: &str) -> Result<Self, ParseTableIdError> {
        let whole = text.parse::<TableId>();
        // A name is written as it is behind a schema.
        let name = format!("any.{text}").parse::<TableId>();
        Ok(Filter(match (whole, name) {
            (Ok(table), _) => Wanted::Table(table),
            (Err(_), Ok(table)) => Wanted::Named(table.name),
            (Err(error), Err(_)) => return Err(error),
        }))
    }

    fn shows(&self, table: &TableId) -> bool {
        match &self.0 {
            Wanted::All => true,
            Wanted::Named(name) => table.name == *name,
            Wanted::Table(wanted) => table == wanted,
        }
    }
}

/// The rows of a record, each as JSON `{"table","op","lsn","xid","at","before","after"}`; `op` is
/// `snapshot` for rows of a snapshot. Records without rows give nothing.
pub fn rows(filter: &Filter, record: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    Ok(match Record::decode(record)? {
        Record::Transaction(part) => changes(filter, &part),
        Record::Chunk(chunk) => snapshot(filter, &chunk.table, chunk.lsn, &chunk.rows),
        _ => Vec::new(),
    })
}

fn changes(filter: &Filter, part: &TransactionPart) -> Vec<Vec<u8>> {
    let shown = part
        .changes
        .iter()
        .filter(|change| filter.shows(&change.table));
    shown
        .map(|change| {
            json(&RowChange {
                table: &change.table,
                op: match change.op {
                    Op::Insert => "insert",
                    Op::Update => "update",
                    Op::Delete => "delete",
                    Op::Truncate => "truncate",
                },
                lsn: part.commit_lsn,
                xid: Some(part.xid.0),
                at: Some(part.at),
                before: change.before.as_ref(),
                after: change.after.as_ref(),
            })
        })
        .collect()
}

fn snapshot(filter: &Filter, table: &TableId, lsn: Lsn, rows: &[Row]) -> Vec<Vec<u8>> {
    if !filter.shows(table) {
        return Vec::new();
    }
    let shown = |row| {
        json(&RowChange {
            table,
            op: "snapshot",
            lsn,
            xid: None,
            at: None,
            before: None,
            after: Some(row),
        })
    };
    rows.iter().map(shown).collect()
}

fn json(change: &RowChange<'_>) -> Vec<u8> {
    // All keys are strings, so there is no error to report.
    serde_json::to_vec(change).unwrap_or_default()
}

/// What stands in place of a record that could not be read.
pub fn error_record(offset: i64, error: &DecodeError) -> Vec<u8> {
    let reason = match error {
        // The kind is part of the input.
        DecodeError::Kind(_) => "record of unknown kind".to_owned(),
        other => other.to_string(),
    };
    let record = serde_json::json!({
        "kind": "error", "module": "rows", "offset": offset, "reason": reason,
    });
    record.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTION: &str = r#"{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","part":0,"last":true,"changes":[{"table":"source.users","op":"update","schema":1,"before":{"user_id":1},"after":{"user_id":2}},{"table":"source.orders","op":"truncate","schema":2}]}"#;

    fn shown(filter: &Filter, record: &str) -> Vec<String> {
        let rows = rows(filter, record.as_bytes()).expect("a record");
        rows.into_iter()
            .map(|row| String::from_utf8(row).expect("UTF-8"))
            .collect()
    }

    #[test]
    fn a_transaction_becomes_one_line_per_change() {
        let expected = [
            r#"{"table":"source.users","op":"update","lsn":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","before":{"user_id":1},"after":{"user_id":2}}"#,
            r#"{"table":"source.orders","op":"truncate","lsn":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z"}"#,
        ];
        assert_eq!(shown(&Filter::default(), TRANSACTION), expected);
    }

    fn only(table: &str) -> Filter {
        Filter::table(table).expect(table)
    }

    #[test]
    fn one_table_can_be_asked_for_with_and_without_its_schema() {
        for name in ["orders", "source.orders", "\"source\".\"orders\""] {
            let rows = shown(&only(name), TRANSACTION);
            assert_eq!(rows.len(), 1);
            assert!(rows[0].starts_with(r#"{"table":"source.orders""#));
        }
        for name in ["reviews", "sales.orders"] {
            assert!(shown(&only(name), TRANSACTION).is_empty(), "{name}");
        }
        let quoted = TableId::new("source", "Order.lines");
        assert!(
            only("\"Order.lines\"").shows(&quoted) && only("source.\"Order.lines\"").shows(&quoted)
        );
    }

    #[test]
    fn text_that_names_no_table_is_refused_and_shown() {
        for text in ["", "Orders", "a.b.c", "a."] {
            let error = Filter::table(text).expect_err(text);
            assert!(error
                .to_string()
                .starts_with(&format!("{text:?} names no table")));
        }
    }

    #[test]
    fn rows_of_a_snapshot_are_shown_too() {
        let piece = r#"{"kind":"chunk","epoch":1,"copy":1,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"5:5:","lsn":"0/10","schema":1,"rows":[{"user_id":3}]}"#;
        let shown_row =
            r#"{"table":"source.users","op":"snapshot","lsn":"0/10","after":{"user_id":3}}"#;
        assert_eq!(shown(&only("source.users"), piece), [shown_row]);
        assert!(shown(&only("orders"), piece).is_empty());
        let chunk = r#"{"kind":"chunk","epoch":1,"copy":1,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"5:5:","lsn":"0/10","schema":1,"rows":[{"user_id":1},{"user_id":2}]}"#;
        let rows = shown(&only("users"), chunk);
        assert_eq!(
            rows[1],
            r#"{"table":"source.users","op":"snapshot","lsn":"0/10","after":{"user_id":2}}"#
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn records_without_rows_give_nothing_and_what_is_no_record_gives_an_error_record() {
        let start = r#"{"kind":"start","epoch":1,"at":"2026-01-02T03:04:05Z"}"#;
        assert!(shown(&Filter::default(), start).is_empty());
        for broken in [
            "secret",
            r#"{"kind":"secret"}"#,
            r#"{"kind":"transaction","epoch":"secret"}"#,
        ] {
            let error = rows(&Filter::default(), broken.as_bytes()).expect_err(broken);
            let record = String::from_utf8(error_record(9, &error)).expect("UTF-8");
            assert!(
                record.contains(r#""offset":9"#) && !record.contains("secret"),
                "{record}"
            );
        }
    }
}
