//! Orders as the shop's generator writes them, and the marts that read them.

use std::path::Path;

use millrace_events::{Change, TableSchema, Value};
use millrace_projections::marts::Marts;

use crate::source::{schema, text, Rows, Source};

const USERS: i64 = 20;
const PRODUCTS: i64 = 30;
/// Products of an order.
const LINES: i64 = 3;
const AT: &str = "2024-03-01 12:00:00";

/// The marts of the example.
pub(crate) fn marts() -> Marts {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/marts");
    Marts::read(Path::new(folder)).expect("the folder of the marts")
}

/// Makes the source a shop with users and products, and with a review of each product.
pub(crate) fn open(source: &mut Source) {
    source.schemas = tables();
    source.state = (source.schemas.iter())
        .map(|schema| (schema.table.clone(), Rows::new()))
        .collect();
    for user in 1..=USERS {
        source.put("users", person(user, 0));
    }
    for product in 1..=PRODUCTS {
        source.put("products", item(product, 0));
        source.put("reviews", review(product));
    }
    source.history.clear();
}

/// What one order changes: itself, its lines, what is left of their products, the user and the user's points.
pub(crate) fn order(source: &mut Source, number: i64) -> Vec<Change> {
    let user = number % USERS + 1;
    let mut changes = vec![
        source.put("users", person(user, number)),
        source.put("orders", purchase(number, user)),
    ];
    for line in 0..LINES {
        let product = (number * LINES + line) % PRODUCTS + 1;
        changes.push(source.put("orderdetails", detail(number, line, product)));
        changes.push(source.put("products", item(product, number)));
    }
    changes.push(source.put("loyaltypoints", points(number, user)));
    changes
}

fn tables() -> Vec<TableSchema> {
    let (bigint, time, money) = ("bigint", "timestamp without time zone", "numeric(12,2)");
    let word = "character varying(100)";
    vec![
        schema(
            1,
            "users",
            &[
                ("user_id", bigint, true),
                ("first_name", word, false),
                ("last_name", word, false),
                ("loyalty_status", "character varying(20)", false),
            ],
        ),
        schema(
            2,
            "products",
            &[
                ("product_id", bigint, true),
                ("name", "character varying(200)", false),
                ("price", money, false),
                ("stock_quantity", "integer", false),
            ],
        ),
        schema(
            3,
            "orders",
            &[
                ("order_id", bigint, true),
                ("user_id", bigint, false),
                ("order_date", time, false),
                ("total_amount", money, false),
                ("status", "character varying(20)", false),
            ],
        ),
        schema(
            4,
            "orderdetails",
            &[
                ("order_detail_id", bigint, true),
                ("order_id", bigint, false),
                ("product_id", bigint, false),
                ("total_price", money, false),
            ],
        ),
        schema(
            5,
            "reviews",
            &[
                ("review_id", bigint, true),
                ("product_id", bigint, false),
                ("rating", "integer", false),
            ],
        ),
        schema(
            6,
            "loyaltypoints",
            &[
                ("loyalty_id", bigint, true),
                ("user_id", bigint, false),
                ("points", "integer", false),
            ],
        ),
    ]
}

fn person(user: i64, version: i64) -> Vec<Value> {
    let status = ["Bronze", "Silver", "Gold"][version.unsigned_abs() as usize % 3];
    let name = text(format!("name {user}"));
    vec![Value::Int(user), name.clone(), name, text(status)]
}

fn item(product: i64, sold: i64) -> Vec<Value> {
    let name = text(format!("product {product}"));
    let left = Value::Int(1_000_000 - sold);
    vec![Value::Int(product), name, text("9.99"), left]
}

fn review(product: i64) -> Vec<Value> {
    [product, product, product % 5 + 1].map(Value::Int).to_vec()
}

fn purchase(number: i64, user: i64) -> Vec<Value> {
    let total = text(format!("{}.25", number % 900));
    let [number, user] = [number, user].map(Value::Int);
    vec![number, user, text(AT), total, text("Pending")]
}

fn detail(order: i64, line: i64, product: i64) -> Vec<Value> {
    let ids = [order * LINES + line, order, product];
    let mut row = ids.map(Value::Int).to_vec();
    row.push(text("9.99"));
    row
}

fn points(number: i64, user: i64) -> Vec<Value> {
    [number, user, number % 50].map(Value::Int).to_vec()
}
