//! The private Postgres.

use super::*;

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
