//! From a relation of the stream to a table definition.

use millrace_events::{SchemaId, TableId, TableSchema};
use millrace_sessions::postgres::PgSession;

use crate::catalog::{key_columns, Types};
use crate::pgoutput::Relation;
use crate::Error;

/// The definition of a relation as of the transaction that carries it.
///
/// Types are named by today's catalog, the stream having only their numbers. The key is that of the
/// stream where the replica identity is the primary key; `FULL` marks every column, so that there
/// the catalog has to say which ones are the key.
pub(crate) async fn resolve(
    connection: &mut PgSession,
    types: &mut Types,
    id: SchemaId,
    relation: &Relation,
) -> Result<TableSchema, Error> {
    let key = match relation.identity {
        'd' => identity_columns(relation),
        'f' => key_columns(connection, relation.oid).await?,
        _ => {
            return Err(changed(
                relation,
                "lost its primary key as replica identity",
            ))
        }
    };
    let in_table = |name: &String| relation.columns.iter().any(|column| column.name == *name);
    if key.is_empty() || !key.iter().all(in_table) {
        return Err(changed(relation, "has no usable primary key any more"));
    }
    let mut columns = Vec::with_capacity(relation.columns.len());
    for column in &relation.columns {
        let resolved = types
            .resolve(connection, column.type_oid, column.type_mod)
            .await?;
        columns.push(resolved.column(column.name.clone(), key.contains(&column.name)));
    }
    Ok(TableSchema {
        id,
        table: table(relation),
        columns,
    })
}

fn identity_columns(relation: &Relation) -> Vec<String> {
    let columns = relation.columns.iter().filter(|column| column.identity);
    columns.map(|column| column.name.clone()).collect()
}

/// The name of the relation.
pub(crate) fn table(relation: &Relation) -> TableId {
    TableId::new(&relation.namespace, &relation.name)
}

fn changed(relation: &Relation, reason: &str) -> Error {
    Error::TableChanged {
        table: table(relation),
        reason: reason.into(),
        remedy: "give it a primary key and REPLICA IDENTITY DEFAULT or FULL, then start over with a new snapshot".into(),
    }
}
