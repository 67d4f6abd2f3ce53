//! Values that are larger than everything that a record, a batch or this program may hold.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use sqlx::{Executor, Row};

use crate::own_servers::Library;
use crate::tables::is_live;

/// Bytes that compress about as badly as any, so that nothing travels smaller than it is.
const MAKE: &str = "
    CREATE TABLE public.papers (id bigint PRIMARY KEY, title text, body text, scan bytea);
    CREATE FUNCTION public.noise(megabytes int, seed text) RETURNS text LANGUAGE sql AS $$
        SELECT string_agg(md5(seed || n), '' ORDER BY n) FROM generate_series(1, megabytes * 32768) n $$;";

/// An unchanged value, a changed one, one that moves to another key, one that comes and goes in one transaction.
const CHANGES: &str = "
    UPDATE public.papers SET title = 'kept' WHERE id = 1;
    UPDATE public.papers SET body = public.noise(MEGABYTES / 2, 'c') || 'größer' WHERE id = 2;
    UPDATE public.papers SET id = 30 WHERE id = 3;
    BEGIN;
    INSERT INTO public.papers SELECT 5, 'gone', public.noise(2, 'e'), NULL;
    UPDATE public.books SET pages = 7 WHERE isbn = 'isbn 7';
    DELETE FROM public.papers WHERE id IN (4, 5);
    COMMIT;";

impl Library {
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
    let mut library = Library::open(name).await?;
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
    library.run_sql(CHANGES, megabytes).await?;
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
    let mut library = Library::open("large-killed").await?;
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
