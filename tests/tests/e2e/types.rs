//! Values of every type, through copy and stream, in columns and in keys: MySQL shows what was written by hand in
//! [`matrix`], and `verify` agrees.

mod matrix;

use anyhow::{ensure, Context};
use serde_json::Value;
use sqlx::{Connection, Executor, MySqlConnection, Row};

use crate::own_servers::Own;
use matrix::{Becomes, Type, SETUP, TYPES};

/// Rows come by the copy; by an INSERT; and as NULL that an UPDATE replaces.
const WAYS: [&str; 3] = ["copied", "inserted", "updated"];

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The table of a type, and the one in which it is the key.
fn names(number: usize) -> (String, String) {
    (format!("odd.t{number}"), format!("odd.k{number}"))
}

impl Type {
    /// One row for each value.
    fn rows(&self, way: &str, value: impl Fn(&str) -> String) -> String {
        let values = self.values.iter().enumerate();
        let rows = values.map(|(i, (text, _))| format!("('{way}', {i}, {})", value(text)));
        rows.collect::<Vec<_>>().join(", ")
    }

    fn cast(&self, text: &str) -> String {
        format!("{}::{}", literal(text), self.name)
    }

    /// Values that MySQL can hold, which are what may be in a key.
    fn keys(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        let held = self
            .values
            .iter()
            .filter(|(_, becomes)| !matches!(becomes, Becomes::Beside(_)));
        held.map(|(text, _)| *text).filter(|_| self.key)
    }

    /// Before anything follows the database.
    fn before(&self, number: usize) -> String {
        let (table, keys) = names(number);
        let mut sql = format!(
            "CREATE TABLE {table} (way text, n int, v {}, PRIMARY KEY (way, n));
             INSERT INTO {table} VALUES {}, ('copied', -1, NULL);
             INSERT INTO {table} VALUES {};",
            self.name,
            self.rows("copied", |text| self.cast(text)),
            self.rows("updated", |_| "NULL".to_owned()),
        );
        if self.key {
            sql += &format!("CREATE TABLE {keys} (v {} PRIMARY KEY, n int);", self.name);
        }
        for (n, text) in self.keys().enumerate() {
            sql += &format!("INSERT INTO {keys} VALUES ({}, {n});", self.cast(text));
        }
        sql
    }

    /// While it is followed.
    fn then(&self, number: usize) -> String {
        let (table, keys) = names(number);
        let mut sql = format!(
            "INSERT INTO {table} VALUES {}, ('inserted', -1, NULL);",
            self.rows("inserted", |text| self.cast(text))
        );
        for (n, (text, _)) in self.values.iter().enumerate() {
            sql += &format!(
                "UPDATE {table} SET v = {} WHERE way = 'updated' AND n = {n};",
                self.cast(text)
            );
        }
        if self.key {
            sql += &format!("UPDATE {keys} SET n = n + 100;");
        }
        // Gone, and here again: the second time it comes through the stream.
        if let Some(last) = self.keys().last() {
            let last = self.cast(last);
            sql += &format!(
                "DELETE FROM {keys} WHERE v = {last}; INSERT INTO {keys} VALUES ({last}, 1000);"
            );
        }
        sql
    }

    fn expression(&self) -> &'static str {
        match self.mysql {
            "longblob" => "HEX(v)",
            "longtext" => "v",
            _ => "CAST(v AS CHAR)",
        }
    }

    async fn is_shown(&self, number: usize, target: &mut MySqlConnection) -> anyhow::Result<()> {
        let table = names(number).0.replace("odd.", "");
        let sql = format!("SELECT way, n, {}, v__text FROM {table}", self.expression());
        let found = target.fetch_all(sql.as_str()).await?;
        ensure!(
            found.len() == WAYS.len() * self.values.len() + 2,
            "{} rows",
            found.len()
        );
        for row in found {
            let way: String = row.try_get_unchecked(0)?;
            let n: i32 = row.try_get(1)?;
            let shown: (Option<String>, Option<String>) =
                (row.try_get_unchecked(2)?, row.try_get_unchecked(3)?);
            let value = usize::try_from(n).ok().and_then(|n| self.values.get(n));
            let expected = match value {
                None => (None, None),
                Some((text, Becomes::Same)) => (Some(*text), None),
                Some((_, Becomes::This(text))) => (Some(*text), None),
                Some((_, Becomes::Beside(text))) => (None, Some(*text)),
            };
            let shown = (shown.0.as_deref(), shown.1.as_deref());
            ensure!(
                shown == expected,
                "{way} {value:?}: {shown:?} instead of {expected:?}"
            );
        }
        Ok(())
    }

    async fn is_declared(&self, number: usize, target: &mut MySqlConnection) -> anyhow::Result<()> {
        let table = names(number).0.replace("odd.", "");
        let sql = "SELECT column_type FROM information_schema.columns
                   WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'v'";
        let row = sqlx::query(sql).bind(&table).fetch_one(target).await?;
        let declared: String = row.try_get_unchecked(0)?;
        let width = declared.find('(').filter(|_| self.mysql.ends_with("int"));
        let declared = width.map_or(declared.as_str(), |end| &declared[..end]);
        ensure!(
            declared == self.mysql,
            "{declared} instead of {}",
            self.mysql
        );
        Ok(())
    }

    /// As many keys as in Postgres: none of them is taken for another one.
    async fn has_its_keys(
        &self,
        number: usize,
        target: &mut MySqlConnection,
    ) -> anyhow::Result<()> {
        if !self.key {
            return Ok(());
        }
        let table = names(number).1.replace("odd.", "");
        let found = target
            .fetch_all(format!("SELECT n FROM {table} ORDER BY n").as_str())
            .await?;
        let found: Vec<i32> = found
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        let count = self.keys().count();
        let mut expected: Vec<i32> = (100..).take(count).collect();
        if let Some(last) = expected.last_mut() {
            *last = 1000;
        }
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_come_as_written_by_hand_through_copy_and_stream() -> anyhow::Result<()>
{
    let before: String = TYPES
        .iter()
        .enumerate()
        .map(|(i, one)| one.before(i))
        .collect();
    let mut own = Own::open("types", &format!("{SETUP}{before}"), "odd.*").await?;
    own.demo.set("MILLRACE_VALUES", "text");
    own.start().await?;
    let then: String = TYPES
        .iter()
        .enumerate()
        .map(|(i, one)| one.then(i))
        .collect();
    own.source.execute(sqlx::raw_sql(&then)).await?;
    own.demo.wait_for()?;
    let mut target = own.target().await?;
    let mut wrong = Vec::new();
    for (number, one) in TYPES.iter().enumerate() {
        for checked in [
            one.is_declared(number, &mut target).await,
            one.is_shown(number, &mut target).await,
            one.has_its_keys(number, &mut target).await,
        ] {
            let checked = checked.with_context(|| format!("{} ({number})", one.name));
            wrong.extend(checked.err().map(|error| format!("{error:#}")));
        }
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), own.demo.log());
    target.close().await?;
    let report = own.verify(0)?;
    let tables: Vec<&Value> = report["tables"].as_array().into_iter().flatten().collect();
    let keys = TYPES.iter().filter(|one| one.key).count();
    ensure!(
        tables.len() == TYPES.len() + keys,
        "{} tables",
        tables.len()
    );
    let quarantined: u64 = tables
        .iter()
        .filter_map(|table| table["quarantined"].as_u64())
        .sum();
    let beside = TYPES.iter().flat_map(|one| one.values);
    let beside = beside
        .filter(|(_, becomes)| matches!(becomes, Becomes::Beside(_)))
        .count();
    ensure!(
        quarantined == (WAYS.len() * beside) as u64,
        "{quarantined} values in quarantine"
    );
    own.close().await
}
