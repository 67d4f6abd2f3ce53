//! Table `users`.
//!
//! An e-mail address identifies a user, whatever the case of its letters. Events come with it in lower case, and so it
//! is stored. A row that the shop itself wrote in another spelling is the same user: it is updated and keeps its
//! spelling. Of several such rows it is the one in lower case, else the one that registered first.

use std::collections::HashMap;
use std::ops::Range;

use millrace_sm_user_event::{RejectReason, Rejection, User};
use sqlx::error::DatabaseError;
use sqlx::{Acquire, PgConnection};

use crate::batch::{last_of_each, Batch, Refused};
use crate::bookkeeping::limited;
use crate::error::SessionError;
use crate::refusal::{judge, Fault};
use crate::Error;

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
/// left out and reported; every other error ends the transaction. Each statement has its own time limit.
///
/// A part of the batch that is refused is halved until the events stand alone that are refused. Left half first, so
/// that of several events with one address the last one that is taken wins.
///
/// A refusal may leave it unclear whether the event or the table is at fault. Then the event is left aside, and the
/// batch decides: if the table takes another event of the same kind (one that inserts a row, or one that changes
/// one) and refuses this one again, the event is at fault and rejected. If it takes none, the whole batch waits, until
/// the table is mended or more events have arrived. Accepted updates say nothing about inserts, and the other way
/// around, because triggers and unique indexes work on one of them only.
pub(crate) async fn store(
    connection: &mut PgConnection,
    schema: &str,
    batch: &Batch,
) -> Result<Stored, SessionError> {
    if batch.users.is_empty() {
        return Ok(Stored::default());
    }
    let emails = batch.users.iter().map(|(_, user)| user.email.as_str());
    let emails: Vec<&str> = emails.collect();
    let spelled = limited(spellings(connection, schema, &emails)).await?;
    let mut storing = Storing {
        schema,
        users: &batch.users,
        spelled,
        taken: HashMap::new(),
        takes_inserts: false,
        takes_updates: false,
        unclear: Vec::new(),
        stored: Stored::default(),
    };
    let mut parts: Vec<_> = std::iter::once(0..batch.users.len()).collect();
    while let Some(part) = parts.pop() {
        if !storing.store_part(connection, part.clone()).await? {
            let middle = part.start + part.len() / 2;
            parts.extend([middle..part.end, part.start..middle]);
        }
    }
    storing.decide_unclear(connection).await?;
    Ok(storing.stored)
}

/// A batch that is being stored.
struct Storing<'a> {
    schema: &'a str,
    users: &'a [(i64, User)],
    /// How the table spells the addresses that it had before the batch.
    spelled: HashMap<String, String>,
    /// The addresses of the events that were taken, with the index at which the last part begins that had them.
    taken: HashMap<&'a str, usize>,
    takes_inserts: bool,
    takes_updates: bool,
    /// In the order of the topic.
    unclear: Vec<Unclear>,
    stored: Stored,
}

/// A refused event that is at fault only if the table takes others.
struct Unclear {
    index: usize,
    inserts: bool,
    sqlstate: String,
    reason: String,
}

/// Why a statement was refused; without a reason the values are at fault.
struct Refusal {
    error: sqlx::Error,
    unclear: Option<String>,
}

impl<'a> Storing<'a> {
    /// Stores a part of the batch in one statement, or deals with the refusal of a single event. Returns false if a
    /// larger part is refused: then it is left as it was, to be halved.
    async fn store_part(
        &mut self,
        connection: &mut PgConnection,
        part: Range<usize>,
    ) -> Result<bool, SessionError> {
        let all = self.users;
        let users = &all[part.clone()];
        match self.attempt(connection, users, Keep::Yes).await? {
            Ok(rows_changed) => self.note_taken(part.start, users, rows_changed),
            Err(_) if users.len() > 1 => return Ok(false),
            Err(Refusal {
                error,
                unclear: Some(reason),
            }) => {
                let inserts = self.inserts(&users[0].1);
                self.unclear.push(Unclear {
                    index: part.start,
                    inserts,
                    sqlstate: sqlstate(&error),
                    reason,
                });
            }
            Err(refusal) => self.refuse(part.start, &refusal.error),
        }
        Ok(true)
    }

    /// Tries the events that were left aside again, now that it is known what the table takes. One whose address a
    /// later event has set since is tried but not kept.
    async fn decide_unclear(&mut self, connection: &mut PgConnection) -> Result<(), SessionError> {
        for unclear in std::mem::take(&mut self.unclear) {
            let index = unclear.index;
            let takes_others = match unclear.inserts {
                true => self.takes_inserts,
                false => self.takes_updates,
            };
            if !takes_others {
                return Err(SessionError::Operator(self.waits_for(unclear)));
            }
            let all = self.users;
            let users = &all[index..=index];
            let later = self.taken.get(users[0].1.email.as_str());
            let keep = match later.is_some_and(|later| *later > index) {
                true => Keep::No,
                false => Keep::Yes,
            };
            match (self.attempt(connection, users, keep).await?, keep) {
                (Ok(rows_changed), Keep::Yes) => self.note_taken(index, users, rows_changed),
                (Ok(_), Keep::No) => {}
                (Err(refusal), _) => self.refuse(index, &refusal.error),
            }
        }
        Ok(())
    }

    fn waits_for(&self, unclear: Unclear) -> Error {
        let kind = match unclear.inserts {
            true => "inserted",
            false => "changed",
        };
        Error::TableRefuses {
            table: table(self.schema),
            sqlstate: unclear.sqlstate,
            reason: format!(
                "{}. The event at offset {} is the first that is refused for it, and no other row could be {kind} \
                 that would show that the event is at fault",
                unclear.reason, self.users[unclear.index].0
            ),
        }
    }

    /// Rows changed, or why the users were refused.
    async fn attempt(
        &mut self,
        connection: &mut PgConnection,
        users: &'a [(i64, User)],
        keep: Keep,
    ) -> Result<Result<u64, Refusal>, SessionError> {
        let last = last_of_each(users);
        let mut races = 0;
        loop {
            let stored = upsert(connection, self.schema, &last, &self.spelled, keep);
            let error = match limited(stored).await {
                Ok(rows_changed) => return Ok(Ok(rows_changed)),
                Err(error) => error,
            };
            let unclear = match limited(judge(connection, self.schema, &error)).await? {
                Fault::Spelling if last.len() == 1 && races < RACES_MAX => {
                    races += 1;
                    let email = [last[0].email.as_str()];
                    let found = limited(spellings(connection, self.schema, &email)).await?;
                    self.spelled.extend(found);
                    continue;
                }
                Fault::Event | Fault::Spelling => None,
                Fault::Unclear(reason) => Some(reason),
                Fault::Table(fault) => return Err(SessionError::Operator(fault)),
                Fault::Other => return Err(error.into()),
            };
            return Ok(Err(Refusal { error, unclear }));
        }
    }

    /// True if storing the user inserts a row, as far as is known.
    fn inserts(&self, user: &User) -> bool {
        let email = user.email.as_str();
        !self.spelled.contains_key(email) && !self.taken.contains_key(email)
    }

    fn note_taken(&mut self, start: usize, users: &'a [(i64, User)], rows_changed: u64) {
        let last = last_of_each(users);
        let inserted = last.iter().filter(|user| self.inserts(user)).count() as u64;
        self.takes_inserts |= inserted > 0;
        self.takes_updates |= rows_changed > inserted;
        self.stored.rows_changed += rows_changed;
        let emails = last.into_iter().map(|user| (user.email.as_str(), start));
        self.taken.extend(emails);
    }

    fn refuse(&mut self, index: usize, error: &sqlx::Error) {
        if let Some(error) = error.as_database_error() {
            self.stored
                .refused
                .push(refused(self.users[index].0, error));
        }
    }
}

fn sqlstate(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.unwrap_or_default().into_owned()
}

/// Whether what could be stored is to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// In a savepoint, so that what is refused leaves the transaction as it was. Deferred constraints are checked in it,
/// too: at the commit they would refuse the batch without saying which event.
async fn upsert(
    connection: &mut PgConnection,
    schema: &str,
    users: &[&User],
    spelled: &HashMap<String, String>,
    keep: Keep,
) -> Result<u64, sqlx::Error> {
    let mut savepoint = connection.begin().await?;
    let mut done = upsert_as_spelled(&mut savepoint, schema, users, spelled).await;
    if done.is_ok() {
        let check = sqlx::query("SET CONSTRAINTS ALL IMMEDIATE");
        let checked = check.execute(&mut *savepoint).await;
        done = checked.and(done);
    }
    match (&done, keep) {
        (Ok(_), Keep::Yes) => savepoint.commit().await?,
        _ => savepoint.rollback().await?,
    }
    done
}

async fn upsert_as_spelled(
    connection: &mut PgConnection,
    schema: &str,
    users: &[&User],
    spelled: &HashMap<String, String>,
) -> Result<u64, sqlx::Error> {
    fn column<'a, T>(users: &[&'a User], value: impl Fn(&'a User) -> T) -> Vec<T> {
        users.iter().map(|user| value(user)).collect()
    }
    let emails = column(users, |user| {
        let email = user.email.as_str();
        spelled.get(email).map_or(email, String::as_str)
    });
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
