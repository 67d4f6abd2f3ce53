//! Values of each type, and what MySQL has to show for them: written by hand, not derived from the code.

/// What becomes of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Becomes {
    /// The same text.
    Same,
    /// Another text for the same value.
    This(&'static str),
    /// MySQL has no such value: NULL, with this text beside it and in quarantine.
    Beside(&'static str),
}

use Becomes::{Beside, Same, This};

/// A type, and values of it as literals.
pub(super) struct Type {
    /// As in `CREATE TABLE`.
    pub(super) name: &'static str,
    /// Of a column of it, without the display width that MariaDB adds to integers.
    pub(super) mysql: &'static str,
    /// Whether it may be a primary key.
    pub(super) key: bool,
    pub(super) values: &'static [(&'static str, Becomes)],
}

const fn key(
    name: &'static str,
    mysql: &'static str,
    values: &'static [(&'static str, Becomes)],
) -> Type {
    Type {
        name,
        mysql,
        key: true,
        values,
    }
}

/// Postgres has no order of this type, so it cannot be a key.
const fn plain(
    name: &'static str,
    mysql: &'static str,
    values: &'static [(&'static str, Becomes)],
) -> Type {
    Type {
        name,
        mysql,
        key: false,
        values,
    }
}

/// Types that the matrix needs.
pub(super) const SETUP: &str = r#"
CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION ltree SCHEMA public;
CREATE EXTENSION cube SCHEMA public; CREATE EXTENSION seg SCHEMA public; CREATE EXTENSION isn SCHEMA public;
CREATE SCHEMA odd;
CREATE TYPE odd.mood AS ENUM ('sad', 'so so', 'it''s "ñ" \', '🙂');
CREATE DOMAIN odd.price AS numeric(10,3) CHECK (VALUE > -1000);
CREATE DOMAIN odd."E Mail" AS odd.price;
CREATE DOMAIN odd.short AS varchar(5);
CREATE TYPE odd.pair AS (a int, b text, c odd.mood);
CREATE TYPE odd.floats AS RANGE (subtype = float8);
CREATE TYPE odd."numeric(3)" AS ENUM ('12', 'not a number');
"#;

pub(super) const TYPES: &[Type] = &[
    key(
        "boolean",
        "tinyint(1)",
        &[("true", This("1")), ("false", This("0"))],
    ),
    key(
        "smallint",
        "smallint",
        &[("-32768", Same), ("32767", Same), ("0", Same)],
    ),
    key(
        "integer",
        "int",
        &[("-2147483648", Same), ("2147483647", Same), ("0", Same)],
    ),
    key(
        "bigint",
        "bigint",
        &[
            ("-9223372036854775808", Same),
            ("9223372036854775807", Same),
            ("9007199254740993", Same),
            ("0", Same),
        ],
    ),
    key(
        "numeric(12,2)",
        "decimal(12,2)",
        &[
            ("-0.50", Same),
            ("9999999999.99", Same),
            ("0", This("0.00")),
            ("NaN", Beside("NaN")),
        ],
    ),
    key(
        "numeric(65,30)",
        "decimal(65,30)",
        &[(
            "12345678901234567890123456789012345.123456789012345678901234567891",
            Same,
        )],
    ),
    key(
        "numeric(3,-2)",
        "decimal(65,30)",
        &[("12345", This("12300.000000000000000000000000000000"))],
    ),
    key(
        "numeric(3,5)",
        "decimal(65,30)",
        &[("0.00123", This("0.001230000000000000000000000000"))],
    ),
    key(
        "numeric(80,2)",
        "longtext",
        &[
            (
                "123456789012345678901234567890123456789012345678901234567890123456789012345678.91",
                Same,
            ),
            ("-1", This("-1.00")),
            ("NaN", Same),
        ],
    ),
    key(
        "numeric",
        "decimal(65,30)",
        &[
            ("1.10", This("1.100000000000000000000000000000")),
            (
                "-12345678901234567890123456789012345",
                This("-12345678901234567890123456789012345.000000000000000000000000000000"),
            ),
            ("0.000000000000000000000000000001", Same),
            ("1e40", Beside("10000000000000000000000000000000000000000")),
            ("1e-31", Beside("0.0000000000000000000000000000001")),
            ("NaN", Beside("NaN")),
            ("Infinity", Beside("Infinity")),
            ("-Infinity", Beside("-Infinity")),
        ],
    ),
    key(
        "real",
        "double",
        &[
            ("3.4028235e38", Same),
            ("1e-45", Same),
            ("0.1", Same),
            ("-0", Same),
            ("NaN", Beside("NaN")),
        ],
    ),
    key(
        "double precision",
        "double",
        &[
            ("1.7976931348623157e308", Same),
            ("2.2250738585072014e-308", Same),
            ("5e-324", Same),
            ("0.30000000000000004", Same),
            ("-0", Same),
            ("NaN", Beside("NaN")),
            ("Infinity", Beside("Infinity")),
            ("-Infinity", Beside("-Infinity")),
        ],
    ),
    key(
        "text",
        "longtext",
        &[
            ("", Same),
            ("a", Same),
            ("A", Same),
            ("a ", Same),
            ("á", Same),
            ("a\u{301}", Same),
            ("ß", Same),
            ("ss", Same),
            (r"\N", Same),
            (r"\x41 \' \\ % _", Same),
            ("'\"`;--\t\n\r\u{8}\u{c}\u{b}\u{1}\u{7f}", Same),
            ("🙂 👩\u{200d}👩\u{200d}👧 \u{10ffff}", Same),
            ("\u{feff}\u{200b}\u{202e}\u{ffff}\u{fffd}\u{e000}", Same),
            ("null", Same),
            ("ı İ Ǆ ǅ ﬁ ｆｉ", Same),
        ],
    ),
    key(
        "character varying(5)",
        "varchar(5)",
        &[
            ("🙂🙂🙂🙂🙂", Same),
            ("", Same),
            ("a  ", Same),
            ("a", Same),
            ("A", Same),
        ],
    ),
    key("character varying", "longtext", &[("any length", Same)]),
    key(
        "character(5)",
        "char(5)",
        &[("ab", Same), ("🙂", Same), ("", Same), ("AB", Same)],
    ),
    key("bpchar", "longtext", &[("any length", Same)]),
    key("name", "longtext", &[("a name", Same)]),
    key("\"char\"", "longtext", &[("x", Same)]),
    key(
        "bytea",
        "longblob",
        &[
            (r"\x", This("")),
            (r"\x00ff5c27", This("00FF5C27")),
            (r"\xdeadbeef", This("DEADBEEF")),
        ],
    ),
    key(
        "uuid",
        "char(36)",
        &[(
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            This("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        )],
    ),
    key(
        "date",
        "date",
        &[
            ("2024-02-29", Same),
            ("0001-01-01", Same),
            ("9999-12-31", Same),
            ("1582-10-10", Same),
            ("0044-03-15 BC", Beside("0044-03-15 BC")),
            ("10000-01-01", Beside("10000-01-01")),
            ("infinity", Beside("infinity")),
            ("-infinity", Beside("-infinity")),
        ],
    ),
    key(
        "time",
        "time(6)",
        &[
            ("24:00:00", This("24:00:00.000000")),
            ("23:59:59.999999", Same),
            ("00:00", This("00:00:00.000000")),
        ],
    ),
    key(
        "time(0)",
        "time(6)",
        &[("12:34:56.7", This("12:34:57.000000"))],
    ),
    key(
        "time with time zone",
        "longtext",
        &[("12:00:00.5+05:30", Same), ("24:00:00-12", Same)],
    ),
    key(
        "timestamp",
        "datetime(6)",
        &[
            ("2024-02-29 12:00:01.25", This("2024-02-29 12:00:01.250000")),
            ("0001-01-01 00:00:00", This("0001-01-01 00:00:00.000000")),
            ("9999-12-31 23:59:59.999999", Same),
            ("1970-01-01 00:00:00", This("1970-01-01 00:00:00.000000")),
            ("infinity", Beside("infinity")),
            ("0001-12-31 23:59:59 BC", Beside("0001-12-31 23:59:59 BC")),
        ],
    ),
    key(
        "timestamp with time zone",
        "datetime(6)",
        &[
            ("2024-07-01 12:00:00+02", This("2024-07-01 10:00:00.000000")),
            // An hour that does not exist, and one that comes twice: the second one is meant.
            (
                "2024-03-31 02:30:00 Europe/Berlin",
                This("2024-03-31 01:30:00.000000"),
            ),
            (
                "2024-10-27 02:30:00 Europe/Berlin",
                This("2024-10-27 01:30:00.000000"),
            ),
            ("2024-10-27 02:30:00+02", This("2024-10-27 00:30:00.000000")),
            (
                "1883-11-18 12:00:00 America/New_York",
                This("1883-11-18 17:00:00.000000"),
            ),
            (
                "9999-12-31 23:59:59.999999+00",
                This("9999-12-31 23:59:59.999999"),
            ),
            ("9999-12-31 23:59:59-01", Beside("10000-01-01 00:59:59+00")),
            ("-infinity", Beside("-infinity")),
        ],
    ),
    key(
        "timestamp(3) with time zone",
        "datetime(6)",
        &[(
            "2024-07-01 12:00:00.0005+00",
            This("2024-07-01 12:00:00.001000"),
        )],
    ),
    key(
        "interval",
        "longtext",
        &[
            ("1 year 2 mons -3 days +04:05:06.789", Same),
            ("-00:00:01", Same),
            ("178000000 years", Same),
        ],
    ),
    key("bit(3)", "longtext", &[("101", Same), ("000", Same)]),
    key(
        "bit varying",
        "longtext",
        &[
            ("", Same),
            (
                "00000000000000000000000000000000000000000000000000000000000000001",
                Same,
            ),
        ],
    ),
    plain(
        "json",
        "longtext",
        &[
            (
                r#"{"b":12345678901234567890123456789,  "a":1.10,"a":null}"#,
                Same,
            ),
            ("9007199254740993", Same),
            ("null", Same),
        ],
    ),
    key(
        "jsonb",
        "longtext",
        &[
            (
                r#"{"b":12345678901234567890123456789,  "a":1.10,"a":null}"#,
                This(r#"{"a": null, "b": 12345678901234567890123456789}"#),
            ),
            (
                r#"{"n": 1.10, "s": "\u00e9\ud83d\ude42\\"}"#,
                This("{\"n\": 1.10, \"s\": \"é🙂\\\\\"}"),
            ),
            ("9007199254740993", Same),
            ("null", Same),
            ("\"null\"", Same),
        ],
    ),
    plain("jsonpath", "longtext", &[(r#"$."a"[*]?(@ > 1)"#, Same)]),
    plain("xml", "longtext", &[("<a b=\"1\">ü &amp; 🙂</a>", Same)]),
    key(
        "money",
        "longtext",
        &[
            ("-1234.5", This("-$1,234.50")),
            ("92233720368547758.07", This("$92,233,720,368,547,758.07")),
        ],
    ),
    key(
        "inet",
        "longtext",
        &[
            ("192.168.0.1/24", Same),
            ("::1", Same),
            ("::ffff:1.2.3.4", Same),
        ],
    ),
    key(
        "cidr",
        "longtext",
        &[("10.0.0.0/8", Same), ("2001:db8::/32", Same)],
    ),
    key("macaddr", "longtext", &[("08:00:2b:01:02:03", Same)]),
    key("macaddr8", "longtext", &[("08:00:2b:01:02:03:04:05", Same)]),
    key("oid", "longtext", &[("4294967295", Same)]),
    key("pg_lsn", "longtext", &[("FFFFFFFF/FFFFFFFF", Same)]),
    key("xid8", "longtext", &[("18446744073709551615", Same)]),
    plain("pg_snapshot", "longtext", &[("10:20:10,14,15", Same)]),
    plain("point", "longtext", &[("(1.5,-2)", Same)]),
    plain("line", "longtext", &[("{1,-1,0}", Same)]),
    plain("lseg", "longtext", &[("[(0,0),(1,1)]", Same)]),
    plain("box", "longtext", &[("(1,1),(0,0)", Same)]),
    plain("path", "longtext", &[("((0,0),(1,1),(2,0))", Same)]),
    plain("polygon", "longtext", &[("((0,0),(1,1),(2,0))", Same)]),
    plain("circle", "longtext", &[("<(1,2),3>", Same)]),
    key(
        "tsvector",
        "longtext",
        &[("'cat':3A 'fat':2 'it''s':1", Same)],
    ),
    key(
        "tsquery",
        "longtext",
        &[("'fat' & ( 'rat' | !'cat' )", Same)],
    ),
    key(
        "integer[]",
        "longtext",
        &[
            ("{1,NULL,3}", Same),
            ("{}", Same),
            ("[0:1]={5,6}", Same),
            ("{{1,2},{3,4}}", Same),
        ],
    ),
    key(
        "text[]",
        "longtext",
        &[(r#"{"a,b","",NULL,"NULL","\\ \" {}",🙂}"#, Same)],
    ),
    key("numeric(10,2)[]", "longtext", &[("{1.10,NaN}", Same)]),
    key("bytea[]", "longtext", &[(r#"{"\\x00ff",NULL}"#, Same)]),
    key(
        "int4range",
        "longtext",
        &[("[1,5)", Same), ("empty", Same), ("(,)", Same)],
    ),
    key(
        "tstzrange",
        "longtext",
        &[("[\"2024-01-01 00:00:00+00\",infinity)", Same)],
    ),
    key(
        "int4multirange",
        "longtext",
        &[("{[1,3),[5,7)}", Same), ("{}", Same)],
    ),
    key("odd.floats", "longtext", &[("[0.1,NaN)", Same)]),
    key(
        "odd.mood",
        "longtext",
        &[("sad", Same), ("it's \"ñ\" \\", Same), ("🙂", Same)],
    ),
    key("odd.mood[]", "longtext", &[("{sad,\"so so\",NULL}", Same)]),
    key(
        "odd.\"numeric(3)\"",
        "longtext",
        &[("12", Same), ("not a number", Same)],
    ),
    key(
        "odd.price",
        "decimal(10,3)",
        &[("-999.999", Same), ("1", This("1.000"))],
    ),
    key("odd.\"E Mail\"", "decimal(10,3)", &[("0.5", This("0.500"))]),
    key("odd.short", "varchar(5)", &[("short", Same)]),
    key(
        "odd.pair",
        "longtext",
        &[("(1,\"x, \"\"y\"\"\",sad)", Same), ("(,,)", Same)],
    ),
    key("odd.pair[]", "longtext", &[("{\"(1,x,sad)\",NULL}", Same)]),
    key(
        "public.hstore",
        "longtext",
        &[(r#""a"=>"1", "b"=>NULL, "ü \"q\""=>"""#, Same)],
    ),
    key("public.citext", "longtext", &[("Case Kept", Same)]),
    key(
        "public.ltree",
        "longtext",
        &[("Top.Science.Astronomy", Same)],
    ),
    key("public.cube", "longtext", &[("(1, 2),(3, 4)", Same)]),
    key("public.seg", "longtext", &[("1.5 .. 2.50", Same)]),
    key("public.isbn13", "longtext", &[("978-0-14-039309-5", Same)]),
];
