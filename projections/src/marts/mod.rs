//! Marts: tables that are kept equal to a `SELECT` over the replica.
//!
//! The rule is *retract before, add after*: the rows that a batch touches are taken out of the mart
//! as they stand before the replica is written, and put back as they stand after it. Facts and
//! dimensions of one batch take their turns, one table at a time, inside the one transaction; each
//! turn sees all other tables as they are then, which makes the sum of the turns exact.
//!
//! A mart has an inner level per join value, so that a change of a dimension row moves its few
//! subtotals instead of its many facts. The arithmetic is the server's own (module `statements`).

mod columns;
mod folder;
mod mart;
mod statements;

use std::collections::BTreeSet;
use std::path::Path;

use millrace_sessions::mysql::Session;
use sha2::{Digest, Sha256};
use sqlx::Executor;

use crate::replica::names::{suffixed, SHADOW};
use crate::replica::temporary;
use crate::script::{About, Script, ScriptError};
use columns::ReplicaTable;
pub use folder::ReadError;
pub use mart::{Chart, Mart, Summary};
pub(crate) use mart::{Column, KEY};
pub(crate) use statements::{digest, recomputed_groups, recomputed_subtotals};
use statements::{layout, Level, Statements};

/// A mart could not be created or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused a statement of a mart.
    #[error("MySQL refused a statement of mart {mart}")]
    Mart {
        /// Name of the mart.
        mart: String,
        /// What the server said.
        source: sqlx::Error,
    },
    /// The server refused a question about its tables.
    #[error("the definition of a replica table cannot be read")]
    Sql(#[from] sqlx::Error),
    /// The replica lacks what a mart is made of.
    #[error("marts need column {column} of table {table}, which the replica does not have")]
    NoColumn {
        /// Replica table.
        table: String,
        /// Missing column.
        column: String,
    },
    /// A table of the source has the name already.
    #[error("mart {mart} needs the name {table}, which a table of the replica has; rename the mart's files")]
    Taken {
        /// The mart.
        mart: String,
        /// The replica table.
        table: String,
    },
    /// Sums of floating-point numbers depend on the order of addition and cannot be kept exactly.
    #[error("marts sum column {column} of table {table}, which is not an exact number")]
    NotExact {
        /// Replica table.
        table: String,
        /// Its column.
        column: String,
    },
}

/// The marts that a projector keeps.
///
/// Every method works on the connection's current database and joins its open transaction, if there
/// is one. The caller holds the position lock: nobody else writes replica or marts meanwhile. Those that take a
/// [`Script`] push their statements, which the caller sends.
#[derive(Clone, Debug, Default)]
pub struct Marts {
    kept: Vec<(Mart, Statements)>,
}

impl Marts {
    /// The marts of a folder, in the order of their names: `NAME.sql` with its description `NAME.json`.
    ///
    /// # Errors
    /// If the folder holds none, or one that cannot be kept.
    pub fn read(folder: &Path) -> Result<Marts, ReadError> {
        let marts = folder::read(folder)?.into_iter();
        let kept = marts.map(|mart| {
            let statements = Statements::new(&mart);
            (mart, statements)
        });
        Ok(Marts {
            kept: kept.collect(),
        })
    }

    /// No marts: a replica only.
    pub fn none() -> Marts {
        Marts::default()
    }

    /// Names of the marts.
    pub fn names(&self) -> Vec<String> {
        self.iter().map(|mart| mart.name.clone()).collect()
    }

    /// The marts, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Mart> {
        self.kept.iter().map(|(mart, _)| mart)
    }

    /// Columns of `table` that the marts' SQL joins on and that need an index of their own.
    pub fn indexes_for(&self, table: &str) -> Vec<String> {
        let of_table = |mart: &&Mart| mart.fact().table == table;
        let joins = self.iter().filter(of_table).map(|mart| &mart.fact().join);
        let mut columns: Vec<String> = joins.cloned().collect();
        columns.sort();
        columns.dedup();
        columns
    }

    /// True if one of them reads this replica table.
    pub(crate) fn reads(&self, table: &str) -> bool {
        let inputs = |mart: &Mart| mart.fact().table == table || mart.dimension().table == table;
        self.iter().any(inputs)
    }

    /// All physical tables, without suffix: marts and their state.
    pub fn tables(&self) -> Vec<String> {
        self.iter().flat_map(|mart| tables_of(&mart.name)).collect()
    }

    /// Those of these names.
    #[must_use]
    pub fn only(&self, names: &BTreeSet<String>) -> Marts {
        let kept = self.kept.iter();
        let kept = kept.filter(|(mart, _)| names.contains(&mart.name));
        Marts {
            kept: kept.cloned().collect(),
        }
    }

    /// Names, each with a digest of what the mart is: one with another digest has to be built anew.
    pub(crate) fn versions(&self) -> Vec<(String, String)> {
        let version = |mart: &Mart| {
            let digest = Sha256::digest(format!("{mart:?}"));
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        self.iter()
            .map(|mart| (mart.name.clone(), version(mart)))
            .collect()
    }

    /// Names, each with the tables that the mart reads.
    pub(crate) fn inputs(&self) -> Vec<(String, Vec<String>)> {
        self.iter()
            .map(|mart| (mart.name.clone(), mart.reads()))
            .collect()
    }

    /// Creates empty mart and state tables of that suffix, with the column types of the replica tables. Of those named in
    /// `shadows`, the shadow is meant. With a suffix, what is left of an earlier attempt is dropped first; without,
    /// existing tables stay. Commits implicitly, as every DDL does.
    pub async fn create(
        &self,
        conn: &mut Session,
        suffix: &str,
        shadows: &[String],
    ) -> Result<(), Error> {
        for (mart, _) in &self.kept {
            for (table, body) in bodies_of(conn, mart, suffix, shadows).await? {
                if !suffix.is_empty() {
                    let drop = format!("DROP TABLE IF EXISTS `{table}`");
                    run_on_a_table(conn, mart, &drop).await?;
                }
                let create = format!("CREATE TABLE IF NOT EXISTS `{table}` ({body}) ENGINE=InnoDB");
                run_on_a_table(conn, mart, &create).await?;
            }
        }
        Ok(())
    }

    /// Fills the tables that [`Marts::create`] made with the same arguments.
    pub async fn build(
        &self,
        conn: &mut Session,
        suffix: &str,
        shadows: &[String],
    ) -> Result<(), Error> {
        for (mart, _) in &self.kept {
            for statement in statements::build(mart, suffix, shadows) {
                run_on_a_table(conn, mart, &statement).await?;
            }
        }
        Ok(())
    }

    /// Takes the rows whose keys stand in `millrace_keys_<table>` out, as they are before `table` is
    /// written. [`Marts::add`] must follow in the same transaction before any other table's turn.
    pub async fn retract(&self, script: &mut Script<'_>, table: &str) -> Result<(), ScriptError> {
        for (mart, statements) in &self.kept {
            if let Some(level) = level_of(mart, statements, table) {
                let about = about(mart);
                anew(script, level, &about).await?;
                script.push(&level.retract, &about).await?;
            }
        }
        Ok(())
    }

    /// Puts the rows whose keys stand in `millrace_keys_<table>` in, as they are after `table` was
    /// written, and brings the visible tables up to date.
    pub async fn add(&self, script: &mut Script<'_>, table: &str) -> Result<(), ScriptError> {
        for (mart, statements) in &self.kept {
            let Some(level) = level_of(mart, statements, table) else {
                continue;
            };
            let about = about(mart);
            script.push(&level.add, &about).await?;
            script.push(&level.cancel, &about).await?;
            if mart.fact().table == table {
                merge(script, level, &about).await?;
                anew(script, &statements.groups, &about).await?;
                script.push(&statements.carry, &about).await?;
            }
            merge(script, &statements.groups, &about).await?;
            script.push(&statements.hide, &about).await?;
            script.push(&statements.show, &about).await?;
        }
        Ok(())
    }

    /// Empties what all rows of `table` stand behind, before they are deleted.
    pub async fn truncate(&self, script: &mut Script<'_>, table: &str) -> Result<(), ScriptError> {
        for (mart, _) in &self.kept {
            let mut empty = Vec::new();
            if mart.fact().table == table {
                empty.push(mart.subtotals());
            }
            if mart.fact().table == table || mart.dimension().table == table {
                empty.extend([mart.groups(), mart.name.clone()]);
            }
            for state in empty {
                let delete = format!("DELETE FROM `{state}`");
                script.push_on_a_table(&delete, &about(mart)).await?;
            }
        }
        Ok(())
    }
}

/// The level that a change of `table` enters a mart at.
fn level_of<'a>(mart: &Mart, statements: &'a Statements, table: &str) -> Option<&'a Level> {
    if mart.fact().table == table {
        Some(&statements.subtotals)
    } else if mart.dimension().table == table {
        Some(&statements.groups)
    } else {
        None
    }
}

/// The physical tables of a mart of that name, without suffix.
pub(crate) fn tables_of(name: &str) -> [String; 3] {
    [name.to_owned(), mart::groups(name), mart::subtotals(name)]
}

fn about(mart: &Mart) -> About {
    About::Mart(mart.name.clone())
}

/// Makes the delta of a level anew, empty.
async fn anew(script: &mut Script<'_>, level: &Level, about: &About) -> Result<(), ScriptError> {
    let (name, definition) = &level.delta;
    temporary::anew(script, name, definition, about).await
}

/// Applies a complete delta to its level.
async fn merge(script: &mut Script<'_>, level: &Level, about: &About) -> Result<(), ScriptError> {
    script.push(&level.merge, about).await?;
    script.push(&level.vanish, about).await
}

/// Runs a statement that works on a whole table.
async fn run_on_a_table(conn: &mut Session, mart: &Mart, statement: &str) -> Result<(), Error> {
    let done = conn.on_a_table().execute(statement).await;
    done.map(|_| ()).map_err(of(mart))
}

fn of(mart: &Mart) -> impl FnOnce(sqlx::Error) -> Error {
    let mart = mart.name.clone();
    move |source| Error::Mart { mart, source }
}

/// The replica table of that name, or its shadow.
fn input(table: &str, shadows: &[String]) -> String {
    match shadows.iter().any(|shadow| shadow == table) {
        true => suffixed(table, SHADOW),
        false => table.to_owned(),
    }
}

/// Names and bodies of a mart's three tables.
async fn bodies_of(
    conn: &mut Session,
    mart: &Mart,
    suffix: &str,
    shadows: &[String],
) -> Result<[(String, String); 3], Error> {
    let fact = ReplicaTable::read(conn, input(&mart.fact().table, shadows)).await?;
    let dimension = ReplicaTable::read(conn, input(&mart.dimension().table, shadows)).await?;
    let (precision, scale) = fact.exact(&mart.fact().value)?;
    let replica = |column: &Column| match column {
        Column::Dimension(name) => dimension.column(name),
        _ => fact.column(column.name()),
    };
    let define = |name: &str, definition: &str| format!("`{name}` {definition}");
    let (mut group, mut fact_group, mut visible) = (Vec::new(), Vec::new(), Vec::new());
    for column in mart.columns() {
        let name = column.name();
        let definition = match column {
            Column::Count(_) => "BIGINT NOT NULL".to_owned(),
            Column::Sum(_) => format!("DECIMAL({},{scale})", (precision + 22).min(65)),
            Column::Average(_) => format!("DECIMAL({},{})", (precision + 4).min(65), scale + 4),
            Column::Dimension(_) | Column::Fact(_) => replica(column)?.definition().to_owned(),
        };
        visible.push(define(name, &definition));
        if matches!(column, Column::Dimension(_) | Column::Fact(_)) {
            group.push(define(name, &definition));
        }
        if matches!(column, Column::Fact(_)) {
            fact_group.push(define(name, &definition));
        }
    }
    let index = index_of(mart, replica)?;
    let join = fact.column(&mart.fact().join)?.definition();
    Ok([
        (
            suffixed(&mart.subtotals(), suffix),
            layout::subtotals(join, &fact_group, scale),
        ),
        (
            suffixed(&mart.groups(), suffix),
            layout::groups(&group, scale),
        ),
        (
            suffixed(&mart.name, suffix),
            layout::visible(&visible, &index),
        ),
    ])
}

/// The index by which people find visible rows: the dimension's key says enough where it is shown.
fn index_of<'a>(
    mart: &Mart,
    replica: impl Fn(&Column) -> Result<&'a columns::ReplicaColumn, Error>,
) -> Result<String, Error> {
    let mut parts = Vec::new();
    for column in mart.group() {
        if !mart.per_dimension_row() || column.name() == mart.dimension().key {
            parts.push(replica(column)?.index_part(column.name()));
        }
    }
    Ok(parts.join(", "))
}
