//! The private servers, with the real programs of this machine.

mod mysql;
mod postgres;

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
