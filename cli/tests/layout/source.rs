//! The sources: which files there are, which of their lines are tests, and what on a line is code, text or comment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders of tests, benches and what building makes.
const ASIDE: [&str; 6] = ["tests", "benches", "examples", "fuzz", "target", "vendor"];

/// What a piece of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Code,
    /// The inside of a string literal.
    Text,
    Comment,
}

/// A piece of one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// A file that is part of what is built.
pub(crate) struct File {
    /// From the workspace.
    pub(crate) path: PathBuf,
    pub(crate) pieces: Vec<Piece>,
}

/// The files of a folder with one of these endings, tests left out.
pub(crate) fn files(root: &Path, folder: &str, endings: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    let texts: Vec<(PathBuf, String)> = paths
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|end| endings.iter().any(|one| end == *one))
        })
        .map(|path| {
            (
                path.clone(),
                std::fs::read_to_string(&path).expect("a source"),
            )
        })
        .collect();
    let tests: BTreeSet<PathBuf> = texts
        .iter()
        .flat_map(|(path, text)| modules_of_tests(path, text))
        .collect();
    let is_test = |path: &Path| path.ancestors().any(|part| tests.contains(part));
    let built = texts.into_iter().filter(|(path, _)| !is_test(path));
    built
        .map(|(path, text)| File {
            pieces: match path.extension().is_some_and(|end| end == "rs") {
                true => pieces(without_tests(&text)),
                false => lines(&text),
            },
            path: path
                .strip_prefix(root)
                .expect("in the workspace")
                .to_owned(),
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(|entry| entry.expect("an entry").path()) {
        let name = entry
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if entry.is_dir() && !ASIDE.contains(&name) {
            walk(&entry, found);
        } else if entry.is_file() {
            found.push(entry);
        }
    }
}

/// The files and folders of modules that stand under `#[cfg(test)]`.
fn modules_of_tests(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = path.parent().expect("a folder");
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let own = match ["lib", "main", "mod"].contains(&stem) {
        true => folder.to_owned(),
        false => folder.join(stem),
    };
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            continue;
        }
        let mut next = lines.next().unwrap_or_default();
        if let Some(file) = next
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            found.push(folder.join(file));
            next = lines.next().unwrap_or_default();
        }
        let module = next
            .strip_suffix(';')
            .and_then(|line| line.rsplit_once("mod "));
        if let Some((_, name)) = module {
            found.push(own.join(name).with_extension("rs"));
            found.push(own.join(name));
        }
    }
    found
}

/// A file up to its tests, which stand last.
fn without_tests(text: &str) -> &str {
    let mut at = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let begins_tests = line.trim() == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod ") && next.trim_end().ends_with('{'));
        if begins_tests {
            return &text[..at];
        }
        at += line.len();
    }
    text
}

/// Every line as text: of a file that is not Rust.
fn lines(text: &str) -> Vec<Piece> {
    let piece = |(at, line): (usize, &str)| Piece {
        line: at + 1,
        kind: Kind::Text,
        text: line.to_owned(),
    };
    text.lines().enumerate().map(piece).collect()
}

/// Rust as pieces. Of a literal over several lines, each line is a piece.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut line, mut rest) = (1, text);
    while !rest.is_empty() {
        let (kind, skipped, taken, behind) = next(rest);
        for (number, part) in taken.split('\n').enumerate() {
            if !part.trim().is_empty() {
                pieces.push(Piece {
                    line: line + number,
                    kind,
                    text: part.to_owned(),
                });
            }
        }
        line += rest[..skipped + taken.len() + behind].matches('\n').count();
        rest = &rest[skipped + taken.len() + behind..];
    }
    pieces
}

/// The next piece: its kind, bytes before it, its text, and bytes behind it that belong to it.
fn next(rest: &str) -> (Kind, usize, &str, usize) {
    if rest.starts_with("//") {
        let end = rest.find('\n').unwrap_or(rest.len());
        return (Kind::Comment, 0, &rest[..end], 0);
    }
    if rest.starts_with("/*") {
        let end = rest.find("*/").map_or(rest.len(), |at| at + 2);
        return (Kind::Comment, 0, &rest[..end], 0);
    }
    if let Some((open, close)) = raw_quotes(rest) {
        let inside = &rest[open..];
        let end = inside.find(&close).unwrap_or(inside.len());
        return (
            Kind::Text,
            open,
            &inside[..end],
            close.len().min(inside.len() - end),
        );
    }
    if let Some(inside) = rest.strip_prefix('"') {
        let end = closing(inside);
        return (
            Kind::Text,
            1,
            &inside[..end],
            usize::from(end < inside.len()),
        );
    }
    let end = end_of_code(rest);
    (Kind::Code, 0, &rest[..end], 0)
}

/// Length of `r#"` and the end that it calls for.
fn raw_quotes(rest: &str) -> Option<(usize, String)> {
    let behind = rest.strip_prefix('r')?;
    let hashes = behind.bytes().take_while(|byte| *byte == b'#').count();
    behind[hashes..]
        .starts_with('"')
        .then(|| (hashes + 2, format!("\"{}", "#".repeat(hashes))))
}

/// Where the quote is that no backslash escapes.
fn closing(inside: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    inside.len()
}

/// Where a comment or a literal may begin next. A quote may be one of a character, and an `r` the end of a word.
fn end_of_code(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
        return rest[1..].find('\'').map_or(rest.len(), |end| end + 2);
    }
    while at < bytes.len() {
        let is_word = bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_';
        let begins = rest.is_char_boundary(at)
            && (rest[at..].starts_with(['"', '\''])
                || rest[at..].starts_with("//")
                || rest[at..].starts_with("/*")
                || (!is_word && raw_quotes(&rest[at..]).is_some()));
        if begins {
            return at;
        }
        at += 1;
    }
    rest.len()
}

/// Lines that use a crate of Fluvio's, where none may.
pub(crate) fn uses_of_fluvio(root: &Path) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files(root, "", &["rs"]) {
        let path = file.path.to_string_lossy().into_owned();
        let is_shim = path.starts_with("smartmodules/") && path.ends_with("/src/shim.rs");
        if path.starts_with("topic/") || path.starts_with("broker/") || is_shim {
            continue;
        }
        let code = file.pieces.iter().filter(|piece| piece.kind == Kind::Code);
        let uses = code.filter(|piece| names_fluvio(&piece.text));
        violations
            .extend(uses.map(|piece| format!("{path}:{}: {}", piece.line, piece.text.trim())));
    }
    violations
}

/// `fluvio::…` or `fluvio_…::…` in a path: as its first part, or handed on by another crate.
fn names_fluvio(code: &str) -> bool {
    code.match_indices("fluvio").any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let is_first = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
        let name = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_');
        is_first && name.is_some_and(|end| code[at + end..].starts_with("::"))
    })
}

#[test]
fn a_line_falls_into_code_text_and_comment() {
    let source =
        "let a = \"x \\\" y\"; // c\nlet b = r#\"q\"q\"#;\nlet c = '\"'; let d: &'a str = \"z\";\n";
    let found: Vec<(usize, Kind, String)> = pieces(source)
        .into_iter()
        .map(|piece| (piece.line, piece.kind, piece.text.trim().to_owned()))
        .filter(|(_, kind, text)| *kind != Kind::Code || text.contains("let"))
        .collect();
    let of = |kind| -> Vec<(usize, &str)> {
        let found = found.iter().filter(|(_, one, _)| *one == kind);
        found
            .map(|(line, _, text)| (*line, text.as_str()))
            .collect()
    };
    assert_eq!(of(Kind::Text), [(1, "x \\\" y"), (2, "q\"q"), (3, "z")]);
    assert_eq!(of(Kind::Comment), [(1, "// c")]);
    assert_eq!(of(Kind::Code)[0], (1, "let a ="));
}

#[test]
fn tests_in_a_file_and_beside_it_are_left_out() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fluvio::b();\n}\n";
    assert_eq!(without_tests(text), "fn a() {}\n");
    let beside =
        "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n#[cfg(test)]\nmod scenarios;\n";
    let found = modules_of_tests(Path::new("x/src/a.rs"), beside);
    for path in [
        "x/src/a_tests.rs",
        "x/src/a/scenarios.rs",
        "x/src/a/scenarios",
    ] {
        assert!(found.contains(&PathBuf::from(path)), "{path}: {found:?}");
    }
}

#[test]
fn a_crate_of_fluvios_is_told_from_a_field_of_that_name() {
    for code in [
        "use fluvio::Fluvio;",
        "a(fluvio_protocol::x())",
        "fluvio::metadata::X",
        "::fluvio::Fluvio",
        "millrace_topic::fluvio::Fluvio",
    ] {
        assert!(names_fluvio(code), "{code}");
    }
    for code in ["endpoints.fluvio", "mod fluvio;", "millrace_fluvio::x"] {
        assert!(!names_fluvio(code), "{code}");
    }
}
