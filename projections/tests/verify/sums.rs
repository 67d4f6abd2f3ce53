//! Sums of digests inside the databases: what they find, and what is read because of them.

use millrace_projections::marts::Marts;
use millrace_projections::verify::{DifferenceKind, Exit, Method, Report, Subject};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Executor;

use crate::stage::Stage;

/// Every type that a replica knows, those too that it keeps as the text that Postgres prints.
const TYPES: &str = r#"
    CREATE TYPE mood AS ENUM ('fine', 'so, so', 'b:ad');
    CREATE TYPE pair AS (a integer, b text);
    CREATE DOMAIN flag AS boolean;
    CREATE DOMAIN mail AS text;
    CREATE TABLE types (
        id bigint PRIMARY KEY, c_smallint smallint, c_integer integer, c_bigint bigint, c_boolean boolean,
        c_money numeric(12,2), c_whole numeric(5,0), c_fraction numeric(30,30), c_numeric numeric, c_wide numeric(80,2),
        c_real real, c_double double precision, c_varchar varchar(20), c_varchar_any varchar, c_text text,
        c_char char(5), c_char_long char(300), c_uuid uuid, c_date date, c_timestamp timestamp,
        c_timestamp_3 timestamp(3), c_timestamptz timestamptz, c_time time, c_timetz timetz, c_interval interval,
        c_bytea bytea, c_json json, c_jsonb jsonb, c_integers integer[], c_texts text[], c_inet inet, c_cidr cidr,
        c_macaddr macaddr, c_point point, c_mood mood, c_pair pair, c_flag flag, c_mail mail, c_bit bit(5),
        c_varbit varbit, c_name name, c_byte "char", c_range int4range, c_tsvector tsvector, "c`odd""name" text);
    INSERT INTO types (id) VALUES (1);
    INSERT INTO types VALUES (2, 0, 0, 0, false, 0, 0, 0, 0.000, 0, 0, 0, '', '', '', '', '',
        '00000000-0000-0000-0000-000000000000', '0001-01-01', '0001-01-01', '0001-01-01', '0001-01-01 00:00+00', '00:00',
        '00:00+00', '0', '', '{}', '{}', '{}', '{}', '0.0.0.0', '0.0.0.0/0', '00:00:00:00:00:00', '(0,0)', 'fine',
        '(,)', false, '', '00000', '', '', '', 'empty', '', '');
    INSERT INTO types VALUES (3, 32767, 2147483647, 9223372036854775807, true, 9999999999.99, 99999,
        0.999999999999999999999999999999, 12345678901234567890123456789012345.123456789012345678901234567891, 1e34,
        3.4028235e38, 1.7976931348623157e308, repeat('😀', 20), repeat('ü', 1000), repeat('x', 1001), 'ab  ',
        'padded' || repeat(' ', 50), 'ffffffff-ffff-ffff-ffff-ffffffffffff', '9999-12-31', '9999-12-31 23:59:59.999999',
        '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999999+00', '24:00', '23:59:59.999999-15:59', '-1 year 2 mons 3.5 s',
        '\x00ff2c2d', '{"a": [1, 2.50]}', '{"a": [1, 2.50]}', '{1,NULL,3}', '{"a,b",NULL,"\""}', '::1', '10.0.0.0/8',
        'ff:ff:ff:ff:ff:ff', '(1.5,-2e300)', 'b:ad', '(1,"a,b")', true, 'a@b', '10101', '1', 'name', 'x', '[1,10)',
        'a:1 b', repeat('ö,', 3000));
    INSERT INTO types VALUES (4, -32768, -2147483648, -9223372036854775808, NULL, -0.01, -1, -0.000000000000000000000000000001,
        -100.500, -0.50, -1e-30, -5e-324, ',', '-', '1:a', '  a', ' ', md5('a')::uuid, '2024-02-29', '2024-02-29 12:00:01.1',
        '2024-02-29 12:00:01.100', '2024-02-29 12:00:01.10+02', '12:00:00.5', '12:00:00.500+00', '1 day', '\x2c', '[]', 'null',
        '{{1,2},{3,4}}', '{"",NULL}', '192.168.0.1/24', '::/0', '08:00:2b:01:02:03', '(-0,0)', 'so, so', '(,"")', NULL, '-', '11111',
        '0101010', '-', ',', '(,)', '', E'\\\t\n''"`%');"#;

/// Columns whose type prints nothing that SQL can make alike on both sides: their rows are read, and are equal.
const NOT_ALIKE: [&str; 0] = [];

/// A table of enough rows for several ranges.
const LARGE: &str = "
    CREATE TABLE large (id bigint PRIMARY KEY, v text NOT NULL, at timestamptz NOT NULL);
    INSERT INTO large SELECT n * 3, 'value ' || n, '2024-01-01'::timestamptz + n * interval '1 s'
        FROM generate_series(1, 65000) n;";
const LARGE_ROWS: u64 = 65_000;
/// Of a range.
const RANGE_ROWS: u64 = 20_000;

async fn stage(script: &str, tables: &[&str]) -> Stage {
    Stage::of(&[script], tables, Marts::none()).await
}

fn only(report: &Report) -> &Subject {
    assert_eq!(report.tables.len(), 1, "{report:#?}");
    &report.tables[0]
}

/// What the sums say and what the rows say is the same.
async fn both_ways(stage: &mut Stage) -> Report {
    stage.config.method = Method::Rows;
    let rows = stage.report().await;
    stage.config.method = Method::Sums;
    let sums = stage.report().await;
    assert_eq!(sums.exit(), rows.exit());
    for (sums, rows) in sums.tables.iter().zip(&rows.tables) {
        assert_eq!(sums.differences, rows.differences, "{}", sums.name);
        assert_eq!(
            (sums.rows, sums.differences_total),
            (rows.rows, rows.differences_total)
        );
    }
    sums
}

#[tokio::test]
async fn equal_values_of_every_type_have_equal_sums() {
    let mut stage = stage(TYPES, &["types"]).await;
    let report = both_ways(&mut stage).await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    let table = only(&report);
    assert_eq!((table.rows, table.ranges), (4, 1));
    let unlike = unlike_columns(&mut stage).await;
    assert_eq!(unlike, NOT_ALIKE, "the sums of these columns differ");
    assert_eq!(table.rows_read, 0);
}

/// Where the sums of a table differ that is equal: the columns because of which they do.
async fn unlike_columns(stage: &mut Stage) -> Vec<String> {
    if only(&stage.report().await).rows_read == 0 {
        return Vec::new();
    }
    let all: Vec<String> = columns(stage)
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let mut unlike = Vec::new();
    for column in all.iter().filter(|name| *name != "id") {
        let mut alone =
            crate::stage::Stage::of(&[TYPES, &without_others(column)], &["types"], Marts::none())
                .await;
        if only(&alone.report().await).rows_read > 0 {
            unlike.push(column.clone());
        }
        alone.change("DROP TABLE types").await;
    }
    unlike
}

fn without_others(column: &str) -> String {
    let column = column.replace('"', "\"\"");
    format!(
        "CREATE TABLE kept AS SELECT id, \"{column}\" FROM types; DROP TABLE types; ALTER TABLE kept RENAME TO types; \
         ALTER TABLE types ADD PRIMARY KEY (id)"
    )
}

async fn columns(stage: &mut Stage) -> Vec<(String, String)> {
    crate::columns(stage, "types").await
}

#[tokio::test]
async fn one_flipped_value_of_every_type_is_found_by_the_sums() {
    let mut stage = stage(TYPES, &["types"]).await;
    for (column, data_type) in columns(&mut stage).await {
        for id in 1..=4 {
            let (quoted, value) = (column.replace('`', "``"), flipped(&column, &data_type));
            let at = |value: &str| format!("UPDATE types SET `{quoted}` = {value} WHERE id = {id}");
            stage
                .change("CREATE TABLE kept AS SELECT * FROM types")
                .await;
            assert_eq!(stage.change(&at(&value)).await, 1, "{column} of row {id}");
            let report = stage.report().await;
            let table = only(&report);
            assert_eq!(report.exit(), Exit::Different, "{column} of row {id}");
            let named = |name: &str| table.differences.iter().any(|d| d.column == name);
            assert!(
                named(&column) || named("*"),
                "{column} of row {id}: {table:#?}"
            );
            stage.change("DELETE FROM types").await;
            stage.change("INSERT INTO types SELECT * FROM kept").await;
            stage.change("DROP TABLE kept").await;
        }
    }
    assert_eq!(stage.report().await.exit(), Exit::Equal);
}

/// The smallest change that the column's type can hold, of any value.
fn flipped(column: &str, data_type: &str) -> String {
    let value = match data_type.to_lowercase().as_str() {
        _ if column == "id" => "`{}` + 100",
        "smallint" | "int" | "bigint" => "IF(`{}` IS NULL, 0, IF(`{}` > 0, `{}` - 1, `{}` + 1))",
        "tinyint" => "IF(`{}` IS NULL, 0, 1 - `{}`)",
        "decimal" if column == "c_fraction" || column == "c_numeric" => {
            "IF(`{}` IS NULL, 0, IF(`{}` > 0, `{}` - 0.000000000000000000000000000001, `{}` + 0.000000000000000000000000000001))"
        }
        "decimal" if column == "c_whole" => "IF(`{}` IS NULL, 0, IF(`{}` > 0, `{}` - 1, `{}` + 1))",
        "decimal" => "IF(`{}` IS NULL, 0, IF(`{}` > 0, `{}` - 0.01, `{}` + 0.01))",
        "double" => "IF(`{}` IS NULL, 0, IF(`{}` = 0, 5e-324, `{}` * IF(ABS(`{}`) < 1e-300, 2, 0.9999999999999997)))",
        "date" => "COALESCE(`{}`, '2001-01-01') + INTERVAL IF(`{}` < '2001-01-01', 1, -1) DAY",
        "datetime" => "COALESCE(`{}`, '2001-01-01') + INTERVAL IF(`{}` < '2001-01-01', 1, -1) MICROSECOND",
        "time" => "IF(`{}` IS NULL, '00:00', IF(`{}` > 0, SUBTIME(`{}`, '00:00:00.000001'), '00:00:00.000001'))",
        "longblob" => "IF(`{}` IS NULL, '', CONCAT(`{}`, x'00'))",
        // Its last character only, and no longer than before unless it is empty; blanks mean nothing in a char(n).
        _ => "IF(`{}` IS NULL, '', IF(`{}` = '', '-', CONCAT(LEFT(`{}`, CHAR_LENGTH(`{}`) - 1), IF(RIGHT(`{}`, 1) = 'y', 'z', 'y'))))",
    };
    value.replace("{}", &column.replace('`', "``"))
}

#[tokio::test]
async fn values_that_mysql_cannot_hold_are_differences_whatever_stands_for_them() {
    let script = "CREATE TABLE lost (id integer PRIMARY KEY, n numeric, d date, t timestamptz, f double precision);
        INSERT INTO lost VALUES (1, 1, '2024-01-01', '2024-01-01', 1), (2, 1, '2024-01-01', '2024-01-01', 1)";
    let mut stage = stage(script, &["lost"]).await;
    for (column, value) in [
        ("n", "'NaN'"),
        ("n", "1e40"),
        ("n", "0.0000000000000000000000000000001"),
        ("d", "'infinity'"),
        ("d", "'0044-03-15 BC'"),
        ("t", "'10000-01-01'"),
        ("t", "'-infinity'"),
        ("f", "'NaN'"),
        ("f", "'-infinity'"),
    ] {
        let sql = format!("BEGIN; UPDATE lost SET {column} = {value} WHERE id = 2; COMMIT");
        stage
            .postgres
            .execute(sqlx::raw_sql(&sql))
            .await
            .expect("an update");
        let report = both_ways(&mut stage).await;
        assert_eq!(
            only(&report).differences_total,
            1,
            "{column} = {value}: {report:#?}"
        );
        stage
            .postgres
            .execute("UPDATE lost o SET n = i.n, d = i.d, t = i.t, f = i.f FROM lost i WHERE i.id = 1 AND o.id = 2")
            .await
            .expect("an update");
    }
    assert_eq!(stage.report().await.exit(), Exit::Equal);
}

#[tokio::test]
async fn random_numbers_and_texts_are_equal_and_not_read() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut script = "CREATE TABLE many (id integer PRIMARY KEY, d double precision, r real, n numeric, t text);".to_owned();
    let rows: Vec<String> = (0..2_000)
        .map(|id| {
            let double = f64::from_bits(random.random());
            let real = f32::from_bits(random.random());
            // What is small is printed in two ways, and read: ADR 23.
            let alike = |number: f64| number.is_finite() && !(1e-16..1e-13).contains(&number.abs());
            let double = if alike(double) { double } else { 0.1 };
            let real = if alike(f64::from(real)) { real } else { 0.1 };
            let near = random.random_range(-1e16..1e16) * 10f64.powi(random.random_range(-20..3));
            let double = if id % 2 == 0 || !alike(near) {
                double
            } else {
                near
            };
            let numeric = format!(
                "{}e{}",
                random.random::<i64>(),
                random.random_range(-25..10)
            );
            let text: String = (0..random.random_range(0..8))
                .map(|_| odd_char(&mut random))
                .collect();
            format!(
                "({id}, '{double:e}', '{real:e}', {numeric}, '{}')",
                text.replace('\'', "''")
            )
        })
        .collect();
    script += &format!("INSERT INTO many VALUES {}", rows.join(","));
    let mut stage = stage(&script, &["many"]).await;
    let report = both_ways(&mut stage).await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    assert_eq!(only(&report).rows_read, 0, "the sums of equal rows differ");
}

fn odd_char(random: &mut StdRng) -> char {
    const CHARS: [char; 14] = [
        'a',
        'A',
        ' ',
        ',',
        '-',
        ':',
        '#',
        '1',
        'é',
        '\u{301}',
        '😀',
        '\'',
        '\\',
        '\u{10ffff}',
    ];
    CHARS[random.random_range(0..CHARS.len())]
}

#[tokio::test]
async fn only_the_range_with_a_difference_is_read() {
    let mut stage = stage(LARGE, &["large"]).await;
    let report = stage.report().await;
    let table = only(&report);
    assert_eq!(
        (table.rows, table.ranges, table.rows_read),
        (LARGE_ROWS, 4, 0)
    );
    for (sql, kind, read) in [
        (
            "UPDATE large SET v = 'other' WHERE id = 90000",
            DifferenceKind::Value,
            RANGE_ROWS,
        ),
        (
            "DELETE FROM large WHERE id = 90003",
            DifferenceKind::Missing,
            RANGE_ROWS + 1,
        ),
        (
            "INSERT INTO large VALUES (90004, 'more', '2024-01-01')",
            DifferenceKind::Unexpected,
            RANGE_ROWS - 1,
        ),
        // Beyond the last key, and before the first one.
        (
            "INSERT INTO large VALUES (999999, 'more', '2024-01-01')",
            DifferenceKind::Unexpected,
            LARGE_ROWS - 3 * RANGE_ROWS,
        ),
        (
            "INSERT INTO large VALUES (-1, 'more', '2024-01-01')",
            DifferenceKind::Unexpected,
            RANGE_ROWS - 1,
        ),
    ] {
        let before = report_of(&mut stage, sql).await;
        let table = only(&before);
        assert_eq!(
            (table.differences_total, table.rows),
            (1, LARGE_ROWS),
            "{sql}"
        );
        assert_eq!(table.differences[0].kind, kind, "{sql}");
        assert_eq!(table.rows_read, read, "{sql}");
    }
}

/// With a change that is taken back then.
async fn report_of(stage: &mut Stage, sql: &str) -> Report {
    stage.change("CREATE TABLE kept LIKE large").await;
    stage.change("INSERT INTO kept SELECT * FROM large").await;
    stage.change(sql).await;
    let report = stage.report().await;
    stage.change("DROP TABLE large").await;
    stage.change("RENAME TABLE kept TO large").await;
    report
}

#[tokio::test]
async fn a_table_without_rows_on_one_side_is_told_row_by_row() {
    let mut stage = stage(LARGE, &["large"]).await;
    stage.change("DELETE FROM large").await;
    let report = stage.report().await;
    let table = only(&report);
    assert_eq!(
        (table.rows, table.differences_total),
        (LARGE_ROWS, LARGE_ROWS)
    );
    stage
        .postgres
        .execute("DELETE FROM large")
        .await
        .expect("a delete");
    let report = stage.report().await;
    assert_eq!((report.exit(), only(&report).rows), (Exit::Equal, 0));
}

/// Keys whose order depends on the collation, under one that compares bytes and under one that does not, and such that
/// need more than one range.
const HOSTILE: &str = r#"
    CREATE TABLE by_bytes (k text COLLATE "C" PRIMARY KEY, v integer);
    CREATE TABLE by_language (k text COLLATE "und-x-icu" PRIMARY KEY, v integer);
    CREATE TABLE composite (shop integer, k text COLLATE "und-x-icu", at timestamptz, u uuid, v integer,
        PRIMARY KEY (shop, k, at, u));
    CREATE TABLE other_order (a integer, b integer, v integer, PRIMARY KEY (b, a));
    CREATE TABLE padded (k char(6) COLLATE "C" PRIMARY KEY, v integer);
    CREATE TABLE bytes (k bytea PRIMARY KEY, v integer);
    CREATE TABLE moments (k timestamptz, n numeric, b boolean, v integer, PRIMARY KEY (k, n, b));
    INSERT INTO by_bytes SELECT DISTINCT ON (p || s || n) p || s || n, n FROM unnest(ARRAY['a', 'A', 'á', E'a\u0301', 'ä', 'Z', '😀', '￿', '', ' ', E'\\', '''', '%']) p,
        unnest(ARRAY['', ' ', '-', 'a', 'A', '😀', repeat('long', 150)]) s, generate_series(1, 250) n;
    INSERT INTO by_language SELECT * FROM by_bytes;
    INSERT INTO composite SELECT n % 3, k, '2024-01-01'::timestamptz + n * interval '0.7 s', md5(k)::uuid, v
        FROM (SELECT k, v, row_number() OVER ()::integer AS n FROM by_bytes) x;
    INSERT INTO other_order SELECT n % 200, n / 200, n FROM generate_series(1, 45000) n;
    INSERT INTO padded SELECT p || n, n FROM unnest(ARRAY['a', 'A', '- ', ' ']) p, generate_series(1, 6000) n WHERE length(p || n) <= 6;
    INSERT INTO bytes SELECT decode(md5(n::text), 'hex'), n FROM generate_series(1, 22000) n;
    INSERT INTO moments SELECT '2024-01-01'::timestamptz + (n / 10) * interval '0.25 s', (n % 5) - 2.50, n % 2 = 0, n
        FROM generate_series(1, 22000) n;"#;
const HOSTILE_TABLES: [&str; 7] = [
    "by_bytes",
    "by_language",
    "composite",
    "other_order",
    "padded",
    "bytes",
    "moments",
];

#[tokio::test]
async fn hostile_keys_mean_the_same_ranges_on_both_sides() {
    let mut stage = stage(HOSTILE, &HOSTILE_TABLES).await;
    let report = both_ways(&mut stage).await;
    assert_eq!(report.exit(), Exit::Equal, "{report:#?}");
    for table in &report.tables {
        assert_eq!(table.rows_read, 0, "{}", table.name);
        assert!(
            table.ranges >= 2 || table.rows < RANGE_ROWS,
            "{}: {} ranges",
            table.name,
            table.ranges
        );
    }
    // One row of each changes, and few of the others are read for it.
    for name in HOSTILE_TABLES {
        let changed = format!("UPDATE `{name}` SET v = -1 WHERE v = 77 LIMIT 1");
        assert_eq!(stage.change(&changed).await, 1);
    }
    let report = both_ways(&mut stage).await;
    for table in &report.tables {
        assert_eq!(table.differences_total, 1, "{}", table.name);
        assert!(
            (1..=RANGE_ROWS + 1).contains(&table.rows_read),
            "{}: {} rows",
            table.name,
            table.rows_read
        );
    }
}

#[tokio::test]
async fn a_key_that_only_one_side_orders_is_read_by_buckets() {
    let mut stage = stage(HOSTILE, &["by_language"]).await;
    stage
        .change("UPDATE by_language SET v = -1 WHERE k = 'A😀77'")
        .await;
    let report = stage.report().await;
    let table = only(&report);
    assert_eq!(table.differences_total, 1);
    assert!(
        table.rows_read < 100,
        "{} of {} rows",
        table.rows_read,
        table.rows
    );
}
