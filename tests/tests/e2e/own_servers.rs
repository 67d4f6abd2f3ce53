//! `up` against a database that is not the shop: other tables, in several schemas, on servers that it did not start.

use std::time::{Duration, Instant};

use anyhow::ensure;
use millrace_cli::endpoints::Endpoints;
use millrace_tests::harness::Servers;
use serde_json::Value;
use sqlx::{Connection, Executor, MySqlConnection, PgConnection, Row};

use crate::binary::{said, Demo};

const LIBRARY: &str = "
CREATE TABLE public.books (isbn text PRIMARY KEY, title text NOT NULL, pages int);
CREATE TABLE public.audit_log (id bigint PRIMARY KEY, note text);
CREATE SCHEMA lending;
CREATE TABLE lending.loans (copy int, since date, reader text, PRIMARY KEY (copy, since));
CREATE TABLE lending.books (shelf int PRIMARY KEY, isbn text);
INSERT INTO public.books SELECT 'isbn ' || n, 'Title ' || n, n FROM generate_series(1, 500) n;
INSERT INTO public.audit_log VALUES (1, 'not for you');
INSERT INTO lending.loans SELECT n, date '2026-01-01' + n, 'reader ' || n FROM generate_series(1, 300) n;
INSERT INTO lending.books SELECT n, 'isbn ' || n FROM generate_series(1, 20) n;
";

const CHANGES: &str = "
UPDATE public.books SET pages = pages + 1 WHERE pages % 3 = 0;
DELETE FROM lending.loans WHERE copy < 50;
UPDATE lending.books SET shelf = shelf + 100 WHERE shelf = 7;
INSERT INTO public.audit_log VALUES (2, 'nor this');
";

const SOON: Duration = Duration::from_secs(60);

/// A database of one's own on servers of its own, and an `up` that follows it.
pub(crate) struct Own {
    servers: Servers,
    pub(crate) source: PgConnection,
    pub(crate) demo: Demo,
    tables: &'static str,
    mysql: String,
}

impl Own {
    /// The library: two schemas, and a table that is left out.
    pub(crate) async fn library(name: &str) -> anyhow::Result<Own> {
        let tables = "public.*,lending.*,!public.audit_*";
        let mut own = Own::open(name, LIBRARY, tables).await?;
        own.start().await?;
        Ok(own)
    }

    /// Makes a database; nothing follows it yet. `.env` in force describes the shop; `--tables` says that this is another one.
    pub(crate) async fn open(name: &str, sql: &str, tables: &'static str) -> anyhow::Result<Own> {
        let servers = Servers::start(name).await?;
        let mut source = servers.source().await?;
        source.execute(sqlx::raw_sql(sql)).await?;
        drop(servers.target("library").await?);
        let mysql = servers.mysql_url("library");
        Ok(Own {
            demo: Demo::new("library")?,
            servers,
            source,
            tables,
            mysql,
        })
    }

    /// Starts `up`, for the first time or again, and waits until MySQL has everything.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let postgres = self.servers.postgres.url();
        let flags = ["--name", "library", "--tables", self.tables];
        self.demo.start_on(&postgres, &self.mysql, &flags)?;
        live(&self.demo).await
    }

    pub(crate) async fn target(&self) -> anyhow::Result<MySqlConnection> {
        Ok(MySqlConnection::connect(&self.mysql).await?)
    }

    /// What `verify` says; it must end with `code`.
    pub(crate) fn verify(&self, code: i32) -> anyhow::Result<Value> {
        let verified = self.demo.run(&["verify", "--json"])?;
        ensure!(
            verified.status.code() == Some(code),
            "{}\n{}",
            said(&verified),
            self.demo.log()
        );
        Ok(serde_json::from_slice(&verified.stdout)?)
    }

    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        let (_, well) = self.demo.interrupt()?;
        ensure!(well, "{}", self.demo.log());
        self.servers.stop().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_several_schemas_that_is_not_the_shop_is_replicated_without_marts(
) -> anyhow::Result<()> {
    let mut library = Own::library("own-servers").await?;
    library.source.execute(sqlx::raw_sql(CHANGES)).await?;
    library.demo.wait_for()?;
    let report = library.verify(0)?;
    let named = |part: &str| -> Vec<String> {
        let subjects = report[part].as_array().into_iter().flatten();
        let names = subjects.filter_map(|one| one["name"].as_str());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    let expected = ["lending.books", "lending.loans", "public.books"];
    ensure!(named("tables") == expected, "{report:#}");
    ensure!(named("marts").is_empty(), "{report:#}");

    let mut target = library.target().await?;
    let names = target.fetch_all("SHOW TABLES").await?;
    let names: Vec<String> = names
        .iter()
        .map(|row| row.try_get_unchecked(0))
        .collect::<Result<_, _>>()?;
    for name in ["books", "lending__books", "lending__loans"] {
        ensure!(names.iter().any(|one| one == name), "{name}: {names:?}");
    }
    ensure!(!names.iter().any(|one| one.contains("audit")), "{names:?}");
    is_well(&library.demo)?;
    drop(target);
    library.close().await
}

/// Waits until `endpoints.json` is there and MySQL has everything.
async fn live(demo: &Demo) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    while Endpoints::read(&demo.data_dir()).is_err() {
        ensure!(Instant::now() < deadline, "{}", demo.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::task::block_in_place(|| demo.wait_for())
}

/// Nothing is missed: neither marts nor ingest belong to this pipeline.
fn is_well(demo: &Demo) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    let status: Value = loop {
        let status = demo.run(&["status", "--json"])?;
        if status.status.success() {
            break serde_json::from_slice(&status.stdout)?;
        }
        ensure!(Instant::now() < deadline, "{}", said(&status));
        std::thread::sleep(Duration::from_millis(200));
    };
    ensure!(status["ingest"].is_null(), "{status:#}");
    let projections = status["projections"].as_array();
    ensure!(projections.is_some_and(|all| all.len() == 1), "{status:#}");
    let topics = status["topics"]["known"].to_string();
    ensure!(topics.contains("library-changes"), "{topics}");
    let health = demo.run(&["health", "--ready"])?;
    ensure!(health.status.success(), "{}", said(&health));
    Ok(())
}
