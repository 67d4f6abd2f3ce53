//! What a person watching `up` sees: one line a step, with the time since the start; a bar where there
//! is something to count. All of it goes to standard error, and never waits for it (see `output`).

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::output;

/// Without a terminal a bar is repeated as lines, not more often than this.
const LINE_EVERY: Duration = Duration::from_secs(2);
const BAR_CELLS: u64 = 28;

/// Prints steps and bars.
pub(crate) struct Terminal {
    start: Instant,
    live: bool,
    bar_open: bool,
    block_lines: usize,
    last_line: Option<Instant>,
}

impl Terminal {
    /// Starts the clock.
    pub(crate) fn new() -> Terminal {
        Terminal {
            start: Instant::now(),
            live: std::io::stderr().is_terminal(),
            bar_open: false,
            block_lines: 0,
            last_line: None,
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints a line.
    pub(crate) fn step(&mut self, text: impl AsRef<str>) {
        self.close_bar();
        self.write(&format!(
            "[{:>6.1} s] {}\n",
            self.elapsed().as_secs_f64(),
            text.as_ref()
        ));
    }

    /// Shows `done` of `total`, with the time that is left at the rate since `began`.
    pub(crate) fn bar(&mut self, label: &str, done: u64, total: u64, began: Instant) {
        let now = Instant::now();
        let due = self.last_line.is_none_or(|last| now - last >= LINE_EVERY);
        if !self.live && !due || output::stderr().is_behind() {
            return;
        }
        self.last_line = Some(now);
        let line = format!(
            "[{:>6.1} s] {label:<24} {} {done}/{total}{}",
            self.elapsed().as_secs_f64(),
            cells(done, total),
            eta(done, total, began.elapsed()),
        );
        self.bar_open = self.live;
        self.write(&if self.live {
            format!("\r\x1b[K{line}")
        } else {
            format!("{line}\n")
        });
    }

    /// True if a person watches: then blocks are redrawn in place.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Prints lines, over those of the last block where there is a terminal. Nothing while that is stopped: the
    /// next block says the same better.
    pub(crate) fn block(&mut self, text: &str) {
        if output::stderr().is_behind() {
            return;
        }
        self.erase_bar();
        let up = match std::mem::replace(&mut self.block_lines, text.lines().count()) {
            lines if self.live && lines > 0 => format!("\x1b[{lines}A\x1b[J"),
            _ => String::new(),
        };
        self.write(&format!("{up}{text}"));
    }

    fn close_bar(&mut self) {
        self.block_lines = 0;
        self.erase_bar();
    }

    fn erase_bar(&mut self) {
        if std::mem::take(&mut self.bar_open) {
            self.write("\r\x1b[K");
        }
        self.last_line = None;
    }

    /// Prints lines as they are, below what is there.
    pub(crate) fn text(&mut self, text: &str) {
        self.close_bar();
        self.write(text);
    }

    fn write(&self, text: &str) {
        output::stderr().put(text);
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Terminal::new()
    }
}

fn cells(done: u64, total: u64) -> String {
    let full = (done.min(total) * BAR_CELLS)
        .checked_div(total)
        .unwrap_or(0);
    let (full, empty) = (full as usize, (BAR_CELLS - full) as usize);
    format!("[{}{}]", "#".repeat(full), ".".repeat(empty))
}

fn eta(done: u64, total: u64, spent: Duration) -> String {
    if done == 0 || done >= total {
        return String::new();
    }
    let left = spent.as_secs_f64() * (total - done) as f64 / done as f64;
    format!(", {left:.0} s left")
}

/// A table with aligned columns; numbers to the right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(header[column].chars().count())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            if is_number(cell) {
                format!("{gap}{cell}")
            } else {
                format!("{cell}{gap}")
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(header.to_vec());
    text += &line(rule.iter().map(String::as_str).collect());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// `NaN` and `infinity` are words here, although they can be read as numbers.
fn is_number(cell: &str) -> bool {
    cell.ends_with(|last: char| last.is_ascii_digit()) && cell.parse::<f64>().is_ok()
}

/// Text of others with everything escaped that a terminal obeys or that turns text around. One line
/// stays one line.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_obeyed(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// A value of a JSON answer for people.
pub(crate) fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// JSON for programs and people: equal to what was given, and without raw control characters.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    // Outside of strings there are none but line feeds.
    for c in format!("{value:#}\n").chars() {
        match c != '\n' && is_obeyed(c) {
            true => out += &format!("\\u{:04x}", u32::from(c)),
            false => out.push(c),
        }
    }
    out
}

/// Control characters of both sets, and what changes the direction of text or is not seen; all of them
/// below U+10000.
fn is_obeyed(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_survives_nothing_to_do() {
        assert_eq!(
            cells(5, 10),
            format!("[{}{}]", "#".repeat(14), ".".repeat(14))
        );
        assert_eq!(cells(10, 10), format!("[{}]", "#".repeat(28)));
        assert_eq!(cells(0, 0), format!("[{}]", ".".repeat(28)));
    }

    #[test]
    fn the_time_left_follows_the_rate() {
        assert_eq!(eta(25, 100, Duration::from_secs(5)), ", 15 s left");
        assert_eq!(eta(0, 100, Duration::from_secs(5)), "");
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let text = table(
            &["name", "n"],
            &[vec!["a".into(), "5".into()], vec!["b".into(), "100".into()]],
        );
        assert_eq!(text, "name  n\n----  ---\na       5\nb     100\n");
        let words = table(&["value"], &[vec!["NaN".into()], vec!["1.5".into()]]);
        assert_eq!(words, "value\n-----\nNaN\n  1.5\n");
    }
}
