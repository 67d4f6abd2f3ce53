//! Every question has a time limit, and its failure a text without passwords.

use std::future::Future;
use std::time::Duration;

use crate::status::Answer;

/// A source that takes longer is not known in this tick; ticks of a second do not overlap.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_millis(900);
/// Longer reasons are cut.
const REASON_CHARS_MAX: usize = 300;

/// What was answered in time, or why not.
pub(crate) async fn answer<T>(asked: impl Future<Output = Result<T, String>>) -> Answer<T> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(known)) => Answer::Known(known),
        Ok(Err(reason)) => Answer::Unknown(cut(&reason)),
        Err(_) => Answer::Unknown(format!("no answer within {} ms", ANSWER_WITHIN.as_millis())),
    }
}

fn cut(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}
