//! Why a part ended, in one line that may be shown to everybody.

use millrace_control as control;
use millrace_projections::engine;
use tokio::task::JoinError;

use super::supervise::End;
use crate::servers;
use crate::settings::{Settings, SETTINGS};
use crate::terminal::printable;

/// Longer reasons are cut: the end of a server's log, for example.
const REASON_CHARS_MAX: usize = 600;
/// A shorter secret stands in too many words.
const SECRET_CHARS_MIN: usize = 4;

/// An end that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) end: End,
    /// Names the section under `docs/errors`.
    pub(super) code: Option<&'static str>,
    /// One line, without the code and without passwords.
    pub(super) reason: String,
}

impl Failure {
    /// Of a task that has ended.
    pub(super) fn of(ended: Result<anyhow::Result<()>, JoinError>, secrets: &Secrets) -> Failure {
        let plain = |reason: String| Failure {
            end: End::Passing,
            code: None,
            reason,
        };
        match ended {
            Ok(Ok(())) => plain("it ended without being asked to".to_owned()),
            Ok(Err(error)) => Failure::from_error(&error, secrets),
            Err(error) => plain(secrets.hide(&one_line(&format!(
                "it broke down, please report this: {error}"
            )))),
        }
    }

    fn from_error(error: &anyhow::Error, secrets: &Secrets) -> Failure {
        let code = crate::code(error);
        let text = one_line(&in_short(error));
        let text = code.map_or(text.as_str(), |code| without_code(&text, code));
        Failure {
            end: end(error, code),
            code,
            reason: secrets.hide(text),
        }
    }
}

/// The end of a server's log says much, and its place is enough for a line.
fn in_short(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(servers::Error::Ended { status, log, .. }) => {
            format!("it has ended ({status}); its log is {}", log.display())
        }
        _ => control::in_words(error.as_ref()),
    }
}

fn end(error: &anyhow::Error, code: Option<&str>) -> End {
    let replaced = |cause: &engine::Error| matches!(cause, engine::Error::Superseded);
    let broken_listener = |cause: &control::Error| matches!(cause, control::Error::Serve(_));
    if error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(replaced))
    {
        return End::Replaced;
    }
    let broken = error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(broken_listener));
    match code {
        Some(_) if !broken => End::NeedsPerson,
        _ => End::Passing,
    }
}

/// Services write their codes in brackets or before a colon, or not at all.
fn without_code<'a>(text: &'a str, code: &str) -> &'a str {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_prefix(code));
    let bracketed = bracketed.and_then(|rest| rest.strip_prefix("] "));
    let plain = text
        .strip_prefix(code)
        .and_then(|rest| rest.strip_prefix(": "));
    bracketed.or(plain).unwrap_or(text)
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let line = lines.join(" / ");
    let mut short: String = line.chars().take(REASON_CHARS_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    printable(&short)
}

/// What no reason may hold.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The passwords and tokens of the settings, and `further` ones.
    pub(super) fn of(settings: &Settings, further: &[&str]) -> Secrets {
        let secret = SETTINGS.iter().filter(|setting| setting.secret);
        let values = secret.map(|setting| settings.text(setting));
        let values = values.chain(further.iter().copied());
        let values = values.filter(|value| value.chars().count() >= SECRET_CHARS_MIN);
        let mut all: Vec<String> = values
            .flat_map(|value| [value.to_owned(), crate::address::escaped(value)])
            .collect();
        // The longest first: one may begin with another.
        all.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Secrets(all)
    }

    fn hide(&self, text: &str) -> String {
        let hidden = |text: String, secret: &String| without_word(&text, secret);
        self.0.iter().fold(text.to_owned(), hidden)
    }
}

/// A secret is hidden where it stands alone: `admin` does not make `administrator` unreadable.
fn without_word(text: &str, secret: &str) -> String {
    let is_inside = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, found) in text.match_indices(secret) {
        let end = at + found.len();
        let (before, after) = (text[..at].chars().next_back(), text[end..].chars().next());
        if at < done || is_inside(before) || is_inside(after) {
            continue;
        }
        out += &text[done..at];
        out += "***";
        done = end;
    }
    out + &text[done..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: impl Into<anyhow::Error>) -> Failure {
        Failure::of(Ok(Err(error.into())), &Secrets::default())
    }

    #[test]
    fn a_code_stands_beside_the_reason_and_not_in_it() {
        let engine = failure(engine::Error::ForeignTables(vec!["t".to_owned()]));
        assert_eq!(
            (engine.end, engine.code),
            (End::NeedsPerson, Some("MR-P003"))
        );
        assert!(
            engine.reason.starts_with("the MySQL database has tables"),
            "{}",
            engine.reason
        );
        assert_eq!(without_code("capture-x: y: z", "capture-x"), "y: z");
        assert_eq!(
            without_code("nothing of the sort", "capture-x"),
            "nothing of the sort"
        );
    }

    #[test]
    fn a_cause_that_is_told_already_is_not_told_again() {
        let inner = std::io::Error::other("no route");
        let error = anyhow::Error::from(inner).context("MySQL: no route");
        assert_eq!(failure(error).reason, "MySQL: no route");
        let error = anyhow::anyhow!("no route").context("connecting");
        assert_eq!(failure(error).reason, "connecting: no route");
    }

    #[test]
    fn a_second_projector_is_not_fought() {
        let left = anyhow::Error::from(engine::Error::Superseded).context("projector");
        assert_eq!(failure(left).end, End::Replaced);
    }

    #[test]
    fn what_has_no_code_may_pass_and_stands_in_one_line() {
        let ended = failure(anyhow::anyhow!(
            "it ended; its log ends with: a\n  b\u{1b}[2J\n"
        ));
        assert_eq!((ended.end, ended.code), (End::Passing, None));
        assert_eq!(ended.reason, "it ended; its log ends with: a / b\\u{1b}[2J");
        let unasked = Failure::of(Ok(Ok(())), &Secrets::default());
        assert_eq!(unasked.reason, "it ended without being asked to");
    }

    #[test]
    fn no_reason_holds_a_password_in_either_spelling() {
        let given = ("MYSQL_PASSWORD".to_owned(), "p@ss w/rd".to_owned());
        let settings = Settings::resolve(None, vec![given]).unwrap();
        let secrets = Secrets::of(&settings, &["0123456789abcdef"]);
        let text = "mysql://u:p%40ss%20w%2Frd@h: no, p@ss w/rd, 0123456789abcdef";
        assert_eq!(secrets.hide(text), "mysql://u:***@h: no, ***, ***");
        let text = "admin: terminated by administrator command";
        assert_eq!(
            secrets.hide(text),
            "***: terminated by administrator command"
        );
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_too() {
        let ended = tokio::spawn(async { panic!("oh") }).await;
        let failure = Failure::of(ended, &Secrets::default());
        assert!(failure.reason.contains("broke down") && failure.end == End::Passing);
    }
}
