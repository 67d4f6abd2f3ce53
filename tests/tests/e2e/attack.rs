//! `verify` itself is attacked, under live load: in each replica table and each mart one cell is
//! changed, one row deleted, one row added, and the real command line must say exactly that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{ensure, Context};
use millrace_cli::endpoints::Endpoints;
use serde_json::{json, Value};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::binary::{said, Demo};

/// Row 1 of each table and group 1 of each mart are the victims; the load never touches them.
const SHOP: &str = "
    SET search_path TO source;
    INSERT INTO users (first_name, last_name, email, loyalty_status)
        SELECT 'First ' || n, 'Last ' || n, n || '@example.org', CASE WHEN n = 1 THEN 'Bronze' ELSE 'Gold' END
        FROM generate_series(1, 40) n;
    INSERT INTO productcategories (name) VALUES ('Victim'), ('Load');
    INSERT INTO products (name, category_id, price) SELECT 'Product ' || n, 1, n FROM generate_series(1, 20) n;
    INSERT INTO orders (user_id, total_amount, status)
        SELECT n, 10 * n, CASE WHEN n = 1 THEN 'Failed' ELSE 'Pending' END FROM generate_series(1, 40) n;
    INSERT INTO orderdetails (order_id, product_id, quantity, price_per_unit, total_price)
        SELECT n, 1 + n % 20, 1, 10 * n, 10 * n FROM generate_series(1, 40) n;
    INSERT INTO reviews (user_id, product_id, rating) VALUES (1, 1, 4);
    INSERT INTO reviews (user_id, product_id, rating) SELECT n, n, 3 FROM generate_series(2, 20) n;
    INSERT INTO loyaltypoints (user_id, points, reason) SELECT n, 5 * n, 'Promotion' FROM generate_series(1, 40) n;";

/// One transaction of the load; `$1` counts up. It grows and shrinks, and moves every mart.
const LOAD: [&str; 7] = [
    "SET LOCAL search_path TO source",
    "UPDATE users SET loyalty_status = CASE loyalty_status WHEN 'Gold' THEN 'Silver' ELSE 'Gold' END WHERE user_id = 2 + $1 % 39",
    "UPDATE orders SET total_amount = total_amount + 1, status = CASE status WHEN 'Pending' THEN 'Shipped' ELSE 'Pending' END WHERE order_id = 2 + $1 % 39",
    "UPDATE orderdetails SET quantity = quantity + 1, total_price = total_price + price_per_unit WHERE order_detail_id = 2 + $1 % 39",
    "UPDATE reviews SET rating = 1 + $1 % 5 WHERE review_id = 2 + $1 % 19",
    "UPDATE products SET price = price + 1 WHERE product_id = 2 + $1 % 19",
    "INSERT INTO loyaltypoints (user_id, points, reason) VALUES (2 + $1 % 39, 1, 'Order')",
];
const PACE: Duration = Duration::from_millis(5);
/// The invisible primary key of a mart, quoted.
const MART_KEY: &str = "`millrace_key`";

/// A table, the key of its victim, and one of its columns with its value and another one.
struct Victim {
    table: &'static str,
    key: &'static [(&'static str, &'static str)],
    column: &'static str,
    value: &'static str,
    other: &'static str,
    /// A key that no row has.
    stranger: &'static str,
}

const fn row(
    table: &'static str,
    key: &'static [(&'static str, &'static str)],
    [column, value, other]: [&'static str; 3],
) -> Victim {
    let stranger = "987654";
    Victim {
        table,
        key,
        column,
        value,
        other,
        stranger,
    }
}

const VICTIMS: [Victim; 11] = [
    row(
        "users",
        &[("user_id", "1")],
        ["last_name", "Last 1", "Last 2"],
    ),
    row(
        "productcategories",
        &[("category_id", "1")],
        ["name", "Victim", "victim"],
    ),
    row(
        "products",
        &[("product_id", "1")],
        ["price", "1.00", "1.01"],
    ),
    row(
        "orders",
        &[("order_id", "1")],
        ["status", "Failed", "Returned"],
    ),
    row(
        "orderdetails",
        &[("order_detail_id", "1")],
        ["quantity", "1", "2"],
    ),
    row("reviews", &[("review_id", "1")], ["rating", "4", "5"]),
    row(
        "loyaltypoints",
        &[("loyalty_id", "1")],
        ["reason", "Promotion", "Promotion "],
    ),
    row(
        "mart_user_activity",
        &[("user_id", "1"), ("status", "Failed")],
        ["total_spent", "10.00", "10.01"],
    ),
    row(
        "mart_product_rating",
        &[("product_id", "1")],
        ["rating", "4.0000", "4.0001"],
    ),
    row(
        "mart_user_loyalty_points",
        &[("user_id", "1")],
        ["total_loyalty_points", "5", "6"],
    ),
    row(
        "mart_average_check",
        &[("status", "Failed"), ("loyalty_status", "Bronze")],
        ["average_check", "10.000000", "10.000001"],
    ),
];

impl Victim {
    fn condition(&self) -> String {
        let equal = |(column, value): &(&str, &str)| format!("`{column}` = '{value}'");
        self.key.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    /// The difference is reported with table, key, and what is expected and found.
    fn named(&self, report: &Value, kind: &str, key: &str) -> anyhow::Result<()> {
        let all = ["tables", "marts"]
            .into_iter()
            .flat_map(|part| report[part].as_array().into_iter().flatten())
            .flat_map(|subject| subject["differences"].as_array().into_iter().flatten());
        let (first, rest) = (self.key[0].0, &self.key[1..]);
        let name = match self.table.starts_with("mart_") {
            true => self.table.to_owned(),
            false => format!("source.{}", self.table),
        };
        let here = |difference: &&Value| {
            difference["table"] == name
                && difference["kind"] == kind
                && text(&difference["key"][first]) == key
                && rest
                    .iter()
                    .all(|(column, value)| text(&difference["key"][column]) == *value)
        };
        let found: Vec<&Value> = all.filter(here).collect();
        let wanted = match kind {
            "value" => json!([self.column, self.value, self.other]),
            "missing" => json!(["*", self.value, null]),
            _ => json!(["*", null, self.value]),
        };
        // Of a whole row, the column that was looked at.
        let cell = |value: &Value| value.get(self.column).unwrap_or(value).clone();
        let got = found.first().map(|difference| {
            let [expected, found] = ["expected", "found"].map(|side| cell(&difference[side]));
            json!([difference["column"], expected, found])
        });
        ensure!(
            found.len() == 1 && got.as_ref() == Some(&wanted),
            "{} {kind}: wanted {wanted}, got {got:?} in {report:#}",
            self.table
        );
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Keeps committing until it is told to stop.
async fn load(url: String, commits: Arc<AtomicU64>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    let mut pace = tokio::time::interval(PACE);
    for number in 0_i64.. {
        if stop.is_cancelled() {
            break;
        }
        pace.tick().await;
        let mut transaction = connection.begin().await?;
        for statement in LOAD {
            let statement = statement.replace("$1", &number.to_string());
            transaction.execute(sqlx::raw_sql(&statement)).await?;
        }
        transaction.commit().await?;
        commits.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// The deployment under attack.
struct Stage {
    demo: Demo,
    mysql: MySqlConnection,
}

impl Stage {
    async fn change(&mut self, sql: &str) -> anyhow::Result<()> {
        let done = self
            .mysql
            .execute(sql)
            .await
            .with_context(|| sql.to_owned())?;
        ensure!(
            done.rows_affected() == 1,
            "{} rows: {sql}",
            done.rows_affected()
        );
        Ok(())
    }

    /// All columns, quoted, those too that `SELECT *` leaves out.
    async fn columns(&mut self, table: &str) -> anyhow::Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
        )
        .bind(table)
        .fetch_all(&mut self.mysql)
        .await?;
        rows.iter()
            .map(|row| Ok(format!("`{}`", row.try_get_unchecked::<String, _>(0)?)))
            .collect()
    }

    /// What `verify` says; it must end with `code`.
    fn verify(&self, code: i32) -> anyhow::Result<Value> {
        let output = self.demo.run(&["verify", "--json"])?;
        ensure!(
            output.status.code() == Some(code),
            "{}\n{}",
            said(&output),
            self.demo.log()
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    async fn attack(&mut self, victim: &Victim) -> anyhow::Result<()> {
        let Victim { table, column, .. } = victim;
        let condition = victim.condition();
        self.change(&format!(
            "UPDATE `{table}` SET `{column}` = '{}' WHERE {condition}",
            victim.other
        ))
        .await?;
        victim.named(&self.verify(1)?, "value", victim.key[0].1)?;
        self.change(&format!(
            "UPDATE `{table}` SET `{column}` = '{}' WHERE {condition}",
            victim.value
        ))
        .await?;

        let columns = self.columns(table).await?;
        let names = columns.join(", ");
        let keep = format!(
            "CREATE TEMPORARY TABLE kept AS SELECT {names} FROM `{table}` WHERE {condition}"
        );
        self.mysql.execute(keep.as_str()).await?;
        let restore = format!("INSERT INTO `{table}` ({names}) SELECT {names} FROM kept");
        self.change(&format!("DELETE FROM `{table}` WHERE {condition}"))
            .await?;
        victim.named(&self.verify(1)?, "missing", victim.key[0].1)?;
        self.change(&restore).await?;

        let (first, stranger) = (victim.key[0].0, victim.stranger);
        let own_key = match columns.iter().any(|column| column == MART_KEY) {
            true => format!(", {MART_KEY} = UNHEX(SHA2('{stranger}', 256))"),
            false => String::new(),
        };
        self.change(&format!(
            "UPDATE kept SET `{first}` = '{stranger}'{own_key}"
        ))
        .await?;
        self.change(&restore).await?;
        victim.named(&self.verify(1)?, "unexpected", stranger)?;
        self.change(&format!(
            "DELETE FROM `{table}` WHERE `{first}` = '{stranger}'"
        ))
        .await?;
        self.mysql.execute("DROP TEMPORARY TABLE kept").await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tampering_is_found_and_named_under_load() -> anyhow::Result<()> {
    let mut demo = Demo::new("attack")?;
    demo.start_empty()?;
    demo.wait_for()?;
    let endpoints = Endpoints::read(&demo.data_dir())?;
    let mut postgres = PgConnection::connect(&endpoints.postgres).await?;
    postgres.execute(sqlx::raw_sql(SHOP)).await?;
    demo.wait_for()?;

    let (commits, stop) = (Arc::<AtomicU64>::default(), CancellationToken::new());
    let load = tokio::spawn(load(
        endpoints.postgres.clone(),
        commits.clone(),
        stop.clone(),
    ));
    let mysql = MySqlConnection::connect(&endpoints.mysql).await?;
    let mut stage = Stage { demo, mysql };
    for victim in &VICTIMS {
        let before = commits.load(Relaxed);
        let attacked = stage.attack(victim).await;
        attacked.with_context(|| format!("{}, column {}", victim.table, victim.column))?;
        let during = commits.load(Relaxed) - before;
        ensure!(
            during > 3,
            "{during} commits while {} was attacked: that is no load",
            victim.table
        );
    }
    ensure!(stage.verify(0)?["equal"] == true);
    stop.cancel();
    load.await??;
    stage.demo.wait_for()?;
    ensure!(stage.verify(0)?["equal"] == true);
    let (_, well) = stage.demo.interrupt()?;
    ensure!(well, "{}", stage.demo.log());
    println!(
        "33 attacks found, {} commits meanwhile",
        commits.load(Relaxed)
    );
    Ok(())
}
