//! From the selection to the tables that a start captures. Pure.

use std::collections::{BTreeSet, HashMap};

use millrace_events::TableId;
use millrace_sessions::postgres::qualified;

use crate::catalog::CatalogTable;
use crate::{Error, Selection};

/// A table that cannot be captured. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table} {reason}: {remedy}, or leave the table out with !{table}")]
pub struct Unsuitable {
    /// Its name.
    pub table: TableId,
    /// What is wrong with it.
    pub reason: String,
    /// What makes it suitable.
    pub remedy: String,
}

/// The tables for which a new publication is created, in the order of their names.
///
/// A pattern with a `*` selects ordinary tables only, so that `public.*` passes views by and takes the partitions of
/// a partitioned table, each as a table. What is written without a `*` has to be an ordinary table.
pub(crate) fn resolve(
    selection: &Selection,
    catalog: &[CatalogTable],
) -> Result<Vec<TableId>, Error> {
    let mut tables: BTreeSet<_> = selected(selection, catalog).cloned().collect();
    tables.extend(selection.named());
    check(&tables, catalog)?;
    if tables.is_empty() {
        return Err(Error::NothingSelected {
            selection: selection.to_string(),
        });
    }
    Ok(tables.into_iter().collect())
}

/// Whether all of them can be captured; the error names each that cannot.
pub(crate) fn check<'a>(
    tables: impl IntoIterator<Item = &'a TableId>,
    catalog: &[CatalogTable],
) -> Result<(), Error> {
    let known: HashMap<_, _> = catalog.iter().map(|found| (&found.id, found)).collect();
    let unsuitable = tables.into_iter().filter_map(|table| {
        let (reason, remedy) = match known.get(table) {
            Some(found) => unsuitable(found)?,
            None => ("does not exist", "create it".to_owned()),
        };
        Some(Unsuitable {
            table: table.clone(),
            reason: reason.to_owned(),
            remedy,
        })
    });
    let unsuitable: Vec<_> = unsuitable.collect();
    if unsuitable.is_empty() {
        return Ok(());
    }
    Err(Error::Unsuitable(unsuitable))
}

/// The tables that the selection takes today and that are not captured.
pub(crate) fn not_captured(
    selection: &Selection,
    catalog: &[CatalogTable],
    captured: &[TableId],
) -> Vec<TableId> {
    let mut missing: BTreeSet<_> = selected(selection, catalog).collect();
    for table in captured {
        missing.remove(table);
    }
    missing.into_iter().cloned().collect()
}

/// The ordinary tables that are selected.
fn selected<'a>(
    selection: &'a Selection,
    catalog: &'a [CatalogTable],
) -> impl Iterator<Item = &'a TableId> {
    let ordinary = catalog.iter().filter(|found| found.kind == "r");
    let ids = ordinary.map(|found| &found.id);
    ids.filter(|id| selection.matches(id))
}

/// Why the table cannot be captured, and what to do, unless it can.
fn unsuitable(found: &CatalogTable) -> Option<(&'static str, String)> {
    unsuitable_kind(found)
        .map(|(reason, remedy)| (reason, remedy.to_owned()))
        .or_else(|| unsuitable_key(found))
}

/// Rows of a partitioned table could come as its own, but TRUNCATE, ATTACH, DETACH and DROP of one
/// partition would not come at all, and the copy would differ from then on.
fn unsuitable_kind(found: &CatalogTable) -> Option<(&'static str, &'static str)> {
    match (found.kind.as_str(), found.persistence.as_str()) {
        ("r", "p") => None,
        ("r", "u") => Some(("is unlogged", "ALTER TABLE … SET LOGGED makes it an ordinary one")),
        ("r", _) => Some(("is temporary", "create it as a permanent one")),
        ("p", _) => Some((
            "is a partitioned table",
            "Postgres does not replicate TRUNCATE, ATTACH and DETACH of a partition: select the partitions themselves",
        )),
        ("v" | "m", _) => Some(("is a view", "select the tables behind it")),
        ("f", _) => Some(("is a foreign table", "capture it where its rows are stored")),
        _ => Some(("is not a table", "select tables only")),
    }
}

fn unsuitable_key(found: &CatalogTable) -> Option<(&'static str, String)> {
    let sql = qualified(&found.id.schema, &found.id.name);
    let key = match found.key_is_immediate {
        None => Some((
            "has no primary key",
            format!("ALTER TABLE {sql} ADD PRIMARY KEY (…)"),
        )),
        Some(false) => Some((
            "has a deferrable primary key",
            "make it NOT DEFERRABLE: Postgres does not log it otherwise".to_owned(),
        )),
        Some(true) if found.key_is_generated => Some((
            "has a generated column in its primary key",
            "use a plain column: that one is not in the replication stream".to_owned(),
        )),
        Some(true) => None,
    };
    let identity = || match found.identity.as_str() {
        "d" | "f" => None,
        _ => Some((
            "has neither DEFAULT nor FULL as its replica identity",
            format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT"),
        )),
    };
    key.or_else(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(id: &str, kind: &str) -> CatalogTable {
        CatalogTable {
            id: id.parse().expect(id),
            oid: 1,
            kind: kind.into(),
            persistence: "p".into(),
            identity: "d".into(),
            estimated_rows: 0.0,
            key_is_immediate: Some(true),
            key_is_generated: false,
        }
    }

    fn resolved(selection: &str, catalog: &[CatalogTable]) -> Result<String, String> {
        let selection = selection.parse().expect(selection);
        let tables = resolve(&selection, catalog).map_err(|error| error.to_string())?;
        let names: Vec<_> = tables.iter().map(TableId::to_string).collect();
        Ok(names.join(" "))
    }

    fn catalog() -> Vec<CatalogTable> {
        [
            ("public.users", "r"),
            ("public.visits", "p"),
            ("public.visits_1", "r"),
            ("public.report", "v"),
            ("sales.users", "r"),
            ("public.\"Old\"", "r"),
        ]
        .map(|(id, kind)| table(id, kind))
        .into()
    }

    #[test]
    fn a_pattern_takes_the_ordinary_tables_of_several_schemas() {
        let tables = resolved("public.*,sales.*,!public.\"Old\"", &catalog());
        assert_eq!(
            tables.as_deref(),
            Ok("public.users public.visits_1 sales.users")
        );
    }

    #[test]
    fn what_is_named_has_to_be_an_ordinary_table() {
        let error = resolved("public.visits,public.gone,public.report", &catalog());
        let error = error.expect_err("refused");
        for words in [
            "public.gone does not exist",
            "public.report is a view",
            "public.visits is a partitioned table",
            "!public.gone",
        ] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn every_unsuitable_table_is_named_at_once_with_its_remedy() {
        let mut catalog = catalog();
        catalog[0].key_is_immediate = None;
        catalog[2].persistence = "u".into();
        catalog[4].identity = "n".into();
        catalog[5].key_is_immediate = Some(false);
        let error = resolved("*.*", &catalog).expect_err("refused");
        for words in [
            "public.users has no primary key: ALTER TABLE \"public\".\"users\" ADD PRIMARY KEY",
            "public.visits_1 is unlogged",
            "sales.users has neither DEFAULT nor FULL",
            "public.\"Old\" has a deferrable primary key",
            "!public.\"Old\"",
        ] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_selection_of_nothing_says_what_to_do() {
        let error = resolved("shop.*,!shop.users", &catalog()).expect_err("refused");
        assert!(error.contains("shop.*,!shop.users"), "{error}");
    }

    #[test]
    fn tables_that_came_later_are_told_from_those_that_are_captured() {
        let selection = "public.*".parse().expect("a selection");
        let captured = ["public.users".parse().expect("a table")];
        let found = not_captured(&selection, &catalog(), &captured);
        let names: Vec<_> = found.iter().map(TableId::to_string).collect();
        assert_eq!(names, ["public.\"Old\"", "public.visits_1"]);
    }
}
