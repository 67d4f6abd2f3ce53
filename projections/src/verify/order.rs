//! In which orders Postgres has a table.

use millrace_events::TableId;
use millrace_sessions::postgres::PgSession;
use sqlx::Row as _;

use super::ranges::Indexed;
use super::{postgres, Error};

/// Columns of the indexes that can give all rows in their order, one index after the other. A text is compared by its
/// bytes under the collations "C" and "POSIX", be it those of the column or of the database (to whose provider there
/// is a column since version 15).
const INDEXES: &str = "
    SELECT i.indexrelid::int8, a.attname::text,
           coalesce(co.oid IN (950, 951) OR (co.oid = 100 AND d.by_bytes), true)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_index i ON i.indrelid = c.oid
      JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
      CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[])
                 WITH ORDINALITY AS k (attnum, coll, opclass, place)
      LEFT JOIN pg_opclass o ON o.oid = k.opclass AND o.opcdefault
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0 AND o.oid IS NOT NULL
      LEFT JOIN pg_collation co ON co.oid = k.coll
      CROSS JOIN (SELECT datcollate IN ('C', 'POSIX') AND coalesce(to_jsonb(db) ->> 'datlocprovider', 'c') = 'c' AS by_bytes
                    FROM pg_database db WHERE datname = current_database()) d
     WHERE n.nspname = $1 AND c.relname = $2 AND am.amname = 'btree' AND i.indisvalid AND i.indisready AND i.indpred IS NULL
       AND k.place <= i.indnkeyatts
     ORDER BY 1, k.place";

/// The indexes of a table.
pub(super) async fn indexes(
    session: &mut PgSession,
    TableId { schema, name }: &TableId,
) -> Result<Vec<Vec<Indexed>>, Error> {
    let asking = postgres("looking for the indexes of a table");
    let rows = sqlx::query(INDEXES)
        .bind(schema)
        .bind(name)
        .fetch_all(session)
        .await
        .map_err(&asking)?;
    let mut indexes: Vec<Vec<Indexed>> = Vec::new();
    let mut last = None;
    for row in rows {
        let index: i64 = row.try_get(0).map_err(&asking)?;
        // An expression has no name, nor has a column in another order than the type's own.
        let column: Option<String> = row.try_get(1).map_err(&asking)?;
        let indexed = Indexed {
            name: column.unwrap_or_default(),
            by_bytes: row.try_get(2).map_err(&asking)?,
        };
        if last != Some(index) {
            indexes.push(Vec::new());
        }
        last = Some(index);
        if let Some(columns) = indexes.last_mut() {
            columns.push(indexed);
        }
    }
    Ok(indexes)
}
