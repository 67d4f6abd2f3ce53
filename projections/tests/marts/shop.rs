//! A replica of the shop with live marts.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_events::{TableId, Value};
use millrace_projections::marts::{Mart, Marts};
use millrace_projections::replica::{write, Column, Kind, Policy, Table};
use millrace_projections::script::Script;
use millrace_sessions::mysql::Session;
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};

use super::support::Server;

/// Name, key, columns behind the key with their types.
pub(crate) type TableDefinition = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// The input tables of the marts.
pub(crate) const TABLES: [TableDefinition; 5] = [
    (
        "users",
        "user_id",
        &[
            ("first_name", "VARCHAR(100)"),
            ("last_name", "LONGTEXT"),
            ("loyalty_status", "VARCHAR(20)"),
        ],
    ),
    ("products", "product_id", &[("name", "VARCHAR(200)")]),
    (
        "orders",
        "order_id",
        &[
            ("user_id", "BIGINT"),
            ("status", "VARCHAR(20)"),
            ("total_amount", "DECIMAL(12,2)"),
            ("delivery_date", "DATETIME(6)"),
        ],
    ),
    (
        "reviews",
        "review_id",
        &[("product_id", "BIGINT"), ("rating", "INT")],
    ),
    (
        "loyaltypoints",
        "loyalty_id",
        &[("user_id", "BIGINT"), ("points", "INT")],
    ),
];

/// The demo's.
pub(crate) fn shop_marts() -> Marts {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/marts");
    Marts::read(Path::new(folder)).expect("the folder of the marts")
}

/// Name and statement of each.
pub(crate) fn definitions(marts: &Marts) -> Vec<(String, String)> {
    let pair = |mart: &Mart| (mart.name().to_owned(), mart.definition().to_owned());
    marts.iter().map(pair).collect()
}

/// A replica with live marts, written the way the projector writes.
pub(crate) struct Shop {
    pub(crate) conn: Session,
    pub(crate) marts: Marts,
}

impl Shop {
    pub(crate) async fn new() -> Shop {
        Shop::on(Server::shared().await).await
    }

    pub(crate) async fn on(server: &Server) -> Shop {
        let database = server.database().await;
        let mut conn = server.connect(&database).await;
        let marts = shop_marts();
        create_replica(&mut conn, "").await;
        marts.create(&mut conn, "", &[]).await.expect("mart tables");
        Shop { conn, marts }
    }

    /// Keys stand where the marts look for them.
    pub(crate) async fn touch(&mut self, table: &str, keys: impl Iterator<Item = i64>) {
        let key = Column {
            source: key_of(table).into(),
            name: key_of(table).into(),
            key: true,
            kind: Kind::BigInt,
            policy: Policy::Stop,
        };
        let replica = Table {
            source: TableId::new("source", table),
            name: table.into(),
            columns: vec![key],
            key: vec![0],
            beside: Vec::new(),
        };
        let keys: Vec<[Value; 1]> = keys.map(|key| [Value::Int(key)]).collect();
        let keys = keys.iter().map(<[Value; 1]>::as_slice);
        let mut script = Script::on(&mut self.conn);
        let filled = write::fill_keys(&mut script, &replica, keys).await;
        filled.expect("keys");
        script.send().await.expect("keys");
    }

    pub(crate) async fn truncate(&mut self, table: &str) {
        let mut script = Script::on(&mut self.conn);
        let emptied = self.marts.truncate(&mut script, table).await;
        emptied.expect("truncate");
        script.send().await.expect("truncate");
    }

    pub(crate) async fn retract(&mut self, table: &str) {
        let mut script = Script::on(&mut self.conn);
        let taken = self.marts.retract(&mut script, table).await;
        taken.expect("retract");
        script.send().await.expect("retract");
    }

    pub(crate) async fn add(&mut self, table: &str) {
        let mut script = Script::on(&mut self.conn);
        self.marts.add(&mut script, table).await.expect("add");
        script.send().await.expect("add");
    }

    /// One table's turn in a transaction.
    pub(crate) async fn turn(&mut self, turn: &Turn) {
        let (table, key) = (turn.table, key_of(turn.table));
        if turn.truncate {
            self.truncate(table).await;
            self.run(&format!("DELETE FROM `{table}`")).await;
        }
        if turn.rows.is_empty() {
            return;
        }
        self.touch(table, turn.rows.keys().copied()).await;
        let keys: Vec<String> = turn.rows.keys().map(|key| format!("({key})")).collect();
        self.retract(table).await;
        self.run(&format!(
            "DELETE FROM `{table}` WHERE `{key}` IN ({})",
            keys.join(",")
        ))
        .await;
        for (key, row) in &turn.rows {
            if let Some(row) = row {
                self.run(&format!(
                    "INSERT INTO `{table}` VALUES ({key}, {})",
                    row.join(", ")
                ))
                .await;
            }
        }
        self.add(table).await;
    }

    pub(crate) async fn transaction(&mut self, turns: &[Turn]) {
        self.run("START TRANSACTION").await;
        for turn in turns {
            self.turn(turn).await;
        }
        self.run("COMMIT").await;
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        if let Err(error) = self.conn.execute(sql).await {
            panic!("{error}\n{sql}");
        }
    }

    /// Every mart equals its definition, to the last digit.
    pub(crate) async fn assert_exact(&mut self, context: &str) {
        let definitions = definitions(&self.marts);
        for (name, definition) in definitions {
            let wanted = rows(&mut self.conn, &definition).await;
            let found = rows(&mut self.conn, &format!("SELECT * FROM {name}")).await;
            assert_eq!(
                found, wanted,
                "{name} differs from its definition; {context}"
            );
        }
    }

    /// What this session has read from storage so far, in rows.
    pub(crate) async fn rows_read(&mut self) -> i64 {
        self.counters("Handler_read%").await
    }

    pub(crate) async fn counters(&mut self, like: &str) -> i64 {
        self.counters_of("SESSION", like).await
    }

    pub(crate) async fn counters_of(&mut self, scope: &str, like: &str) -> i64 {
        let sql = format!("SHOW {scope} STATUS LIKE '{like}'");
        let rows = sqlx::raw_sql(&sql)
            .fetch_all(&mut self.conn)
            .await
            .expect("status");
        rows.iter()
            .map(|row| {
                text(row, 1)
                    .expect("a value")
                    .parse::<i64>()
                    .expect("a count")
            })
            .sum()
    }
}

/// The rows that a transaction leaves in one table, by key; `None` where it deletes.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) table: &'static str,
    pub(crate) truncate: bool,
    pub(crate) rows: BTreeMap<i64, Option<Vec<String>>>,
}

pub(crate) fn write(table: &'static str, rows: &[(i64, &[&str])]) -> Turn {
    let row =
        |(key, row): &(i64, &[&str])| (*key, Some(row.iter().map(|v| v.to_string()).collect()));
    Turn {
        table,
        truncate: false,
        rows: rows.iter().map(row).collect(),
    }
}

pub(crate) fn delete(table: &'static str, keys: &[i64]) -> Turn {
    Turn {
        table,
        truncate: false,
        rows: keys.iter().map(|key| (*key, None)).collect(),
    }
}

pub(crate) fn truncate(table: &'static str) -> Turn {
    Turn {
        table,
        truncate: true,
        ..Turn::default()
    }
}

/// The names of all input tables.
pub(crate) fn inputs() -> Vec<String> {
    TABLES.iter().map(|(name, ..)| (*name).to_owned()).collect()
}

pub(crate) async fn create_replica(conn: &mut Session, suffix: &str) {
    let collation = conn.server().collation();
    for (table, key, columns) in TABLES {
        let columns: Vec<String> = columns
            .iter()
            .map(|(name, definition)| format!("`{name}` {definition} NULL"))
            .collect();
        let sql = format!(
            "CREATE TABLE `{table}{suffix}` (`{key}` BIGINT NOT NULL, {}, PRIMARY KEY (`{key}`)) \
             ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}",
            columns.join(", ")
        );
        conn.execute(sql.as_str()).await.expect("replica table");
    }
}

pub(crate) fn key_of(table: &str) -> &'static str {
    TABLES
        .iter()
        .find(|(name, ..)| *name == table)
        .expect("a table of the shop")
        .1
}

/// All rows of a result as text, sorted.
pub(crate) async fn rows(conn: &mut Session, sql: &str) -> Vec<Vec<Option<String>>> {
    let rows = sqlx::raw_sql(sql).fetch_all(conn).await.expect("rows");
    let mut rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| (0..row.len()).map(|i| text(row, i)).collect())
        .collect();
    rows.sort();
    rows
}

/// A value of a text-protocol row as the server wrote it, bytes that are no text escaped.
pub(crate) fn text(row: &MySqlRow, column: usize) -> Option<String> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(column).expect("bytes");
    bytes.map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.as_bytes().escape_ascii().to_string(),
    })
}
