//! The tables of the status for people: one row each.

use millrace_dashboard::status::{Table, TableCopy};

use super::text::{bytes, count, duration, known, UNKNOWN};
use crate::terminal::{printable, table};

/// A row per table, and below them why some are not live.
pub(crate) fn render(tables: &[Table]) -> String {
    let rows: Vec<Vec<String>> = tables.iter().map(row).collect();
    let header = [
        "table",
        "in MySQL",
        "state",
        "since",
        "rows",
        "size",
        "quarantine",
        "copy",
        "there in",
    ];
    let mut text = table(&header, &rows);
    for one in tables {
        if let Some(reason) = &one.reason {
            text += &format!("{}: {}\n", printable(&one.name), printable(reason));
        }
    }
    text
}

/// Rows and size are what MySQL estimates.
fn row(table: &Table) -> Vec<String> {
    let about = |text: String| match text == UNKNOWN {
        true => text,
        false => format!("~{text}"),
    };
    let copy = table.copy.as_ref();
    vec![
        printable(&table.name),
        table
            .target
            .as_deref()
            .map_or(UNKNOWN.to_owned(), printable),
        table.state.words().to_owned(),
        known(table.since),
        about(count(table.rows)),
        about(bytes(table.bytes)),
        count(table.quarantined),
        copy.map_or("-".to_owned(), progress),
        copy.map_or("-".to_owned(), |copy| {
            duration(copy.eta_s.map(|seconds| seconds * 1_000))
        }),
    ]
}

fn progress(copy: &TableCopy) -> String {
    let share = copy.share().map_or(UNKNOWN.to_owned(), |share| {
        format!("{:.0} %", share * 100.0)
    });
    format!(
        "{share} ({} read, {} loaded of ~{})",
        count(copy.rows_read),
        count(copy.rows_loaded),
        count(copy.rows_estimated)
    )
}

#[cfg(test)]
mod tests {
    use millrace_dashboard::status::TableState;

    use super::*;

    #[test]
    fn a_copy_shows_its_progress_and_a_table_that_is_not_live_its_reason() {
        let live = Table {
            name: "public.a".into(),
            target: Some("a".into()),
            state: TableState::Live,
            since: "2026-01-02T03:04:05Z".parse().ok(),
            rows: Some(12),
            bytes: Some(2_048),
            reason: None,
            quarantined: Some(31),
            copy: None,
        };
        let copying = Table {
            name: "public.b".into(),
            state: TableState::Copying,
            rows: None,
            copy: Some(TableCopy {
                rows_read: Some(50),
                rows_loaded: Some(0),
                rows_estimated: Some(100),
                eta_s: Some(90),
            }),
            ..live.clone()
        };
        let aside = Table {
            name: "public.c\u{1b}[2J".into(),
            state: TableState::SetAside,
            reason: Some("[MR-P005] no form".into()),
            ..live.clone()
        };
        let text = render(&[live, copying, aside]);
        for said in [
            "~12",
            " 31 ",
            "~2.0 KiB",
            "25 % (50 read, 0 loaded of ~100)",
            "90.0 s",
            "set aside",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(
            text.contains("public.c\\u{1b}[2J: [MR-P005] no form"),
            "{text}"
        );
    }
}
