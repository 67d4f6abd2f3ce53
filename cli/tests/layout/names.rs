//! The names of the shop: its tables as the generator makes them, its marts as `projections/marts` has them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::source::{files, Kind, Piece};

/// Rooms that no name of the shop may stand in, nor the word itself.
const ENGINE: [&str; 12] = [
    "events",
    "topic",
    "control",
    "sessions",
    "broker",
    "connectors/postgres-cdc",
    "smartmodules/columns",
    "smartmodules/rows",
    "smartmodules/redact",
    "projections/src",
    "dashboard/src",
    "dashboard/assets",
];
/// It starts the shop, so it may say so; what the shop consists of is no business of its.
const STARTS_IT: &str = "cli/src";

/// Names of tables that are words of their own: in code they mean many things, so only a literal that can be a table
/// counts.
const ORDINARY: [&str; 4] = ["users", "orders", "products", "reviews"];
/// A name behind one of these is a table.
const SQL: [&str; 8] = [
    "FROM",
    "JOIN",
    "INTO",
    "UPDATE",
    "TABLE",
    "ONLY",
    "REFERENCES",
    "TRUNCATE",
];

/// What may not be said.
struct Shop {
    tables: BTreeSet<String>,
    marts: BTreeSet<String>,
}

impl Shop {
    fn read(root: &Path) -> Shop {
        let schema = root.join("connectors/shop-generator/schema.sql");
        let schema = std::fs::read_to_string(schema).expect("the shop's tables");
        let table = |line: &str| {
            let name = line.trim().strip_prefix("CREATE TABLE ")?;
            let name = name.strip_prefix("IF NOT EXISTS ").unwrap_or(name);
            Some(name.split(|c: char| !is_of_a_name(c)).next()?.to_owned())
        };
        let marts = std::fs::read_dir(root.join("projections/marts")).expect("the shop's marts");
        let marts = marts.map(|entry| entry.expect("an entry").path());
        let sql = marts.filter(|path| path.extension().is_some_and(|end| end == "sql"));
        Shop {
            tables: schema.lines().filter_map(table).collect(),
            marts: sql
                .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
                .collect(),
        }
    }

    /// The first name that stands in a piece.
    fn said_in(&self, piece: &Piece) -> Option<String> {
        let lower = piece.text.to_lowercase();
        let peculiar = self
            .tables
            .iter()
            .filter(|name| !ORDINARY.contains(&name.as_str()));
        let mut peculiar = peculiar.chain(&self.marts);
        if let Some(name) = peculiar.find(|name| lower.contains(name.as_str())) {
            return Some(name.clone());
        }
        match piece.kind {
            Kind::Text => self
                .tables
                .iter()
                .find(|name| is_table_in(&piece.text, name))
                .cloned(),
            Kind::Code | Kind::Comment => None,
        }
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// True if the text is the name, has it in quotes or behind a schema, or is SQL on it.
fn is_table_in(text: &str, name: &str) -> bool {
    text.trim() == name
        || text.match_indices(name).any(|(at, _)| {
            let (before, behind) = (&text[..at], &text[at + name.len()..]);
            let (last, first) = (before.chars().next_back(), behind.chars().next());
            if last.is_some_and(is_of_a_name) || first.is_some_and(is_of_a_name) {
                return false;
            }
            let quoted = last == first && matches!(last, Some('"' | '`' | '\''));
            let escaped = before.ends_with("\\\"") && behind.starts_with("\\\"");
            let schema = before
                .strip_suffix('.')
                .and_then(|before| before.chars().next_back());
            let word = before
                .trim_end_matches([' ', '`', '"'])
                .rsplit(' ')
                .next()
                .unwrap_or_default();
            quoted || escaped || schema.is_some_and(is_of_a_name) || SQL.contains(&word)
        })
}

/// Names of the shop where none may stand, with file and line.
pub(crate) fn of_the_shop(root: &Path) -> Vec<String> {
    let shop = Shop::read(root);
    assert!(
        shop.tables.len() == 7 && shop.marts.len() >= 4,
        "the shop has changed: {:?}, {:?}",
        shop.tables,
        shop.marts
    );
    let mut violations = Vec::new();
    for folder in ENGINE.into_iter().chain([STARTS_IT]) {
        for file in files(root, folder, &["rs", "js", "html", "css", "sql"]) {
            for piece in &file.pieces {
                let word = says_shop(&piece.text).filter(|_| folder != STARTS_IT);
                let said = shop.said_in(piece).or(word.map(str::to_owned));
                violations.extend(said.map(|name| {
                    format!(
                        "{}:{}: {name:?} in: {}",
                        file.path.display(),
                        piece.line,
                        piece.text.trim()
                    )
                }));
            }
        }
    }
    violations
}

/// The word itself, alone or in a name, or what only a shop has.
fn says_shop(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphabetic());
    match words.any(|word| word == "shop" || word == "shops") {
        true => Some("shop"),
        false => lower.contains("loyalty").then_some("loyalty"),
    }
}

#[test]
fn a_table_is_told_from_the_word() {
    for text in [
        "users",
        "source.users",
        "{schema}.\\\"users\\\"",
        "SELECT * FROM users WHERE",
        "SELECT 1 FROM `users`",
        "{\"users\":1}",
    ] {
        assert!(is_table_in(text, "users"), "{text}");
    }
    for text in [
        "{sent} users arrived",
        "all users of the page",
        "users-data",
        "superusers",
        "from users",
    ] {
        assert!(!is_table_in(text, "users"), "{text}");
    }
}

#[test]
fn the_word_is_found_in_names_and_not_in_other_words() {
    for text in [
        "shop-changes",
        "Marts::shop()",
        "the shop's",
        "SHOP",
        "LoyaltyStatus",
    ] {
        assert!(says_shop(text).is_some(), "{text}");
    }
    for text in ["workshop", "shopping", "millrace"] {
        assert!(says_shop(text).is_none(), "{text}");
    }
}
