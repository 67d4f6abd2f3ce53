//! The table of settings: every name once, with its type, its default and its meaning.
//!
//! Each is a constant of its own name, so that a misspelt one does not compile. `.env` holds the same names,
//! defaults and meanings; a test compares them.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use millrace_postgres_cdc::Selection;
use millrace_projections::replica::Policies;
use millrace_shop_generator::SchemaName;
use millrace_topic::SpuAddress;

use super::size::TopicSize;
use super::value::{
    Columns, Days, Hosts, Milliseconds, Name, Password, PerSecond, PipelineName, Seconds, Value,
};
use crate::address::Host;
use crate::args::LogFormat;

/// A setting whose values are of type `T`.
pub struct Setting<T> {
    name: &'static str,
    default: &'static str,
    help: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Setting<T> {}

impl<T: Value> Setting<T> {
    const fn new(name: &'static str, default: &'static str, help: &'static str) -> Setting<T> {
        Setting {
            name,
            default,
            help,
            value: PhantomData,
        }
    }

    /// Name in the environment and in `.env`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Text of the value where no other is given.
    pub(super) const fn default(self) -> &'static str {
        self.default
    }

    /// The setting without its type.
    const fn described(self) -> Described {
        Described {
            name: self.name,
            default: self.default,
            help: self.help,
            secret: T::SECRET,
            expected_instead_of: T::expected_instead_of,
            accepts: accepts::<T>,
        }
    }
}

fn accepts<T: Value>(text: &str) -> bool {
    T::parse(text).is_some()
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Name in the environment and in `.env`.
    pub name: &'static str,
    /// Value where no other is given.
    pub default: &'static str,
    /// What it means, with its unit.
    pub help: &'static str,
    /// Never printed.
    pub secret: bool,
    /// What a value should be instead of this text.
    pub expected_instead_of: fn(&str) -> String,
    /// True for the text of a value.
    pub accepts: fn(&str) -> bool,
}

macro_rules! settings {
    ($($name:ident: $type:ty = $default:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $name: Setting<$type> = Setting::new(stringify!($name), $default, $help);
        )*

        /// All settings in the order of `.env`.
        pub const SETTINGS: &[Described] = &[$($name.described()),*];
    };
}

settings! {
    MILLRACE_NAME: PipelineName = "millrace", "name of the pipeline: its topics are NAME-changes and NAME-snapshot-N, its publication and its slot millrace_NAME";
    MILLRACE_TABLES: Selection = "public.*", "tables to capture: patterns such as public.*,sales.invoices,!public.audit_*, where * stands for any characters and ! leaves tables out";
    MILLRACE_MARTS: Option<PathBuf> = "", "folder of the marts, NAME.sql and NAME.json each, relative to the working directory; if empty, there are no marts";
    MILLRACE_COLUMNS: Option<Columns> = "", "tables and columns that reach MySQL, as JSON: {\"public.accounts\":[\"id\",…],\"sales.invoices\":\"*\"}; if empty, all columns of all captured tables";
    MILLRACE_VALUES: Policies = "stop", "what becomes of a value that MySQL cannot hold, such as NaN: stop takes its table out, null makes the column NULL and keeps the value in quarantine, text does the same and puts its text into a column beside; one for all, or a list such as *=null,public.invoices.total=text; counts for a table from its next copy on";
    POSTGRES_HOST: Host = "127.0.0.1", "host of the source database";
    POSTGRES_PORT: u16 = "5432", "port of the source database";
    POSTGRES_DB: Name = "postgres_db", "name of the source database";
    POSTGRES_SCHEMA: SchemaName = "source", "schema of the shop in the source database";
    POSTGRES_USER: Name = "db_user", "user of the source database; it needs the attribute REPLICATION";
    POSTGRES_PASSWORD: Password = "qwerty", "password of that user";
    MYSQL_HOST: Host = "127.0.0.1", "host of the target database";
    MYSQL_PORT: u16 = "3306", "port of the target database";
    MYSQL_DB: Name = "mysql_db", "name of the target database";
    MYSQL_USER: Name = "db_user", "user of the target database";
    MYSQL_PASSWORD: Password = "qwerty", "password of that user";
    FLUVIO_HOST: Host = "127.0.0.1", "host of the Fluvio controller or of the embedded broker";
    FLUVIO_PORT: u16 = "9003", "port of the Fluvio controller or of the embedded broker";
    FLUVIO_SPU_PORT: u16 = "9010", "second port of the embedded broker, from which clients read and to which they write records";
    FLUVIO_SPU_ADDRESS: SpuAddress = "public", "which address of the streaming units (SPUs) to use: public, or local for services in the units' own network";
    DASHBOARD_HOST: Host = "127.0.0.1", "address on which the page listens";
    DASHBOARD_PORT: u16 = "8080", "port of the page";
    DASHBOARD_NAMES: Hosts = "", "host names, separated by commas, under which browsers may reach the page in addition to its address";
    DASHBOARD_USER: Option<Name> = "admin", "user name for the page's buttons";
    DASHBOARD_PASSWORD: Option<Password> = "admin", "password of that user";
    MILLRACE_CONTROL_PORT: u16 = "8081", "port of the projector's control API";
    MILLRACE_CONTROL_TOKEN: Password = "", "token that the control APIs ask for; if empty, `up` generates one for its data directory";
    MILLRACE_CONTROL_HOST: Host = "127.0.0.1", "address of the control APIs";
    MILLRACE_CAPTURE_CONTROL_PORT: u16 = "8082", "port of capture's control API";
    MILLRACE_CAPTURE_CONTROL_HOST: Option<Host> = "", "address of capture's control API; if empty, that of MILLRACE_CONTROL_HOST";
    MILLRACE_INGEST_CONTROL_PORT: u16 = "8083", "port of ingest's control API";
    MILLRACE_INGEST_CONTROL_HOST: Option<Host> = "", "address of ingest's control API; if empty, that of MILLRACE_CONTROL_HOST";
    MILLRACE_GENERATE_CONTROL_PORT: Option<u16> = "", "port of the generator's control API, which has no other use than to be probed; if empty, there is none";
    MILLRACE_PUBLISHED_ON: Option<Host> = "", "in containers: address of the machine on which their ports are published; if empty, there are no containers";
    MILLRACE_HEARTBEAT_PERIOD_MS: Milliseconds = "2000", "milliseconds between the heartbeats that the page sends through the pipeline to measure its delay; 0 turns them off";
    MILLRACE_VERIFY_PERIOD: Seconds = "0", "seconds between two verifications that the projector runs by itself, with rests in between so that neither database is kept busy; 0 turns them off";
    MILLRACE_TOPIC_CHANGES: Option<Name> = "", "topic of the change log; if empty, MILLRACE_NAME names it";
    MILLRACE_TOPIC_SNAPSHOT: Option<Name> = "", "prefix of the snapshot topics, which a number follows; if empty, MILLRACE_NAME names it";
    MILLRACE_TOPIC_USERS: Name = "users-data", "topic of incoming users";
    MILLRACE_TOPIC_REJECTED: Name = "users-data-rejected", "topic of rejected incoming users";
    MILLRACE_RETENTION_DAYS: Days = "30", "number of days for which topics keep their records";
    MILLRACE_RETENTION_SIZE: TopicSize = "32GiB", "size, such as 32GiB, beyond which a topic removes its oldest records, whatever their age";
    MILLRACE_RETENTION_HARD_SIZE: TopicSize = "100GiB", "size up to which the embedded broker keeps what a service has not read yet, although MILLRACE_RETENTION_DAYS or MILLRACE_RETENTION_SIZE would remove it; also what a snapshot topic keeps";
    MILLRACE_PUBLICATION: Option<Name> = "", "name of the publication in Postgres; if empty, MILLRACE_NAME names it";
    MILLRACE_SLOT: Option<Name> = "", "name of the replication slot in Postgres; if empty, MILLRACE_NAME names it";
    MILLRACE_SNAPSHOT_READERS: NonZeroUsize = "4", "number of sessions with Postgres that copy tables at once";
    MILLRACE_USER_EVENT_BYTES_MAX: NonZeroUsize = "16384", "largest size of an incoming user event in bytes";
    MILLRACE_SEED: u64 = "42", "seed of the generator; the same seed generates the same shop";
    MILLRACE_USERS: usize = "500", "number of users at the start";
    MILLRACE_CATEGORIES: usize = "20", "number of product categories at the start; a quarter of them are top-level categories";
    MILLRACE_PRODUCTS: usize = "800", "number of products at the start";
    MILLRACE_ORDERS: usize = "3000", "number of orders at the start";
    MILLRACE_ORDER_DETAILS_MIN: NonZeroUsize = "1", "smallest number of items in an order";
    MILLRACE_ORDER_DETAILS_MAX: NonZeroUsize = "10", "largest number of items in an order";
    MILLRACE_REVIEWS: usize = "2000", "number of reviews at the start";
    MILLRACE_LOYALTY_ROWS: usize = "3000", "number of rows with loyalty points at the start";
    MILLRACE_TRADES_PER_SECOND: PerSecond = "5", "transactions per second while the shop trades";
    MILLRACE_USER_EVENT_PERIOD_MS: Milliseconds = "5000", "milliseconds between two incoming users; 0: none come";
    MILLRACE_TRADE_SECONDS_ONCE: Seconds = "20", "seconds for which `up --demo --once` trades";
    MILLRACE_LOG_FORMAT: LogFormat = "human", "format of the log on standard error: human or json";
    MILLRACE_POSTGRES_BIN: Option<PathBuf> = "", "folder that contains initdb and postgres for the private server; if empty, `up` searches for it";
    MILLRACE_MYSQL_BIN: Option<PathBuf> = "", "path of mysqld or mariadbd for the private server; if empty, `up` searches for it";
}

/// Names with our prefix that only building and testing read.
pub(super) const ELSEWHERE: &[&str] = &[
    "MILLRACE_BENCH_FLUVIO",
    "MILLRACE_BLESS",
    "MILLRACE_SMARTMODULES_DIR",
    "MILLRACE_TEST_FLUVIO",
    "MILLRACE_TEST_PYTHON",
    "MILLRACE_TEST_ROUNDS",
    "MILLRACE_TEST_ROWS",
    "MILLRACE_TEST_SCREENSHOTS",
    "MILLRACE_TEST_SEED",
];
