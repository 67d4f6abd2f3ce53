//! An error in words.

use std::error::Error;

/// An error and what caused it, in one line and each said once: a cause that the text before it contains is left
/// out, as many libraries put their causes into their texts.
pub fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Told {
        #[error("connection refused")]
        Refused,
        /// As in libraries that are not ours.
        #[error("no connection: {0}")]
        Repeats(#[source] Box<Told>),
        #[error("MySQL, reading rows")]
        Plain(#[source] Box<Told>),
    }

    #[test]
    fn every_cause_is_said_once_whether_or_not_a_text_contains_it() {
        let library = Told::Repeats(Box::new(Told::Refused));
        let ours = Told::Plain(Box::new(library));
        assert_eq!(
            in_words(&ours),
            "MySQL, reading rows: no connection: connection refused"
        );
        let plain = Told::Plain(Box::new(Told::Refused));
        assert_eq!(in_words(&plain), "MySQL, reading rows: connection refused");
    }
}
