//! Whose fault it is when Postgres refuses a user.
//!
//! An event is rejected only if *its values* cannot be stored. Everything else is waited out: the event is good, and
//! will be stored once the table, the rights or the server are mended. By SQLSTATE:
//!
//! | SQLSTATE | meaning | whose fault |
//! |---|---|---|
//! | 22… except the next lines | a value does not fit its column | the event's |
//! | 2200H | a sequence is exhausted | the table's |
//! | 22003 | a number is out of range; no field of an event is one, but a column computed from a field may be | unclear |
//! | 23502 | NULL in a column that must not be NULL | the event's if the column of `users` is one of its fields, else unclear |
//! | 23503, 23505, 23514, 23P01 | a constraint | the event's if the constraint of `users` concerns one of its fields, else unclear |
//! | 23505 of a column with a sequence, of whatever table | the sequence stands behind the ids | the table's |
//! | 23…, named by no table | what a domain refuses, or a trigger | the event's if a domain is named, else unclear |
//! | 25006, 28…, 3D…, 3F…, 42…, 0A000, 53…, 55000, 58… | rights, missing objects, a server that takes no writes or is full | the operator's |
//! | XX… | an internal error of the server or of an extension | the table's |
//! | 08…, 40…, other 25…, 55…, 57… | connections, deadlocks, time limits, shutdown | nobody's; may pass by itself |
//! | all others: P0…, 44000, 54…, codes that triggers make up | what a trigger, a view or a limit refuses | unclear |
//!
//! A trigger's plain `RAISE` (P0001) is unclear like every other code of a trigger: it may mean these values, or that
//! the table is closed for everybody.
//!
//! A generated column counts as the fields that it is computed from.
//!
//! What is unclear is decided by the other events, see [`crate::users::store`].

use sqlx::postgres::PgDatabaseError;
use sqlx::PgConnection;

use crate::users::{table, FIELDS};
use crate::Error;

/// Whose fault a refused statement is.
#[derive(Debug)]
pub(crate) enum Fault {
    /// These values are not to be stored.
    Event,
    /// The same, unless the address was inserted in another spelling in the meantime.
    Spelling,
    /// The event's if the table takes others, else the table's. The text says what was refused, without values.
    Unclear(String),
    /// The table takes no event, whatever its values.
    Table(Error),
    /// Something else, which the error itself tells.
    Other,
}

/// What a SQLSTATE says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Event,
    /// The catalogue knows what it concerns.
    Constraint,
    Unclear(&'static str),
    Table(&'static str),
    Other,
}

fn rule(sqlstate: &str) -> Rule {
    match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
        (_, "2200H") => Rule::Table("a sequence is exhausted"),
        (_, "22003") => Rule::Unclear("a generated value is out of range"),
        ("22", _) => Rule::Event,
        ("23", _) => Rule::Constraint,
        ("XX", _) => {
            Rule::Table("an internal error of Postgres or an extension; the server's log has more")
        }
        ("08" | "0A" | "25" | "28" | "3D" | "3F" | "40" | "42" | "53" | "55" | "57" | "58", _) => {
            Rule::Other
        }
        _ => Rule::Unclear(TRIGGER),
    }
}

const TRIGGER: &str = "a trigger, a function or a limit refuses it";

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
    Ok(match rule(error.code()) {
        Rule::Event => Fault::Event,
        Rule::Constraint => constraint(connection, schema, error).await?,
        Rule::Unclear(reason) => Fault::Unclear(reason.to_owned()),
        Rule::Table(reason) => Fault::Table(Error::TableRefuses {
            table: table(schema),
            sqlstate: error.code().to_owned(),
            reason: reason.to_owned(),
        }),
        Rule::Other => Fault::Other,
    })
}

/// A constraint, a unique index, or a column that must not be NULL.
async fn constraint(
    connection: &mut PgConnection,
    schema: &str,
    error: &PgDatabaseError,
) -> Result<Fault, sqlx::Error> {
    let (constraint, column) = (error.constraint(), error.column());
    let (Some(its_table), Some(name)) = (error.table(), constraint.or(column)) else {
        return Ok(match error.data_type() {
            Some(_) => Fault::Event,
            None => Fault::Unclear(TRIGGER.to_owned()),
        });
    };
    let concerned = concerned(connection, schema, error).await?;
    let concerns = |fields: &[&str]| {
        concerned
            .iter()
            .any(|one| one.is_of_users && fields.contains(&one.column.as_str()))
    };
    if concerns(&FIELDS) {
        return Ok(match error.code() {
            "23505" if concerns(&["email"]) => Fault::Spelling,
            _ => Fault::Event,
        });
    }
    if let ("23505", [Concerned { table, column, .. }]) = (error.code(), concerned.as_slice()) {
        if let Some(sequence) = sequence_of(connection, table, column).await? {
            return Ok(Fault::Table(Error::SequenceBehind {
                table: table.clone(),
                column: column.clone(),
                sequence,
            }));
        }
    }
    Ok(Fault::Unclear(match constraint {
        Some(_) => format!("constraint {name} of table {its_table} concerns no field of an event"),
        None => format!(
            "column {name} of table {its_table} must not be NULL and is not a field of an event; give it a default"
        ),
    }))
}

/// A column that a constraint is about, or that such a column is computed from.
#[derive(Debug)]
struct Concerned {
    /// Of table `users` or of a partition of it, and not of a table that a trigger writes to.
    is_of_users: bool,
    /// The table, quoted.
    table: String,
    column: String,
}

/// The columns that the constraint, unique index or column named by an error is about.
async fn concerned(
    connection: &mut PgConnection,
    schema: &str,
    error: &PgDatabaseError,
) -> Result<Vec<Concerned>, sqlx::Error> {
    // The expression of a generated column depends on its sources; before Postgres 15 it was the column that did.
    let sql = "WITH t AS (
            SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
                COALESCE(to_regclass($1)::oid IN (c.oid, pg_partition_root(c.oid)::oid), false) AS is_of_users
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = $2 AND n.nspname = $3
        ), about AS (
            SELECT k.conrelid AS relation, unnest(k.conkey) AS attribute
            FROM pg_constraint k JOIN t ON k.conrelid = t.oid WHERE k.conname = $4
            UNION
            SELECT x.indrelid, d.refobjsubid::int2
            FROM pg_index x JOIN t ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
            JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid
            WHERE i.relname = $4
            UNION
            SELECT a.attrelid, a.attnum FROM pg_attribute a JOIN t ON a.attrelid = t.oid WHERE a.attname = $5
        ), sources AS (
            SELECT relation, attribute FROM about
            UNION
            SELECT g.attrelid, d.refobjsubid::int2
            FROM about JOIN pg_attribute g ON g.attrelid = about.relation AND g.attnum = about.attribute
            JOIN pg_attrdef e ON e.adrelid = g.attrelid AND e.adnum = g.attnum
            JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = g.attrelid
                AND d.refobjsubid NOT IN (0, g.attnum)
                AND (d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
                    OR d.classid = 'pg_class'::regclass AND d.objid = g.attrelid AND d.objsubid = g.attnum)
            WHERE g.attgenerated <> ''
        )
        SELECT t.is_of_users, CASE WHEN t.is_of_users THEN $1 ELSE t.name END AS \"table\",
            a.attname::text AS \"column\"
        FROM sources JOIN t ON t.oid = sources.relation
        JOIN pg_attribute a ON a.attrelid = sources.relation AND a.attnum = sources.attribute";
    let rows: Vec<(bool, String, String)> = sqlx::query_as(sql)
        .bind(table(schema))
        .bind(error.table())
        .bind(error.schema().unwrap_or(schema))
        .bind(error.constraint())
        .bind(error.column())
        .fetch_all(connection)
        .await?;
    let columns = rows.into_iter();
    Ok(columns
        .map(|(is_of_users, table, column)| Concerned {
            is_of_users,
            table,
            column,
        })
        .collect())
}

/// The sequence that generates the values of a column of a table (quoted), if there is one.
async fn sequence_of(
    connection: &mut PgConnection,
    table: &str,
    column: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_get_serial_sequence($1, $2)")
        .bind(table)
        .bind(column)
        .fetch_one(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_trigger_may_raise_has_a_rule_with_a_reason() {
        for sqlstate in [
            "MY001", "P0001", "P0002", "P0003", "P0004", "44000", "54000", "21000", "22003",
        ] {
            assert!(matches!(rule(sqlstate), Rule::Unclear(_)), "{sqlstate}");
        }
        for sqlstate in ["22001", "22P02"] {
            assert_eq!(rule(sqlstate), Rule::Event, "{sqlstate}");
        }
        for sqlstate in ["2200H", "XX000"] {
            assert!(matches!(rule(sqlstate), Rule::Table(_)), "{sqlstate}");
        }
        for sqlstate in ["08006", "40P01", "42501", "53100", "55P03", "57014"] {
            assert_eq!(rule(sqlstate), Rule::Other, "{sqlstate}");
        }
    }
}
