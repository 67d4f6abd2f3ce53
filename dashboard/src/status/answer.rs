//! What was asked, or why there is no answer.

use serde::{Deserialize, Serialize};

use super::Verdict;

/// JSON: `{"known": …}` or `{"unknown": "reason"}`. The reason names no password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It answered.
    Known(T),
    /// It did not, and this is why.
    Unknown(String),
}

impl<T> Answer<T> {
    /// The answer, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Answer::Known(known) => Some(known),
            Answer::Unknown(_) => None,
        }
    }

    /// Why there is none.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Answer::Known(_) => None,
            Answer::Unknown(reason) => Some(reason),
        }
    }

    /// Another answer made of this one; the reason stays.
    pub fn map<U>(&self, make: impl FnOnce(&T) -> U) -> Answer<U> {
        match self {
            Answer::Known(known) => Answer::Known(make(known)),
            Answer::Unknown(reason) => Answer::Unknown(reason.clone()),
        }
    }

    /// Whether it answered, as a verdict.
    pub fn verdict(&self) -> Verdict {
        match self {
            Answer::Known(_) => Verdict::Ok,
            Answer::Unknown(_) => Verdict::Unknown,
        }
    }
}
