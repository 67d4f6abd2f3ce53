//! Patterns of names, as the settings write them.

use std::fmt;

/// A name in which `*` stands for any characters, none included.
///
/// What is written in double quotes stands for itself, and a quote inside is doubled, as in
/// [`TableId`](crate::TableId); so do lower-case letters, digits, `_` and `$` without them.
///
/// The pieces between the `*`s, in order; a single one is the whole name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<String>);

impl Glob {
    /// `None` if the text is empty, has an open quote, or a character that needs quotes.
    pub fn parse(text: &str) -> Option<Glob> {
        let mut pieces = vec![String::new()];
        let mut quoted = false;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            let piece = pieces.last_mut()?;
            match c {
                '"' if quoted && rest.next_if_eq(&'"').is_some() => piece.push('"'),
                '"' => quoted = !quoted,
                c if quoted || is_plain(c) => piece.push(c),
                '*' => pieces.push(String::new()),
                _ => return None,
            }
        }
        let empty = pieces == [""];
        (!quoted && !empty).then_some(Glob(pieces))
    }

    /// Matches every name.
    pub fn any() -> Glob {
        Glob(vec![String::new(), String::new()])
    }

    /// The name, if it is written without a `*`.
    pub fn exact(&self) -> Option<&str> {
        match &self.0[..] {
            [whole] => Some(whole),
            _ => None,
        }
    }

    /// Whether it means this name.
    pub fn matches(&self, name: &str) -> bool {
        let (first, rest) = match &self.0[..] {
            [] => return false,
            [whole] => return name == whole,
            [first, rest @ ..] => (first, rest),
        };
        let (last, middle) = match rest {
            [middle @ .., last] => (last, middle),
            [] => return false,
        };
        let Some(mut text) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        for piece in middle {
            match text.split_once(piece.as_str()) {
                Some((_, behind)) => text = behind,
                None => return false,
            }
        }
        text.ends_with(last.as_str())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, piece) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("*")?;
            }
            if piece.chars().all(is_plain) {
                f.write_str(piece)?;
            } else {
                write!(f, "\"{}\"", piece.replace('"', "\"\""))?;
            }
        }
        Ok(())
    }
}

/// The parts of `text` between those `separator`s that stand outside of quotes.
pub fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// What Postgres reads the same way with and without quotes.
fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$'
}
