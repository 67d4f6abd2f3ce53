//! The private MySQL or MariaDB.

use super::*;

#[tokio::test]
async fn mysql_has_our_settings_and_keeps_its_data_over_a_restart() {
    let scratch = ScratchDir::new("test").expect("scratch");
    let options = mysql(scratch.path());
    fs::create_dir_all(options.data_dir.join("data.new-1/mysql")).expect("half-made data");

    let server = PrivateMySql::start(options.clone())
        .await
        .expect("first start");
    let collation = match server.installation().flavour {
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
