//! The digest of a row as SQL, and sums of digests: the same on both servers where the rows are the same. Pure.
//!
//! Equal sums prove that the rows are equal. Unequal ones prove nothing: whoever meets them reads the rows. So every
//! expression here has to be injective, and may fail to be equal for equal values where SQL cannot do better; such a
//! row costs time and nothing else. Postgres' side is the text that its output functions print, which is what travels
//! through the log; MySQL's side is made into that text.
//!
//! A row's text is the texts of its columns with commas between them. Numbers and times contain no comma; a text
//! follows its own length, or is replaced by length and digest where it is long; NULL is `-`, which none of these is.
//! So no value can pass for another one, or for two.

use std::collections::BTreeMap;

use millrace_sessions::postgres::quoted as name;

use crate::replica::{quoted, Column, Kind};

/// Longer texts go into the row's text as their digest: MySQL gives NULL for a text beyond `max_allowed_packet`.
const TEXT_CHARS_MAX: u32 = 1_000;
/// Postgres: arguments of a function are at most 100.
const ARGUMENTS_MAX: usize = 90;
/// Hexadecimal digits of a digest that go into each of the two sums: 60 bits are a positive `bigint` on both servers.
const SUM_DIGITS: usize = 15;

/// An expression for each server. Both mean the columns of a table called `t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) source: String,
    pub(super) replica: String,
}

impl Sides {
    fn new(source: String, replica: String) -> Sides {
        Sides { source, replica }
    }
}

/// The digest of a row: 64 hexadecimal digits. Each column comes with its type in Postgres; those `beside`, which only
/// the replica has, are NULL but for rows whose digests differ anyway.
pub(super) fn digest<'a>(
    columns: impl Iterator<Item = (&'a Column, &'a str)>,
    beside: impl Iterator<Item = &'a str>,
) -> Sides {
    let beside = beside.map(|name| {
        let replica = format!("SHA2(t.{}, 256)", quoted(name));
        plain("NULL".to_owned(), replica)
    });
    let fields: Vec<Sides> = columns
        .map(|(column, type_name)| field(column, type_name))
        .chain(beside)
        .collect();
    let (source, replica): (Vec<String>, Vec<String>) = fields
        .into_iter()
        .map(|sides| (sides.source, sides.replica))
        .unzip();
    hashed(joined(&source), joined(&replica))
}

/// Texts with commas between them.
pub(super) fn joined(texts: &[String]) -> String {
    if texts.len() <= ARGUMENTS_MAX {
        return format!("concat_ws(',', {})", texts.join(", "));
    }
    let parts: Vec<String> = texts.chunks(ARGUMENTS_MAX).map(joined).collect();
    joined(&parts)
}

/// The digests of two texts.
fn hashed(source: String, replica: String) -> Sides {
    Sides::new(
        format!("encode(sha256(convert_to({source}, 'UTF8')), 'hex')"),
        format!("SHA2({replica}, 256)"),
    )
}

/// The part of a row's text that stands for a column. Never NULL.
pub(super) fn field(column: &Column, type_name: &str) -> Sides {
    let source = format!("t.{}", name(&column.source));
    let replica = format!("t.{}", quoted(&column.name));
    match column.kind {
        Kind::SmallInt | Kind::Int | Kind::BigInt | Kind::Decimal { .. } => {
            plain(format!("{source}::text"), replica)
        }
        Kind::Bool => plain(format!("{source}::int::text"), replica),
        Kind::DecimalAny => any_decimal(&source, &replica),
        Kind::Double => double(&source, &replica),
        Kind::Date => plain(format!("{source}::text"), printed(&replica)),
        Kind::DateTime | Kind::Time => time(&source, &replica, type_name),
        Kind::Uuid => text(&format!("{source}::text"), &replica),
        Kind::BlankPadded(_) | Kind::LongBlankPadded => text(
            &format!("rtrim({source}::text)"),
            &format!("TRIM(TRAILING ' ' FROM {replica})"),
        ),
        Kind::VarChar(_) | Kind::LongText if is_text(type_name) => text(&source, &replica),
        Kind::VarChar(_) | Kind::LongText => output(&source, &replica),
        Kind::LongBlob | Kind::VarBinary(_) => plain(
            format!("encode(sha256({source}), 'hex')"),
            format!("SHA2({replica}, 256)"),
        ),
    }
}

/// Types of Postgres that are text of any length, or of a limited one, without padding.
pub(super) fn is_text(type_name: &str) -> bool {
    let base = type_name
        .split_once('(')
        .map_or(type_name, |(base, _)| base);
    matches!(base, "text" | "character varying")
}

/// Texts without commas, which a column of their type cannot hold.
fn plain(source: String, replica: String) -> Sides {
    Sides::new(
        format!("coalesce({source}, '-')"),
        format!("IFNULL({replica}, '-')"),
    )
}

/// Any text: it follows its length in characters, which both servers count alike.
fn text(source: &str, replica: &str) -> Sides {
    let long = hashed(source.to_owned(), replica.to_owned());
    Sides::new(
        format!(
            "coalesce(CASE WHEN length({source}) <= {TEXT_CHARS_MAX} THEN length({source}) || ':' || {source} \
             ELSE length({source}) || '#' || {} END, '-')",
            long.source
        ),
        format!(
            "IF({replica} IS NULL, '-', IF(CHAR_LENGTH({replica}) <= {TEXT_CHARS_MAX}, \
             CONCAT(CHAR_LENGTH({replica}), ':', {replica}), CONCAT(CHAR_LENGTH({replica}), '#', {})))",
            long.replica
        ),
    )
}

/// What the output function of any type prints; a cast to text prints some types in another way. As a digest, because
/// it may be long and dear to print. A row of NULLs is not NULL, although `IS NULL` says so.
fn output(source: &str, replica: &str) -> Sides {
    let printed = hashed(format!("concat({source})"), replica.to_owned());
    Sides::new(
        format!(
            "CASE WHEN {source} IS NOT DISTINCT FROM NULL THEN '-' ELSE {} END",
            printed.source
        ),
        format!("IFNULL({}, '-')", printed.replica),
    )
}

fn printed(replica: &str) -> String {
    format!("CAST({replica} AS CHAR)")
}

/// MySQL prints all digits behind the point, which there always is; Postgres only those that are needed.
fn without_zeros(replica: &str) -> String {
    let printed = printed(replica);
    format!("TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {printed}))")
}

fn time(source: &str, replica: &str, type_name: &str) -> Sides {
    let zoned = type_name.contains("with time zone") || type_name == "timestamptz";
    let replica = match zoned {
        true => format!("CONCAT({}, '+00')", without_zeros(replica)),
        false => without_zeros(replica),
    };
    plain(format!("{source}::text"), replica)
}

/// Postgres keeps the zeros that somebody wrote.
fn any_decimal(source: &str, replica: &str) -> Sides {
    plain(
        format!(
            "CASE WHEN scale({source}) > 0 THEN rtrim(rtrim({source}::text, '0'), '.') ELSE {source}::text END"
        ),
        without_zeros(replica),
    )
}

/// Both print the fewest digits that mean the number, and differ in when they write an exponent, and sometimes in the
/// last digit of large ones. So whole numbers beyond 2^53 are printed as such as far as 64 bits reach, and others with 30
/// digits behind the point where these hold all of 17. The sign of zero is kept. MariaDB's own text of what is smaller
/// is another than Postgres' down to 1e-15: such rows are read.
fn double(source: &str, replica: &str) -> Sides {
    let whole = |value: &str| format!("abs({value}) >= 9e15 AND abs({value}) < 9e18");
    let fixed = |value: &str| format!("abs({value}) >= 1e-13 AND abs({value}) < 1e34");
    // A real is kept as the number that its text means.
    let number = format!("{source}::text::float8");
    let exponent = format!(
        "REPLACE(REPLACE({}, 'e', 'e+'), 'e+-', 'e-')",
        printed(replica)
    );
    plain(
        format!(
            "CASE WHEN {} THEN {number}::bigint::text WHEN {} THEN round({source}::text::numeric, 30)::text \
             ELSE {source}::text END",
            whole(&number),
            fixed(&number)
        ),
        format!(
            "CASE WHEN {} THEN CAST(CAST({replica} AS SIGNED) AS CHAR) WHEN {} \
             THEN CAST(CAST({replica} AS DECIMAL(65,30)) AS CHAR) ELSE {exponent} END",
            whole(replica),
            fixed(replica)
        ),
    )
}

/// What rows are summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    /// Table, as SQL.
    pub(super) table: &'a str,
    /// Digest of a row.
    pub(super) digest: &'a str,
    /// Condition on a row.
    pub(super) range: &'a str,
    /// Hexadecimal digits of the digest by which the sums are kept apart; 0: one sum for all.
    pub(super) bucket_digits: usize,
}

/// A query in Postgres for [`Sums`]: bucket, number of rows, and the two sums.
pub(super) fn source_sums(rows: Rows) -> String {
    let sum = |from: usize| {
        format!("sum(('x' || substr(d, {from}, {SUM_DIGITS}))::bit(60)::bigint)::text")
    };
    // OFFSET keeps the digest from being computed once for each use of it.
    format!(
        "SELECT {}, count(*)::text, {}, {} FROM (SELECT {} AS d FROM ONLY {} t WHERE {} OFFSET 0) AS digests{}",
        bucket(rows.bucket_digits),
        sum(1),
        sum(1 + SUM_DIGITS),
        rows.digest,
        rows.table,
        rows.range,
        grouped(rows.bucket_digits),
    )
}

/// The same in MySQL. The rows' digests go through a table in memory there: it is for ranges, not for whole tables.
pub(super) fn replica_sums(rows: Rows) -> String {
    let digests = format!(
        "SELECT {} AS d FROM {} t FORCE INDEX (PRIMARY) WHERE {}",
        rows.digest, rows.table, rows.range
    );
    sums_of(&digests, rows.bucket_digits)
}

/// A query in MySQL for [`Sums`] of the rows that another one gives, which is `from` behind its FROM.
pub(super) fn selected_sums(from: &str, columns: &[String]) -> String {
    // As digests: the columns of an expression may have collations that do not mix.
    let columns = columns
        .iter()
        .map(|column| format!("IFNULL(SHA2({column}, 256), '-')"));
    let texts: Vec<String> = columns.collect();
    let digests = format!("SELECT SHA2({}, 256) AS d FROM {from}", joined(&texts));
    sums_of(&digests, 0)
}

fn sums_of(digests: &str, bucket_digits: usize) -> String {
    let sum = |from: usize| {
        format!(
            "CAST(SUM(CAST(CONV(SUBSTR(d, {from}, {SUM_DIGITS}), 16, 10) AS UNSIGNED)) AS CHAR)"
        )
    };
    // LIMIT keeps the digest from being computed once for each use of it.
    format!(
        "SELECT {}, CAST(COUNT(*) AS CHAR), {}, {} FROM ({digests} LIMIT 18446744073709551615) AS digests{}",
        bucket(bucket_digits),
        sum(1),
        sum(1 + SUM_DIGITS),
        grouped(bucket_digits),
    )
}

fn bucket(digits: usize) -> String {
    match digits {
        0 => "''".to_owned(),
        digits => format!("left(d, {digits})"),
    }
}

fn grouped(digits: usize) -> &'static str {
    match digits {
        0 => "",
        _ => " GROUP BY 1",
    }
}

/// The condition that a row is in one of these buckets. Both servers understand it.
pub(super) fn in_buckets(digest: &str, buckets: &[String]) -> String {
    let digits = buckets.first().map_or(0, String::len);
    if digits == 0 {
        return "1 = 1".to_owned();
    }
    let listed: Vec<String> = buckets.iter().map(|bucket| format!("'{bucket}'")).collect();
    format!("left({digest}, {digits}) IN ({})", listed.join(", "))
}

/// Rows of one bucket: how many, and the sums of two parts of their digests. They do not depend on an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    parts: [u128; 2],
}

/// Sums by bucket. A bucket without rows is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(BTreeMap<String, Sum>);

impl Sums {
    /// Adds a row of the answer to [`source_sums`] or [`replica_sums`]; `None` if it is none.
    pub(super) fn add(&mut self, answer: &[Option<String>]) -> Option<()> {
        let [bucket, rows, one, other] = answer else {
            return None;
        };
        let rows: u64 = rows.as_ref()?.parse().ok()?;
        // NULL if there is no row, or none that has a digest.
        let sum = |text: &Option<String>| text.as_ref().map_or(Some(0), |text| text.parse().ok());
        let parts: [u128; 2] = [sum(one)?, sum(other)?];
        // A row without a digest is in a bucket of its own.
        let bucket = bucket.clone().unwrap_or_default();
        if rows > 0 {
            let known = self.0.entry(bucket).or_default();
            known.rows += rows;
            known.parts = std::array::from_fn(|i| known.parts[i] + parts[i]);
        }
        Some(())
    }

    /// Adds a row by its digest, which has to be of 64 hexadecimal digits, as [`selected_sums`] does.
    pub(super) fn add_digest(&mut self, digest: &str) {
        let part = |from: usize| {
            let digits = digest.get(from..from + SUM_DIGITS).unwrap_or_default();
            u128::from_str_radix(digits, 16).unwrap_or_default()
        };
        let known = self.0.entry(String::new()).or_default();
        known.rows += 1;
        known.parts = [known.parts[0] + part(0), known.parts[1] + part(SUM_DIGITS)];
    }

    /// Takes in the sums of other rows.
    pub(super) fn extend(&mut self, other: &Sums) {
        for (bucket, sum) in &other.0 {
            let known = self.0.entry(bucket.clone()).or_default();
            known.rows += sum.rows;
            known.parts = std::array::from_fn(|i| known.parts[i] + sum.parts[i]);
        }
    }

    /// Rows of all buckets.
    pub(super) fn rows(&self) -> u64 {
        self.0.values().map(|sum| sum.rows).sum()
    }

    /// The buckets in which the rows differ.
    pub(super) fn differing(&self, other: &Sums) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> =
            self.0.keys().chain(other.0.keys()).collect();
        let differs = |bucket: &&String| self.0.get(*bucket) != other.0.get(*bucket);
        names.into_iter().filter(differs).cloned().collect()
    }
}

#[cfg(test)]
#[path = "checksum_tests.rs"]
mod tests;
