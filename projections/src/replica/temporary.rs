//! Temporary tables, made anew each time they are needed.
//!
//! InnoDB keeps the rows that a DELETE took out of a temporary table, marked as deleted, and every later statement walks
//! over them: after one large batch, each small one would pay for it until the session ends. TRUNCATE would end the open
//! transaction; making the table anew does not, on both servers.

use millrace_sessions::mysql::Session;
use sqlx::Executor;

use super::quoted;

/// Makes an empty temporary table, in place of one of that name. Does not commit.
pub(crate) async fn anew(conn: &mut Session, name: &str, definition: &str) -> sqlx::Result<()> {
    let name = quoted(name);
    let sql = format!(
        "DROP TEMPORARY TABLE IF EXISTS {name}; CREATE TEMPORARY TABLE {name} {definition}"
    );
    conn.execute(sql.as_str()).await?;
    Ok(())
}
