//! The projector's own record of where it stands.

use std::collections::BTreeSet;

use millrace_events::{Lsn, TableId, TableSchema};
use millrace_sessions::mysql::Session;

use super::{mysql, Error};
use crate::engine::bookkeeping::{read_marts, read_tables};
use crate::engine::{MartState, TableState};
use crate::replica::ddl;
use crate::replica::names::{suffixed, SHADOW};
use crate::replica::TablePolicies;

const TABLES: [&str; 3] = ["millrace_position", "millrace_tables", "millrace_marts"];

/// What the projector's tables say, as far as verify needs it.
pub(super) struct Position {
    /// The live tables contain everything up to here.
    pub(super) end_lsn: Lsn,
    /// The tables that move with the position.
    pub(super) live: Vec<LiveTable>,
    /// Those that should and do not.
    pub(super) not_live: Vec<TableId>,
    /// The marts that the projector keeps.
    pub(super) marts: Vec<String>,
    /// Those that move with the position.
    pub(super) live_marts: BTreeSet<String>,
    /// Those of the live tables, and of the copies that may take their place, that exist.
    pub(super) existing: BTreeSet<String>,
}

/// A table that can be compared.
#[derive(Clone, Debug)]
pub(super) struct LiveTable {
    /// In MySQL.
    pub(super) name: String,
    /// In the source.
    pub(super) definition: TableSchema,
    /// What becomes of values that MySQL cannot hold.
    pub(super) policies: TablePolicies,
}

impl Position {
    /// Reads the rows; `None` if no projector was ever here.
    pub(super) async fn read(conn: &mut Session) -> Result<Option<Position>, Error> {
        if !exist(conn, &TABLES).await? {
            return Ok(None);
        }
        let end_lsn: Option<u64> =
            sqlx::query_scalar("SELECT end_lsn FROM millrace_position WHERE id = 1")
                .fetch_optional(&mut *conn)
                .await
                .map_err(mysql("reading the position"))?;
        let Some(end_lsn) = end_lsn else {
            return Ok(None);
        };
        let broken = |error: crate::engine::Error| Error::Bookkeeping(error.to_string());
        let marts = read_marts(conn).await.map_err(broken)?;
        let live = marts.iter().filter(|(_, row)| row.state == MartState::Live);
        let mut position = Position {
            end_lsn: Lsn(end_lsn),
            live: Vec::new(),
            not_live: Vec::new(),
            live_marts: live.map(|(name, _)| name.clone()).collect(),
            marts: marts.into_keys().collect(),
            existing: BTreeSet::new(),
        };
        for (id, row) in read_tables(conn).await.map_err(broken)? {
            match (row.state, row.definition) {
                (TableState::Removed, _) => {}
                (TableState::Live, Some(definition)) => position.live.push(LiveTable {
                    name: row.name,
                    definition,
                    policies: row.policies,
                }),
                _ => position.not_live.push(id),
            }
        }
        let live = position.live.iter().map(|table| &table.name);
        let names: Vec<String> = live
            .flat_map(|name| [name.clone(), suffixed(name, SHADOW)])
            .collect();
        let existing = ddl::existing(conn, &names).await;
        position.existing = existing
            .map_err(mysql("looking for tables"))?
            .into_iter()
            .collect();
        Ok(Some(position))
    }
}

/// True if all these tables exist.
pub(super) async fn exist(conn: &mut Session, tables: &[&str]) -> Result<bool, Error> {
    let mut found = 0;
    for table in tables {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(table)
        .fetch_one(&mut *conn)
        .await
        .map_err(mysql("looking for tables"))?;
        found += usize::from(count > 0);
    }
    Ok(found == tables.len())
}
