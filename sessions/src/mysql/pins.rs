//! The settings that every session pins, whatever the server's owner has set globally.
//!
//! `docs/sessions-mysql.md` says for every session variable of both servers whether it can change a result or an
//! outcome; those that can, and that a session may set, stand here.

use std::collections::BTreeSet;

use sqlx::{Executor, MySqlConnection, Row};

use super::server::Server;
use super::Purpose;

/// What a session does first. A time limit, a limit of rows or an implicit transaction would already meet the
/// statements that follow. Each server skips the comment that is meant for the other one.
pub(super) const FIRST: &str = "SET SESSION /*M!100600 max_statement_time = 0, */ \
     /*!80000 max_execution_time = 0, */ sql_select_limit = 18446744073709551615, \
     max_join_size = 18446744073709551615, sql_big_selects = 1, autocommit = 1";

/// A lock is waited for no longer; the transaction is then repeated as a whole.
const LOCK_WAIT_SECONDS: &str = "20";
/// The server keeps a session that says nothing for eight hours, as it does by default. The projector says
/// something every few seconds; verify may compare one large table for long.
const SILENCE_SECONDS: &str = "28800";
/// Of the text that GROUP_CONCAT makes: what `max_allowed_packet` is at most, which limits it as well.
const JOINED_BYTES_MAX: &str = "1073741824";
/// Of a statement for people who look at marts.
const LOOK_SECONDS: u32 = 5;

/// Variable and value. A variable that a server does not have is left out.
const PINS: [(&str, &str); 40] = [
    // What a statement means.
    (
        "sql_mode",
        "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
    ),
    ("old_mode", "'UTF8_IS_UTF8MB3'"),
    ("time_zone", "'+00:00'"),
    ("sql_auto_is_null", "0"),
    ("sql_if_exists", "0"),
    ("alter_algorithm", "'DEFAULT'"),
    // What an expression gives.
    ("div_precision_increment", "4"),
    ("group_concat_max_len", JOINED_BYTES_MAX),
    ("default_week_format", "0"),
    ("lc_time_names", "'en_US'"),
    ("default_regex_flags", "''"),
    ("block_encryption_mode", "'aes-128-ecb'"),
    ("windowing_use_high_precision", "1"),
    ("max_sort_length", "3072"),
    ("sort_buffer_size", "2097152"),
    // What ends a statement, or shortens it.
    ("max_statement_time", "0"),
    ("max_execution_time", "0"),
    ("sql_select_limit", "18446744073709551615"),
    ("max_join_size", "18446744073709551615"),
    ("sql_big_selects", "1"),
    ("sql_safe_updates", "0"),
    ("max_session_mem_used", "9223372036854775807"),
    ("tmp_disk_table_size", "18446744073709551615"),
    ("max_recursive_iterations", "1000"),
    ("cte_max_recursion_depth", "1000"),
    ("range_optimizer_max_mem_size", "8388608"),
    // How a transaction begins, waits and ends.
    ("autocommit", "1"),
    ("completion_type", "'NO_CHAIN'"),
    ("innodb_lock_wait_timeout", LOCK_WAIT_SECONDS),
    ("lock_wait_timeout", LOCK_WAIT_SECONDS),
    // What is checked on writing.
    ("foreign_key_checks", "1"),
    ("unique_checks", "1"),
    ("check_constraint_checks", "1"),
    // When the server leaves.
    ("wait_timeout", SILENCE_SECONDS),
    ("interactive_timeout", SILENCE_SECONDS),
    ("net_read_timeout", SILENCE_SECONDS),
    ("net_write_timeout", SILENCE_SECONDS),
    ("idle_transaction_timeout", "0"),
    ("idle_readonly_transaction_timeout", "0"),
    ("idle_write_transaction_timeout", "0"),
];

/// Pins what [`FIRST`] has not.
pub(super) async fn pin(
    conn: &mut MySqlConnection,
    server: &Server,
    purpose: Purpose,
) -> sqlx::Result<()> {
    let collation = server.collation();
    conn.execute(format!("SET NAMES utf8mb4 COLLATE {collation}").as_str())
        .await?;
    let known = known(conn).await?;
    conn.execute(statement(&known, purpose).as_str()).await?;
    let transactions = match purpose {
        Purpose::Project => "ISOLATION LEVEL READ COMMITTED, READ WRITE",
        Purpose::Compare => "ISOLATION LEVEL REPEATABLE READ, READ WRITE",
        Purpose::Look => "ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    };
    conn.execute(format!("SET SESSION TRANSACTION {transactions}").as_str())
        .await?;
    Ok(())
}

/// Those of the variables that this server has.
async fn known(conn: &mut MySqlConnection) -> sqlx::Result<BTreeSet<String>> {
    let names: Vec<String> = PINS.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sql = format!(
        "SHOW SESSION VARIABLES WHERE Variable_name IN ({})",
        names.join(",")
    );
    let rows = conn.fetch_all(sql.as_str()).await?;
    rows.iter().map(|row| row.try_get_unchecked(0)).collect()
}

fn statement(known: &BTreeSet<String>, purpose: Purpose) -> String {
    let assignments: Vec<String> = PINS
        .iter()
        .filter(|(name, _)| known.contains(*name))
        .map(|(name, value)| format!("{name} = {}", value_for(name, value, purpose)))
        .collect();
    format!("SET SESSION {}", assignments.join(", "))
}

/// The two families count the time of a statement in different units.
fn value_for(name: &str, value: &str, purpose: Purpose) -> String {
    match (purpose, name) {
        (Purpose::Look, "max_statement_time") => LOOK_SECONDS.to_string(),
        (Purpose::Look, "max_execution_time") => (LOOK_SECONDS * 1_000).to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table that goes through all variables.
    const DOCUMENT: &str = include_str!("../../../docs/sessions-mysql.md");

    #[test]
    fn every_pinned_setting_is_explained() {
        for (name, _) in PINS {
            let explained = DOCUMENT
                .lines()
                .any(|line| line.contains(&format!("`{name}`")) && line.contains("pinned"));
            assert!(explained, "docs/sessions-mysql.md does not explain {name}");
        }
    }

    #[test]
    fn a_setting_that_the_server_lacks_is_left_out() {
        let known = BTreeSet::from(["sql_mode".to_owned(), "max_execution_time".to_owned()]);
        let sql = statement(&known, Purpose::Look);
        assert!(sql.contains("max_execution_time = 5000"), "{sql}");
        assert!(!sql.contains("max_statement_time"), "{sql}");
    }
}
