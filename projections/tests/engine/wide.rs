//! Tables at the limits of a row and of a name, on the real server.

use millrace_events::{Column as SourceColumn, SchemaId, TableId, TableSchema, Value};
use millrace_projections::replica::names::{RETIRED, SHADOW};
use millrace_projections::replica::naming::Naming;
use millrace_projections::replica::{ddl, upsert, Kind, Table, TablePolicies};
use millrace_projections::script::Script;
use millrace_sessions::mysql::{server_code, Flavour, Session};
use sqlx::Executor;

use super::support::Server;

/// MySQL's and MariaDB's error for a row that is too large.
const ROW_TOO_LARGE: u16 = 1118;

fn wide(count: usize, type_name: &str, key: &str) -> TableSchema {
    let column = |name: String, type_name: &str, key| SourceColumn {
        name,
        type_name: type_name.into(),
        oid: 0,
        type_mod: -1,
        key,
    };
    let mut columns = vec![column("id".into(), key, true)];
    columns.extend((0..count).map(|n| column(format!("c{n}"), type_name, false)));
    TableSchema {
        id: SchemaId(1),
        table: TableId::new("source", format!("wide_{count}")),
        columns,
    }
}

/// The longest value of a column: four bytes a character.
fn longest(kind: Kind, otherwise: usize) -> Value {
    match kind {
        Kind::BigInt => Value::Int(1),
        Kind::Uuid => Value::Text("123e4567-e89b-12d3-a456-426614174000".into()),
        Kind::VarChar(n) | Kind::BlankPadded(n) => Value::Text("🙂".repeat(n as usize)),
        _ => Value::Text("🙂".repeat(otherwise)),
    }
}

async fn fill(conn: &mut Session, table: &Table, otherwise: usize) {
    let columns = table.columns.iter();
    let row: Vec<Value> = columns
        .map(|column| longest(column.kind, otherwise))
        .collect();
    let mut script = Script::on(conn);
    upsert(&mut script, table, &[row.as_slice()])
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", table.name));
    let sent = script.send().await;
    sent.unwrap_or_else(|error| panic!("{}: {error:?}", table.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_at_the_limits_of_a_row_are_created_and_take_their_longest_rows() {
    let server = Server::shared().await;
    let mut conn = server.connect(&server.database().await).await;
    for (count, type_name, key, chars) in [
        (40, "character varying(50)", "bigint", 50),
        (41, "character varying(50)", "bigint", 50),
        (45, "character varying(50)", "bigint", 50),
        (120, "character varying(50)", "bigint", 50),
        (40, "character varying(50)", "text", 50),
        (196, "character varying(10)", "bigint", 10),
        (56, "uuid", "bigint", 9),
        (32, "character(63)", "bigint", 63),
        (196, "text", "bigint", 2_000),
        (1, "character varying(16381)", "bigint", 16_381),
        (2, "character varying(16000)", "bigint", 16_000),
    ] {
        let table = Table::of(
            &wide(count, type_name, key),
            "wide",
            &TablePolicies::default(),
        )
        .expect("replicable");
        ddl::recreate(&mut conn, &table, "")
            .await
            .unwrap_or_else(|error| panic!("{count} x {type_name}: {error}"));
        fill(&mut conn, &table, chars).await;
    }
}

/// What is given up for the page is no more than needed.
#[tokio::test(flavor = "multi_thread")]
async fn one_short_text_more_on_the_page_is_refused_by_the_server() {
    let server = Server::shared().await;
    let mut conn = server.connect(&server.database().await).await;
    let columns: Vec<String> = (0..41).map(|n| format!("c{n} VARCHAR(50)")).collect();
    let sql = format!(
        "CREATE TABLE refused (id BIGINT PRIMARY KEY, {}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC \
         DEFAULT CHARACTER SET utf8mb4",
        columns.join(", ")
    );
    let mut refused = conn.execute(sql.as_str()).await;
    // MySQL makes the table and refuses the row.
    if conn.server().flavour == Flavour::MySql {
        refused.expect("a table");
        let values = vec!["REPEAT('🙂', 50)"; 41].join(", ");
        let insert = format!("INSERT INTO refused VALUES (1, {values})");
        refused = conn.execute(insert.as_str()).await;
    }
    let error = refused.expect_err("beyond the page");
    assert_eq!(server_code(&error), Some(ROW_TOO_LARGE), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_fits_nowhere_is_named_with_what_to_do() {
    let error = Table::of(
        &wide(198, "text", "bigint"),
        "wide",
        &TablePolicies::default(),
    )
    .expect_err("too many columns");
    let text = error.to_string();
    assert!(
        text.contains("wide_198") && text.contains("MILLRACE_COLUMNS"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_any_name_are_created_under_the_names_that_they_get() {
    let server = Server::shared().await;
    let mut conn = server.connect(&server.database().await).await;
    let emoji = format!("{}abc", "🙂".repeat(15));
    let (umlauts, long) = ("ü".repeat(31), "n".repeat(63));
    let ids: Vec<TableId> = [
        emoji.as_str(),
        &umlauts,
        &long,
        "a",
        "A",
        "a ",
        "millrace_position",
        "x/y.z`",
        "select",
    ]
    .into_iter()
    .flat_map(|name| ["source", "far", &umlauts].map(|schema| TableId::new(schema, name)))
    .collect();
    for (id, name) in ids.iter().zip(Naming::new(Some("source"), []).names(&ids)) {
        let mut schema = wide(1, "text", "bigint");
        schema.table = id.clone();
        let table = Table::of(&schema, &name, &TablePolicies::default()).expect("replicable");
        for suffix in ["", SHADOW, RETIRED] {
            let made = ddl::recreate(&mut conn, &table, suffix).await;
            made.unwrap_or_else(|error| panic!("{id} as {name}{suffix}: {error}"));
        }
    }
    let made: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()",
    )
    .fetch_one(&mut conn)
    .await
    .expect("a count");
    assert_eq!(made, 3 * ids.len() as i64);
}
