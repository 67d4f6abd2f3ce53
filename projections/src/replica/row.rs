//! What fits into a row, and what has to leave it. Pure.
//!
//! Two limits meet here. The server counts every column with its greatest length, up to 65,535 bytes a row. InnoDB stores
//! columns of at most 255 bytes always on the page, and a row must stay below half of that (8,126 bytes); longer ones may leave it and
//! then take 41 bytes there at most. Where a table is beyond a limit, its widest texts become LONGTEXT until it fits; what
//! they mean stays the same.
//!
//! The numbers are those of pages of 16 KiB, ROW_FORMAT=DYNAMIC and utf8mb4, and the larger of the two families where
//! they differ: MariaDB refuses a table that may grow beyond the page, MySQL a row that does.

use super::{Column, Kind};

/// The server's limit.
const ROW_BYTES_MAX: usize = 65_535;
/// InnoDB's limit for what is stored on the page: below 8,126.
const PAGE_BYTES_MAX: usize = 8_125;
/// Header of a row, and the two columns that InnoDB adds.
const PAGE_OVERHEAD: usize = 5 + 6 + 7;
/// Columns of at most so many bytes are never stored off the page.
const INLINE_BYTES_MAX: usize = 255;
/// What a column that may leave the page takes there at most: 40 bytes of its own, and their length.
const OFF_PAGE_BYTES: usize = 41;
/// A column of type LONGTEXT or LONGBLOB, as the server counts it: length and address.
const LONG_ROW_BYTES: usize = 12;
/// Of a character of utf8mb4.
const CHAR_BYTES: usize = 4;

/// Changes the kinds of texts that are no keys until the row fits; else says what is in the way.
pub(super) fn fit(columns: &mut [Column]) -> Result<(), String> {
    while row_bytes(columns) > ROW_BYTES_MAX {
        if !widen(columns, in_row, LONG_ROW_BYTES) {
            return Err(format!(
                "its columns take {} bytes of a row, and MySQL allows {ROW_BYTES_MAX}; leave some out with MILLRACE_COLUMNS",
                row_bytes(columns)
            ));
        }
    }
    while page_bytes(columns) > PAGE_BYTES_MAX {
        if !widen(columns, on_page, OFF_PAGE_BYTES) {
            return Err(format!(
                "its columns take {} bytes of a page, and InnoDB allows {PAGE_BYTES_MAX}; leave some out with MILLRACE_COLUMNS",
                page_bytes(columns)
            ));
        }
    }
    Ok(())
}

/// Turns the widest text into a LONGTEXT; false if none would take less then.
fn widen(columns: &mut [Column], bytes: fn(&Column) -> usize, then: usize) -> bool {
    let texts = columns
        .iter_mut()
        .filter(|c| is_short_text(c) && bytes(c) > then);
    match texts.max_by_key(|column| bytes(column)) {
        Some(column) => {
            column.kind = match column.kind {
                Kind::BlankPadded(_) => Kind::LongBlankPadded,
                _ => Kind::LongText,
            };
            true
        }
        None => false,
    }
}

fn is_short_text(column: &Column) -> bool {
    let text = matches!(
        column.kind,
        Kind::VarChar(_) | Kind::BlankPadded(_) | Kind::Uuid
    );
    text && !column.key
}

fn row_bytes(columns: &[Column]) -> usize {
    columns.iter().map(in_row).sum::<usize>() + null_bytes(columns)
}

fn page_bytes(columns: &[Column]) -> usize {
    columns.iter().map(on_page).sum::<usize>() + null_bytes(columns) + PAGE_OVERHEAD
}

/// A bit for each column that may be NULL.
fn null_bytes(columns: &[Column]) -> usize {
    columns.iter().filter(|c| !c.key).count().div_ceil(8)
}

/// What the server counts for a column.
fn in_row(column: &Column) -> usize {
    match column.kind {
        Kind::LongText | Kind::LongBlankPadded | Kind::LongBlob => LONG_ROW_BYTES,
        Kind::Uuid => 36 * CHAR_BYTES,
        // CHAR up to 255 characters has no length of its own.
        Kind::BlankPadded(n) if n <= 255 => n as usize * CHAR_BYTES,
        kind => with_length(bytes_max(kind)).unwrap_or_else(|| fixed_bytes(kind)),
    }
}

/// What InnoDB stores of a column on the page, at most. A key never leaves it.
fn on_page(column: &Column) -> usize {
    match bytes_max(column.kind) {
        Some(bytes) if column.key || bytes <= INLINE_BYTES_MAX => {
            with_length(Some(bytes)).unwrap_or_default()
        }
        Some(_) => OFF_PAGE_BYTES,
        None => fixed_bytes(column.kind),
    }
}

/// The length of a value is stored with it, in one byte or two.
fn with_length(bytes: Option<usize>) -> Option<usize> {
    bytes.map(|bytes| bytes + if bytes > INLINE_BYTES_MAX { 2 } else { 1 })
}

/// The longest value of a column of variable length.
fn bytes_max(kind: Kind) -> Option<usize> {
    match kind {
        Kind::VarChar(n) | Kind::BlankPadded(n) => Some(n as usize * CHAR_BYTES),
        Kind::VarBinary(n) => Some(n as usize),
        Kind::Uuid => Some(36 * CHAR_BYTES),
        Kind::LongText | Kind::LongBlankPadded | Kind::LongBlob => Some(usize::from(u16::MAX)),
        _ => None,
    }
}

fn fixed_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Bool => 1,
        Kind::SmallInt => 2,
        Kind::Date => 3,
        Kind::Int => 4,
        Kind::Time => 6,
        Kind::BigInt | Kind::Double | Kind::DateTime => 8,
        Kind::Decimal { precision, scale } => {
            decimal_bytes(precision - scale) + decimal_bytes(scale)
        }
        Kind::DecimalAny => decimal_bytes(35) + decimal_bytes(30),
        _ => 0,
    }
}

/// Nine digits take four bytes; what is left takes a byte for every two.
fn decimal_bytes(digits: u32) -> usize {
    (digits / 9 * 4 + (digits % 9).div_ceil(2)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: Kind, others: &[(usize, Kind)]) -> Vec<Column> {
        let column = |kind, key| Column {
            source: "c".into(),
            name: "c".into(),
            key,
            kind,
            policy: crate::replica::Policy::Stop,
        };
        let others = others
            .iter()
            .flat_map(|(count, kind)| vec![column(*kind, false); *count]);
        std::iter::once(column(key, true)).chain(others).collect()
    }

    fn long_texts(columns: &[Column]) -> usize {
        columns.iter().filter(|c| c.kind == Kind::LongText).count()
    }

    #[test]
    fn as_few_columns_as_needed_leave_the_page() {
        for (count, widened) in [(40, 0), (41, 1), (50, 13), (100, 76)] {
            let mut columns = table(Kind::BigInt, &[(count, Kind::VarChar(50))]);
            fit(&mut columns).expect("it fits");
            assert_eq!(long_texts(&columns), widened, "{count} columns");
            assert!(page_bytes(&columns) <= PAGE_BYTES_MAX);
        }
    }

    #[test]
    fn the_widest_leave_first_and_keys_never_do() {
        let mut columns = table(
            Kind::VarChar(768),
            &[
                (20, Kind::VarChar(63)),
                (20, Kind::Uuid),
                (5, Kind::VarChar(10)),
            ],
        );
        fit(&mut columns).expect("it fits");
        assert_eq!(columns[0].kind, Kind::VarChar(768));
        assert!(columns[21..].iter().all(|c| c.kind != Kind::LongText));
        assert!(long_texts(&columns) > 0);
    }

    #[test]
    fn padded_texts_stay_padded_texts() {
        let mut columns = table(Kind::BigInt, &[(50, Kind::BlankPadded(50))]);
        fit(&mut columns).expect("it fits");
        assert_eq!(long_texts(&columns), 0);
        assert!(columns.iter().any(|c| c.kind == Kind::LongBlankPadded));
        assert!(columns.iter().any(|c| c.kind == Kind::BlankPadded(50)));
    }

    #[test]
    fn rows_of_65_535_bytes_are_the_servers_limit() {
        // 16,381 characters are 65,524 bytes and their length; the key takes 8, NULL a bit.
        for (chars, widened) in [(16_381, 0), (16_382, 1)] {
            let mut columns = table(Kind::BigInt, &[(1, Kind::VarChar(chars))]);
            fit(&mut columns).expect("it fits");
            assert_eq!(long_texts(&columns), widened, "{chars}");
        }
    }

    #[test]
    fn what_cannot_fit_is_said() {
        let mut columns = table(Kind::BigInt, &[(198, Kind::LongText)]);
        let reason = fit(&mut columns).expect_err("too many columns");
        assert!(
            reason.contains("8125") && reason.contains("MILLRACE_COLUMNS"),
            "{reason}"
        );
    }

    #[test]
    fn decimals_take_what_their_digits_need() {
        let bytes = |precision, scale| fixed_bytes(Kind::Decimal { precision, scale });
        assert_eq!((bytes(12, 2), bytes(65, 30), bytes(9, 0)), (6, 30, 4));
    }
}
