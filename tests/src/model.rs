//! What MySQL must hold at an LSN, worked out without any code of the projections.
//!
//! Rows come from a slot with Postgres' own `test_decoding`, whose text is parsed here; marts are
//! computed from the rows with whole numbers. Nothing is shared with what is tested.

use std::collections::BTreeMap;

/// A row's columns in table order, as text.
pub type Columns = Vec<(String, Option<String>)>;

/// Rows of a table by key.
pub type Table = BTreeMap<i64, Columns>;

/// All tables, by name without schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Rows by table and key.
    pub tables: BTreeMap<String, Table>,
}

impl Model {
    /// Applies one line of `test_decoding` (not BEGIN or COMMIT).
    pub fn apply(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("table ") else {
            return; // a message
        };
        let (names, rest) = rest.split_once(": ").expect("a table name");
        if let Some(flags) = rest.strip_prefix("TRUNCATE: ") {
            assert_eq!(flags, "(no-flags)");
            names.split(", ").for_each(|name| {
                self.tables.insert(bare(name), Table::new());
            });
            return;
        }
        let (operation, columns) = rest.split_once(": ").expect("an operation");
        let table = self.tables.entry(bare(names)).or_default();
        match operation {
            "INSERT" => insert(table, parse(columns), None),
            "DELETE" => drop(table.remove(&key(&parse(columns)))),
            "UPDATE" => update(table, columns),
            other => panic!("test_decoding said {other:?}"),
        }
    }

    fn rows(&self, table: &str) -> impl Iterator<Item = &Columns> {
        self.tables
            .get(table)
            .into_iter()
            .flat_map(|rows| rows.values())
    }

    /// The rows of a table as MySQL shows them, in key order.
    pub fn replica(&self, table: &str) -> Vec<Vec<Option<String>>> {
        self.rows(table)
            .map(|row| row.iter().map(|(_, value)| value.clone()).collect())
            .collect()
    }

    /// The rows of a mart as MySQL shows them, sorted.
    pub fn mart(&self, name: &str) -> Vec<Vec<Option<String>>> {
        let mut rows = match name {
            "mart_user_activity" => self.user_activity(),
            "mart_product_rating" => self.product_rating(),
            "mart_user_loyalty_points" => self.user_loyalty_points(),
            "mart_average_check" => self.average_check(),
            other => panic!("no mart {other}"),
        };
        rows.sort();
        rows
    }

    fn user_activity(&self) -> Vec<Vec<Option<String>>> {
        let groups = self.join("orders", "user_id", "users", |order, user| {
            let key = pick(user, &["user_id", "first_name", "last_name"]);
            let key = [key, pick(order, &["status"])].concat();
            (key, cents(get(order, "total_amount")))
        });
        groups
            .into_iter()
            .map(|(key, sum)| [key, vec![Some(sum.n.to_string()), sum.total(2)]].concat())
            .collect()
    }

    fn product_rating(&self) -> Vec<Vec<Option<String>>> {
        let groups = self.join("reviews", "product_id", "products", |review, product| {
            (
                pick(product, &["product_id", "name"]),
                whole(get(review, "rating")),
            )
        });
        groups
            .into_iter()
            .map(|(key, sum)| [key, vec![sum.average(0, 4)]].concat())
            .collect()
    }

    fn user_loyalty_points(&self) -> Vec<Vec<Option<String>>> {
        let groups = self.join("loyaltypoints", "user_id", "users", |points, user| {
            let key = ["user_id", "first_name", "last_name", "loyalty_status"];
            (pick(user, &key), whole(get(points, "points")))
        });
        groups
            .into_iter()
            .map(|(key, sum)| [key, vec![sum.total(0)]].concat())
            .collect()
    }

    fn average_check(&self) -> Vec<Vec<Option<String>>> {
        let groups = self.join("orders", "user_id", "users", |order, user| {
            let key = [pick(order, &["status"]), pick(user, &["loyalty_status"])].concat();
            (key, cents(get(order, "total_amount")))
        });
        groups
            .into_iter()
            .map(|(key, sum)| [key, vec![sum.average(2, 6)]].concat())
            .collect()
    }

    /// Inner join of facts to the dimension row with that key, grouped and summed.
    fn join(
        &self,
        facts: &str,
        by: &str,
        dimension: &str,
        group: impl Fn(&Columns, &Columns) -> (Vec<Option<String>>, Option<i128>),
    ) -> BTreeMap<Vec<Option<String>>, Sum> {
        let mut groups: BTreeMap<_, Sum> = BTreeMap::new();
        let none = Table::new();
        let dimension = self.tables.get(dimension).unwrap_or(&none);
        for fact in self.rows(facts) {
            let id = get(fact, by).map(|id| id.parse().expect("an integer key"));
            let Some(row) = id.and_then(|id: i64| dimension.get(&id)) else {
                continue;
            };
            let (key, value) = group(fact, row);
            groups.entry(key).or_default().add(value);
        }
        groups
    }
}

/// An exact sum of hundredths or of whole numbers.
#[derive(Default)]
struct Sum {
    n: i128,
    non_null: i128,
    sum: i128,
}

impl Sum {
    fn add(&mut self, value: Option<i128>) {
        self.n += 1;
        self.non_null += i128::from(value.is_some());
        self.sum += value.unwrap_or(0);
    }

    fn total(&self, scale: u32) -> Option<String> {
        (self.non_null > 0).then(|| decimal(self.sum, scale))
    }

    /// Rounds half away from zero, as DECIMAL division does.
    fn average(&self, scale: u32, result_scale: u32) -> Option<String> {
        if self.non_null == 0 {
            return None;
        }
        let scaled = self.sum.abs() * 10i128.pow(result_scale - scale) * 2;
        let rounded = (scaled / self.non_null + 1) / 2;
        Some(decimal(rounded * self.sum.signum(), result_scale))
    }
}

fn decimal(value: i128, scale: u32) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let unit = 10i128.pow(scale);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (value.abs() / unit, value.abs() % unit);
    format!("{sign}{whole}.{fraction:0width$}", width = scale as usize)
}

fn get<'a>(row: &'a Columns, column: &str) -> Option<&'a str> {
    let found = row.iter().find(|(name, _)| name == column);
    found.expect("the column").1.as_deref()
}

fn pick(row: &Columns, columns: &[&str]) -> Vec<Option<String>> {
    columns
        .iter()
        .map(|column| get(row, column).map(str::to_owned))
        .collect()
}

fn cents(value: Option<&str>) -> Option<i128> {
    value.map(|text| text.replace('.', "").parse().expect("two decimals"))
}

fn whole(value: Option<&str>) -> Option<i128> {
    value.map(|text| text.parse().expect("a whole number"))
}

fn bare(name: &str) -> String {
    name.strip_prefix("source.").expect("our schema").to_owned()
}

fn key(columns: &[Parsed]) -> i64 {
    match &columns.first().expect("a key").value {
        Datum::Text(text) => text.parse().expect("an integer key"),
        other => panic!("a key of {other:?}"),
    }
}

fn update(table: &mut Table, columns: &str) {
    match columns.strip_prefix("old-key: ") {
        Some(rest) => {
            let (old, new) = rest.split_once(" new-tuple: ").expect("a new tuple");
            let old = table.remove(&key(&parse(old)));
            insert(table, parse(new), old.as_ref());
        }
        None => {
            let columns = parse(columns);
            let old = table.get(&key(&columns)).cloned();
            insert(table, columns, old.as_ref());
        }
    }
}

fn insert(table: &mut Table, columns: Vec<Parsed>, old: Option<&Columns>) {
    let id = key(&columns);
    let row = columns
        .into_iter()
        .map(|column| {
            let value = match column.value {
                Datum::Null => None,
                Datum::Text(text) => Some(text),
                Datum::Unchanged => get(old.expect("an old row"), &column.name).map(str::to_owned),
            };
            (column.name, value)
        })
        .collect();
    table.insert(id, row);
}

struct Parsed {
    name: String,
    value: Datum,
}

#[derive(Debug)]
enum Datum {
    Null,
    Unchanged,
    Text(String),
}

/// `name[type]:value name[type]:'quo''ted' …`
fn parse(mut text: &str) -> Vec<Parsed> {
    let mut columns = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once('[').expect("a type");
        let (kind, rest) = rest.split_once("]:").expect("a value");
        let (value, rest) = datum(rest);
        let value = match value {
            Datum::Text(text) => Datum::Text(as_mysql_shows(kind, text)),
            other => other,
        };
        columns.push(Parsed {
            name: name.to_owned(),
            value,
        });
        text = rest.strip_prefix(' ').unwrap_or(rest);
    }
    columns
}

fn datum(text: &str) -> (Datum, &str) {
    let Some(quoted) = text.strip_prefix('\'') else {
        let end = text.find(' ').unwrap_or(text.len());
        let (bare, rest) = text.split_at(end);
        let value = match bare {
            "null" => Datum::Null,
            "unchanged-toast-datum" => Datum::Unchanged,
            number => Datum::Text(number.to_owned()),
        };
        return (value, rest);
    };
    let (mut value, mut rest) = (String::new(), quoted);
    loop {
        let end = rest.find('\'').expect("a closing quote");
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return (Datum::Text(value), rest),
        }
    }
}

/// DATETIME(6) always shows six digits.
pub fn as_mysql_shows(kind: &str, text: String) -> String {
    if kind != "timestamp without time zone" {
        return text;
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{seconds}.{fraction:0<6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_test_decoding_is_understood() {
        let mut model = Model::default();
        model.apply("table source.users: INSERT: user_id[bigint]:1 first_name[character varying]:'it''s a' last_name[character varying]:null email[character varying]:'' phone[character varying]:'x' registration_date[timestamp without time zone]:'2024-01-01 00:00:00.5' loyalty_status[character varying]:'Gold'");
        model.apply("table source.users: UPDATE: old-key: user_id[bigint]:1 new-tuple: user_id[bigint]:2 first_name[character varying]:unchanged-toast-datum last_name[character varying]:'b'");
        let row = &model.tables["users"][&2];
        assert_eq!(get(row, "first_name"), Some("it's a"));
        assert_eq!(get(row, "last_name"), Some("b"));
        assert!(!model.tables["users"].contains_key(&1));
        model.apply("table source.users, source.orders: TRUNCATE: (no-flags)");
        assert!(model.tables["users"].is_empty());
    }

    #[test]
    fn averages_round_half_away_from_zero() {
        let sum = |values: &[i128]| {
            let mut sum = Sum::default();
            values.iter().for_each(|value| sum.add(Some(*value)));
            sum
        };
        assert_eq!(sum(&[1, 2]).average(0, 4).as_deref(), Some("1.5000"));
        assert_eq!(sum(&[1, 1, 2]).average(0, 4).as_deref(), Some("1.3333"));
        assert_eq!(
            sum(&[100, 100, 101]).average(2, 6).as_deref(),
            Some("1.003333")
        );
        assert_eq!(sum(&[-1, -1]).total(0).as_deref(), Some("-2"));
    }
}
