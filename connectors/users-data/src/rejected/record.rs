//! What is shown of a rejected event.

use chrono::{DateTime, Utc};
use millrace_control::time;
use millrace_sm_user_event::{
    self as user_event, RejectReason, RejectedEvent, Rejection, UserEvent,
};
use serde::{Deserialize, Serialize};

use super::actions::{Action, Kind};
use super::advice;
use crate::Config;

/// What became of a rejected event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectedState {
    /// Nobody has done anything about it; or a retry began and did not say how it ended, then
    /// [`RejectedRecord::acted_at`] says when.
    Open,
    /// Sent again. If it was rejected again, that is a record of its own.
    Retried,
    /// Taken off the list of open events.
    Discarded,
}

/// Which rejected events to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Those to be looked at.
    #[default]
    Open,
    /// Those that were sent again.
    Retried,
    /// Those that were put away.
    Discarded,
    /// All.
    All,
}

impl Filter {
    pub(crate) fn takes(self, state: RejectedState) -> bool {
        match self {
            Filter::All => true,
            Filter::Open => state == RejectedState::Open,
            Filter::Retried => state == RejectedState::Retried,
            Filter::Discarded => state == RejectedState::Discarded,
        }
    }
}

/// How many rejected events are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// To be looked at.
    pub open: usize,
    /// Sent again.
    pub retried: usize,
    /// Put away.
    pub discarded: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, state: RejectedState) {
        match state {
            RejectedState::Open => self.open += 1,
            RejectedState::Retried => self.retried += 1,
            RejectedState::Discarded => self.discarded += 1,
        }
    }
}

/// How many of the events that were asked for were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// Why.
    pub reason: RejectReason,
    /// How many, on this page and on others.
    pub records: usize,
}

/// Rejected events from the newest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Of all of them.
    pub counts: Counts,
    /// Of those in the state that was asked for, the most frequent reason first.
    pub reasons: Vec<ReasonCount>,
    /// Newest first.
    pub records: Vec<RejectedRecord>,
    /// To be given as `before` for the next page, if there is one.
    pub next_before: Option<i64>,
}

/// A rejected event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedRecord {
    /// Its offset in the topic of rejected events.
    pub offset: i64,
    /// Topic that it was sent to.
    pub source_topic: String,
    /// Partition there.
    pub source_partition: u32,
    /// Offset there.
    pub source_offset: i64,
    /// When it was rejected.
    #[serde(serialize_with = "time::serialize")]
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: RejectReason,
    /// Which field was wrong, if it was one.
    pub field: Option<String>,
    /// What Postgres said, if it was Postgres that refused it.
    pub sqlstate: Option<String>,
    /// Constraint that it violated.
    pub constraint: Option<String>,
    /// What was sent; nothing if the topic no longer had it.
    pub original: Option<String>,
    /// `original` is only its beginning.
    pub truncated: bool,
    /// `original` shows what is not UTF-8 as U+FFFD.
    pub lossy: bool,
    /// What SmartModule `user-event` makes of the original now; nothing if that is not whole.
    pub transformed: Option<String>,
    /// What would have been valid.
    pub valid: String,
    /// Why sending it again is of no use; nothing if it may be.
    pub no_retry: Option<String>,
    /// What became of it.
    pub state: RejectedState,
    /// When that was.
    #[serde(serialize_with = "time::serialize_option")]
    pub acted_at: Option<DateTime<Utc>>,
}

/// An action whose end is not known leaves the record open.
pub(crate) fn state(action: Option<&Action>) -> RejectedState {
    match action {
        Some(action) if action.done && action.kind == Kind::Retry => RejectedState::Retried,
        Some(action) if action.done => RejectedState::Discarded,
        _ => RejectedState::Open,
    }
}

impl RejectedRecord {
    pub(crate) fn new(
        config: &Config,
        offset: i64,
        letter: RejectedEvent,
        action: Option<&Action>,
    ) -> RejectedRecord {
        let bytes_max = bytes_max(config);
        let made = made_of(&letter, bytes_max);
        let Rejection { reason, field } = letter.rejection;
        RejectedRecord {
            offset,
            valid: advice::valid(reason, field.as_deref(), bytes_max),
            no_retry: no_retry(
                &letter.original,
                letter.truncated,
                letter.lossy,
                made.as_ref(),
            ),
            transformed: made.and_then(|event| serde_json::to_string(&event).ok()),
            source_topic: letter.topic,
            source_partition: letter.partition,
            source_offset: letter.offset,
            at: letter.at,
            reason,
            field,
            sqlstate: letter.sqlstate,
            constraint: letter.constraint,
            original: letter.original,
            truncated: letter.truncated,
            lossy: letter.lossy,
            state: state(action),
            acted_at: action.map(|action| action.at),
        }
    }
}

/// Bytes that an event may have.
fn bytes_max(config: &Config) -> usize {
    let given = config.smartmodule_params.get("max_bytes");
    let given = given.and_then(|text| text.parse().ok());
    given.unwrap_or(user_event::BYTES_MAX_DEFAULT)
}

/// What SmartModule `user-event` makes of an event that is kept whole. The module's own function, called here and not
/// in the broker: the broker runs it over records of a topic only, and the original may be gone from there by now.
fn made_of(letter: &RejectedEvent, bytes_max: usize) -> Option<UserEvent> {
    let original = letter
        .original
        .as_ref()
        .filter(|_| !letter.truncated && !letter.lossy)?;
    Some(user_event::validate(original.as_bytes(), bytes_max))
}

/// Sending the same bytes to the same module has the same end, unless the module or its limit has changed.
fn no_retry(
    original: &Option<String>,
    truncated: bool,
    lossy: bool,
    made: Option<&UserEvent>,
) -> Option<String> {
    let reason = match (original, made) {
        (None, _) => "it is not kept: the topic no longer had it",
        _ if truncated => "only its beginning is kept",
        _ if lossy => "it was not UTF-8 and is not kept byte by byte",
        (_, Some(UserEvent::Rejected(_))) => {
            "it would be rejected again: send a corrected event instead"
        }
        _ => return None,
    };
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(original: Option<&str>, truncated: bool) -> RejectedEvent {
        serde_json::from_value(serde_json::json!({
            "topic": "t", "partition": 0, "offset": 3, "at": "2026-01-02T03:04:05Z",
            "reason": "malformed_json", "original": original, "truncated": truncated, "lossy": false,
        }))
        .expect("a dead letter")
    }

    #[test]
    fn the_module_is_applied_to_what_is_whole_and_with_its_limit() {
        let mut config = Config::default();
        let record = |config: &Config, letter| RejectedRecord::new(config, 0, letter, None);
        let shown = record(&config, letter(Some("[]"), false));
        let expected = r#"{"kind":"rejected","reason":"not_an_object"}"#;
        assert_eq!(shown.transformed.as_deref(), Some(expected));
        assert_eq!(record(&config, letter(Some("[]"), true)).transformed, None);
        assert_eq!(record(&config, letter(None, false)).transformed, None);
        config.smartmodule_params = [("max_bytes".to_owned(), "1".to_owned())].into();
        let shown = record(&config, letter(Some("[]"), false));
        let expected = r#"{"kind":"rejected","reason":"oversized"}"#;
        assert_eq!(shown.transformed.as_deref(), Some(expected));
    }

    #[test]
    fn only_what_is_whole_and_passes_the_module_may_be_sent_again() {
        let no_retry = |letter| RejectedRecord::new(&Config::default(), 0, letter, None).no_retry;
        let good = r#"{"first_name":"A","last_name":"B","email":"a@b.org","registration_date":"2026-01-02","loyalty_status":"Gold"}"#;
        assert_eq!(no_retry(letter(Some(good), false)), None);
        for (letter, said) in [
            (letter(Some("{}"), false), "rejected again"),
            (letter(Some(good), true), "beginning"),
            (letter(None, false), "not kept"),
        ] {
            let reason = no_retry(letter).expect("a reason");
            assert!(reason.contains(said), "{reason}");
        }
    }
}
