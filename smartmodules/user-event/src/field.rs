//! The fields of an event: taken out, trimmed, checked.

use crate::event::{LoyaltyStatus, RejectReason, Rejection};
use chrono::NaiveDateTime;
use serde_json::{Map, Value};

use crate::date;
use crate::visible::{is_visible, trimmed};

/// Longer dates than this are none; RFC 3339 with nanoseconds and offset needs 35.
pub(crate) const DATE_CHARS_MAX: usize = 64;
pub(crate) const STATUS_CHARS_MAX: usize = 20;

/// The members of an event.
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

type Checked<T> = Result<T, Rejection>;

fn refuse<T>(reason: RejectReason, field: &str) -> Checked<T> {
    Err(Rejection {
        reason,
        field: Some(field.to_owned()),
    })
}

impl Fields<'_> {
    /// 1 to `chars_max` characters without the white space around them, at least one of them visible, none of them
    /// a control character.
    pub(crate) fn text(&self, name: &str, chars_max: usize) -> Checked<String> {
        match self.optional_text(name, chars_max)? {
            Some(text) => Ok(text),
            None => refuse(RejectReason::MissingField, name),
        }
    }

    /// Like [`Fields::text`]; nothing if the field is missing or null.
    pub(crate) fn optional_text(&self, name: &str, chars_max: usize) -> Checked<Option<String>> {
        let text = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => trimmed(text),
            Some(_) => return refuse(RejectReason::NotText, name),
        };
        if text.chars().any(char::is_control) {
            return refuse(RejectReason::ControlCharacter, name);
        }
        if !text.chars().any(is_visible) {
            return refuse(RejectReason::Empty, name);
        }
        if text.chars().count() > chars_max {
            return refuse(RejectReason::TooLong, name);
        }
        Ok(Some(text.to_owned()))
    }

    /// In lower case, because it identifies the user.
    pub(crate) fn email(&self, name: &str, chars_max: usize) -> Checked<String> {
        let email = self.text(name, chars_max)?.to_lowercase();
        if email.chars().count() > chars_max {
            return refuse(RejectReason::TooLong, name);
        }
        if !is_email(&email) {
            return refuse(RejectReason::BadEmail, name);
        }
        Ok(email)
    }

    pub(crate) fn date(&self, name: &str) -> Checked<NaiveDateTime> {
        let text = self.text(name, DATE_CHARS_MAX)?;
        match date::parse(&text) {
            Some(date) => Ok(date),
            None => refuse(RejectReason::BadDate, name),
        }
    }

    pub(crate) fn loyalty_status(&self, name: &str) -> Checked<LoyaltyStatus> {
        let text = self.text(name, STATUS_CHARS_MAX)?;
        match text.to_lowercase().as_str() {
            "gold" => Ok(LoyaltyStatus::Gold),
            "silver" => Ok(LoyaltyStatus::Silver),
            "bronze" => Ok(LoyaltyStatus::Bronze),
            _ => refuse(RejectReason::UnknownLoyaltyStatus, name),
        }
    }
}

/// One `@`, something before it, and at least two labels of letters, digits and hyphens behind it; nothing that
/// cannot be seen, which would make another address of the same looks. Whether mail arrives there no syntax can tell.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let is_label = |label: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_local = |c: char| !"@()<>[]:;,\\\"".contains(c);
    text.chars().all(is_visible)
        && !local.is_empty()
        && local.chars().all(is_local)
        && domain.contains('.')
        && domain.split('.').all(is_label)
}
