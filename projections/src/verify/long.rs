//! Long values of rows that are read one by one: a digest takes the place of each, so that nobody holds them here. Pure.
//!
//! Rows are only read where sums differ, or where somebody asks for it; and a value may have 1 GB, more than the server's
//! `max_allowed_packet` lets out.

use super::checksum::{field, joined, Sides};
use super::sides::Texts;
use crate::replica::{quoted, Column, Kind};
use millrace_sessions::postgres::quoted as name;

/// Bytes of a value that is read as it is.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// What stands before a digest: no text of Postgres has it.
const MARK: char = '\0';

/// True if values of the column may be long.
fn may_be_long(column: &Column) -> bool {
    matches!(column.kind, Kind::LongText | Kind::LongBlob)
}

/// Bytes of a value: the same on both sides where it is the same. `type_name` is that of Postgres.
fn bytes(column: &Column, type_name: &str) -> Sides {
    let source = format!("t.{}", name(&column.source));
    let printed = match column.kind {
        Kind::LongBlob => source,
        _ if super::checksum::is_text(type_name) => source,
        _ => format!("concat({source})"),
    };
    Sides {
        source: format!("octet_length({printed})"),
        replica: format!("OCTET_LENGTH(t.{})", quoted(&column.name)),
    }
}

/// How a column is selected: a long value is NULL.
pub(super) fn selected(column: &Column, type_name: &str) -> Sides {
    let whole = Sides {
        source: format!("t.{}", name(&column.source)),
        replica: column.select_expression(),
    };
    if !may_be_long(column) {
        return whole;
    }
    let bytes = bytes(column, type_name);
    Sides {
        source: format!(
            "CASE WHEN {} > {VALUE_BYTES_MAX} THEN NULL ELSE {} END",
            bytes.source, whole.source
        ),
        replica: format!(
            "IF({} > {VALUE_BYTES_MAX}, NULL, {})",
            bytes.replica, whole.replica
        ),
    }
}

/// One more thing to select behind the columns: the digests of what is long. Nothing, if nothing can be.
pub(super) fn digests(columns: &[(&Column, &str)]) -> Option<Sides> {
    let columns = columns.iter().enumerate();
    let long = columns.filter(|(_, (column, _))| may_be_long(column));
    let (source, replica): (Vec<_>, Vec<_>) = long
        .map(|(position, (column, type_name))| {
            let (bytes, digest) = (bytes(column, type_name), field(column, type_name));
            let source = format!(
                "CASE WHEN {} > {VALUE_BYTES_MAX} THEN '{position}=' || {} END",
                bytes.source, digest.source
            );
            let replica = format!(
                "IF({} > {VALUE_BYTES_MAX}, CONCAT('{position}=', {}), NULL)",
                bytes.replica, digest.replica
            );
            (source, replica)
        })
        .unzip();
    (!source.is_empty()).then(|| Sides {
        source: joined(&source),
        replica: joined(&replica),
    })
}

/// Takes the digests off the end of what was selected: by position of the column, the cell that stands for its value.
pub(super) fn take_digests(texts: &mut Texts, columns: usize) -> Vec<(usize, String)> {
    let Some(listed) = texts.split_off(columns.min(texts.len())).pop().flatten() else {
        return Vec::new();
    };
    let cell = |entry: &str| {
        let (position, digest) = entry.split_once('=')?;
        Some((position.parse().ok()?, format!("{MARK}{digest}")))
    };
    listed.split(',').filter_map(cell).collect()
}

/// A cell, as differences show it.
pub(super) fn shown(cell: &str) -> String {
    match cell.strip_prefix(MARK) {
        Some(digest) => format!("(a value of more than 1 MiB, with digest {digest})"),
        None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Policy;

    fn column(kind: Kind) -> Column {
        Column {
            source: "c".into(),
            name: "c".into(),
            key: false,
            kind,
            policy: Policy::Stop,
        }
    }

    #[test]
    fn only_columns_whose_values_may_be_long_are_asked_for_digests() {
        let (number, text) = (column(Kind::Int), column(Kind::LongText));
        assert_eq!(digests(&[(&number, "integer")]), None);
        let digests = digests(&[(&number, "integer"), (&text, "text")]).expect("one");
        assert!(digests.source.contains("'1=' ||"), "{}", digests.source);
        assert_eq!(selected(&number, "integer").source, "t.\"c\"");
        assert!(selected(&text, "text").replica.contains("NULL"));
    }

    #[test]
    fn digests_are_taken_off_the_end() {
        let mut texts = vec![Some("7".into()), None, None, Some("1=9#ab,2=cd".into())];
        let digests = take_digests(&mut texts, 3);
        assert_eq!(digests, [(1, "\09#ab".to_owned()), (2, "\0cd".to_owned())]);
        assert_eq!(texts.len(), 3);
        assert!(shown(&digests[0].1).ends_with("9#ab)"));
        assert!(take_digests(&mut texts, 3).is_empty());
    }
}
