//! Whose fault it is when Postgres refuses a user.
//!
//! An event is rejected only if Postgres says that *its values* cannot be stored. Everything else is waited out: the
//! event is good, and will be stored once the table, the rights or the server are mended. By SQLSTATE:
//!
//! | SQLSTATE | meaning | whose fault |
//! |---|---|---|
//! | 22… except the next line | a value does not fit its column | the event's |
//! | 2200H, 22003 | a sequence is exhausted; no field of an event is a number | the table's |
//! | 23502 | NULL in a column that must not be NULL | the event's if the column is one of its fields, else the table's |
//! | 23503, 23505, 23514, 23P01 | a constraint | the event's if the constraint concerns one of its fields, else the table's |
//! | 23505 of a column with a sequence | the sequence stands behind the ids | the table's |
//! | 23…, named by no table | what a trigger or a domain refuses | the event's |
//! | 44000, P0001 | what a view's check or a trigger refuses | the event's |
//! | 25006, 28…, 3D…, 3F…, 42…, 0A000, 53… | rights, missing objects, a server that takes no writes or is full | the operator's |
//! | all others | connections, deadlocks, time limits, shutdown | nobody's; may pass by itself |

use sqlx::postgres::PgDatabaseError;
use sqlx::PgConnection;

use crate::users::{table, FIELDS};
use crate::Error;

/// Whose fault a refused statement is.
#[derive(Debug)]
pub(crate) enum Fault {
    /// These values are not to be stored.
    Event,
    /// The table takes no event, whatever its values.
    Table(Error),
    /// Something else, which the error itself tells.
    Other,
}

/// Judges an error of a statement that stores users. Asks the catalogue where the SQLSTATE does not tell.
pub(crate) async fn judge(
    connection: &mut PgConnection,
    schema: &str,
    error: &sqlx::Error,
) -> Result<Fault, sqlx::Error> {
    let Some(error) = error.as_database_error() else {
        return Ok(Fault::Other);
    };
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else {
        return Ok(Fault::Other);
    };
    let fault = match error.code() {
        "2200H" | "22003" => Fault::Table(refuses(
            schema,
            error,
            "a generated value does not fit any more",
        )),
        "23502" => null(schema, error),
        "P0001" | "44000" => Fault::Event,
        code if code.starts_with("22") => Fault::Event,
        code if code.starts_with("23") => constraint(connection, schema, error).await?,
        _ => Fault::Other,
    };
    Ok(fault)
}

fn null(schema: &str, error: &PgDatabaseError) -> Fault {
    match error.column() {
        Some(column) if !FIELDS.contains(&column) => Fault::Table(refuses(
            schema,
            error,
            &format!("column {column} must not be NULL and is not a field of an event; give it a default"),
        )),
        _ => Fault::Event,
    }
}

async fn constraint(
    connection: &mut PgConnection,
    schema: &str,
    error: &PgDatabaseError,
) -> Result<Fault, sqlx::Error> {
    let (Some(table), Some(name)) = (error.table(), error.constraint()) else {
        return Ok(Fault::Event);
    };
    let concerned = concerned_columns(connection, schema, error.schema(), table, name).await?;
    if concerned
        .iter()
        .any(|column| FIELDS.contains(&column.as_str()))
    {
        return Ok(Fault::Event);
    }
    if let ("23505", [column]) = (error.code(), concerned.as_slice()) {
        if let Some(sequence) = sequence_of(connection, schema, column).await? {
            let table = self::table(schema);
            let column = column.clone();
            return Ok(Fault::Table(Error::SequenceBehind {
                table,
                column,
                sequence,
            }));
        }
    }
    let said = format!("constraint {name} concerns no field of an event");
    Ok(Fault::Table(refuses(schema, error, &said)))
}

fn refuses(schema: &str, error: &PgDatabaseError, reason: &str) -> Error {
    Error::TableRefuses {
        table: table(schema),
        sqlstate: error.code().to_owned(),
        reason: reason.to_owned(),
    }
}

/// The columns of table `users`, or of a partition of it, that a constraint or a unique index is about; none if it
/// belongs to another table, which a trigger writes to.
async fn concerned_columns(
    connection: &mut PgConnection,
    schema: &str,
    its_schema: Option<&str>,
    its_table: &str,
    constraint: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let sql = "WITH t AS (
            SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = $2 AND n.nspname = $3
              AND to_regclass($1)::oid IN (c.oid, pg_partition_root(c.oid)::oid)
        ), about AS (
            SELECT k.conrelid AS relation, unnest(k.conkey) AS attribute
            FROM pg_constraint k JOIN t ON k.conrelid = t.oid WHERE k.conname = $4
            UNION
            SELECT x.indrelid, d.refobjsubid::int2
            FROM pg_index x JOIN t ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
            JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid
            WHERE i.relname = $4
        )
        SELECT a.attname::text FROM about JOIN pg_attribute a
            ON a.attrelid = about.relation AND a.attnum = about.attribute";
    sqlx::query_scalar(sql)
        .bind(table(schema))
        .bind(its_table)
        .bind(its_schema.unwrap_or(schema))
        .bind(constraint)
        .fetch_all(connection)
        .await
}

/// The sequence that generates the values of a column, if there is one.
async fn sequence_of(
    connection: &mut PgConnection,
    schema: &str,
    column: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_get_serial_sequence($1, $2)")
        .bind(table(schema))
        .bind(column)
        .fetch_one(connection)
        .await
}
