//! Two databases that agree, and a projector that only says that it holds.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use millrace_events::{Column as SourceColumn, SchemaId, TableId, TableSchema, Value};
use millrace_projections::marts::Marts;
use millrace_projections::replica::{canonical, ddl, Kind, Table, TablePolicies};
use millrace_projections::verify::{verify, By, Config, Error, Method, Pace, Report};
use millrace_sessions::mysql::{connect, Purpose, Session};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{Connection, Executor, PgConnection, Row, ValueRef};
use tokio_util::sync::CancellationToken;

use crate::support::postgres::Postgres;
use crate::support::Server;

/// The demo's.
pub(crate) fn shop_marts() -> Marts {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/marts");
    Marts::read(Path::new(folder)).expect("the folder of the marts")
}

const SHOP: &str = include_str!("../../../connectors/shop-generator/schema.sql");

/// Some shop, with NULLs wherever they are allowed.
const ROWS: &str = "
    INSERT INTO users (first_name, last_name, email, phone, loyalty_status)
        SELECT 'First ' || n, 'Läst ' || n % 7, n || '@example.com', nullif('phone ' || n % 3, 'phone 0'),
               (ARRAY['Gold', 'Silver', 'Bronze'])[1 + n % 3] FROM generate_series(1, 50) n;
    INSERT INTO productcategories (name, parent_category_id)
        SELECT 'Category ' || n, CASE WHEN n > 4 THEN 1 + n % 4 END FROM generate_series(1, 20) n;
    INSERT INTO products (name, description, category_id, price, stock_quantity)
        SELECT 'Product ' || n, nullif(repeat('ü', n % 5), ''), 1 + n % 20, n * 1.37, n FROM generate_series(1, 80) n;
    INSERT INTO orders (user_id, order_date, total_amount, status, delivery_date)
        SELECT 1 + n % 50, '2024-01-01'::timestamp + n * interval '1.000001 hour', n * 3.33,
               (ARRAY['Pending', 'Completed', 'Shipped', 'Delivered'])[1 + n % 4],
               CASE WHEN n % 4 = 3 THEN '2025-06-01'::timestamp END FROM generate_series(1, 300) n;
    INSERT INTO orderdetails (order_id, product_id, quantity, price_per_unit, total_price)
        SELECT 1 + n % 300, 1 + n % 80, 1 + n % 9, 1.11, 1.11 * (1 + n % 9) FROM generate_series(1, 900) n;
    INSERT INTO reviews (user_id, product_id, rating, review_text)
        SELECT 1 + n % 50, 1 + n % 80, 1 + n % 5, nullif('text ' || n % 4, 'text 0') FROM generate_series(1, 200) n;
    INSERT INTO loyaltypoints (user_id, points, reason)
        SELECT 1 + n % 50, n - 100, 'Order' FROM generate_series(1, 300) n;";

/// Keys whose order the two servers could see differently, and every type of value.
const ODD: &str = "
    CREATE TABLE odd_text (k text, n integer, v bytea, PRIMARY KEY (k, n));
    INSERT INTO odd_text SELECT k, n, decode('00ff', 'hex') FROM unnest(ARRAY['', ' ', 'a', 'a ', 'A', 'b', 'aa',
        'Z', 'é', 'e', E'e\\u0301', '😀', '￿', 'ß', 'ss', '10', '9', '-1', E'a\\tb', '%', '''', E'\\\\']) k, unnest(ARRAY[-1, 9, 10]) n;
    CREATE TABLE odd_uuid (k uuid PRIMARY KEY, v jsonb);
    INSERT INTO odd_uuid SELECT md5(n::text)::uuid, jsonb_build_object('n', n) FROM generate_series(1, 200) n;
    CREATE TABLE odd_numeric (k numeric(20,4) PRIMARY KEY, v numeric, w double precision);
    INSERT INTO odd_numeric SELECT (n - 50) * 1.25, n / 7.0, sqrt(n) FROM generate_series(0, 100) n;
    CREATE TABLE odd_time (k timestamptz, c char(4), b boolean, d date, t time, PRIMARY KEY (k, c, b));
    INSERT INTO odd_time SELECT '2024-02-28 23:00+02'::timestamptz + n * interval '7:00:00.5', chr(65 + n % 60), n % 2 = 0,
        '2024-02-28'::date + n, '12:00'::time + n * interval '1 s' FROM generate_series(0, 200) n;
    CREATE TABLE odd_empty (k bigint PRIMARY KEY);";

pub(crate) const TABLES: [&str; 7] = [
    "users",
    "productcategories",
    "products",
    "orders",
    "orderdetails",
    "reviews",
    "loyaltypoints",
];
pub(crate) const ODD_TABLES: [&str; 5] = [
    "odd_text",
    "odd_uuid",
    "odd_numeric",
    "odd_time",
    "odd_empty",
];
pub(crate) const MARTS: [&str; 4] = [
    "mart_average_check",
    "mart_product_rating",
    "mart_user_activity",
    "mart_user_loyalty_points",
];

/// What the projector was asked for, and how it behaves.
#[derive(Default)]
pub(crate) struct Projector {
    pub(crate) calls: Vec<String>,
    pub(crate) held: bool,
    pub(crate) loses_holds: bool,
    /// The status of a capture at the same address.
    pub(crate) capture: Option<serde_json::Value>,
    /// What others commit while the projector is led to one consistent point after the other.
    pub(crate) meanwhile: VecDeque<Meanwhile>,
    /// What others commit after a consistent point, before anything is compared.
    pub(crate) afterwards: VecDeque<Meanwhile>,
}

/// A statement, with the URL of its database.
#[derive(Clone)]
pub(crate) enum Meanwhile {
    Source(String, String),
    Replica(String, String),
}

impl Meanwhile {
    async fn commit(self) {
        match self {
            Meanwhile::Source(url, sql) => {
                let mut conn = PgConnection::connect(&url).await.expect("Postgres");
                let done = conn.execute(sqlx::raw_sql(&sql)).await;
                done.expect("a change");
            }
            Meanwhile::Replica(url, sql) => {
                let mut conn = connect(&url, Purpose::Project).await.expect("MySQL");
                conn.execute(sql.as_str()).await.expect("a change");
            }
        }
    }
}

pub(crate) type Shared = Arc<Mutex<Projector>>;

/// Two databases that agree, and a projector at rest.
pub(crate) struct Stage {
    pub(crate) postgres: PgConnection,
    pub(crate) mysql: Session,
    pub(crate) config: Config,
    pub(crate) projector: Shared,
}

impl Stage {
    pub(crate) async fn new(tables: &[&str], marts: Marts) -> Stage {
        Stage::of(&[SHOP, ROWS, ODD], tables, marts).await
    }

    /// Tables that these scripts make and fill, and others too perhaps.
    pub(crate) async fn of(scripts: &[&str], tables: &[&str], marts: Marts) -> Stage {
        let (servers, source) = (Server::shared().await, Postgres::shared().await);
        let database = servers.database().await;
        source.database(&database).await;
        let mut postgres = source.connect(&database).await;
        postgres
            .execute("CREATE SCHEMA source; SET search_path TO source; SET timezone TO 'UTC'")
            .await
            .expect("schema");
        for script in scripts {
            postgres
                .execute(sqlx::raw_sql(script))
                .await
                .expect("tables");
        }
        let mut mysql = connect(&servers.url(&database), Purpose::Project)
            .await
            .expect("MySQL");
        replicate(&mut postgres, &mut mysql, tables).await;
        for mart in marts.names() {
            let live = "INSERT INTO millrace_marts VALUES (?, 'live', '2025-01-01', NULL, '', 0)";
            let query = sqlx::query(live).bind(mart);
            query.execute(&mut mysql).await.expect("a mart's row");
        }
        marts
            .create(&mut mysql, "", &[])
            .await
            .expect("mart tables");
        marts.build(&mut mysql, "", &[]).await.expect("marts");
        let projector = Shared::default();
        let config = Config {
            postgres_url: source.url(&database),
            mysql_url: servers.url(&database),
            tables: Vec::new(),
            columns: serde_json::Map::new(),
            marts,
            control_url: serve(projector.clone()).await,
            capture_url: None,
            control_token: "secret".into(),
            hold_timeout: Duration::from_secs(10),
            slot_timeout: Duration::from_secs(10),
            catch_up_timeout: Duration::from_secs(10),
            by: By::Person,
            method: Method::Sums,
            pace: Pace::Full,
            differences_max: 50,
        };
        Stage {
            postgres,
            mysql,
            config,
            projector,
        }
    }

    pub(crate) async fn shop() -> Stage {
        Stage::new(&TABLES, shop_marts()).await
    }

    pub(crate) fn meanwhile(&self, steps: &[Meanwhile]) {
        let mut projector = self.projector.lock().expect("a lock");
        projector.meanwhile.extend(steps.iter().cloned());
    }

    pub(crate) fn afterwards(&self, step: Meanwhile) {
        let mut projector = self.projector.lock().expect("a lock");
        projector.afterwards.push_back(step);
    }

    /// Consistent points that were taken.
    pub(crate) fn points(&self) -> usize {
        let projector = self.projector.lock().expect("a lock");
        projector
            .calls
            .iter()
            .filter(|call| *call == "hold")
            .count()
    }

    pub(crate) fn in_source(&self, sql: &str) -> Meanwhile {
        Meanwhile::Source(self.config.postgres_url.clone(), sql.into())
    }

    pub(crate) fn in_replica(&self, sql: &str) -> Meanwhile {
        Meanwhile::Replica(self.config.mysql_url.clone(), sql.into())
    }

    pub(crate) async fn verify(&self) -> Result<Report, Error> {
        verify(&self.config, &CancellationToken::new()).await
    }

    pub(crate) async fn report(&self) -> Report {
        self.verify().await.expect("a report")
    }

    pub(crate) async fn change(&mut self, sql: &str) -> u64 {
        match self.mysql.execute(sql).await {
            Ok(done) => done.rows_affected(),
            Err(error) => panic!("{error}\n{sql}"),
        }
    }
}

async fn serve(projector: Shared) -> String {
    let routes = Router::new()
        .route("/hold", post(hold))
        .route("/stop-before", post(stop_before))
        .route("/release", post(release))
        .route("/status", get(capture))
        .with_state(projector);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    // On a thread of its own: it goes on answering while a test blocks.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = listener.into_std().expect("a listener");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, routes).await
        })
    });
    format!("http://{address}")
}

async fn capture(State(projector): State<Shared>) -> Result<Json<serde_json::Value>, StatusCode> {
    let projector = projector.lock().expect("a lock");
    let status = projector.capture.clone();
    status.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

async fn hold(State(projector): State<Shared>) -> Json<serde_json::Value> {
    let mut projector = projector.lock().expect("a lock");
    projector.calls.push("hold".into());
    projector.held = true;
    Json(json!({ "id": 7 }))
}

#[derive(serde::Deserialize)]
struct Asked {
    id: u64,
    lsn: Option<String>,
}

async fn stop_before(State(projector): State<Shared>, Query(asked): Query<Asked>) -> StatusCode {
    assert_eq!(asked.id, 7);
    let (held, meanwhile) = {
        let mut projector = projector.lock().expect("a lock");
        projector
            .calls
            .push(format!("stop-before {}", asked.lsn.expect("an LSN")));
        (projector.held, projector.meanwhile.pop_front())
    };
    if let Some(meanwhile) = meanwhile {
        meanwhile.commit().await;
    }
    if held {
        StatusCode::OK
    } else {
        StatusCode::CONFLICT
    }
}

async fn release(
    State(projector): State<Shared>,
    Query(asked): Query<Asked>,
) -> (StatusCode, Json<serde_json::Value>) {
    assert_eq!(asked.id, 7);
    let (held, afterwards) = {
        let mut projector = projector.lock().expect("a lock");
        projector.calls.push("release".into());
        let held = std::mem::take(&mut projector.held) && !projector.loses_holds;
        (held, projector.afterwards.pop_front())
    };
    if let Some(afterwards) = afterwards {
        afterwards.commit().await;
    }
    let status = if held {
        StatusCode::OK
    } else {
        StatusCode::CONFLICT
    };
    (status, Json(json!({ "error": "the hold is over" })))
}

/// A statement with so many rows is shorter than the server allows.
const ROWS_PER_INSERT: usize = 10_000;

/// What verify reads of the projector's bookkeeping.
const BOOKKEEPING: &str = "
    CREATE TABLE millrace_position (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, end_lsn BIGINT UNSIGNED NOT NULL);
    INSERT INTO millrace_position VALUES (1, 1);
    CREATE TABLE millrace_tables (source VARCHAR(300) NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL,
        state VARCHAR(16) NOT NULL, since DATETIME(6) NOT NULL, reason LONGTEXT NULL, definition LONGTEXT NULL,
        rows_copied BIGINT UNSIGNED NOT NULL, copy BIGINT UNSIGNED NOT NULL, next_step VARCHAR(16) NULL, policies LONGTEXT NOT NULL);
    CREATE TABLE millrace_marts (name VARCHAR(64) NOT NULL PRIMARY KEY, state VARCHAR(16) NOT NULL,
        since DATETIME(6) NOT NULL, reason LONGTEXT NULL, version VARCHAR(64) NOT NULL, joining TINYINT(1) NOT NULL)";

/// Copies tables as the projector would write them.
async fn replicate(postgres: &mut PgConnection, mysql: &mut Session, tables: &[&str]) {
    mysql
        .execute(BOOKKEEPING)
        .await
        .expect("bookkeeping tables");
    for (name, number) in tables.iter().zip(0..) {
        let schema = schema_of(postgres, name, number).await;
        let table = Table::of(&schema, name, &TablePolicies::default()).expect("replicable");
        ddl::recreate(mysql, &table, "")
            .await
            .expect("replica table");
        let rows = sqlx::raw_sql(&format!("SELECT * FROM {name}"))
            .fetch_all(&mut *postgres)
            .await
            .expect("rows");
        let tuples: Vec<String> = rows.iter().map(|row| tuple(row, &schema, &table)).collect();
        for tuples in tuples.chunks(ROWS_PER_INSERT) {
            let insert = format!("INSERT INTO `{name}` VALUES {}", tuples.join(","));
            mysql.execute(insert.as_str()).await.expect("a copy");
        }
        let definition = serde_json::to_string(&schema).expect("JSON");
        sqlx::query(
            "INSERT INTO millrace_tables VALUES (?, ?, 'live', '2025-01-01', NULL, ?, 0, 1, NULL, '{}')",
        )
        .bind(id(name).to_string())
        .bind(name)
        .bind(definition)
        .execute(&mut *mysql)
        .await
        .expect("a table's row");
    }
}

async fn schema_of(postgres: &mut PgConnection, table: &str, number: usize) -> TableSchema {
    let rows = sqlx::query(
        "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
         a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), a.atttypid::int8 \
         FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
         WHERE a.attrelid = $1::regclass AND a.attnum > 0 ORDER BY a.attnum",
    )
    .bind(table)
    .fetch_all(postgres)
    .await
    .expect("columns");
    let column = |row: &PgRow| SourceColumn {
        name: row.get(0),
        type_name: row.get(1),
        oid: row.get::<i64, _>(3) as u32,
        type_mod: -1,
        key: row.get(2),
    };
    TableSchema {
        id: SchemaId(number as u32),
        table: id(table),
        columns: rows.iter().map(column).collect(),
    }
}

pub(crate) fn id(name: &str) -> TableId {
    TableId::new("source", name)
}

fn tuple(row: &PgRow, schema: &TableSchema, table: &Table) -> String {
    let literal = |i: usize| {
        let raw = row.try_get_raw(i).expect("a value");
        if raw.is_null() {
            return "NULL".to_owned();
        }
        let text = raw.as_str().expect("text").to_owned();
        let value = match schema.columns[i].type_name.as_str() {
            "boolean" => Value::Bool(text == "t"),
            "smallint" | "integer" | "bigint" => Value::Int(text.parse().expect("an integer")),
            _ => Value::Text(text),
        };
        let text = canonical(&value, &table.columns[i])
            .expect("representable")
            .expect("not NULL");
        match table.columns[i].kind {
            Kind::LongBlob | Kind::VarBinary(_) => format!("x'{text}'"),
            _ => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        }
    };
    let literals: Vec<String> = (0..row.len()).map(literal).collect();
    format!("({})", literals.join(","))
}
