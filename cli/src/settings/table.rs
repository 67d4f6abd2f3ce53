//! The table of settings. `.env` holds the same names and defaults; a test compares them.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Name in the environment and in `.env`.
    pub name: &'static str,
    /// Value without any other.
    pub default: &'static str,
    /// What it means, with its unit.
    pub help: &'static str,
    /// Never printed.
    pub secret: bool,
}

const fn plain(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        help,
        secret: false,
    }
}

const fn secret(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        help,
        secret: true,
    }
}

/// All settings in the order of `.env`.
pub const SETTINGS: &[Setting] = &[
    plain("POSTGRES_HOST", "127.0.0.1", "host of the source database"),
    plain("POSTGRES_PORT", "5432", "port of the source database"),
    plain("POSTGRES_DB", "postgres_db", "source database"),
    plain("POSTGRES_SCHEMA", "source", "schema of the shop in the source database"),
    plain("POSTGRES_USER", "db_user", "user of the source database; needs REPLICATION"),
    secret("POSTGRES_PASSWORD", "qwerty", "password of that user"),
    plain("MYSQL_HOST", "127.0.0.1", "host of the target database"),
    plain("MYSQL_PORT", "3306", "port of the target database"),
    plain("MYSQL_DB", "mysql_db", "target database"),
    plain("MYSQL_USER", "db_user", "user of the target database"),
    secret("MYSQL_PASSWORD", "qwerty", "password of that user"),
    plain("FLUVIO_HOST", "127.0.0.1", "host of the Fluvio controller, or of the embedded broker"),
    plain("FLUVIO_PORT", "9003", "port of the Fluvio controller"),
    plain("FLUVIO_SPU_PORT", "9010", "port of the embedded broker's streaming unit"),
    plain("FLUVIO_SPU_ADDRESS", "public", "which address of the streaming units to use: public, or local, the one for clients in their own network"),
    plain("DASHBOARD_HOST", "127.0.0.1", "address that the page listens on"),
    plain("DASHBOARD_PORT", "8080", "port of the page"),
    plain("DASHBOARD_NAMES", "", "host names that the page goes by beside its addresses, separated by commas"),
    plain("DASHBOARD_USER", "admin", "login of the page"),
    secret("DASHBOARD_PASSWORD", "admin", "password of that login"),
    plain("MILLRACE_CONTROL_PORT", "8081", "port of the projector's control API"),
    secret("MILLRACE_CONTROL_TOKEN", "", "token of the control APIs; empty: `up` makes one for its data directory"),
    plain("MILLRACE_CONTROL_HOST", "127.0.0.1", "address of the control APIs"),
    plain("MILLRACE_CAPTURE_CONTROL_PORT", "8082", "port of capture's control API"),
    plain("MILLRACE_CAPTURE_CONTROL_HOST", "", "address of capture's control API, if it is another one"),
    plain("MILLRACE_INGEST_CONTROL_PORT", "8083", "port of ingest's control API"),
    plain("MILLRACE_INGEST_CONTROL_HOST", "", "address of ingest's control API, if it is another one"),
    plain("MILLRACE_PUBLISHED_ON", "", "with containers: address of this machine that their ports are published on, 127.0.0.1 by docker-compose.yml; empty: no container"),
    plain("MILLRACE_HEARTBEAT_PERIOD_MS", "2000", "milliseconds between heartbeats, which the page writes into the source to measure the way to MySQL; 0: none"),
    plain("MILLRACE_TOPIC_CHANGES", "shop-changes", "topic of the change log"),
    plain("MILLRACE_TOPIC_SNAPSHOT", "shop-snapshot", "prefix of snapshot topics; a number follows"),
    plain("MILLRACE_TOPIC_USERS", "users-data", "topic of incoming users"),
    plain("MILLRACE_TOPIC_REJECTED", "users-data-rejected", "topic of rejected incoming users"),
    plain("MILLRACE_RETENTION_DAYS", "30", "days that topics keep their records"),
    plain("MILLRACE_PUBLICATION", "millrace", "publication in Postgres"),
    plain("MILLRACE_SLOT", "millrace", "replication slot in Postgres"),
    plain("MILLRACE_COLUMNS", "", "plan of the SmartModule columns, JSON: {\"users\":[\"user_id\",…],\"orders\":\"*\"}; empty: all tables of the shop, all columns"),
    plain("MILLRACE_USER_EVENT_BYTES_MAX", "16384", "bytes that an incoming user may have"),
    plain("MILLRACE_SEED", "42", "seed of the generator; the same seed makes the same shop"),
    plain("MILLRACE_USERS", "500", "users at the start"),
    plain("MILLRACE_CATEGORIES", "20", "product categories at the start, a quarter of them on the upper of two levels"),
    plain("MILLRACE_PRODUCTS", "800", "products at the start"),
    plain("MILLRACE_ORDERS", "3000", "orders at the start"),
    plain("MILLRACE_ORDER_DETAILS_MIN", "1", "details of an order, at least"),
    plain("MILLRACE_ORDER_DETAILS_MAX", "10", "details of an order, at most"),
    plain("MILLRACE_REVIEWS", "2000", "reviews at the start"),
    plain("MILLRACE_LOYALTY_ROWS", "3000", "loyalty point rows at the start"),
    plain("MILLRACE_TRADES_PER_SECOND", "5", "transactions a second while the shop trades"),
    plain("MILLRACE_USER_EVENT_PERIOD_MS", "5000", "milliseconds between incoming users"),
    plain("MILLRACE_TRADE_SECONDS_ONCE", "20", "seconds of trading with ONCE=1"),
    plain("MILLRACE_LOG_FORMAT", "human", "form of the log on standard error: human, or json"),
    plain("MILLRACE_POSTGRES_BIN", "", "folder with initdb and postgres for the private server; empty: search"),
    plain("MILLRACE_MYSQL_BIN", "", "mysqld or mariadbd for the private server; empty: search"),
];

/// Names that only building and testing read.
pub(super) const ELSEWHERE: &[&str] = &[
    "MILLRACE_BENCH_FLUVIO",
    "MILLRACE_SMARTMODULES_DIR",
    "MILLRACE_TEST_FLUVIO",
    "MILLRACE_TEST_SCREENSHOTS",
    "MILLRACE_TEST_SEED",
];
