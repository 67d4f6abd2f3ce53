//! Which of the things that a module made belongs to which record.
//!
//! A module that maps one to one keeps offsets. `rows` makes one record per row change, and the
//! broker numbers those by position: they are paired by what they carry, the position of the
//! transaction and the order of its changes.

use std::collections::{HashMap, HashSet};

use millrace_topic::SmartModule;
use serde::Deserialize;

use super::read::Raw;
use super::{text, LOOK_BYTES_MAX, VALUE_BYTES_MAX};

/// The module that makes several of one.
const ROWS: &str = "rows";
/// Where it takes the only table to show from.
const TABLE: &str = "table";

/// What a record of the log says about what `rows` makes of it.
#[derive(Deserialize)]
struct Input {
    kind: String,
    commit_lsn: Option<String>,
    lsn: Option<String>,
    table: Option<String>,
    #[serde(default)]
    changes: Vec<Changed>,
    #[serde(default)]
    rows: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Changed {
    table: String,
}

/// What something that `rows` made says about its origin.
#[derive(Deserialize)]
struct Output {
    lsn: Option<String>,
    /// Of an error record.
    offset: Option<i64>,
}

/// For each record what was made of it; `None` where that cannot be told. What ends early is
/// `complete` no more: something may be missing from the last.
pub(super) fn pair(
    raw: &[Raw],
    made: Vec<Raw>,
    module: &SmartModule,
    complete: bool,
) -> Vec<Option<Vec<String>>> {
    let paired = match makes_several(module) {
        true => by_content(raw, made, module.params.get(TABLE).map(String::as_str)),
        false => by_offset(raw, made, complete),
    };
    let mut left = LOOK_BYTES_MAX;
    let mut shorten = |bytes: Vec<u8>| {
        let (text, _) = text(&bytes, VALUE_BYTES_MAX.min(left));
        left -= text.len().min(left);
        text
    };
    let mut texts = |made: Vec<Vec<u8>>| made.into_iter().map(&mut shorten).collect();
    paired
        .into_iter()
        .map(|made| made.map(&mut texts))
        .collect()
}

/// What `rows` is to make of some records. Others may come before it, of the same batch, and after.
pub(super) struct Awaited {
    lsns: HashSet<String>,
    offsets: HashSet<i64>,
    left: usize,
}

impl Awaited {
    pub(super) fn of(raw: &[Raw], module: &SmartModule) -> Awaited {
        let table = module.params.get(TABLE).map(String::as_str);
        let mut awaited = Awaited {
            lsns: HashSet::new(),
            offsets: HashSet::new(),
            left: 0,
        };
        for record in raw {
            match expected(&record.value, table) {
                Some((lsn, rows)) => {
                    awaited.lsns.insert(lsn);
                    awaited.left += rows;
                }
                None => {
                    awaited.offsets.insert(record.offset);
                    awaited.left += 1;
                }
            }
        }
        awaited
    }

    /// True if this belongs to one of the records.
    pub(super) fn takes(&mut self, made: &Raw) -> bool {
        let Ok(output) = serde_json::from_slice::<Output>(&made.value) else {
            return false;
        };
        let ours = match (output.lsn, output.offset) {
            (Some(lsn), _) => self.lsns.contains(&lsn),
            (None, Some(offset)) => self.offsets.contains(&offset),
            (None, None) => false,
        };
        self.left = self.left.saturating_sub(usize::from(ours));
        ours
    }

    pub(super) fn has_all(&self) -> bool {
        self.left == 0
    }
}

/// True for the module that makes several records of one.
pub(super) fn makes_several(module: &SmartModule) -> bool {
    module.bare_name() == ROWS
}

/// A filter leaves records out: nothing was made of them.
fn by_offset(raw: &[Raw], made: Vec<Raw>, complete: bool) -> Vec<Option<Vec<Vec<u8>>>> {
    let mut by_offset: HashMap<i64, Vec<Vec<u8>>> = HashMap::new();
    for made in made {
        by_offset.entry(made.offset).or_default().push(made.value);
    }
    let mut take = |record: &Raw| {
        let made = by_offset.remove(&record.offset);
        made.or_else(|| complete.then(Vec::new))
    };
    raw.iter().map(&mut take).collect()
}

/// Parts of one transaction and pieces of one chunk have the same LSN; their order and the number
/// of their rows tell them apart, if all that was made of them is there.
fn by_content(raw: &[Raw], made: Vec<Raw>, table: Option<&str>) -> Vec<Option<Vec<Vec<u8>>>> {
    let mut errors: HashMap<i64, Vec<u8>> = HashMap::new();
    let mut by_lsn: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
    for made in made {
        match serde_json::from_slice(&made.value) {
            Ok(Output { lsn: Some(lsn), .. }) => by_lsn.entry(lsn).or_default().push(made.value),
            Ok(Output {
                offset: Some(offset),
                ..
            }) => drop(errors.insert(offset, made.value)),
            _ => {}
        }
    }
    let expected: Vec<Option<(String, usize)>> = raw
        .iter()
        .map(|record| expected(&record.value, table))
        .collect();
    let mut sums: HashMap<&str, usize> = HashMap::new();
    for (lsn, rows) in expected.iter().flatten() {
        *sums.entry(lsn).or_default() += rows;
    }
    // Records beside those shown may have the same LSN; then the numbers do not agree.
    by_lsn.retain(|lsn, made| sums.get(lsn.as_str()) == Some(&made.len()));
    let take = |(record, expected): (&Raw, &Option<(String, usize)>)| match expected {
        None => Some(errors.remove(&record.offset).into_iter().collect()),
        Some((_, 0)) => Some(Vec::new()),
        Some((lsn, rows)) => Some(by_lsn.get_mut(lsn)?.drain(..*rows).collect()),
    };
    raw.iter().zip(&expected).map(take).collect()
}

/// LSN and number of the rows to be made of a record; `None` for what is no record of the log.
fn expected(value: &[u8], table: Option<&str>) -> Option<(String, usize)> {
    let input: Input = serde_json::from_slice(value).ok()?;
    let shows = |name: &str| match table {
        None => true,
        Some(wanted) => {
            wanted == name || wanted.split_once('.').map(|(_, table)| table) == Some(name)
        }
    };
    let rows = match input.kind.as_str() {
        "transaction" => {
            let changes = input.changes.iter();
            changes.filter(|change| shows(&change.table)).count()
        }
        "chunk" if input.table.as_deref().is_some_and(shows) => input.rows.len(),
        _ => 0,
    };
    Some((input.commit_lsn.or(input.lsn).unwrap_or_default(), rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, value: &str) -> Raw {
        Raw {
            offset,
            at: None,
            key: None,
            value: value.as_bytes().to_vec(),
        }
    }

    fn part(offset: i64, lsn: &str, tables: &[&str]) -> Raw {
        let changes: Vec<_> = tables
            .iter()
            .map(|table| serde_json::json!({ "table": table, "op": "insert" }))
            .collect();
        let part =
            serde_json::json!({"kind": "transaction", "commit_lsn": lsn, "changes": changes});
        record(offset, &part.to_string())
    }

    fn row(number: i64, lsn: &str) -> Raw {
        record(number, &format!(r#"{{"lsn":"{lsn}","number":{number}}}"#))
    }

    fn rows(table: Option<&str>) -> SmartModule {
        let params = table.map(|table| (TABLE.to_owned(), table.to_owned()));
        SmartModule {
            name: ROWS.to_owned(),
            params: params.into_iter().collect(),
        }
    }

    fn numbers(paired: &[Option<Vec<String>>]) -> Vec<Option<usize>> {
        paired
            .iter()
            .map(|made| made.as_ref().map(Vec::len))
            .collect()
    }

    #[test]
    fn parts_of_one_transaction_get_their_own_rows_in_order() {
        let raw = [
            part(0, "0/10", &["a", "b"]),
            part(1, "0/10", &["a"]),
            record(2, r#"{"kind":"progress","lsn":"0/20"}"#),
            part(3, "0/30", &["b"]),
        ];
        let made = vec![
            row(0, "0/10"),
            row(1, "0/10"),
            row(2, "0/10"),
            row(3, "0/30"),
        ];
        let paired = pair(&raw, made, &rows(None), true);
        assert_eq!(numbers(&paired), [Some(2), Some(1), Some(0), Some(1)]);
        assert!(paired[1].as_ref().unwrap()[0].contains(r#""number":2"#));
    }

    #[test]
    fn one_table_gives_only_its_rows() {
        let raw = [part(0, "0/10", &["a", "b", "a"]), part(1, "0/20", &["b"])];
        let made = vec![row(0, "0/10"), row(1, "0/10")];
        let paired = pair(&raw, made, &rows(Some("shop.a")), true);
        assert_eq!(numbers(&paired), [Some(2), Some(0)]);
    }

    #[test]
    fn rows_of_parts_that_are_not_shown_are_not_given_to_others() {
        let raw = [part(1, "0/10", &["a"]), part(2, "0/20", &["a"])];
        let made = vec![row(0, "0/10"), row(1, "0/10"), row(2, "0/20")];
        let paired = pair(&raw, made, &rows(None), true);
        assert_eq!(numbers(&paired), [None, Some(1)]);
    }

    #[test]
    fn reading_goes_on_until_everything_is_there_and_something_else_comes() {
        let mut awaited = Awaited::of(&[part(1, "0/10", &["a", "a"])], &rows(None));
        assert!(!awaited.takes(&row(0, "0/5")) && !awaited.has_all());
        assert!(awaited.takes(&row(1, "0/10")) && !awaited.has_all());
        assert!(awaited.takes(&row(2, "0/10")) && awaited.has_all());
        assert!(!awaited.takes(&row(3, "0/20")) && awaited.has_all());
    }

    #[test]
    fn what_is_no_record_has_its_error() {
        let raw = [record(7, "secret")];
        let made = vec![record(0, r#"{"kind":"error","module":"rows","offset":7}"#)];
        let paired = pair(&raw, made, &rows(None), true);
        assert!(paired[0].as_ref().unwrap()[0].contains("error"));
    }

    #[test]
    fn a_map_keeps_offsets_and_what_was_cut_off_is_not_known() {
        let module = SmartModule {
            name: "columns".to_owned(),
            params: Default::default(),
        };
        let raw = [record(4, "a"), record(5, "b")];
        let cut = pair(&raw, vec![record(4, "A")], &module, false);
        assert_eq!(cut, [Some(vec!["A".to_owned()]), None]);
        let filtered = pair(&raw, vec![record(4, "A")], &module, true);
        assert_eq!(filtered[1], Some(vec![]));
    }
}
