//! Whether the log still has every change of a table. Pure.
//!
//! The rules, in their order. Each asks the catalog of now about a table as it was before its rows were copied:
//!
//! 1. The name belongs to no table, or to another one: its rows go elsewhere.
//! 2. The publication does not have the table, has a filter or a column list for it, or leaves out an operation.
//! 3. The publication, or the table in it, was altered in between and put back. Nothing tells what passed by meanwhile.
//! 4. Capture left rows out.
//! 5. The rows are in another file *and* a column was changed. `ALTER TABLE … TYPE … USING` and a new column with a
//!    volatile default do both, and change values without sending them. One without the other is innocent: `VACUUM FULL`,
//!    `CLUSTER` and `TRUNCATE` change the file alone, every other `ALTER` of a column the column alone.
//!
//! What is innocent is written into the log, so that the two do not add up over time.

use millrace_events::{SourceTable, TableId};
use millrace_sessions::postgres::{qualified, quoted};
use serde::Serialize;

use crate::observe::{Observed, ObservedTable};

/// A table whose rows in the log are not those of the source any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotLive {
    /// The table.
    pub table: TableId,
    /// Name of the page under `docs/errors`.
    pub code: &'static str,
    /// What happened.
    pub reason: String,
    /// The commands that mend it.
    pub remedy: String,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    None,
    /// Only what cannot have changed rows has changed; the log should know it.
    Innocent(SourceTable),
    NotLive(NotLive),
}

/// Compares a table with what it was. `publication` exists.
pub(crate) fn drift(begun: &SourceTable, seen: &Observed, publication: &str) -> Drift {
    let Some(found) = seen.named(&begun.table) else {
        return Drift::NotLive(gone(begun, seen.with_oid(begun.oid)));
    };
    let mending = Mending {
        table: &begun.table,
        statements: statements(found, seen, publication),
    };
    if found.oid != begun.oid {
        return mending.not_live("capture-table-replaced", "another table has taken its name");
    }
    if let Some(reason) = narrowed(found, seen) {
        return mending.not_live("capture-table-filtered", reason);
    }
    if is_altered(begun, found, seen) {
        let reason = "the publication was altered since the table was copied, and may have let changes pass by";
        return mending.not_live("capture-publication-altered", reason);
    }
    if let Some(reason) = &begun.left_out {
        return mending.not_live("capture-rows-left-out", reason);
    }
    match (found.file == begun.file, found.columns == begun.columns) {
        (true, true) => Drift::None,
        (false, false) => mending.not_live(
            "capture-table-rewritten",
            "a column was changed and all rows were rewritten, which sends none of them",
        ),
        _ => Drift::Innocent(SourceTable {
            file: found.file,
            columns: found.columns,
            ..begun.clone()
        }),
    }
}

fn gone(begun: &SourceTable, elsewhere: Option<&ObservedTable>) -> NotLive {
    let table = &begun.table;
    let remove = format!("`millrace tables remove {}`", argument(table));
    let (reason, remedy) = match elsewhere {
        Some(found) => (
            format!("it is {} now", found.id),
            format!(
                "rename it back and run `millrace tables resnapshot {}`, or {remove} and add the new name",
                argument(table)
            ),
        ),
        None => ("it was dropped".to_owned(), remove),
    };
    NotLive {
        table: table.clone(),
        code: "capture-table-gone",
        reason,
        remedy,
    }
}

/// How the publication leaves out changes of the table now.
fn narrowed(found: &ObservedTable, seen: &Observed) -> Option<&'static str> {
    match found.entry {
        None => Some("the publication does not have it"),
        Some(entry) if entry.filtered => {
            Some("the publication has only some of its rows or columns")
        }
        Some(_) if !all_operations(seen) => {
            Some("the publication leaves out inserts, updates, deletes or truncates")
        }
        Some(_) => None,
    }
}

fn all_operations(seen: &Observed) -> bool {
    seen.publication.is_some_and(|found| found.all_operations)
}

fn is_altered(begun: &SourceTable, found: &ObservedTable, seen: &Observed) -> bool {
    let publication = seen.publication.map(|publication| publication.row);
    let entry = found.entry.map(|entry| entry.row);
    publication != Some(begun.publication) || entry != Some(begun.entry)
}

/// What makes the publication send all changes of the table from now on.
fn statements(found: &ObservedTable, seen: &Observed, publication: &str) -> Vec<String> {
    let alter = format!("ALTER PUBLICATION {}", quoted(publication));
    let table = qualified(&found.id.schema, &found.id.name);
    let mut statements = Vec::new();
    if found.entry.is_some_and(|entry| entry.filtered) {
        statements.push(format!("{alter} DROP TABLE {table}"));
    }
    if found.entry.is_none_or(|entry| entry.filtered) {
        statements.push(format!("{alter} ADD TABLE ONLY {table}"));
    }
    if !all_operations(seen) {
        statements.push(format!(
            "{alter} SET (publish = 'insert, update, delete, truncate')"
        ));
    }
    statements
}

struct Mending<'a> {
    table: &'a TableId,
    statements: Vec<String>,
}

impl Mending<'_> {
    fn not_live(&self, code: &'static str, reason: &str) -> Drift {
        let resnapshot = format!("`millrace tables resnapshot {}`", argument(self.table));
        let remedy = match &self.statements[..] {
            [] => resnapshot,
            statements => format!("in Postgres, {}; then {resnapshot}", statements.join("; ")),
        };
        Drift::NotLive(NotLive {
            table: self.table.clone(),
            code,
            reason: reason.to_owned(),
            remedy,
        })
    }
}

/// The table as a shell takes it.
fn argument(table: &TableId) -> String {
    let text = table.to_string();
    match text.contains(['"', '$']) {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use millrace_events::CatalogRow;

    use super::*;
    use crate::observe::{Entry, ObservedPublication};

    const PUBLICATION: CatalogRow = CatalogRow { oid: 70, xmin: 7 };
    const ENTRY: CatalogRow = CatalogRow { oid: 80, xmin: 8 };

    fn id(text: &str) -> TableId {
        text.parse().expect(text)
    }

    fn begun() -> SourceTable {
        SourceTable {
            table: id("source.\"Reviews\""),
            oid: 1,
            file: 10,
            columns: 100,
            publication: PUBLICATION,
            entry: ENTRY,
            left_out: None,
        }
    }

    fn seen() -> Observed {
        let entry = Entry {
            row: ENTRY,
            filtered: false,
        };
        Observed {
            scope: 0,
            publication: Some(ObservedPublication {
                row: PUBLICATION,
                all_operations: true,
            }),
            tables: vec![ObservedTable {
                id: begun().table,
                oid: 1,
                file: 10,
                columns: 100,
                entry: Some(entry),
            }],
        }
    }

    fn compared(change: impl FnOnce(&mut SourceTable, &mut Observed)) -> Drift {
        let (mut begun, mut seen) = (begun(), seen());
        change(&mut begun, &mut seen);
        drift(&begun, &seen, "millrace")
    }

    fn not_live(change: impl FnOnce(&mut SourceTable, &mut Observed)) -> (&'static str, String) {
        match compared(change) {
            Drift::NotLive(found) => (found.code, format!("{}: {}", found.reason, found.remedy)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_that_is_as_it_was_has_all_its_changes_in_the_log() {
        assert_eq!(compared(|_, _| ()), Drift::None);
    }

    #[test]
    fn a_new_file_alone_and_a_changed_column_alone_are_innocent() {
        let Drift::Innocent(moved) = compared(|_, seen| seen.tables[0].file = 11) else {
            panic!("not innocent");
        };
        assert_eq!(
            moved,
            SourceTable {
                file: 11,
                ..begun()
            }
        );
        assert!(matches!(
            compared(|_, seen| seen.tables[0].columns = 101),
            Drift::Innocent(_)
        ));
    }

    #[test]
    fn a_new_file_and_a_changed_column_are_a_rewrite() {
        let (code, text) = not_live(|_, seen| {
            seen.tables[0].file = 11;
            seen.tables[0].columns = 101;
        });
        assert_eq!(code, "capture-table-rewritten");
        assert!(
            text.ends_with("`millrace tables resnapshot 'source.\"Reviews\"'`"),
            "{text}"
        );
    }

    #[test]
    fn a_publication_that_leaves_something_out_is_named_with_what_widens_it() {
        type Change = fn(&mut SourceTable, &mut Observed);
        let cases: [(Change, &str); 3] = [
            (
                |_, seen| seen.tables[0].entry = None,
                ": in Postgres, ALTER PUBLICATION \"millrace\" ADD TABLE ONLY \"source\".\"Reviews\"; then `millrace",
            ),
            (
                |_, seen| seen.tables[0].entry.iter_mut().for_each(|entry| entry.filtered = true),
                "DROP TABLE \"source\".\"Reviews\"; ALTER PUBLICATION \"millrace\" ADD TABLE ONLY",
            ),
            (
                |_, seen| seen.publication.iter_mut().for_each(|found| found.all_operations = false),
                "SET (publish = 'insert, update, delete, truncate'); then",
            ),
        ];
        for (change, words) in cases {
            let (code, text) = not_live(change);
            assert_eq!(code, "capture-table-filtered", "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_publication_that_was_altered_and_put_back_needs_a_new_copy() {
        type Change = fn(&mut SourceTable, &mut Observed);
        let cases: [Change; 3] = [
            |begun, _| begun.publication.oid = 71,
            |begun, _| begun.publication.xmin = 6,
            |begun, _| begun.entry = CatalogRow { oid: 81, xmin: 9 },
        ];
        for change in cases {
            let (code, text) = not_live(change);
            assert_eq!(code, "capture-publication-altered");
            assert!(!text.contains("ALTER"), "{text}");
        }
    }

    #[test]
    fn another_table_of_the_name_has_to_be_published_and_copied() {
        let (code, text) = not_live(|_, seen| {
            seen.tables[0].oid = 2;
            seen.tables[0].entry = None;
        });
        assert_eq!(code, "capture-table-replaced");
        assert!(text.contains("ADD TABLE ONLY"), "{text}");
    }

    #[test]
    fn a_renamed_table_is_told_from_a_dropped_one() {
        let (code, text) = not_live(|_, seen| seen.tables[0].id = id("source.people"));
        assert_eq!(code, "capture-table-gone");
        assert!(text.contains("it is source.people now"), "{text}");
        let (code, text) = not_live(|_, seen| seen.tables.clear());
        assert_eq!(code, "capture-table-gone");
        assert!(
            text.starts_with("it was dropped: `millrace tables remove"),
            "{text}"
        );
    }

    #[test]
    fn rows_that_capture_left_out_stay_left_out() {
        let (code, text) = not_live(|begun, _| begun.left_out = Some("it was renamed".into()));
        assert_eq!(code, "capture-rows-left-out");
        assert!(
            text.starts_with("it was renamed: `millrace tables resnapshot"),
            "{text}"
        );
    }
}
