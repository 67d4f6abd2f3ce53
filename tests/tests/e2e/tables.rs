//! The way back of a single table: it is repaired, removed and added while all others stay live.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;
use sqlx::Executor;

use crate::binary::said;
use crate::own_servers::Own;

const SOON: Duration = Duration::from_secs(90);

/// Somebody edits MySQL by hand: a cell, a row less, a row more.
const BY_HAND: [&str; 3] = [
    "UPDATE books SET title = 'forged' WHERE isbn = 'isbn 1'",
    "DELETE FROM books WHERE isbn = 'isbn 2'",
    "INSERT INTO books (isbn, title, pages) VALUES ('isbn x', 'not yours', 1)",
];

impl Own {
    fn table(&self, name: &str) -> anyhow::Result<Value> {
        let listed = self.demo.run(&["tables", "list", name, "--json"])?;
        let answer: Value = serde_json::from_slice(&listed.stdout)?;
        Ok(answer["tables"][0].clone())
    }

    /// Waits until a table is as it should be.
    pub(crate) fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        loop {
            let table = self.table(name)?;
            if wanted(&table) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{table:#}\n{}", self.demo.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub(crate) fn change(&self, what: &str, name: &str) -> anyhow::Result<()> {
        let done = self.demo.run(&["tables", what, name])?;
        ensure!(
            done.status.success(),
            "{}\n{}",
            said(&done),
            self.demo.log()
        );
        Ok(())
    }
}

pub(crate) fn is_live(table: &Value) -> bool {
    table["state"] == "live" && table["copy"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_edited_by_hand_is_repaired_to_the_last_row() -> anyhow::Result<()> {
    let library = Own::library("resnapshot").await?;
    library.until("public.books", is_live)?;
    let mut target = library.target().await?;
    for statement in BY_HAND {
        target.execute(statement).await?;
    }
    library.verify(1)?;
    library.change("resnapshot", "public.books")?;
    library.until("public.books", is_live)?;
    library.verify(0)?;
    ensure!(is_live(&library.table("lending.loans")?));
    library.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_removed_stands_still_and_one_that_is_added_is_live() -> anyhow::Result<()>
{
    let mut library = Own::library("tables").await?;
    library.change("remove", "public.books")?;
    library.until("public.books", |table| table["state"] != "live")?;
    let statement = "UPDATE public.books SET pages = 0; UPDATE lending.loans SET reader = 'x'";
    library.source.execute(sqlx::raw_sql(statement)).await?;
    library.demo.wait_for()?;
    ensure!(is_live(&library.table("lending.loans")?));
    library.change("add", "public.books")?;
    library.until("public.books", is_live)?;
    library.verify(0)?;
    let refused = library
        .demo
        .run(&["tables", "resnapshot", "public.audit_log"])?;
    ensure!(refused.status.code() == Some(1), "{}", said(&refused));
    library.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_removed_stays_in_mysql_until_that_is_asked_to_drop_it(
) -> anyhow::Result<()> {
    let library = Own::library("drop").await?;
    let mut target = library.target().await?;
    let remove = |flags: &[&str]| {
        let command = ["tables", "remove", "lending.loans"];
        library.demo.run(&[&command[..], flags].concat())
    };
    let kept = remove(&[])?;
    ensure!(said(&kept).contains("lending__loans"), "{}", said(&kept));
    target.execute("SELECT 1 FROM lending__loans").await?;
    let unasked = remove(&["--drop"])?;
    ensure!(unasked.status.code() == Some(2), "{}", said(&unasked));
    target.execute("SELECT 1 FROM lending__loans").await?;
    let dropped = remove(&["--drop", "--yes"])?;
    ensure!(dropped.status.success(), "{}", said(&dropped));
    ensure!(target
        .execute("SELECT 1 FROM lending__loans")
        .await
        .is_err());
    let again = remove(&["--drop", "--yes"])?;
    ensure!(again.status.code() == Some(1), "{}", said(&again));
    library.change("add", "lending.loans")?;
    library.until("lending.loans", is_live)?;
    library.verify(0)?;
    library.close().await
}
