//! Table `users`.
//!
//! An e-mail address identifies a user, whatever the case of its letters. Events come with it in lower case, and so it
//! is stored. A row that the shop itself wrote in another spelling is the same user: it is updated and keeps its
//! spelling. Of several such rows it is the one in lower case, else the one that registered first.

use std::collections::HashMap;

use millrace_events::{RejectReason, Rejection, User};
use sqlx::error::DatabaseError;
use sqlx::{Acquire, PgConnection};

use crate::batch::{Batch, Refused};
use crate::error::SessionError;
use crate::refusal::{judge, Fault};

/// The columns that an event fills.
pub(crate) const FIELDS: [&str; 6] = [
    "first_name",
    "last_name",
    "email",
    "phone",
    "registration_date",
    "loyalty_status",
];

/// An application may insert the same address in another spelling while an event is stored; then the event is
/// stored again, as an update. That often in a row it is something else.
const RACES_MAX: usize = 3;

/// What became of the users of a batch.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) rows_changed: u64,
    pub(crate) refused: Vec<Refused>,
}

/// Upserts the users of a batch within the transaction of `connection`. A user whose values the database refuses is
/// left out and reported; every other error ends the transaction.
pub(crate) async fn store(
    connection: &mut PgConnection,
    schema: &str,
    batch: &Batch,
) -> Result<Stored, SessionError> {
    let users = batch.last_of_each();
    if users.is_empty() {
        return Ok(Stored::default());
    }
    match upsert(connection, schema, &users).await {
        Ok(rows_changed) => Ok(Stored {
            rows_changed,
            refused: Vec::new(),
        }),
        Err(error) => match judge(connection, schema, &error).await? {
            Fault::Event => one_by_one(connection, schema, batch).await,
            Fault::Table(fault) => Err(SessionError::Operator(fault)),
            Fault::Other => Err(error.into()),
        },
    }
}

/// The slow way, once it is known that the database refuses at least one: which one shows only if
/// each stands for itself. In the order of the topic, so that the last one that is taken wins.
async fn one_by_one(
    connection: &mut PgConnection,
    schema: &str,
    batch: &Batch,
) -> Result<Stored, SessionError> {
    let mut stored = Stored::default();
    for (offset, user) in &batch.users {
        match store_one(connection, schema, user).await? {
            Ok(changed) => stored.rows_changed += changed,
            Err(error) => {
                if let Some(error) = error.as_database_error() {
                    stored.refused.push(refused(*offset, error));
                }
            }
        }
    }
    Ok(stored)
}

/// Rows changed, or why the values were refused.
async fn store_one(
    connection: &mut PgConnection,
    schema: &str,
    user: &User,
) -> Result<Result<u64, sqlx::Error>, SessionError> {
    let mut races = 0;
    loop {
        let error = match upsert(connection, schema, &[user]).await {
            Ok(changed) => return Ok(Ok(changed)),
            Err(error) => error,
        };
        let code = error.as_database_error().and_then(DatabaseError::code);
        races += usize::from(code.as_deref() == Some("23505"));
        match judge(connection, schema, &error).await? {
            Fault::Event if (1..RACES_MAX).contains(&races) => {}
            Fault::Event => return Ok(Err(error)),
            Fault::Table(fault) => return Err(SessionError::Operator(fault)),
            Fault::Other => return Err(error.into()),
        }
    }
}

/// In a savepoint, so that what is refused leaves the transaction as it was.
async fn upsert(
    connection: &mut PgConnection,
    schema: &str,
    users: &[&User],
) -> Result<u64, sqlx::Error> {
    let mut savepoint = connection.begin().await?;
    let done = upsert_as_spelled(&mut savepoint, schema, users).await;
    match done {
        Ok(rows_changed) => {
            savepoint.commit().await?;
            Ok(rows_changed)
        }
        Err(error) => {
            savepoint.rollback().await?;
            Err(error)
        }
    }
}

async fn upsert_as_spelled(
    connection: &mut PgConnection,
    schema: &str,
    users: &[&User],
) -> Result<u64, sqlx::Error> {
    fn column<'a, T>(users: &[&'a User], value: impl Fn(&'a User) -> T) -> Vec<T> {
        users.iter().map(|user| value(user)).collect()
    }
    let emails = column(users, |user| user.email.as_str());
    let spelled = spellings(connection, schema, &emails).await?;
    let emails: Vec<&str> = emails
        .iter()
        .map(|email| spelled.get(*email).map_or(*email, String::as_str))
        .collect();
    let done = sqlx::query(&upsert_sql(schema))
        .bind(column(users, |user| user.first_name.as_str()))
        .bind(column(users, |user| user.last_name.as_str()))
        .bind(emails)
        .bind(column(users, |user| user.phone.as_deref()))
        .bind(column(users, |user| user.registration_date))
        .bind(column(users, |user| user.loyalty_status.as_str()))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// How the table spells those of `emails` that it has, by their spelling in lower case.
async fn spellings(
    connection: &mut PgConnection,
    schema: &str,
    emails: &[&str],
) -> Result<HashMap<String, String>, sqlx::Error> {
    let sql = format!(
        "SELECT DISTINCT ON (lower(email)) lower(email), email::text FROM {} WHERE lower(email) = ANY($1) \
         ORDER BY lower(email), email <> lower(email), registration_date, email",
        table(schema)
    );
    let rows: Vec<(String, String)> = sqlx::query_as(&sql)
        .bind(emails)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().collect())
}

/// An event that changes nothing leaves the row alone, and so the log of changes too.
fn upsert_sql(schema: &str) -> String {
    let users = table(schema);
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

/// Name of the table, quoted.
pub(crate) fn table(schema: &str) -> String {
    format!("{}.users", quoted(schema))
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
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
