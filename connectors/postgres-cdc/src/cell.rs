//! From Postgres' text output to the values of a record, and from a line of `COPY … TO STDOUT` to
//! its cells. Pure.

use std::borrow::Cow;

use millrace_events::Value;

/// `pg_type.oid` of the types that are not sent as text.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
}

/// Text that its type does not print. It never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value is not what its type prints")]
pub(crate) struct BadCell;

/// The value of a record for the text output of a type: see [`Value`].
pub(crate) fn value(type_oid: u32, text: &str) -> Result<Value, BadCell> {
    match type_oid {
        oid::BOOL => match text {
            "t" => Ok(Value::Bool(true)),
            "f" => Ok(Value::Bool(false)),
            _ => Err(BadCell),
        },
        oid::INT2 | oid::INT4 | oid::INT8 => text.parse().map(Value::Int).map_err(|_| BadCell),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// The cells of one line of `COPY … TO STDOUT` in text format; `None` is NULL.
pub(crate) fn copy_cells(
    line: &str,
) -> impl Iterator<Item = Result<Option<Cow<'_, str>>, BadCell>> {
    line.split('\t').map(|field| match field {
        r"\N" => Ok(None),
        _ => unescape(field).map(Some),
    })
}

/// Undoes the backslashes of the text format (manual: COPY, "Text Format"); the server writes no
/// octal and no hexadecimal ones.
fn unescape(field: &str) -> Result<Cow<'_, str>, BadCell> {
    if !field.contains('\\') {
        return Ok(Cow::Borrowed(field));
    }
    let mut out = String::with_capacity(field.len());
    let mut rest = field.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.push(escaped(rest.next().ok_or(BadCell)?)?),
            plain => out.push(plain),
        }
    }
    Ok(Cow::Owned(out))
}

fn escaped(c: char) -> Result<char, BadCell> {
    match c {
        'b' => Ok('\u{8}'),
        'f' => Ok('\u{c}'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\u{b}'),
        '\\' => Ok('\\'),
        _ => Err(BadCell),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `CopyAttributeOutText` does.
    fn escape(text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            match c {
                '\u{8}' => out.push_str(r"\b"),
                '\u{c}' => out.push_str(r"\f"),
                '\n' => out.push_str(r"\n"),
                '\r' => out.push_str(r"\r"),
                '\t' => out.push_str(r"\t"),
                '\u{b}' => out.push_str(r"\v"),
                '\\' => out.push_str(r"\\"),
                plain => out.push(plain),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_row_comes_back_from_the_copy_format(row in prop::collection::vec(prop::option::of(any::<String>()), 1..6)) {
            let fields: Vec<_> = row.iter().map(|cell| cell.as_deref().map_or(r"\N".into(), escape)).collect();
            let line = fields.join("\t");
            let cells: Vec<_> = copy_cells(&line).map(|cell| cell.map(|cell| cell.map(Cow::into_owned))).collect::<Result<_, _>>()?;
            prop_assert_eq!(cells, row);
        }
    }

    #[test]
    fn the_text_backslash_n_is_not_null() {
        let cells: Vec<_> = copy_cells("\\\\N\t\\N\t").collect();
        assert_eq!(
            cells,
            [Ok(Some(r"\N".into())), Ok(None), Ok(Some("".into()))]
        );
    }

    #[test]
    fn a_lone_backslash_is_refused() {
        assert_eq!(copy_cells("a\\").next(), Some(Err(BadCell)));
        assert_eq!(copy_cells(r"\x41").next(), Some(Err(BadCell)));
    }

    #[test]
    fn booleans_and_integers_are_bare_and_all_else_is_text() {
        assert_eq!(value(16, "t"), Ok(Value::Bool(true)));
        assert_eq!(value(20, "-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert_eq!(value(21, "7"), Ok(Value::Int(7)));
        assert_eq!(value(1700, "1.50"), Ok(Value::Text("1.50".into())));
        assert_eq!(value(701, "NaN"), Ok(Value::Text("NaN".into())));
        assert_eq!(value(26, "7"), Ok(Value::Text("7".into())));
        assert_eq!(value(16, "true"), Err(BadCell));
        assert_eq!(value(23, "one"), Err(BadCell));
    }
}
