//! Names that MySQL does not take, or takes for another one: of schemas, tables and columns. All of them are replicated,
//! and told apart.

use anyhow::ensure;
use serde_json::Value;
use sqlx::{Connection, Executor, Row};

use crate::own_servers::Own;

/// As they stand in Postgres, where a name has at most 63 bytes.
const COLUMNS: [&str; 18] = [
    "id",
    "ID",
    "Id",
    "trailing ",
    "trailing",
    " leading",
    "🙂",
    "🙃",
    "a`b\"\"c\\",
    "d.e/f",
    "select",
    "DB_TRX_ID",
    "fts_doc_id",
    "İ",
    "ı",
    "é",
    "e",
    "x23456789012345678901234567890123456789012345678901234567890123",
];

const TABLES: [&str; 10] = [
    "Orders",
    "orders",
    "orders ",
    "🙂",
    "a`b\"\"c\\",
    "d.e/f",
    "select",
    "millrace_position",
    "x__shadow",
    "x23456789012345678901234567890123456789012345678901234567890123",
];

fn create(schema: &str, table: &str) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .skip(1)
        .map(|name| format!("\"{name}\" text"))
        .collect();
    let rows: Vec<String> = (1..4).map(|n| row(table, n)).collect();
    format!(
        "CREATE TABLE \"{schema}\".\"{table}\" (id int PRIMARY KEY, {});
         INSERT INTO \"{schema}\".\"{table}\" VALUES {};",
        columns.join(", "),
        rows.join(", ")
    )
}

/// Each value says where it belongs.
fn row(table: &str, n: usize) -> String {
    let values: Vec<String> = (1..COLUMNS.len())
        .map(|at| format!("'{table} {n} {at}'"))
        .collect();
    format!("({n}, {})", values.join(", "))
}

fn then(schema: &str, table: &str) -> String {
    let named = format!("\"{schema}\".\"{table}\"");
    let mut sql = format!(
        "INSERT INTO {named} VALUES {}; DELETE FROM {named} WHERE id = 2;",
        row(table, 4)
    );
    for (at, column) in COLUMNS.iter().enumerate().skip(1) {
        sql += &format!(
            "UPDATE {named} SET \"{column}\" = \"{column}\" || ' {at} changed' WHERE id = 1;"
        );
    }
    sql
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_mysql_does_not_take_or_takes_for_another_one_stay_apart() -> anyhow::Result<()>
{
    let schemas = ["names", "Names ", "other"];
    let all = || {
        schemas
            .iter()
            .flat_map(|schema| TABLES.map(|table| (*schema, table)))
    };
    let mut before: String = schemas
        .iter()
        .map(|schema| format!("CREATE SCHEMA \"{schema}\";"))
        .collect();
    before.extend(all().map(|(schema, table)| create(schema, table)));
    let mut own = Own::open("names", &before, "names.*,\"Names \".*,other.*").await?;
    own.start().await?;
    let changes: String = all().map(|(schema, table)| then(schema, table)).collect();
    own.source.execute(sqlx::raw_sql(&changes)).await?;
    own.demo.wait_for()?;
    let report = own.verify(0)?;
    let compared: Vec<&Value> = report["tables"].as_array().into_iter().flatten().collect();
    ensure!(compared.len() == schemas.len() * TABLES.len(), "{report:#}");

    // What MySQL takes keeps its name, in the first schema and in its columns.
    let mut target = own.target().await?;
    for column in [
        "id",
        "trailing",
        " leading",
        "a``b\"c\\",
        "d.e/f",
        "select",
        "é",
        "e",
        COLUMNS[17],
    ] {
        let rows = target
            .fetch_all(format!("SELECT `{column}` FROM `Orders`").as_str())
            .await;
        let rows = rows.or(Err(anyhow::anyhow!("there is no {column}")))?;
        ensure!(rows.len() == 3, "{column}");
    }
    let named = target.fetch_all("SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'Orders'").await?;
    let named: Vec<String> = named
        .iter()
        .map(|row| row.try_get_unchecked(0))
        .collect::<Result<_, _>>()?;
    ensure!(named.len() == COLUMNS.len(), "{named:?}");
    target.close().await?;
    own.close().await
}
