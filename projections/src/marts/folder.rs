//! Marts on disk: `NAME.sql` holds the statement, `NAME.json` beside it the description that it is kept by.
//!
//! What the statements are made of is checked here, so that a mart that was read can be kept: the names go between
//! backquotes as they are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::mart::{Column, Description, Mart};
use crate::replica::names::{NAME_CHARS_MAX, RETIRED, SHADOW};

/// Names of tables that millrace makes for itself begin so.
const RESERVED: &str = "millrace_";
/// What statements for readers say instead of the mart's name.
const PLACEHOLDER: &str = "{table}";

/// A folder of marts that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The folder, or a file in it, cannot be read.
    #[error("[MR-M001] {} cannot be read; MILLRACE_MARTS names the folder of the marts, and none if it is empty", path.display())]
    Unreadable {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("[MR-M001] {} holds no mart: put NAME.sql and NAME.json into it, or leave MILLRACE_MARTS empty", .0.display())]
    Empty(PathBuf),
    /// One of a mart's two files is missing.
    #[error("[MR-M001] {} is missing: a mart is NAME.sql and NAME.json; write it, or remove {}", missing.display(), other.display())]
    Half {
        /// The file that is not there.
        missing: PathBuf,
        /// The one that is.
        other: PathBuf,
    },
    /// The description is not of the form that descriptions have.
    #[error("[MR-M001] {} is no description of a mart; its fields are fact, dimension, columns, and if wanted chart and summary (docs/errors/marts.md)", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A field holds what no mart can be kept by.
    #[error("[MR-M001] {}: {field} {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, such as `fact.table`.
        field: String,
        /// What is wrong, and what it should be.
        problem: String,
    },
}

impl ReadError {
    /// Names the section in `docs/errors`.
    pub fn code(&self) -> &'static str {
        "MR-M001"
    }
}

/// Reads the marts of a folder, in the order of their names. Files with other endings are left alone.
pub(super) fn read(folder: &Path) -> Result<Vec<Mart>, ReadError> {
    let names = names(folder)?;
    if names.is_empty() {
        return Err(ReadError::Empty(folder.to_owned()));
    }
    names.iter().map(|name| mart(folder, name)).collect()
}

/// The names of all files that belong to a mart, without their endings.
fn names(folder: &Path) -> Result<BTreeSet<String>, ReadError> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let is_ours = path
            .extension()
            .is_some_and(|end| end == "sql" || end == "json");
        if let (true, Some(name)) = (is_ours, path.file_stem().and_then(OsStr::to_str)) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

fn mart(folder: &Path, name: &str) -> Result<Mart, ReadError> {
    let [sql, json] = ["sql", "json"].map(|end| folder.join(format!("{name}.{end}")));
    for (missing, other) in [(&sql, &json), (&json, &sql)] {
        if !missing.exists() {
            let (missing, other) = (missing.clone(), other.clone());
            return Err(ReadError::Half { missing, other });
        }
    }
    let definition = std::fs::read_to_string(&sql).map_err(unreadable(&sql))?;
    let description = std::fs::read_to_string(&json).map_err(unreadable(&json))?;
    let description: Description =
        serde_json::from_str(&description).map_err(|source| ReadError::Form {
            path: json.clone(),
            source,
        })?;
    check_name(name, &definition).map_err(in_file(&sql))?;
    check(name, &description).map_err(in_file(&json))?;
    Ok(Mart {
        name: name.to_owned(),
        definition,
        description,
    })
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> ReadError + '_ {
    |source| ReadError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

/// A field and what is wrong with it.
type Wrong = (String, String);

fn in_file(path: &Path) -> impl FnOnce(Wrong) -> ReadError + '_ {
    |(field, problem)| ReadError::Field {
        path: path.to_owned(),
        field,
        problem,
    }
}

fn wrong<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Wrong> {
    Err((field.into(), problem.into()))
}

/// The name of the file becomes that of a table, and of others that are derived from it.
fn check_name(name: &str, definition: &str) -> Result<(), Wrong> {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_plain || name.len() > NAME_CHARS_MAX {
        return wrong(
            "the file's name",
            format!("becomes the name of a table: rename it to at most {NAME_CHARS_MAX} lower-case letters, digits and _"),
        );
    }
    let reserved = [SHADOW, RETIRED].iter().any(|end| name.ends_with(end));
    if name.starts_with(RESERVED) || reserved {
        return wrong(
            "the file's name",
            format!("is reserved: rename it to one that neither begins with {RESERVED} nor ends with {SHADOW} or {RETIRED}"),
        );
    }
    if definition.trim().is_empty() {
        return wrong("the statement", "is empty: write the mart's SELECT");
    }
    Ok(())
}

fn check(name: &str, description: &Description) -> Result<(), Wrong> {
    let Description {
        fact,
        dimension,
        columns,
        ..
    } = description;
    for (field, value) in [
        ("fact.table", &fact.table),
        ("fact.join", &fact.join),
        ("fact.value", &fact.value),
        ("dimension.table", &dimension.table),
        ("dimension.key", &dimension.key),
    ] {
        check_identifier(field, value)?;
    }
    for (field, table) in [
        ("fact.table", &fact.table),
        ("dimension.table", &dimension.table),
    ] {
        if table == name {
            return wrong(field, "is the mart itself: rename the mart's files");
        }
    }
    if fact.table == dimension.table {
        return wrong(
            "dimension.table",
            "is the fact's: a mart of this form joins two tables",
        );
    }
    if fact.key.is_empty() {
        return wrong("fact.key", "is empty: list the columns of the primary key");
    }
    for key in &fact.key {
        check_identifier("fact.key", key)?;
    }
    check_columns(columns)?;
    check_statements(description)
}

fn check_columns(columns: &[Column]) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for column in columns {
        let name = column.name();
        check_identifier("columns", name)?;
        if name.starts_with(RESERVED) {
            return wrong(
                "columns",
                format!("has {name:?}, which is reserved: name it otherwise"),
            );
        }
        if !seen.insert(name.to_lowercase()) {
            return wrong("columns", format!("has {name:?} twice: remove one"));
        }
    }
    if !columns.iter().any(Column::is_group) {
        return wrong(
            "columns",
            "has no column to group by: add one with \"dimension\" or \"fact\"",
        );
    }
    Ok(())
}

fn check_statements(description: &Description) -> Result<(), Wrong> {
    let chart = description
        .chart
        .as_ref()
        .map(|chart| ("chart.sql", &chart.sql));
    let summary = description
        .summary
        .as_ref()
        .map(|summary| ("summary.sql", &summary.sql));
    for (field, sql) in chart.into_iter().chain(summary) {
        if !sql.contains(PLACEHOLDER) {
            return wrong(
                field,
                format!("does not read the mart: write {PLACEHOLDER} for its name"),
            );
        }
    }
    Ok(())
}

/// What can be the name of a table or a column in MySQL, between backquotes.
fn check_identifier(field: &str, name: &str) -> Result<(), Wrong> {
    let is_usable = !name.is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && !name.ends_with(' ')
        && !name.contains(|c: char| c == '`' || c.is_control());
    match is_usable {
        true => Ok(()),
        false => wrong(
            field,
            format!("is {name:?}, which can be no name in MySQL: write 1 to {NAME_CHARS_MAX} characters, no backquote, no blank at the end"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    const SQL: &str = "SELECT 1";

    fn description() -> Value {
        json!({
            "fact": {"table": "lines", "key": ["line_id"], "join": "ship_id", "value": "weight"},
            "dimension": {"table": "ships", "key": "ship_id"},
            "columns": [{"dimension": "ship_id"}, {"fact": "kind"}, {"sum": "weight"}],
        })
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// The chain of an error in one line.
    fn words(error: &ReadError) -> String {
        millrace_control::in_words(error)
    }

    fn refused(name: &str, description: &Value) -> String {
        let (sql, json) = (format!("{name}.sql"), format!("{name}.json"));
        let folder = folder(&[(&sql, SQL), (&json, &description.to_string())]);
        words(&read(folder.path()).unwrap_err())
    }

    #[test]
    fn a_mart_is_a_statement_and_its_description_and_other_files_are_left_alone() {
        let text = description().to_string();
        let folder = folder(&[
            ("weights.sql", SQL),
            ("weights.json", &text),
            ("a.sql", "SELECT 2"),
            ("a.json", &text),
            ("README.md", "about them"),
        ]);
        let marts = read(folder.path()).unwrap();
        let names: Vec<&str> = marts.iter().map(Mart::name).collect();
        assert_eq!(names, ["a", "weights"]);
        assert_eq!(marts[1].definition(), SQL);
        assert_eq!(marts[1].identity(), ["ship_id", "kind"]);
        assert_eq!((marts[1].chart(), marts[1].summary()), (None, None));
    }

    #[test]
    fn a_folder_that_is_not_there_or_empty_and_half_a_mart_say_what_to_do() {
        let folder = folder(&[]);
        let nowhere = folder.path().join("nowhere");
        let said = words(&read(&nowhere).unwrap_err());
        assert!(
            said.contains("nowhere cannot be read; MILLRACE_MARTS"),
            "{said}"
        );
        let said = words(&read(folder.path()).unwrap_err());
        assert!(said.contains("leave MILLRACE_MARTS empty"), "{said}");
        for (there, missing) in [
            ("m.sql", "m.json is missing"),
            ("m.json", "m.sql is missing"),
        ] {
            let folder = self::folder(&[(there, "{}")]);
            let said = words(&read(folder.path()).unwrap_err());
            assert!(said.contains(missing) && said.contains("remove"), "{said}");
        }
    }

    #[test]
    fn a_field_that_is_unknown_missing_or_of_another_type_is_named_with_file_and_place() {
        for (change, said) in [
            (json!({"facts": {}}), "unknown field `facts`"),
            (json!({"columns": null}), "expected a sequence"),
            (
                json!({"columns": [{"median": "x"}]}),
                "unknown variant `median`",
            ),
            (
                json!({"fact": {"table": "lines", "key": ["a"], "join": "b"}}),
                "missing field `value`",
            ),
            (
                json!({"chart": {"title": "t", "unit": "u", "sql": "{table}", "color": "red"}}),
                "unknown field `color`",
            ),
        ] {
            let mut description = description();
            for (field, value) in change.as_object().unwrap() {
                description[field] = value.clone();
            }
            let refused = refused("m", &description);
            assert!(refused.contains("m.json"), "{refused}");
            assert!(refused.contains(said), "{refused}");
            assert!(refused.contains("line 1"), "{refused}");
        }
    }

    #[test]
    fn a_name_that_would_break_a_statement_is_refused_with_its_field() {
        for (field, value) in [
            ("/fact/table", json!("a`b")),
            ("/fact/key", json!(["line_id", ""])),
            ("/fact/key", json!([])),
            ("/fact/join", json!("ends with a blank ")),
            ("/fact/value", json!("x".repeat(65))),
            ("/dimension/table", json!("a\nb")),
            ("/dimension/table", json!("lines")),
            ("/dimension/key", json!("")),
            ("/columns", json!([{"sum": "weight"}])),
            ("/columns", json!([{"fact": "kind"}, {"sum": "Kind"}])),
            ("/columns", json!([{"fact": "millrace_key"}])),
        ] {
            let mut description = description();
            *description.pointer_mut(field).unwrap() = value;
            let refused = refused("m", &description);
            let field = field.trim_start_matches('/').replace('/', ".");
            assert!(refused.contains(&format!("m.json: {field} ")), "{refused}");
        }
        for name in [
            "Weights",
            "mart-a",
            "millrace_x",
            "a__shadow",
            "lines",
            &"x".repeat(65),
        ] {
            let refused = refused(name, &description());
            assert!(refused.contains("rename"), "{refused}");
        }
    }

    #[test]
    fn what_readers_are_shown_has_to_read_the_mart() {
        let mut description = description();
        description["summary"] = json!({"title": "weight", "sql": "SELECT 1"});
        let refused = refused("m", &description);
        assert!(
            refused.contains("summary.sql does not read the mart"),
            "{refused}"
        );
    }
}
