//! The SQL that keeps a mart. Pure text: nothing here talks to a server.
//!
//! A mart has three tables. *Subtotals* is the inner level: one row per join value and fact-side group,
//! with the number of fact rows, the number of non-NULL values and their exact sum. *Groups* is the
//! outer level: the same three figures per visible group. The *visible* table shows what the
//! definition shows. Both levels have a temporary twin, the *delta*, in which the effect of a batch
//! is collected with signs before it is applied.
//!
//! Groups are identified by a digest that knows NULL from every text, so that one unique key of
//! fixed length fits any group columns. The join order is pinned everywhere: the optimizer has no
//! statistics for delta tables and would scan the large side.

use super::input;
use super::mart::{Column, Mart, FIGURES, JOIN, KEY};
use crate::replica::names::{derived, key_table, suffixed};

/// Sign under which rows enter a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Minus,
    Plus,
}

impl Sign {
    fn prefix(self) -> &'static str {
        match self {
            Sign::Minus => "-",
            Sign::Plus => "",
        }
    }
}

/// The statements that move one level by its delta.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// Name of the delta, and how it is made anew.
    pub(super) delta: (String, String),
    /// Collects from touched rows, with either sign.
    pub(super) retract: String,
    pub(super) add: String,
    /// Drops from the delta what cancelled out.
    pub(super) cancel: String,
    /// Applies the delta.
    pub(super) merge: String,
    /// Removes groups that no row is left in.
    pub(super) vanish: String,
}

/// All statements of one mart on its live tables.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    /// Inner level, from the fact rows whose keys stand in `millrace_keys_<fact>`.
    pub(super) subtotals: Level,
    /// Outer level, from the dimension rows whose keys stand in `millrace_keys_<dimension>`.
    pub(super) groups: Level,
    /// Carries the inner delta into the outer one.
    pub(super) carry: String,
    /// Removes the visible rows of the groups in the outer delta.
    pub(super) hide: String,
    /// Writes them as they are now.
    pub(super) show: String,
}

impl Statements {
    pub(super) fn new(mart: &Mart) -> Statements {
        Statements {
            subtotals: subtotals(mart),
            groups: groups(mart),
            carry: carry(mart),
            hide: hide(mart),
            show: show(mart),
        }
    }
}

/// Name of the temporary twin of a state table.
pub(super) fn delta(table: &str) -> String {
    derived("", table, "_delta")
}

/// The statements that fill all three tables of that suffix from the replica; of tables in `shadows` the shadow is read.
pub(super) fn build(mart: &Mart, suffix: &str, shadows: &[String]) -> [String; 3] {
    let of = |name: &str| suffixed(name, suffix);
    let (s, g) = (of(&mart.subtotals()), of(&mart.groups()));
    let subtotals = format!(
        "INSERT INTO `{s}` {}",
        subtotals_of(
            mart,
            &format!("`{}` f", input(&mart.fact().table, shadows)),
            Sign::Plus
        )
    );
    let from = format!(
        "`{s}` s STRAIGHT_JOIN `{}` d ON d.`{}` = s.`{JOIN}`",
        input(&mart.dimension().table, shadows),
        mart.dimension().key
    );
    let groups = format!("INSERT INTO `{g}` {}", groups_of(mart, &from, Sign::Plus));
    [subtotals, groups, build_visible(mart, suffix, &g)]
}

/// Fills the visible table of that suffix from a table of groups.
fn build_visible(mart: &Mart, suffix: &str, groups: &str) -> String {
    format!(
        "{} FROM `{groups}` g",
        insert_visible(mart, &suffixed(&mart.name, suffix))
    )
}

/// What the inner level should hold, recomputed from the replica.
pub(crate) fn recomputed_subtotals(mart: &Mart) -> String {
    subtotals_of(mart, &format!("`{}` f", mart.fact().table), Sign::Plus)
}

/// What the outer level should hold, recomputed from the replica.
pub(crate) fn recomputed_groups(mart: &Mart) -> String {
    let fact = mart.fact();
    let columns: Vec<String> = mart.group().map(source).collect();
    format!(
        "SELECT {}{}, {} FROM `{}` s STRAIGHT_JOIN `{}` d ON d.`{}` = s.`{}`{}",
        digest(&columns),
        each(&columns, |column| format!(", {column}")),
        figures_of_rows("s", &fact.value, Sign::Plus),
        fact.table,
        mart.dimension().table,
        mart.dimension().key,
        fact.join,
        group_by(&columns),
    )
}

fn subtotals(mart: &Mart) -> Level {
    let fact = mart.fact();
    let on: Vec<String> = fact
        .key
        .iter()
        .map(|key| format!("f.`{key}` = k.`{key}`"))
        .collect();
    let from = format!(
        "`{}` k STRAIGHT_JOIN `{table}` f ON {}",
        key_table(&fact.table),
        on.join(" AND "),
        table = fact.table,
    );
    let key = [JOIN, KEY];
    level(&mart.subtotals(), &key, |sign| {
        subtotals_of(mart, &from, sign)
    })
}

fn groups(mart: &Mart) -> Level {
    let dimension = mart.dimension();
    let from = format!(
        "`{}` k STRAIGHT_JOIN `{table}` d ON d.`{key}` = k.`{key}` \
         STRAIGHT_JOIN `{}` s ON s.`{JOIN}` = d.`{key}`",
        key_table(&dimension.table),
        mart.subtotals(),
        table = dimension.table,
        key = dimension.key,
    );
    level(&mart.groups(), &[KEY], |sign| groups_of(mart, &from, sign))
}

fn level(table: &str, key: &[&str], select: impl Fn(Sign) -> String) -> Level {
    let delta = delta(table);
    let on: Vec<String> = key
        .iter()
        .map(|key| format!("t.`{key}` = d.`{key}`"))
        .collect();
    let on = on.join(" AND ");
    let [n, nn, sum] = FIGURES;
    Level {
        delta: (delta.clone(), format!("LIKE `{table}`")),
        retract: format!("INSERT INTO `{delta}` {}", select(Sign::Minus)),
        add: format!(
            "INSERT INTO `{delta}` {}{}",
            select(Sign::Plus),
            accumulate(&delta, key)
        ),
        cancel: format!("DELETE FROM `{delta}` WHERE `{n}` = 0 AND `{nn}` = 0 AND `{sum}` = 0"),
        merge: format!(
            "INSERT INTO `{table}` SELECT * FROM `{delta}` d{}",
            accumulate(table, key)
        ),
        vanish: format!(
            "DELETE t FROM `{delta}` d STRAIGHT_JOIN `{table}` t ON {on} WHERE t.`{n}` = 0"
        ),
    }
}

fn carry(mart: &Mart) -> String {
    let from = format!(
        "`{}` s STRAIGHT_JOIN `{}` d ON d.`{}` = s.`{JOIN}`",
        delta(&mart.subtotals()),
        mart.dimension().table,
        mart.dimension().key,
    );
    let groups = delta(&mart.groups());
    format!(
        "INSERT INTO `{groups}` {}",
        groups_of(mart, &from, Sign::Plus)
    )
}

fn hide(mart: &Mart) -> String {
    format!(
        "DELETE v FROM `{}` d STRAIGHT_JOIN `{}` v ON v.`{KEY}` = d.`{KEY}`",
        delta(&mart.groups()),
        mart.name,
    )
}

fn show(mart: &Mart) -> String {
    format!(
        "{} FROM `{}` d STRAIGHT_JOIN `{}` g ON g.`{KEY}` = d.`{KEY}`",
        insert_visible(mart, &mart.name),
        delta(&mart.groups()),
        mart.groups(),
    )
}

/// Writes visible rows out of rows `g` of the outer level. What is invisible has to be named.
fn insert_visible(mart: &Mart, table: &str) -> String {
    let names: Vec<String> = mart
        .columns()
        .iter()
        .map(|c| format!(", `{}`", c.name()))
        .collect();
    format!(
        "INSERT INTO `{table}` (`{KEY}`{}) SELECT g.`{KEY}`, {}",
        names.concat(),
        visible_columns(mart),
    )
}

/// Rows of the inner level out of the fact rows `f` of `from`.
fn subtotals_of(mart: &Mart, from: &str, sign: Sign) -> String {
    let group: Vec<String> = mart
        .fact_group()
        .iter()
        .map(|column| format!("f.`{column}`"))
        .collect();
    let mut by = vec![format!("f.`{}`", mart.fact().join)];
    by.extend(group.iter().cloned());
    format!(
        "SELECT f.`{join}`, {}{}, {} FROM {from} WHERE f.`{join}` IS NOT NULL{}",
        digest(&group),
        each(&group, |column| format!(", {column}")),
        figures_of_rows("f", &mart.fact().value, sign),
        group_by(&by),
        join = mart.fact().join,
    )
}

/// Rows of the outer level out of the subtotals `s` and dimension rows `d` of `from`.
fn groups_of(mart: &Mart, from: &str, sign: Sign) -> String {
    let group: Vec<String> = mart.group().map(source).collect();
    let sums: Vec<String> = FIGURES
        .iter()
        .map(|figure| format!("{}SUM(s.`{figure}`)", sign.prefix()))
        .collect();
    format!(
        "SELECT {}{}, {} FROM {from}{}",
        digest(&group),
        each(&group, |column| format!(", {column}")),
        sums.join(", "),
        group_by(&group),
    )
}

/// A group column where `s` is the fact or its subtotals and `d` the dimension.
fn source(column: &Column) -> String {
    let table = if matches!(column, Column::Dimension(_)) {
        "d"
    } else {
        "s"
    };
    format!("{table}.`{}`", column.name())
}

fn figures_of_rows(table: &str, value: &str, sign: Sign) -> String {
    let sign = sign.prefix();
    format!(
        "{sign}COUNT(*), {sign}COUNT({table}.`{value}`), {sign}COALESCE(SUM({table}.`{value}`), 0)"
    )
}

/// The visible columns out of a row `g` of the outer level.
fn visible_columns(mart: &Mart) -> String {
    let [n, nn, sum] = FIGURES;
    let columns: Vec<String> = mart
        .columns()
        .iter()
        .map(|column| match column {
            Column::Dimension(name) | Column::Fact(name) => format!("g.`{name}`"),
            Column::Count(_) => format!("g.`{n}`"),
            Column::Sum(_) => format!("IF(g.`{nn}` = 0, NULL, g.`{sum}`)"),
            Column::Average(_) => format!("IF(g.`{nn}` = 0, NULL, g.`{sum}` / g.`{nn}`)"),
        })
        .collect();
    columns.join(", ")
}

/// Adds to what is there under the same key. What is met through a key that somebody has added is left alone: its key
/// would become NULL, which the server refuses.
fn accumulate(table: &str, key: &[&str]) -> String {
    let same: Vec<String> = key
        .iter()
        .map(|key| format!("`{table}`.`{key}` = VALUES(`{key}`)"))
        .collect();
    let kept = format!(
        "`{KEY}` = IF({}, `{table}`.`{KEY}`, NULL)",
        same.join(" AND ")
    );
    let figures = FIGURES
        .iter()
        .map(|figure| format!("`{figure}` = `{table}`.`{figure}` + VALUES(`{figure}`)"));
    let assignments: Vec<String> = std::iter::once(kept).chain(figures).collect();
    format!(" ON DUPLICATE KEY UPDATE {}", assignments.join(", "))
}

/// 32 bytes that are equal exactly if all values are: each is written with its length, NULL apart.
pub(crate) fn digest(values: &[String]) -> String {
    if values.is_empty() {
        return "UNHEX(SHA2('', 256))".to_owned();
    }
    let encoded: Vec<String> = values
        .iter()
        .map(|value| format!("COALESCE(CONCAT('V', LENGTH({value}), ':', {value}), 'N')"))
        .collect();
    format!("UNHEX(SHA2(CONCAT({}), 256))", encoded.join(", "))
}

fn group_by(columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    format!(" GROUP BY {}", columns.join(", "))
}

fn each(columns: &[String], text: impl Fn(&String) -> String) -> String {
    columns.iter().map(text).collect()
}

/// `CREATE TABLE` bodies: what the state tables and the visible table consist of.
pub(super) mod layout {
    use crate::marts::mart::{FIGURES, JOIN, KEY};

    /// Definition of the figures; `scale` is that of the summed column.
    fn figures(scale: u32) -> String {
        let [n, nn, sum] = FIGURES;
        format!(
            "`{n}` BIGINT NOT NULL, `{nn}` BIGINT NOT NULL, `{sum}` DECIMAL(65,{scale}) NOT NULL"
        )
    }

    /// Inner level: `join` and `group` are column definitions without name and with it.
    pub(in crate::marts) fn subtotals(join: &str, group: &[String], scale: u32) -> String {
        let group: String = group.iter().map(|column| format!("{column}, ")).collect();
        format!(
            "`{JOIN}` {join} NOT NULL, `{KEY}` BINARY(32) NOT NULL, {group}{}, \
             PRIMARY KEY (`{JOIN}`, `{KEY}`)",
            figures(scale)
        )
    }

    /// Visible table: every table has a primary key, which some servers demand, and no reader of the mart sees this one.
    /// MariaDB wants a default for what is invisible; no row has it.
    pub(in crate::marts) fn visible(columns: &[String], index: &str) -> String {
        format!(
            "{}, `{KEY}` BINARY(32) NOT NULL DEFAULT '' INVISIBLE, PRIMARY KEY (`{KEY}`), KEY ({index})",
            columns.join(", ")
        )
    }

    /// Outer level.
    pub(in crate::marts) fn groups(group: &[String], scale: u32) -> String {
        let group: String = group.iter().map(|column| format!("{column}, ")).collect();
        format!(
            "`{KEY}` BINARY(32) NOT NULL, {group}{}, PRIMARY KEY (`{KEY}`)",
            figures(scale)
        )
    }
}
