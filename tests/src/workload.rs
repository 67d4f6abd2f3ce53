//! Random transactions over the seven tables of the shop.
//!
//! Keys come from small ranges, so that transactions meet each other's rows. The tables are those of
//! the shop without foreign keys and with nullable columns: what the projections must survive is
//! wider than what the shop allows itself.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Executor, PgConnection};

/// The tables, in the schema `source`.
pub const SCHEMA: &str = "
CREATE SCHEMA IF NOT EXISTS source;
CREATE TABLE source.users (user_id bigint PRIMARY KEY, first_name varchar(100), last_name varchar(100),
    email varchar(255) UNIQUE, phone varchar(50), registration_date timestamp, loyalty_status varchar(20));
CREATE TABLE source.productcategories (category_id bigint PRIMARY KEY, name varchar(100), parent_category_id bigint);
CREATE TABLE source.products (product_id bigint PRIMARY KEY, name varchar(200), description text,
    category_id bigint, price numeric(12,2), stock_quantity integer, creation_date timestamp);
ALTER TABLE source.products ALTER COLUMN description SET STORAGE EXTERNAL;
CREATE TABLE source.orders (order_id bigint PRIMARY KEY, user_id bigint, order_date timestamp,
    total_amount numeric(12,2), status varchar(20), delivery_date timestamp);
CREATE TABLE source.orderdetails (order_detail_id bigint PRIMARY KEY, order_id bigint, product_id bigint,
    quantity integer, price_per_unit numeric(12,2), total_price numeric(12,2));
CREATE TABLE source.reviews (review_id bigint PRIMARY KEY, user_id bigint, product_id bigint,
    rating integer CHECK (rating BETWEEN 1 AND 5), review_text text, created_at timestamp);
CREATE TABLE source.loyaltypoints (loyalty_id bigint PRIMARY KEY, user_id bigint, points integer,
    reason varchar(100), created_at timestamp);
";

/// Table, key column, and the number of keys that transactions draw from.
pub const TABLES: [(&str, &str, i64); 7] = [
    ("users", "user_id", 12),
    ("productcategories", "category_id", 8),
    ("products", "product_id", 12),
    ("orders", "order_id", 60),
    ("orderdetails", "order_detail_id", 80),
    ("reviews", "review_id", 50),
    ("loyaltypoints", "loyalty_id", 50),
];

/// Makes transactions from a seed. Two with the same seed make the same text.
pub struct Workload {
    rng: StdRng,
}

impl Workload {
    /// A workload that can be repeated.
    pub fn new(seed: u64) -> Self {
        Workload {
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Runs one random transaction; false if it was rolled back, on purpose or by a collision.
    pub async fn run(&mut self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let rollback = self.chance(8);
        let mut script = vec!["BEGIN".to_owned()];
        for _ in 0..self.rng.random_range(1..7) {
            self.step(&mut script);
        }
        script.push(if rollback { "ROLLBACK" } else { "COMMIT" }.to_owned());
        for statement in script {
            match connection.execute(statement.as_str()).await {
                Ok(_) => {}
                // Two sessions met in a key or in a lock; a statement that is wrong must not hide.
                Err(sqlx::Error::Database(error)) if is_collision(error.code().as_deref()) => {
                    connection.execute("ROLLBACK").await?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(!rollback)
    }

    fn step(&mut self, script: &mut Vec<String>) {
        match self.rng.random_range(0..100) {
            0..40 => script.push(self.insert()),
            40..65 => script.push(self.update()),
            65..78 => script.push(self.delete()),
            78..84 => script.push(self.change_key()),
            84..89 => self.swap_keys(script),
            89..91 => script.push(self.truncate()),
            91..96 => self.savepoint(script),
            _ => script.push("SELECT pg_logical_emit_message(true, 'noise', 'x')".to_owned()),
        }
    }

    fn savepoint(&mut self, script: &mut Vec<String>) {
        script.push("SAVEPOINT s".to_owned());
        for _ in 0..self.rng.random_range(1..4) {
            let statement = if self.chance(2) {
                self.insert()
            } else {
                self.update()
            };
            script.push(statement);
        }
        let end = if self.chance(2) {
            "ROLLBACK TO s"
        } else {
            "RELEASE s"
        };
        script.push(end.to_owned());
    }

    fn insert(&mut self) -> String {
        let (table, _, range) = TABLES[self.rng.random_range(0..TABLES.len())];
        let key = self.rng.random_range(1..=range);
        let values = self.values(table, key);
        format!("INSERT INTO source.{table} VALUES ({key}, {values}) ON CONFLICT DO NOTHING")
    }

    fn values(&mut self, table: &str, key: i64) -> String {
        let user = self.reference(12);
        let product = self.reference(12);
        let (text, time, money) = (self.text(), self.time(), self.money());
        match table {
            "users" => format!(
                "{text}, {}, 'u{key}-{}@example.org', {}, {time}, {}",
                self.text(),
                self.rng.random_range(0..1_000_000),
                self.text(),
                self.loyalty()
            ),
            "productcategories" => format!("{text}, {}", self.reference(8)),
            "products" => format!(
                "{text}, {}, {}, {money}, {}, {time}",
                self.long_text(),
                self.reference(8),
                self.rng.random_range(0..100)
            ),
            "orders" => format!("{user}, {time}, {money}, {}, NULL", self.status()),
            "orderdetails" => format!(
                "{}, {product}, {}, {money}, {}",
                self.reference(60),
                self.rng.random_range(1..9),
                self.money()
            ),
            "reviews" => format!("{user}, {product}, {}, {text}, {time}", self.rating()),
            _ => format!(
                "{user}, {}, {text}, {time}",
                self.rng.random_range(-50..200)
            ),
        }
    }

    fn update(&mut self) -> String {
        let (assignment, table) = match self.rng.random_range(0..12) {
            0 => (format!("loyalty_status = {}", self.loyalty()), "users"),
            1 => (format!("first_name = {}", self.text()), "users"),
            2 => (
                format!(
                    "price = {}, stock_quantity = stock_quantity + 1",
                    self.money()
                ),
                "products",
            ),
            3 => (format!("name = {}", self.text()), "products"),
            4 => (format!("description = {}", self.long_text()), "products"),
            5 | 6 => (format!("status = {}", self.status()), "orders"),
            7 => (format!("total_amount = {}", self.money()), "orders"),
            8 => (format!("user_id = {}", self.reference(12)), "orders"),
            9 => (
                format!(
                    "rating = {}, product_id = {}",
                    self.rating(),
                    self.reference(12)
                ),
                "reviews",
            ),
            10 => ("points = points * 2 + 1".to_owned(), "loyaltypoints"),
            _ => (format!("total_price = {}", self.money()), "orderdetails"),
        };
        let (_, key, range) = TABLES
            .iter()
            .find(|t| t.0 == table)
            .copied()
            .expect("a table of ours");
        let from = self.rng.random_range(1..=range);
        let to = from + self.rng.random_range(0..3);
        format!("UPDATE source.{table} SET {assignment} WHERE {key} BETWEEN {from} AND {to}")
    }

    fn delete(&mut self) -> String {
        let (table, key, range) = TABLES[self.rng.random_range(0..TABLES.len())];
        format!(
            "DELETE FROM source.{table} WHERE {key} = {}",
            self.rng.random_range(1..=range)
        )
    }

    fn change_key(&mut self) -> String {
        let (table, key, range) = TABLES[self.rng.random_range(0..TABLES.len())];
        let (from, to) = (
            self.rng.random_range(1..=range),
            self.rng.random_range(1..=range),
        );
        format!(
            "UPDATE source.{table} SET {key} = {to} WHERE {key} = {from} \
                 AND NOT EXISTS (SELECT FROM source.{table} WHERE {key} = {to})"
        )
    }

    fn swap_keys(&mut self, script: &mut Vec<String>) {
        let (table, key, range) = TABLES[self.rng.random_range(0..TABLES.len())];
        let (a, b) = (
            self.rng.random_range(1..=range),
            self.rng.random_range(1..=range),
        );
        if a == b {
            return;
        }
        // Each session parks at a key of its own: -1 would make every second swap a collision.
        let parked = -self.rng.random_range(1..1_000_000_000);
        for (from, to) in [(a, parked), (b, a), (parked, b)] {
            script.push(format!(
                "UPDATE source.{table} SET {key} = {to} WHERE {key} = {from}"
            ));
        }
    }

    fn truncate(&mut self) -> String {
        let (a, b) = (self.rng.random_range(0..7), self.rng.random_range(0..7));
        if a == b {
            return format!("TRUNCATE source.{}", TABLES[a].0);
        }
        format!("TRUNCATE source.{}, source.{}", TABLES[a].0, TABLES[b].0)
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn reference(&mut self, range: i64) -> String {
        if self.chance(12) {
            return "NULL".to_owned();
        }
        self.rng.random_range(1..=range).to_string()
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 10] = [
            "NULL",
            "''",
            "'a'",
            "'a '",
            "'A'",
            "'Zoë'",
            "'it''s'",
            "'\\x'",
            "'😀 \"q\"'",
            "'two words'",
        ];
        TEXTS[self.rng.random_range(0..TEXTS.len())].to_owned()
    }

    fn long_text(&mut self) -> String {
        if self.chance(3) {
            return self.text();
        }
        format!(
            "repeat(md5('{}'), 200)",
            self.rng.random_range(0..1_000_000)
        )
    }

    fn time(&mut self) -> String {
        if self.chance(10) {
            return "NULL".to_owned();
        }
        let micros = self.rng.random_range(0..3) * 500_000 + self.rng.random_range(0..2);
        format!(
            "timestamp '2024-02-28 23:59:58' + interval '{} hours {micros} microseconds'",
            self.rng.random_range(0..9000)
        )
    }

    fn money(&mut self) -> String {
        if self.chance(9) {
            return "NULL".to_owned();
        }
        let cents: i64 = self.rng.random_range(0..100_000);
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    fn rating(&mut self) -> String {
        if self.chance(9) {
            return "NULL".to_owned();
        }
        self.rng.random_range(1..=5).to_string()
    }

    fn status(&mut self) -> &'static str {
        const STATUSES: [&str; 5] = [
            "'Pending'",
            "'Completed'",
            "'Canceled'",
            "'Delivered'",
            "NULL",
        ];
        STATUSES[self.rng.random_range(0..STATUSES.len())]
    }

    fn loyalty(&mut self) -> &'static str {
        const STATUSES: [&str; 4] = ["'Gold'", "'Silver'", "'Bronze'", "NULL"];
        STATUSES[self.rng.random_range(0..STATUSES.len())]
    }
}

/// Unique violation, deadlock, serialization failure.
fn is_collision(code: Option<&str>) -> bool {
    matches!(code, Some("23505" | "40P01" | "40001"))
}
