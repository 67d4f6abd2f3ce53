//! Table `users`.

use millrace_events::{RejectReason, Rejection, User};
use sqlx::error::DatabaseError;
use sqlx::{Acquire, PgConnection};

use crate::batch::{Batch, Refused};

/// What became of the users of a batch.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) rows_changed: u64,
    pub(crate) refused: Vec<Refused>,
}

/// Upserts the users of a batch within the transaction of `connection`. A user that the database
/// refuses is left out and reported; other errors end the transaction.
pub(crate) async fn store(
    connection: &mut PgConnection,
    schema: &str,
    batch: &Batch,
) -> Result<Stored, sqlx::Error> {
    let upsert = upsert_sql(schema);
    let users = batch.last_of_each();
    if users.is_empty() {
        return Ok(Stored::default());
    }
    match upsert_in_savepoint(connection, &upsert, &users).await {
        Ok(rows_changed) => Ok(Stored {
            rows_changed,
            refused: Vec::new(),
        }),
        Err(error) if refusal(&error).is_some() => one_by_one(connection, &upsert, batch).await,
        Err(error) => Err(error),
    }
}

/// The slow way, once it is known that the database refuses at least one: which one shows only if
/// each stands for itself. In the order of the topic, so that the last one that is taken wins.
async fn one_by_one(
    connection: &mut PgConnection,
    upsert: &str,
    batch: &Batch,
) -> Result<Stored, sqlx::Error> {
    let mut stored = Stored::default();
    for (offset, user) in &batch.users {
        match upsert_in_savepoint(connection, upsert, &[user]).await {
            Ok(changed) => stored.rows_changed += changed,
            Err(error) => match refusal(&error) {
                Some(refusal) => stored.refused.push(refused(*offset, refusal)),
                None => return Err(error),
            },
        }
    }
    Ok(stored)
}

async fn upsert_in_savepoint(
    connection: &mut PgConnection,
    upsert: &str,
    users: &[&User],
) -> Result<u64, sqlx::Error> {
    let mut savepoint = connection.begin().await?;
    fn column<'a, T>(users: &[&'a User], value: impl Fn(&'a User) -> T) -> Vec<T> {
        users.iter().map(|user| value(user)).collect()
    }
    let done = sqlx::query(upsert)
        .bind(column(users, |user| user.first_name.as_str()))
        .bind(column(users, |user| user.last_name.as_str()))
        .bind(column(users, |user| user.email.as_str()))
        .bind(column(users, |user| user.phone.as_deref()))
        .bind(column(users, |user| user.registration_date))
        .bind(column(users, |user| user.loyalty_status.as_str()))
        .execute(&mut *savepoint)
        .await;
    match done {
        Ok(done) => {
            savepoint.commit().await?;
            Ok(done.rows_affected())
        }
        Err(error) => {
            savepoint.rollback().await?;
            Err(error)
        }
    }
}

/// An event that changes nothing leaves the row alone, and so the log of changes too.
fn upsert_sql(schema: &str) -> String {
    let users = format!("{}.users", quoted(schema));
    let values = "first_name, last_name, phone, registration_date, loyalty_status";
    let list = |table: &str| {
        let columns = values.split(", ").map(|column| format!("{table}.{column}"));
        columns.collect::<Vec<_>>().join(", ")
    };
    let (old, new) = (list("u"), list("EXCLUDED"));
    format!(
        "INSERT INTO {users} AS u (first_name, last_name, email, phone, registration_date, loyalty_status) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamp[], $6::text[]) \
         ON CONFLICT (email) DO UPDATE SET ({values}) = ROW({new}) \
         WHERE ({old}) IS DISTINCT FROM ({new})"
    )
}

pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The error says that these values are not to be stored: data exceptions, violated constraints and
/// views' checks, and what triggers raise. Anything else may pass or is for the operator.
fn refusal(error: &sqlx::Error) -> Option<&dyn DatabaseError> {
    let error = error.as_database_error()?;
    let sqlstate = error.code()?;
    let is_refusal = ["22", "23", "44"]
        .iter()
        .any(|class| sqlstate.starts_with(class));
    (is_refusal || sqlstate == "P0001").then_some(error)
}

/// Without the message, which may show values of the event.
fn refused(offset: i64, error: &dyn DatabaseError) -> Refused {
    let column = error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .and_then(|error| error.column());
    Refused {
        offset,
        rejection: Rejection {
            reason: RejectReason::RefusedByDatabase,
            field: column.map(str::to_owned),
        },
        sqlstate: error.code().map(|code| code.into_owned()),
        constraint: error.constraint().map(str::to_owned),
    }
}
