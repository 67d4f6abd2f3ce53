//! The types that the values of settings have.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use millrace_events::TableId;
use millrace_postgres_cdc::Selection;
use millrace_projections::replica::Policies;
use millrace_shop_generator::SchemaName;
use millrace_topic::SpuAddress;

use crate::address::Host;
use crate::args::LogFormat;

/// What a setting's text can be read as.
pub trait Value: Sized {
    /// Never printed.
    const SECRET: bool = false;
    /// What the text should be, as it stands after "is not".
    fn expected() -> String;
    /// Nothing if the text is something else.
    fn parse(text: &str) -> Option<Self>;
    /// The same as [`expected`](Value::expected) for a text that is something else, with what is wrong with it.
    fn expected_instead_of(_text: &str) -> String {
        Self::expected()
    }
}

/// Nothing where the text is empty.
impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        format!("{}, or empty", T::expected())
    }

    fn expected_instead_of(text: &str) -> String {
        format!("{}, or empty", T::expected_instead_of(text))
    }

    fn parse(text: &str) -> Option<Option<T>> {
        match text.trim() {
            "" => Some(None),
            _ => T::parse(text).map(Some),
        }
    }
}

impl Value for Host {
    fn expected() -> String {
        "a host name or an IP address".to_owned()
    }

    fn parse(text: &str) -> Option<Host> {
        Host::parse(text)
    }
}

/// Types of std that read a number.
macro_rules! numbers {
    ($($number:ty: $expected:literal,)*) => {$(
        impl Value for $number {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn parse(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
        }
    )*};
}

numbers! {
    u16: "a port number from 0 to 65535",
    u64: "a whole number",
    usize: "a whole number",
    NonZeroUsize: "a whole number above 0",
}

/// A name that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Value for Name {
    fn expected() -> String {
        "a name: it is empty".to_owned()
    }

    fn parse(text: &str) -> Option<Name> {
        (!text.trim().is_empty()).then(|| Name(text.to_owned()))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the names of a pipeline's topics, publication and slot are made of: they all have to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineName(String);

/// A slot has 63 characters, and `millrace_` stands in front.
const PIPELINE_NAME_CHARS_MAX: usize = 40;

impl PipelineName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for PipelineName {
    fn expected() -> String {
        format!("1 to {PIPELINE_NAME_CHARS_MAX} lower-case letters, digits and hyphens, with no hyphen at either end")
    }

    fn parse(text: &str) -> Option<PipelineName> {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = !text.is_empty()
            && text.len() <= PIPELINE_NAME_CHARS_MAX
            && text.chars().all(is_part)
            && !text.starts_with('-')
            && !text.ends_with('-');
        is_name.then(|| PipelineName(text.to_owned()))
    }
}

impl Value for Selection {
    fn expected() -> String {
        "a list of patterns of tables, separated by commas, such as public.*,!public.audit_*"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Selection> {
        text.parse().ok()
    }

    fn expected_instead_of(text: &str) -> String {
        with_mistake::<Selection>(text.parse::<Selection>().err())
    }
}

impl Value for Policies {
    fn expected() -> String {
        "a policy for values that MySQL cannot hold (stop, null or text), or a list of policies for columns, such as \
         *=null,public.invoices.total=text"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Policies> {
        text.parse().ok()
    }

    fn expected_instead_of(text: &str) -> String {
        with_mistake::<Policies>(text.parse::<Policies>().err())
    }
}

fn with_mistake<T: Value>(mistake: Option<impl fmt::Display>) -> String {
    match mistake {
        Some(mistake) => format!("{}: {mistake}", T::expected()),
        None => T::expected(),
    }
}

/// A password or a token; may be empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Value for Password {
    const SECRET: bool = true;

    fn expected() -> String {
        "a password".to_owned()
    }

    fn parse(text: &str) -> Option<Password> {
        Some(Password(text.to_owned()))
    }
}

impl From<Password> for String {
    fn from(password: Password) -> String {
        password.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A time that is given as a number of units of `MS` milliseconds, at least `MIN` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time<const MS: u64, const MIN: u64>(Duration);

/// Milliseconds; 0 is a value.
pub type Milliseconds = Time<1, 0>;
/// Seconds; 0 is a value.
pub type Seconds = Time<1_000, 0>;
/// At least one day.
pub type Days = Time<86_400_000, 1>;

/// What Fluvio can keep: its retention is a number of seconds of 32 bits.
const TIME_MAX: Duration = Duration::from_secs(u32::MAX as u64);

impl<const MS: u64, const MIN: u64> Time<MS, MIN> {
    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl<const MS: u64, const MIN: u64> Value for Time<MS, MIN> {
    fn expected() -> String {
        let unit = match MS {
            1 => "milliseconds",
            1_000 => "seconds",
            _ => "days",
        };
        let max = TIME_MAX.as_millis() / u128::from(MS);
        format!("a whole number of {unit} from {MIN} to {max}")
    }

    fn parse(text: &str) -> Option<Self> {
        let number: u64 = text.trim().parse().ok()?;
        let time = Duration::from_millis(number.checked_mul(MS)?);
        (number >= MIN && time <= TIME_MAX).then_some(Time(time))
    }
}

/// How often in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerSecond(pub f64);

impl Value for PerSecond {
    fn expected() -> String {
        format!(
            "a number from 0 to {}",
            millrace_shop_generator::trade::RATE_MAX
        )
    }

    fn parse(text: &str) -> Option<PerSecond> {
        let rate: f64 = text.trim().parse().ok()?;
        let range = 0.0..=millrace_shop_generator::trade::RATE_MAX;
        range.contains(&rate).then_some(PerSecond(rate))
    }
}

/// Host names, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(pub Vec<Host>);

impl Value for Hosts {
    fn expected() -> String {
        "a list of host names, separated by commas".to_owned()
    }

    fn parse(text: &str) -> Option<Hosts> {
        let names = text.split(',').map(str::trim);
        let hosts = names.filter(|name| !name.is_empty()).map(Host::parse);
        hosts.collect::<Option<_>>().map(Hosts)
    }
}

/// A JSON object: columns by table, or `"*"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub serde_json::Map<String, serde_json::Value>);

impl Value for Columns {
    fn expected() -> String {
        "a JSON object such as {\"public.accounts\":[\"id\"],\"sales.invoices\":\"*\"}".to_owned()
    }

    fn parse(text: &str) -> Option<Columns> {
        let columns: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
        let is_list = |value: &serde_json::Value| match value {
            serde_json::Value::Array(names) => names.iter().all(serde_json::Value::is_string),
            other => other == "*",
        };
        let is_table = |name: &String| name.parse::<TableId>().is_ok();
        let is_plan = columns.keys().all(is_table) && columns.values().all(is_list);
        is_plan.then_some(Columns(columns))
    }
}

impl Value for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }

    fn parse(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }
}

impl Value for SchemaName {
    fn expected() -> String {
        "a name that a schema of one's own can have".to_owned()
    }

    fn parse(text: &str) -> Option<SchemaName> {
        text.parse().ok()
    }
}

impl Value for SpuAddress {
    fn expected() -> String {
        "public or local".to_owned()
    }

    fn parse(text: &str) -> Option<SpuAddress> {
        text.trim().parse().ok()
    }
}

impl Value for LogFormat {
    fn expected() -> String {
        "human or json".to_owned()
    }

    fn parse(text: &str) -> Option<LogFormat> {
        clap::ValueEnum::from_str(text.trim(), false).ok()
    }
}
