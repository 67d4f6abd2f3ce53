//! What the server's owner sets for all sessions changes nothing for ours.

use std::time::Duration;

use millrace_projections::engine::State;
use millrace_sessions::mysql::Flavour;
use sqlx::{Executor, Row};

use super::support::Server;
use super::world::World;
use super::{filled_on, thing};

/// Of both families, and of one of them.
const BOTH: [&str; 17] = [
    "sql_safe_updates = 1",
    "sql_select_limit = 3",
    "max_join_size = 5",
    "sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE,NO_AUTO_VALUE_ON_ZERO'",
    "time_zone = '-08:00'",
    "character_set_server = latin1",
    "autocommit = 0",
    "completion_type = 1",
    "wait_timeout = 2",
    "lock_wait_timeout = 1",
    "group_concat_max_len = 4",
    "div_precision_increment = 0",
    "sql_auto_is_null = 1",
    "foreign_key_checks = 0",
    "unique_checks = 0",
    "max_sort_length = 64",
    "default_storage_engine = MyISAM",
];
const MARIADB: [&str; 6] = [
    "innodb_force_primary_key = 1",
    "tx_read_only = 1",
    "max_statement_time = 0.0004",
    "idle_transaction_timeout = 1",
    "alter_algorithm = 'INSTANT'",
    "tmp_disk_table_size = 1024",
];
const MYSQL: [&str; 4] = [
    "sql_require_primary_key = 1",
    "transaction_read_only = 1",
    "max_execution_time = 1",
    "range_optimizer_max_mem_size = 1",
];

async fn with_a_binary_log() -> (&'static Server, World) {
    let server = Server::start_with(&["--log-bin", "--server-id=1", "--binlog-format=ROW"]).await;
    let server: &'static Server = Box::leak(Box::new(server));
    (server, filled_on(server).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_global_setting_ends_the_projector_or_changes_what_it_writes() {
    let (server, mut world) = with_a_binary_log().await;
    let user = world.user("plain").await;
    let running = world.start();
    world.caught_up(&running).await;
    let own: &[&str] = match world.conn.server().flavour {
        Flavour::MariaDb => &MARIADB,
        Flavour::MySql => &MYSQL,
    };
    for (n, setting) in (0..).zip(BOTH.iter().chain(own)) {
        let set = format!("SET GLOBAL {setting}");
        let set = world.conn.execute(set.as_str()).await;
        set.unwrap_or_else(|error| panic!("{setting}: {error}"));
        world.end_connections().await;
        let change = world.source.put("things", thing(n, &n.to_string()));
        world.source.commit(&[change], 10);
        for _ in 0..3 {
            world.source.random_transaction();
        }
        world.caught_up(&running).await;
    }
    running.stop().await;

    // And from the beginning: every table is made under them.
    let mut again = filled_on(server).await;
    again.log_in_as(&user).await;
    let running = again.start();
    again.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_log_of_statements_is_refused_with_the_remedy_and_a_read_only_server_is_waited_for(
) {
    let (_server, mut world) = with_a_binary_log().await;
    world.user("plain").await;
    let running = world.start();
    world.caught_up(&running).await;

    world
        .conn
        .execute("SET GLOBAL read_only = 1")
        .await
        .expect("read only");
    let change = world.source.put("things", thing(1, "read only"));
    world.source.commit(&[change], 10);
    let status = running.until(|status| status.away.is_some()).await;
    assert_eq!(status.state, State::WaitingForMysql);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world
        .conn
        .execute("SET GLOBAL read_only = 0")
        .await
        .expect("writable");
    world.caught_up(&running).await;

    world
        .conn
        .execute("SET GLOBAL binlog_format = 'STATEMENT'")
        .await
        .expect("a format");
    world.end_connections().await;
    let error = running.error().await;
    assert_eq!(error.code(), "MR-P023");
    let said = millrace_control::in_words(&error);
    assert!(said.contains("SET GLOBAL binlog_format"), "{said}");
    world
        .conn
        .execute("SET GLOBAL binlog_format = 'MIXED'")
        .await
        .expect("a format");
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
}

/// The page that goes through all of them, and the versions that it was written for.
const DOCUMENT: &str = include_str!("../../../docs/sessions-mysql.md");
const WRITTEN_FOR: [&str; 2] = ["MariaDB 10.11", "MySQL 9.7"];

#[tokio::test(flavor = "multi_thread")]
async fn every_session_variable_of_the_server_is_explained() {
    let mut conn = Server::shared().await.connect("").await;
    let sql = match conn.server().flavour {
        Flavour::MariaDb => {
            "SELECT LOWER(variable_name) FROM information_schema.system_variables \
             WHERE variable_scope IN ('SESSION', 'SESSION ONLY')"
        }
        Flavour::MySql => {
            "SELECT variable_name FROM performance_schema.variables_metadata \
             WHERE variable_scope LIKE 'SESSION%'"
        }
    };
    let product = conn.server().product();
    if !WRITTEN_FOR
        .iter()
        .any(|version| product.starts_with(version))
    {
        println!("{product} is not one of {WRITTEN_FOR:?}: not compared");
        return;
    }
    let rows = conn.fetch_all(sql).await.expect("the server's variables");
    assert!(rows.len() > 150, "{} variables", rows.len());
    for row in rows {
        let name: String = row.try_get_unchecked(0).expect("a name");
        assert!(
            DOCUMENT.contains(&format!("`{name}`")),
            "{name} of {product}"
        );
    }
}
