//! Values that are larger than everything that a record, a batch or this program may hold.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use millrace_tests::harness::{Servers, PATIENCE};
use millrace_tests::seed;
use sqlx::{Executor, Row};

use crate::own_servers::Own;
use crate::services::{self, peak_of, Load, Services, PEAK_MAX, SERVICES};
use crate::tables::is_live;

/// Bytes that compress about as badly as any, so that nothing travels smaller than it is. They repeat themselves after a
/// little more than 1 MiB: no two slices are alike.
const MAKE: &str = "
    CREATE TABLE public.papers (id bigint PRIMARY KEY, title text, body text, scan bytea);
    CREATE FUNCTION public.noise(megabytes int, seed text) RETURNS text LANGUAGE sql AS $$
        SELECT left(repeat(string_agg(md5(seed || n), '' ORDER BY n), megabytes), megabytes * 1048576) FROM generate_series(1, 32771) n $$;";

/// An unchanged value, a changed one, one that moves to another key, one that comes and goes in one transaction.
const CHANGES: &str = "
    UPDATE public.papers SET title = 'kept' WHERE id = 1;
    UPDATE public.papers SET body = public.noise(MEGABYTES / 2, 'c') || 'größer' WHERE id = 2;
    UPDATE public.papers SET id = 30 WHERE id = 3;
    BEGIN;
    INSERT INTO public.papers SELECT 5, 'gone', public.noise(2, 'e'), NULL;
    OTHERS;
    DELETE FROM public.papers WHERE id IN (4, 5);
    COMMIT;";

impl Own {
    async fn run_sql(&mut self, sql: &str, megabytes: u32) -> anyhow::Result<()> {
        let sql = sql.replace("MEGABYTES", &megabytes.to_string());
        self.source.execute(sqlx::raw_sql(&sql)).await?;
        Ok(())
    }

    /// Waits until a transaction has brought slices, whose row it has not.
    async fn applies_slices(&mut self) -> anyhow::Result<()> {
        let mut target = self.target().await?;
        target
            .execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
            .await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let slices = "SELECT CAST(COUNT(*) AS SIGNED) FROM millrace_slices";
        while sqlx::query_scalar::<_, i64>(slices)
            .fetch_one(&mut target)
            .await?
            == 0
        {
            ensure!(Instant::now() < deadline, "{}", self.demo.log());
        }
        Ok(())
    }

    /// Papers in Postgres and in MySQL: keys, titles, and the sizes of what is large.
    async fn papers_are_equal(&mut self) -> anyhow::Result<()> {
        let columns = "CONCAT_WS('|', id, title, OCTET_LENGTH(body), OCTET_LENGTH(scan))";
        let sql = format!("SELECT {columns} FROM papers ORDER BY id");
        let source: Vec<String> = sqlx::query_scalar(&sql).fetch_all(&mut self.source).await?;
        let replica = self.target().await?.fetch_all(sql.as_str()).await?;
        let replica: Result<Vec<String>, _> =
            replica.iter().map(|row| row.try_get_unchecked(0)).collect();
        ensure!(source == replica?, "{source:?}");
        self.verify(0).map(drop)
    }
}

async fn large_values_travel(name: &str, megabytes: u32) -> anyhow::Result<()> {
    let mut library = Own::library(name).await?;
    library.run_sql(MAKE, megabytes).await?;
    let copied = "INSERT INTO public.papers VALUES (1, 'copied', public.noise(MEGABYTES, 'a'), NULL),
        (2, 'copied', public.noise(MEGABYTES, 'b'), decode(public.noise(MEGABYTES / 4, 's'), 'hex')),
        (3, 'small', 'x', NULL)";
    library.run_sql(copied, megabytes).await?;
    library.change("add", "public.papers")?;
    library.until("public.papers", is_live)?;
    let streamed =
        "INSERT INTO public.papers VALUES (4, 'streamed', public.noise(MEGABYTES, 'd'), NULL);
        UPDATE public.papers SET body = public.noise(MEGABYTES, 'm') WHERE id = 3";
    library.run_sql(streamed, megabytes).await?;
    library.demo.wait_for()?;
    library.papers_are_equal().await?;
    let others = "UPDATE public.books SET pages = 7 WHERE isbn = 'isbn 7'";
    let changes = CHANGES.replace("OTHERS", others);
    library.run_sql(&changes, megabytes).await?;
    library.demo.wait_for()?;
    library.papers_are_equal().await?;
    let kilobytes = library.demo.peak_kilobytes()?;
    println!(
        "values of {megabytes} MB: capture, broker and projector together took {} MB at most",
        kilobytes / 1024
    );
    library.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_40_megabytes_are_copied_streamed_kept_and_moved() -> anyhow::Result<()> {
    large_values_travel("large", 40).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and gigabytes; `make test-large`"]
async fn values_of_200_megabytes_are_copied_streamed_kept_and_moved() -> anyhow::Result<()> {
    large_values_travel("larger", 200).await
}

/// What a kill leaves of a value counts nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_value_leaves_nothing_of_it() -> anyhow::Result<()> {
    let mut library = Own::library("large-killed").await?;
    library.run_sql(MAKE, 40).await?;
    library.change("add", "public.papers")?;
    library.until("public.papers", is_live)?;
    let streamed = "INSERT INTO public.papers SELECT n, 'streamed', public.noise(MEGABYTES, n::text), NULL FROM generate_series(1, 3) n";
    for kill in 0..3 {
        library.run_sql(streamed, 40).await?;
        library.applies_slices().await?;
        library.demo.kill()?;
        library.start().await?;
        let equal = library.papers_are_equal().await;
        equal.with_context(|| format!("after kill {kill}"))?;
        library.run_sql("DELETE FROM public.papers", 40).await?;
    }
    library.close().await
}

/// Rows of the largest of the tables that the load writes.
const ROWS: u64 = 10_000;

impl Services {
    /// Verifies as `arguments` say; returns the memory that it took, in kB.
    fn verified(&self, arguments: &[&str]) -> anyhow::Result<u64> {
        let mut command = self.command("verify")?;
        let mut verify = command.args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut peak = 0;
        while verify.try_wait()?.is_none() {
            peak = peak.max(peak_of(&verify));
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = verify.wait_with_output()?;
        let report = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{arguments:?}: {report}");
        println!("verify {arguments:?}:\n{report}");
        Ok(peak)
    }
}

/// A shop of other tables, which writers change all the time, and large values beside them, on a MySQL that nobody has set up
/// for such values. Every service is killed while one of them travels.
struct UnderLoad {
    servers: Servers,
    services: Services,
    load: Load,
    megabytes: u32,
}

impl UnderLoad {
    async fn start(name: &str, megabytes: u32) -> anyhow::Result<UnderLoad> {
        let servers = Servers::start(name).await?;
        let mut target = servers.target("mysql_db").await?;
        target
            .execute("SET GLOBAL max_allowed_packet = 16777216")
            .await?;
        let mut source = servers.source().await?;
        let tables = services::tables(ROWS);
        source.execute(sqlx::raw_sql(&tables)).await?;
        let mut under_load = UnderLoad {
            load: Load::start(&servers, ROWS, seed()).await?,
            services: Services::new(&servers)?,
            servers,
            megabytes,
        };
        under_load.run_sql(MAKE).await?;
        under_load.run_sql("INSERT INTO public.papers SELECT n, 'copied', public.noise(MEGABYTES, n::text), NULL FROM generate_series(1, 3) n").await?;
        for name in SERVICES {
            under_load.services.start(name)?;
        }
        Ok(under_load)
    }

    async fn run_sql(&mut self, sql: &str) -> anyhow::Result<()> {
        let sql = sql.replace("public.", "source.");
        let sql = sql.replace("MEGABYTES", &self.megabytes.to_string());
        let mut source = self.servers.source().await?;
        source.execute(sqlx::raw_sql(&sql)).await?;
        Ok(())
    }

    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_secs(u64::from(self.megabytes) * 2)
    }

    fn until_live(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.patience();
        while !self.services.all_live(4) {
            ensure!(Instant::now() < deadline, "not live");
        }
        Ok(())
    }

    async fn change(&mut self) -> anyhow::Result<()> {
        self.run_sql("INSERT INTO public.papers SELECT 4, 'streamed', public.noise(MEGABYTES, 'd'), decode(public.noise(MEGABYTES / 4, 's'), 'hex')").await?;
        for name in SERVICES {
            self.services.kill(name)?;
            self.services.start(name)?;
        }
        let others = "UPDATE public.letters SET opened = NOT opened";
        self.run_sql(&CHANGES.replace("OTHERS", others)).await
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let megabytes = self.megabytes;
        let patience = self.patience();
        self.services.until_well(&["wait-for"], patience)?;
        let committed = self.load.stop().await?;
        let mut peaks = Vec::new();
        for arguments in [&[][..], &["--rows"]] {
            peaks.push(self.services.verified(arguments)?);
        }
        for name in SERVICES {
            self.services.note_peak(name);
        }
        println!(
            "values of {megabytes} MB, {committed} transactions of others meanwhile; VmHWM in kB: {:?}, of verify and verify --rows: {peaks:?}",
            self.services.peaks
        );
        let all = self.services.peaks.values().chain(&peaks);
        ensure!(all.max() <= Some(&PEAK_MAX), "more than {PEAK_MAX} kB");
        drop(self.services);
        self.servers.stop().await
    }
}

async fn large_values_under_load(name: &str, megabytes: u32) -> anyhow::Result<()> {
    let mut under_load = UnderLoad::start(name, megabytes).await?;
    under_load.until_live()?;
    under_load.change().await?;
    under_load.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_40_megabytes_under_load_take_no_service_more_than_its_memory(
) -> anyhow::Result<()> {
    large_values_under_load("large-load", 40).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and gigabytes; `make test-large`"]
async fn values_of_200_megabytes_under_load_take_no_service_more_than_its_memory(
) -> anyhow::Result<()> {
    large_values_under_load("larger-load", 200).await
}
