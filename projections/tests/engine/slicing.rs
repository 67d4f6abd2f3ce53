//! A capture for which some values are large: they travel in slices, of which some end a part.

use std::sync::atomic::{AtomicU64, Ordering};

use millrace_events::{Row, Slice, Sliced, TableId, Value};

static VALUES: AtomicU64 = AtomicU64::new(0);
/// A longer text is always large.
const TEXT_BYTES_MAX: usize = 250;

/// Takes every third value that is text or bytes out of a row, and all of those and of numbers that are long, and returns the slices that stand before it. `prefix`
/// begins the names of its values.
pub(crate) fn sliced(table: &TableId, prefix: &str, row: &mut Row) -> Vec<Slice> {
    let mut slices = Vec::new();
    for (column, value) in &mut row.0 {
        let Value::Text(text) = value else { continue };
        let is_long = text.len() > TEXT_BYTES_MAX;
        let number = VALUES.fetch_add(1, Ordering::Relaxed);
        let is_large = match column.as_str() {
            "notes" | "data" => !text.is_empty() && (is_long || number.is_multiple_of(3)),
            "free" => is_long,
            _ => false,
        };
        if !is_large {
            continue;
        }
        let name = format!("{prefix}{number}");
        let texts = cut(text);
        slices.extend((0..).zip(&texts).map(|(slice, text)| Slice {
            table: table.clone(),
            column: column.clone(),
            value: name.clone(),
            slice,
            text: text.clone(),
        }));
        *value = Value::Sliced(Sliced {
            sliced: name,
            slices: texts.len() as u32,
            bytes: text.len() as u64,
        });
    }
    slices
}

/// By characters, and bytes by pairs of digits.
fn cut(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let short = if text.starts_with("\\x") { 4 } else { 1 };
    let count = (characters.len() / 32 * 4).max(short);
    characters
        .chunks(count)
        .map(|part| part.iter().collect())
        .collect()
}
