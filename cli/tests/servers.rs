//! The private servers, with the real programs of this machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_cli::servers::{
    free_ports, remove, Error, MySqlOptions, PostgresOptions, PrivateMySql, PrivatePostgres,
    ScratchDir,
};
use millrace_sessions::mysql::Flavour;
use sqlx::{Connection, MySqlConnection, PgConnection, Row};

fn port(dir: &Path, name: &str) -> u16 {
    free_ports(dir, &[name]).expect("free ports")[name]
}

fn postgres(dir: &Path) -> PostgresOptions {
    PostgresOptions {
        data_dir: dir.join("postgres"),
        port: port(dir, "postgres"),
        db: "postgres_db".into(),
        user: "db_user".into(),
        password: "qw/e:r@t'y\\".into(),
        schema: "source".into(),
        binaries: None,
        settings: Vec::new(),
    }
}

fn mysql(dir: &Path) -> MySqlOptions {
    MySqlOptions {
        data_dir: dir.join("mysql"),
        port: port(dir, "mysql"),
        db: "mysql_db".into(),
        user: "db_user".into(),
        password: "qw/e:r@t'y\\".into(),
        all_rights: false,
        binary: None,
        arguments: Vec::new(),
    }
}

async fn in_postgres(server: &PrivatePostgres, sql: &str) -> String {
    let mut connection = PgConnection::connect(&server.url())
        .await
        .expect("connect to Postgres");
    let value: Option<String> = sqlx::query_scalar(sql)
        .fetch_optional(&mut connection)
        .await
        .expect(sql);
    value.unwrap_or_default()
}

async fn in_mysql(server: &PrivateMySql, sql: &str) -> String {
    let mut connection = MySqlConnection::connect(&server.url())
        .await
        .expect("connect to MySQL");
    let row = sqlx::query(sql)
        .fetch_one(&mut connection)
        .await
        .expect(sql);
    // Unchecked, because sqlx takes text of a binary collation for bytes.
    row.try_get_unchecked(0).expect(sql)
}

async fn run_in_mysql(server: &PrivateMySql, sql: &str) {
    let mut connection = MySqlConnection::connect(&server.url())
        .await
        .expect("connect to MySQL");
    sqlx::raw_sql(sql)
        .execute(&mut connection)
        .await
        .expect(sql);
}

/// As the kernel's out-of-memory killer would; the server is our child and is waited for by its handle.
fn kill_9(pid: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -9 {pid}")])
        .status()
        .expect("kill");
    assert!(status.success());
}

/// Running, and not merely waiting for its parent to notice its end.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Processes that work below a folder, as the kernel sees it.
fn working_in(dir: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let works = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    works.filter(|cwd| cwd.starts_with(dir)).collect()
}

#[tokio::test]
async fn a_server_whose_start_cannot_be_written_down_is_not_left_running() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = postgres(scratch.path());
    let first = PrivatePostgres::start(options.clone()).await;
    first.expect("first start").stop().await.expect("stop");
    // Nothing can be written there, as on a full disk.
    let note = options.data_dir.join("server.pid.new");
    fs::create_dir(&note).expect("folder");
    let failed = PrivatePostgres::start(options.clone()).await;
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    let left = working_in(scratch.path());
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir(&note).expect("removed");
    let again = PrivatePostgres::start(options).await.expect("again");
    assert!(!again.was_adopted());
    again.stop().await.expect("stop");
}

#[tokio::test]
async fn postgres_is_ready_for_replication_and_keeps_its_data_over_a_restart() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = postgres(scratch.path());
    // What a kill in the middle of initdb leaves behind.
    fs::create_dir_all(options.data_dir.join("data.new-1/base")).expect("half-made data");

    let server = PrivatePostgres::start(options.clone())
        .await
        .expect("first start");
    assert_eq!(in_postgres(&server, "SHOW wal_level").await, "logical");
    assert_eq!(in_postgres(&server, "SHOW timezone").await, "UTC");
    assert_eq!(in_postgres(&server, "SHOW server_encoding").await, "UTF8");
    assert_eq!(
        in_postgres(&server, "SHOW listen_addresses").await,
        "127.0.0.1"
    );
    in_postgres(
        &server,
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput')::text",
    )
    .await;
    in_postgres(
        &server,
        "CREATE TABLE source.kept AS SELECT 'still here'::text AS v",
    )
    .await;
    server.stop().await.expect("stop");

    let server = PrivatePostgres::start(options).await.expect("second start");
    assert!(!server.was_adopted());
    assert_eq!(
        in_postgres(&server, "SELECT v FROM source.kept").await,
        "still here"
    );
    assert!(server
        .jdbc_url()
        .starts_with("jdbc:postgresql://127.0.0.1:"));
    server.stop().await.expect("stop");
}

#[tokio::test]
async fn a_postgres_left_behind_is_adopted_or_stopped_never_doubled() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = postgres(scratch.path());
    let first = PrivatePostgres::start(options.clone())
        .await
        .expect("start");
    let pid = first.pid();

    let refused = PrivatePostgres::start(options.clone()).await;
    assert!(
        matches!(refused, Err(Error::InUse { .. })),
        "two handles on one folder: {refused:?}"
    );
    first.abandon();

    let second = PrivatePostgres::start(options.clone())
        .await
        .expect("adopt");
    assert!(second.was_adopted() && second.pid() == pid);
    assert_eq!(in_postgres(&second, "SELECT 'hello'").await, "hello");
    second.abandon();

    // Other settings: the orphan cannot stay.
    let other = PostgresOptions {
        port: port(scratch.path(), "other"),
        ..options.clone()
    };
    let third = PrivatePostgres::start(other.clone())
        .await
        .expect("stop the orphan and start");
    assert!(!third.was_adopted() && third.pid() != pid && !runs(pid));
    let pid = third.pid();
    third.abandon();

    // Killed before our own note of the process was written: Postgres' pid file still tells.
    fs::remove_file(options.data_dir.join("server.pid")).expect("our pid file");
    let fourth = PrivatePostgres::start(other)
        .await
        .expect("find the orphan");
    assert!(!runs(pid));
    fourth.stop().await.expect("stop");
}

#[tokio::test]
async fn a_killed_postgres_is_noticed_and_recovers() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = postgres(scratch.path());
    let mut server = PrivatePostgres::start(options.clone())
        .await
        .expect("start");
    in_postgres(
        &server,
        "CREATE TABLE source.kept AS SELECT 'committed'::text AS v",
    )
    .await;
    server.check_alive().expect("alive");
    kill_9(server.pid());
    let ended = loop {
        match server.check_alive() {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, Error::Ended { .. }), "{ended}");
    drop(server);

    let server = PrivatePostgres::start(options.clone())
        .await
        .expect("recover");
    assert_eq!(
        in_postgres(&server, "SELECT v FROM source.kept").await,
        "committed"
    );
    server.stop().await.expect("stop");

    let other = PostgresOptions {
        password: "another".into(),
        ..options
    };
    let refused = PrivatePostgres::start(other)
        .await
        .expect_err("a password that was never set");
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_variable() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = holder.local_addr().expect("address").port();
    let taken = PrivatePostgres::start(PostgresOptions {
        port,
        ..postgres(scratch.path())
    })
    .await;
    let message = taken.expect_err("the port is taken").to_string();
    assert!(
        message.contains("POSTGRES_PORT") && message.contains(&port.to_string()),
        "{message}"
    );
    let taken = PrivateMySql::start(MySqlOptions {
        port,
        ..mysql(scratch.path())
    })
    .await;
    let message = taken.expect_err("the port is taken").to_string();
    assert!(
        message.contains("MYSQL_PORT") && message.contains(&port.to_string()),
        "{message}"
    );
}

#[tokio::test]
async fn mysql_has_our_settings_and_keeps_its_data_over_a_restart() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = mysql(scratch.path());
    fs::create_dir_all(options.data_dir.join("data.new-1/mysql")).expect("half-made data");

    let server = PrivateMySql::start(options.clone())
        .await
        .expect("first start");
    let collation = match server.binary().flavour {
        Flavour::MySql => "utf8mb4_0900_bin",
        Flavour::MariaDb => "utf8mb4_nopad_bin",
    };
    assert_eq!(
        in_mysql(&server, "SELECT @@collation_database").await,
        collation
    );
    assert_eq!(
        in_mysql(
            &server,
            "SELECT CAST(@@innodb_flush_log_at_trx_commit AS CHAR)"
        )
        .await,
        "1"
    );
    assert_eq!(
        in_mysql(&server, "SELECT IF(@@log_bin, 'on', 'off')").await,
        "off"
    );
    assert_eq!(
        in_mysql(&server, "SELECT CAST(@@max_allowed_packet AS CHAR)").await,
        "1073741824"
    );
    assert_eq!(
        in_mysql(&server, "SELECT @@global.time_zone").await,
        "+00:00"
    );
    run_in_mysql(
        &server,
        "CREATE TABLE kept (v VARCHAR(20)); INSERT INTO kept VALUES ('still here')",
    )
    .await;
    assert!(
        !options.data_dir.join("accounts.sql").exists(),
        "the password stays in no file"
    );
    server.stop().await.expect("stop");

    // The password is set at every start.
    let options = MySqlOptions {
        password: "another".into(),
        ..options
    };
    let server = PrivateMySql::start(options).await.expect("second start");
    assert!(!server.was_adopted());
    assert_eq!(in_mysql(&server, "SELECT v FROM kept").await, "still here");
    server.stop().await.expect("stop");
}

#[tokio::test]
async fn a_mysql_left_behind_is_adopted_or_stopped_never_doubled() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = mysql(scratch.path());
    let first = PrivateMySql::start(options.clone()).await.expect("start");
    let pid = first.pid();
    let refused = PrivateMySql::start(options.clone()).await;
    assert!(
        matches!(refused, Err(Error::InUse { .. })),
        "two handles on one folder: {refused:?}"
    );
    first.abandon();

    let second = PrivateMySql::start(options.clone()).await.expect("adopt");
    assert!(second.was_adopted() && second.pid() == pid);
    run_in_mysql(
        &second,
        "CREATE TABLE kept (v VARCHAR(20)); INSERT INTO kept VALUES ('committed')",
    )
    .await;
    second.abandon();

    let other = MySqlOptions {
        port: port(scratch.path(), "other"),
        all_rights: true,
        ..options
    };
    let third = PrivateMySql::start(other.clone())
        .await
        .expect("stop the orphan and start");
    assert!(!third.was_adopted() && !runs(pid));
    run_in_mysql(&third, "CREATE DATABASE another").await;
    kill_9(third.pid());
    drop(third);

    let fourth = PrivateMySql::start(other).await.expect("recover");
    assert_eq!(in_mysql(&fourth, "SELECT v FROM kept").await, "committed");
    fourth.stop().await.expect("stop");
}

/// A copy has the pid file of the original's server, with its start time: only where the server works tells them
/// apart.
#[tokio::test]
async fn a_copied_folder_neither_stops_nor_adopts_the_original_server() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let (original, copied) = (postgres(scratch.path()), scratch.path().join("copied"));
    let first = PrivatePostgres::start(original.clone())
        .await
        .expect("start");
    in_postgres(
        &first,
        "CREATE TABLE source.kept AS SELECT 'here'::text AS v",
    )
    .await;
    in_postgres(&first, "CHECKPOINT").await;
    copy(&original.data_dir, &copied.join("postgres"));
    let copy = PostgresOptions {
        data_dir: copied.join("postgres"),
        ..original.clone()
    };
    let clash = PrivatePostgres::start(copy.clone()).await;
    assert!(matches!(clash, Err(Error::PortTaken { .. })), "{clash:?}");
    let copy = PostgresOptions {
        port: port(scratch.path(), "copy"),
        ..copy
    };
    PrivatePostgres::stop_orphan(&original.data_dir)
        .await
        .expect_err("it is in use");
    let second = PrivatePostgres::start(copy).await.expect("start the copy");
    assert!(!second.was_adopted() && second.pid() != first.pid() && runs(first.pid()));
    for server in [&first, &second] {
        assert_eq!(
            in_postgres(server, "SELECT v FROM source.kept").await,
            "here"
        );
    }
    second.stop().await.expect("stop the copy");
    assert!(runs(first.pid()));
    first.stop().await.expect("stop");
}

#[tokio::test]
async fn a_copied_folder_neither_stops_nor_adopts_the_original_mysql() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let (original, copied) = (mysql(scratch.path()), scratch.path().join("copied"));
    // A clean shutdown, so that nothing is in flight in what is copied.
    let made = PrivateMySql::start(original.clone()).await.expect("make");
    made.stop().await.expect("stop");
    let first = PrivateMySql::start(original.clone()).await.expect("start");
    copy(&original.data_dir, &copied.join("mysql"));
    let copy = MySqlOptions {
        data_dir: copied.join("mysql"),
        ..original
    };
    let clash = PrivateMySql::start(copy.clone()).await;
    assert!(matches!(clash, Err(Error::PortTaken { .. })), "{clash:?}");
    let copy = MySqlOptions {
        port: port(scratch.path(), "copy"),
        ..copy
    };
    let second = PrivateMySql::start(copy).await.expect("start the copy");
    assert!(!second.was_adopted() && second.pid() != first.pid() && runs(first.pid()));
    second.stop().await.expect("stop the copy");
    assert!(runs(first.pid()));
    assert_eq!(in_mysql(&first, "SELECT 'hello'").await, "hello");
    first.stop().await.expect("stop");
}

/// With owners and times, as somebody would who wants a second one.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a parent")).expect("mkdir");
    let status = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .expect("cp");
    assert!(status.success());
}

#[tokio::test]
async fn servers_work_below_a_folder_that_only_its_owner_may_enter() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = ScratchDir::new("test").expect("scratch");
    let closed = scratch.path().join("home");
    fs::create_dir(&closed).expect("mkdir");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    let (postgres, mysql) = (postgres(&closed), mysql(&closed));
    let folders: [PathBuf; 2] = [postgres.data_dir.clone(), mysql.data_dir.clone()];

    let (postgres, mysql) =
        tokio::join!(PrivatePostgres::start(postgres), PrivateMySql::start(mysql));
    let (postgres, mysql) = (postgres.expect("Postgres"), mysql.expect("MySQL"));
    assert_eq!(in_postgres(&postgres, "SELECT 'hello'").await, "hello");
    assert_eq!(in_mysql(&mysql, "SELECT 'hello'").await, "hello");
    let (first, second) = tokio::join!(postgres.stop(), mysql.stop());
    first.and(second).expect("stop");

    for folder in folders {
        let real = fs::canonicalize(&folder).expect("folder");
        remove(&folder).expect("remove");
        assert!(
            !real.exists() && fs::symlink_metadata(&folder).is_err(),
            "{} is left",
            folder.display()
        );
    }
}

#[test]
fn free_ports_are_chosen_once_and_differ() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let first = free_ports(scratch.path(), &["postgres", "mysql"]).expect("choose");
    assert_ne!(first["postgres"], first["mysql"]);
    let again = free_ports(scratch.path(), &["mysql", "fluvio"]).expect("choose one more");
    assert_eq!(again.len(), 3);
    assert!(first.iter().all(|(name, port)| again[name] == *port));
    assert_eq!(free_ports(scratch.path(), &[]).expect("read"), again);
}
