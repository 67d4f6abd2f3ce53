//! The shop's marts against their definitions, on a real server.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millrace_events::{TableId, Value};
use millrace_projections::marts::{Mart, Marts};
use millrace_projections::replica::{write, Column, Kind, Policy, Table};
use millrace_projections::script::Script;
use millrace_sessions::mysql::Session;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use sqlx::mysql::MySqlRow;
use sqlx::{Executor, Row};
use support::Server;

/// Name, key, columns behind the key with their types.
type TableDefinition = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// The input tables of the marts.
const TABLES: [TableDefinition; 5] = [
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
fn shop_marts() -> Marts {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/marts");
    Marts::read(Path::new(folder)).expect("the folder of the marts")
}

/// Name and statement of each.
fn definitions(marts: &Marts) -> Vec<(String, String)> {
    let pair = |mart: &Mart| (mart.name().to_owned(), mart.definition().to_owned());
    marts.iter().map(pair).collect()
}

/// A replica with live marts, written the way the projector writes.
struct Shop {
    conn: Session,
    marts: Marts,
}

impl Shop {
    async fn new() -> Shop {
        Shop::on(Server::shared().await).await
    }

    async fn on(server: &Server) -> Shop {
        let database = server.database().await;
        let mut conn = server.connect(&database).await;
        let marts = shop_marts();
        create_replica(&mut conn, "").await;
        marts.create(&mut conn, "", &[]).await.expect("mart tables");
        Shop { conn, marts }
    }

    /// Keys stand where the marts look for them.
    async fn touch(&mut self, table: &str, keys: impl Iterator<Item = i64>) {
        let key = Column {
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

    async fn truncate(&mut self, table: &str) {
        let mut script = Script::on(&mut self.conn);
        let emptied = self.marts.truncate(&mut script, table).await;
        emptied.expect("truncate");
        script.send().await.expect("truncate");
    }

    async fn retract(&mut self, table: &str) {
        let mut script = Script::on(&mut self.conn);
        let taken = self.marts.retract(&mut script, table).await;
        taken.expect("retract");
        script.send().await.expect("retract");
    }

    async fn add(&mut self, table: &str) {
        let mut script = Script::on(&mut self.conn);
        self.marts.add(&mut script, table).await.expect("add");
        script.send().await.expect("add");
    }

    /// One table's turn in a transaction.
    async fn turn(&mut self, turn: &Turn) {
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

    async fn transaction(&mut self, turns: &[Turn]) {
        self.run("START TRANSACTION").await;
        for turn in turns {
            self.turn(turn).await;
        }
        self.run("COMMIT").await;
    }

    async fn run(&mut self, sql: &str) {
        if let Err(error) = self.conn.execute(sql).await {
            panic!("{error}\n{sql}");
        }
    }

    /// Every mart equals its definition, to the last digit.
    async fn assert_exact(&mut self, context: &str) {
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
    async fn rows_read(&mut self) -> i64 {
        self.counters("Handler_read%").await
    }

    async fn counters(&mut self, like: &str) -> i64 {
        self.counters_of("SESSION", like).await
    }

    async fn counters_of(&mut self, scope: &str, like: &str) -> i64 {
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
struct Turn {
    table: &'static str,
    truncate: bool,
    rows: BTreeMap<i64, Option<Vec<String>>>,
}

fn write(table: &'static str, rows: &[(i64, &[&str])]) -> Turn {
    let row =
        |(key, row): &(i64, &[&str])| (*key, Some(row.iter().map(|v| v.to_string()).collect()));
    Turn {
        table,
        truncate: false,
        rows: rows.iter().map(row).collect(),
    }
}

fn delete(table: &'static str, keys: &[i64]) -> Turn {
    Turn {
        table,
        truncate: false,
        rows: keys.iter().map(|key| (*key, None)).collect(),
    }
}

fn truncate(table: &'static str) -> Turn {
    Turn {
        table,
        truncate: true,
        ..Turn::default()
    }
}

/// The names of all input tables.
fn inputs() -> Vec<String> {
    TABLES.iter().map(|(name, ..)| (*name).to_owned()).collect()
}

async fn create_replica(conn: &mut Session, suffix: &str) {
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

fn key_of(table: &str) -> &'static str {
    TABLES
        .iter()
        .find(|(name, ..)| *name == table)
        .expect("a table of the shop")
        .1
}

/// All rows of a result as text, sorted.
async fn rows(conn: &mut Session, sql: &str) -> Vec<Vec<Option<String>>> {
    let rows = sqlx::raw_sql(sql).fetch_all(conn).await.expect("rows");
    let mut rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| (0..row.len()).map(|i| text(row, i)).collect())
        .collect();
    rows.sort();
    rows
}

/// A value of a text-protocol row as the server wrote it, bytes that are no text escaped.
fn text(row: &MySqlRow, column: usize) -> Option<String> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(column).expect("bytes");
    bytes.map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.as_bytes().escape_ascii().to_string(),
    })
}

/// Random transactions over small domains, so that groups are shared, emptied and met again.
struct Random {
    rng: StdRng,
    present: BTreeMap<&'static str, BTreeSet<i64>>,
}

impl Random {
    fn new(seed: u64) -> Random {
        Random {
            rng: StdRng::seed_from_u64(seed),
            present: BTreeMap::new(),
        }
    }

    fn transaction(&mut self) -> Vec<Turn> {
        let mut tables: Vec<&'static str> = TABLES.iter().map(|(table, ..)| *table).collect();
        tables.shuffle(&mut self.rng);
        let count = self.rng.random_range(1..=tables.len());
        tables.truncate(count);
        tables.into_iter().map(|table| self.turn(table)).collect()
    }

    fn turn(&mut self, table: &'static str) -> Turn {
        let mut turn = Turn {
            table,
            truncate: self.rng.random_bool(0.03),
            rows: BTreeMap::new(),
        };
        let keys = if table == "users" || table == "products" {
            6
        } else {
            30
        };
        if turn.truncate {
            self.present.remove(table);
        }
        for _ in 0..self.rng.random_range(0..8) {
            let key = self.rng.random_range(1..=keys);
            let row = self.rng.random_bool(0.75).then(|| self.row(table));
            turn.rows.insert(key, row);
            if self.rng.random_bool(0.2) {
                self.move_key(&mut turn, keys);
            }
        }
        let present = self.present.entry(table).or_default();
        for (key, row) in &turn.rows {
            if row.is_some() {
                present.insert(*key);
            } else {
                present.remove(key);
            }
        }
        turn
    }

    /// A key change: the old key's row is gone, the new key has a row.
    fn move_key(&mut self, turn: &mut Turn, keys: i64) {
        let present: Vec<i64> = self
            .present
            .entry(turn.table)
            .or_default()
            .iter()
            .copied()
            .collect();
        if let Some(old) = present.choose(&mut self.rng) {
            let new = self.rng.random_range(1..=keys);
            let row = self.row(turn.table);
            turn.rows.insert(*old, None);
            turn.rows.insert(new, Some(row));
        }
    }

    fn row(&mut self, table: &str) -> Vec<String> {
        match table {
            "users" => vec![self.name(), self.name(), self.status()],
            "products" => vec![self.name()],
            "orders" => vec![self.reference(), self.status(), self.amount(), self.date()],
            "reviews" => vec![self.reference(), self.rating()],
            _ => vec![self.reference(), self.points()],
        }
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from.choose(&mut self.rng).expect("not empty").to_string()
    }

    fn name(&mut self) -> String {
        self.pick(&[
            "'a'", "'A'", "'a '", "''", "'N'", "'V1:a'", "'é'", "'e'", "'😀'", "NULL",
        ])
    }
    fn status(&mut self) -> String {
        self.pick(&["'Gold'", "'gold'", "'Gold '", "'Bronze'", "''", "NULL"])
    }
    fn reference(&mut self) -> String {
        self.pick(&["1", "2", "3", "4", "5", "6", "7", "NULL"])
    }
    fn rating(&mut self) -> String {
        self.pick(&["1", "2", "3", "4", "5", "-1", "NULL"])
    }
    fn points(&mut self) -> String {
        self.pick(&["0", "7", "-7", "2147483647", "-2147483648", "NULL"])
    }
    fn date(&mut self) -> String {
        self.pick(&["'2024-02-29 12:00:00.123456'", "NULL"])
    }
    fn amount(&mut self) -> String {
        match self.rng.random_range(0..6) {
            0 => "NULL".to_owned(),
            1 => self.pick(&["0", "0.01", "-0.01", "9999999999.99", "-9999999999.99"]),
            _ => format!(
                "{}.{:02}",
                self.rng.random_range(-50..2000),
                self.rng.random_range(0..100)
            ),
        }
    }
}

fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    seed
}

#[tokio::test]
async fn random_transactions_leave_every_mart_equal_to_its_definition() {
    let seed = seed();
    let mut shop = Shop::new().await;
    let mut random = Random::new(seed);
    for number in 0..300 {
        let turns = random.transaction();
        shop.transaction(&turns).await;
        shop.assert_exact(&format!("SEED={seed}, transaction {number}: {turns:?}"))
            .await;
    }
}

#[tokio::test]
async fn a_mart_built_from_scratch_equals_the_maintained_one() {
    let seed = seed();
    let mut shop = Shop::new().await;
    let mut random = Random::new(seed);
    for _ in 0..40 {
        let turns = random.transaction();
        shop.transaction(&turns).await;
    }
    create_replica(&mut shop.conn, "__shadow").await;
    for (table, ..) in TABLES {
        shop.run(&format!(
            "INSERT INTO `{table}__shadow` SELECT * FROM `{table}`"
        ))
        .await;
    }
    for _ in 0..2 {
        shop.marts
            .create(&mut shop.conn, "__shadow", &inputs())
            .await
            .expect("shadow tables");
        shop.marts
            .build(&mut shop.conn, "__shadow", &inputs())
            .await
            .expect("filled");
    }
    for table in shop.marts.tables() {
        let live = rows(&mut shop.conn, &format!("SELECT * FROM `{table}`")).await;
        let built = rows(&mut shop.conn, &format!("SELECT * FROM `{table}__shadow`")).await;
        assert_eq!(built, live, "{table}, SEED={seed}");
    }
}

#[tokio::test]
async fn a_dimension_row_that_arrives_after_its_facts_makes_them_visible() {
    let mut shop = Shop::new().await;
    let order: &[&str] = &["1", "'Pending'", "10.00", "NULL"];
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    shop.transaction(&[write("orders", &[(1, order)])]).await;
    shop.assert_exact("an order without user").await;
    shop.transaction(&[write("users", &[(1, user)])]).await;
    shop.assert_exact("its user in a later transaction").await;
    let check = rows(&mut shop.conn, "SELECT * FROM mart_average_check").await;
    assert_eq!(
        check,
        [[
            Some("Pending".into()),
            Some("Gold".into()),
            Some("10.000000".into())
        ]]
    );
    let other: &[&str] = &["2", "'Pending'", "20.00", "NULL"];
    shop.transaction(&[write("orders", &[(2, other)]), write("users", &[(2, user)])])
        .await;
    shop.assert_exact("its user in the same transaction, behind it")
        .await;
}

#[tokio::test]
async fn an_order_that_changes_hands_moves_between_users() {
    let mut shop = Shop::new().await;
    let gold: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let silver: &[&str] = &["'Bob'", "'Ray'", "'Silver'"];
    shop.transaction(&[write("users", &[(1, gold), (2, silver)])])
        .await;
    for owner in ["1", "2", "NULL", "3", "1"] {
        let order: &[&str] = &[owner, "'Pending'", "10.00", "NULL"];
        shop.transaction(&[write("orders", &[(1, order)])]).await;
        shop.assert_exact(owner).await;
    }
    shop.transaction(&[delete("users", &[1])]).await;
    shop.assert_exact("its user is gone").await;
    shop.transaction(&[
        write("users", &[(3, gold)]),
        write("orders", &[(1, &["3", "''", "NULL", "NULL"])]),
    ])
    .await;
    shop.assert_exact("user and order under a new key").await;
}

#[tokio::test]
async fn truncates_empty_what_they_stand_behind_and_later_rows_start_afresh() {
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let order: &[&str] = &["1", "'Pending'", "10.00", "NULL"];
    let points: &[&str] = &["1", "5"];
    let all = [
        write("users", &[(1, user)]),
        write("orders", &[(1, order), (2, order)]),
        write("loyaltypoints", &[(1, points)]),
    ];
    shop.transaction(&all).await;
    for table in ["orders", "users"] {
        shop.transaction(&[truncate(table)]).await;
        shop.assert_exact(table).await;
        shop.transaction(&all).await;
        shop.assert_exact(table).await;
        let refill = Turn {
            truncate: true,
            ..write(table, &[(1, if table == "orders" { order } else { user })])
        };
        shop.transaction(&[refill]).await;
        shop.assert_exact(table).await;
    }
}

#[tokio::test]
async fn a_rolled_back_batch_leaves_nothing_behind() {
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let order: &[&str] = &["1", "'Pending'", "10.00", "NULL"];
    shop.transaction(&[write("users", &[(1, user)]), write("orders", &[(1, order)])])
        .await;
    shop.run("START TRANSACTION").await;
    shop.turn(&write(
        "orders",
        &[(1, &["1", "'Sent'", "1.00", "NULL"]), (2, order)],
    ))
    .await;
    shop.run("ROLLBACK").await;
    shop.assert_exact("rolled back").await;
    shop.transaction(&[write("orders", &[(3, order)])]).await;
    shop.assert_exact("the next batch").await;
}

/// Averages whose exact value lies on, just below and just above a rounding edge.
#[tokio::test]
async fn averages_round_as_the_definition_rounds() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    let mut turns = vec![write("users", &[(1, user)])];
    let mut orders = Turn {
        table: "orders",
        ..Turn::default()
    };
    let mut key = 0;
    for group in 0..150 {
        for _ in 0..rng.random_range(1..70) {
            key += 1;
            let cents =
                rng.random_range(-300..300i64) * if group % 3 == 0 { 33_333_333 } else { 1 };
            let amount = format!(
                "{}{}.{:02}",
                if cents < 0 { "-" } else { "" },
                cents.abs() / 100,
                cents.abs() % 100
            );
            orders.rows.insert(
                key,
                Some(vec![
                    "1".into(),
                    format!("'{group}'"),
                    amount,
                    "NULL".into(),
                ]),
            );
        }
    }
    turns.push(orders);
    shop.transaction(&turns).await;
    shop.assert_exact(&format!("SEED={seed}")).await;
}

#[tokio::test]
async fn mart_columns_have_the_types_of_their_definitions() {
    let mut shop = Shop::new().await;
    let definitions = definitions(&shop.marts);
    for (name, definition) in definitions {
        shop.run(&format!("CREATE TABLE derived_{name} AS {definition}"))
            .await;
        let columns = |table: String| {
            format!(
                "SELECT column_name, data_type, numeric_scale, collation_name \
                 FROM information_schema.columns \
                 WHERE table_schema = DATABASE() AND table_name = '{table}' AND extra NOT LIKE '%INVISIBLE%' \
                 ORDER BY ordinal_position"
            )
        };
        let wanted = sqlx::raw_sql(&columns(format!("derived_{name}")))
            .fetch_all(&mut shop.conn)
            .await
            .expect("columns");
        let found = sqlx::raw_sql(&columns(name.to_owned()))
            .fetch_all(&mut shop.conn)
            .await
            .expect("columns");
        let texts = |rows: &[MySqlRow]| -> Vec<Vec<Option<String>>> {
            rows.iter()
                .map(|row| (0..4).map(|i| text(row, i)).collect())
                .collect()
        };
        assert_eq!(texts(&found), texts(&wanted), "{name}");
    }
}

/// Fills a shop in which user 1 has `orders` orders and others have many.
async fn shop_with_orders(orders: i64) -> Shop {
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    shop.transaction(&[write("users", &[(1, user), (2, user), (3, user)])])
        .await;
    for user in [2, 3] {
        insert_orders(&mut shop, 100_000 * user, 2_000, user).await;
    }
    insert_orders(&mut shop, 0, orders, 1).await;
    for table in shop.marts.tables() {
        shop.run(&format!("DELETE FROM `{table}`")).await;
    }
    shop.marts
        .build(&mut shop.conn, "", &[])
        .await
        .expect("built");
    shop
}

async fn insert_orders(shop: &mut Shop, first: i64, count: i64, user: i64) {
    let rows: Vec<String> = (1..=count)
        .map(|n| format!("({}, {user}, 'Status {}', {n}.25, NULL)", first + n, n % 4))
        .collect();
    shop.run(&format!("INSERT INTO orders VALUES {}", rows.join(", ")))
        .await;
}

#[tokio::test]
async fn the_cost_of_a_loyalty_change_does_not_depend_on_the_number_of_orders() {
    let mut costs = Vec::new();
    for orders in [4, 400, 8_000] {
        let mut shop = shop_with_orders(orders).await;
        let before = (shop.rows_read().await, shop.counters("Handler_write").await);
        shop.transaction(&[write("users", &[(1, &["'Ann'", "'Lee'", "'Silver'"])])])
            .await;
        let after = (shop.rows_read().await, shop.counters("Handler_write").await);
        costs.push((after.0 - before.0, after.1 - before.1));
        shop.assert_exact(&format!("{orders} orders")).await;
    }
    println!("rows read and written by one change of loyalty status: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[0], costs[2]);
}

#[tokio::test]
async fn the_cost_of_an_order_does_not_depend_on_the_number_of_orders() {
    let mut costs = Vec::new();
    for orders in [4, 400, 8_000] {
        let mut shop = shop_with_orders(orders).await;
        let before = (shop.rows_read().await, shop.counters("Handler_write").await);
        shop.transaction(&[write(
            "orders",
            &[(1, &["1", "'Status 2'", "7.77", "NULL"])],
        )])
        .await;
        let after = (shop.rows_read().await, shop.counters("Handler_write").await);
        costs.push((after.0 - before.0, after.1 - before.1));
        shop.assert_exact(&format!("{orders} orders")).await;
    }
    println!("rows read and written by one change of an order: {costs:?}");
    // With one order per status, the status that loses its only order vanishes.
    assert_eq!(costs[1], costs[2]);
    assert!(costs[0].0 <= costs[1].0 + 10);
}

/// One statement for all rows, as the projector writes: only the marts' part is of interest.
#[tokio::test]
async fn the_cost_of_a_large_batch_depends_on_the_batch_only() {
    let mut reads = Vec::new();
    for orders in [4_000, 40_000] {
        let mut shop = shop_with_orders(orders).await;
        shop.run("START TRANSACTION").await;
        shop.touch("orders", 1..=1_000).await;
        let before = shop.rows_read().await;
        let started = std::time::Instant::now();
        shop.retract("orders").await;
        shop.run("UPDATE orders JOIN millrace_keys_orders USING (order_id) SET total_amount = total_amount + 1, status = 'Moved'")
            .await;
        shop.add("orders").await;
        println!("1000 of {orders} orders moved in {:?}", started.elapsed());
        reads.push(shop.rows_read().await - before);
        shop.run("COMMIT").await;
        shop.assert_exact(&format!("{orders} orders")).await;
    }
    println!("rows read: {reads:?}");
    assert_eq!(reads[0], reads[1]);
}

#[tokio::test]
async fn a_connection_serves_many_batches_at_the_same_cost() {
    let mut shop = shop_with_orders(100).await;
    let mut spent = Vec::new();
    for round in 0..5 {
        let started = std::time::Instant::now();
        for n in 0..200 {
            let amount = format!("{round}.{:02}", n % 100);
            shop.transaction(&[write(
                "orders",
                &[(n % 100 + 1, &["1", "'Status 2'", &amount, "NULL"])],
            )])
            .await;
        }
        spent.push(started.elapsed());
    }
    println!("200 transactions of one order each took {spent:?}");
    assert!(spent[4] < spent[0] * 3, "{spent:?}");
    shop.assert_exact("many batches").await;
    let _ = shop.conn.close().await;
}

const ORDERS: i64 = 20_000;

impl Shop {
    /// Raises the amounts of the first orders, in one transaction.
    async fn raise(&mut self, orders: i64) {
        self.run("START TRANSACTION").await;
        self.touch("orders", 1..=orders).await;
        self.retract("orders").await;
        self.run(&format!(
            "UPDATE orders SET total_amount = total_amount + 1 WHERE order_id <= {orders}"
        ))
        .await;
        self.add("orders").await;
        self.run("COMMIT").await;
    }

    /// Pages that the server has asked its buffer pool for.
    async fn page_requests(&mut self) -> i64 {
        self.counters_of("GLOBAL", "Innodb_buffer_pool_read_requests")
            .await
    }

    /// What a change of one order costs, in page requests. The least of many rounds: the server tidies up after large
    /// transactions, and what it reads for that is counted as well.
    async fn cost_of_one(&mut self) -> i64 {
        const CHANGES: i64 = 10;
        let mut least = i64::MAX;
        for _ in 0..30 {
            let before = self.page_requests().await;
            for _ in 0..CHANGES {
                self.raise(1).await;
            }
            let cost = (self.page_requests().await - before) / CHANGES;
            least = least.min(cost);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        least
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_costs_as_much_after_a_large_catch_up_as_before() {
    // Page requests are counted for a whole server.
    let server = Server::start_with(&[]).await;
    let mut shop = Shop::on(&server).await;
    for user in 1..=50 {
        shop.run(&format!(
            "INSERT INTO users VALUES ({user}, 'a', 'b', 'Gold')"
        ))
        .await;
    }
    let orders: Vec<String> = (1..=ORDERS)
        .map(|order| format!("({order}, {}, 'new', 10.00, NULL)", order % 50 + 1))
        .collect();
    shop.run(&format!("INSERT INTO orders VALUES {}", orders.join(",")))
        .await;
    shop.marts
        .build(&mut shop.conn, "", &[])
        .await
        .expect("built");
    shop.raise(1).await;
    let before = shop.cost_of_one().await;
    for _ in 0..5 {
        shop.raise(ORDERS).await;
    }
    let after = shop.cost_of_one().await;
    println!(
        "page requests of one change: {before} before, {after} after {} rows",
        5 * ORDERS
    );
    assert!(2 * after < 3 * before, "{before} before, {after} after");
    shop.assert_exact("after a catch-up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_a_mart_has_a_primary_key() {
    let mut shop = Shop::new().await;
    shop.transaction(&[write("orders", &[(1, &["1", "'paid'", "7.00", "NULL"])])])
        .await;
    let without: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables t WHERE table_schema = DATABASE() \
         AND NOT EXISTS (SELECT 1 FROM information_schema.statistics s WHERE s.table_schema = DATABASE() \
         AND s.table_name = t.table_name AND s.index_name = 'PRIMARY')",
    )
    .fetch_one(&mut shop.conn)
    .await
    .expect("tables");
    assert_eq!(without, 0, "every table has a primary key");
}
