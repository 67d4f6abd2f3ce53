//! A look into a topic, raw and through a SmartModule.

mod pairing;
mod read;

use std::time::Duration;

use millrace_topic::SmartModule;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::status::Time;

use read::Until;

/// A look shows no more records.
const COUNT_MAX: u64 = 100;
/// And reads no more to find some that match a filter.
const SCAN_MAX: u64 = 1_000;
/// A value is cut here.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Values of one look together.
const LOOK_BYTES_MAX: usize = 8 << 20;
/// Of a key, and of a filter.
const KEY_BYTES_MAX: usize = 1_024;
/// A look ends by then with what it has.
const READ_WITHIN: Duration = Duration::from_secs(3);
/// The first record through a module may take so long: brokers compile a module when it is first asked for, which took
/// up to a minute on a busy machine. Whoever gives up sooner has to begin again.
const COMPILED_WITHIN: Duration = Duration::from_secs(110);
/// Each has a connection of its own.
const LOOKS_MAX: usize = 4;

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Peek {
    pub(crate) topic: String,
    /// First offset; none: the newest records.
    pub(crate) start: Option<u64>,
    pub(crate) count: u64,
    /// Text that key or value must contain.
    pub(crate) filter: Option<String>,
    pub(crate) smartmodule: Option<SmartModule>,
}

/// What was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    topic: String,
    start_offset: i64,
    end_offset: i64,
    records: Vec<Shown>,
    /// Why it is less than was wanted.
    error: Option<String>,
}

/// A record for people.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    offset: i64,
    at: Option<Time>,
    key: Option<String>,
    value: String,
    truncated: bool,
    /// What the module made of it.
    transformed: Option<Vec<String>>,
}

/// Nothing was seen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no topic {0:?}")]
    NoTopic(String),
    #[error("{0}")]
    Request(String),
    #[error("too many people look into topics; try again")]
    Busy,
    #[error("Fluvio: {0}")]
    Fluvio(String),
    #[error("Fluvio did not answer in time")]
    Timeout,
}

/// Looks into topics.
pub(crate) struct Records {
    endpoint: String,
    looks: Semaphore,
}

impl Records {
    pub(crate) fn new(endpoint: &str) -> Records {
        Records {
            endpoint: endpoint.to_owned(),
            looks: Semaphore::new(LOOKS_MAX),
        }
    }

    /// Looks once.
    pub(crate) async fn peek(&self, wanted: &Peek) -> Result<Seen, Error> {
        check(wanted)?;
        let _look = self.looks.try_acquire().map_err(|_| Error::Busy)?;
        let topic = read::open(&self.endpoint, &wanted.topic).await?;
        let (first, past) = range(wanted, topic.start, topic.end);
        let (mut raw, mut error) = topic.read(first, &mut Until::Offset(past), None).await;
        keep(&mut raw, wanted);
        let mut shown = show(&raw);
        if let Some(module) = &wanted.smartmodule {
            let failed = transform(&topic, module, &raw, &mut shown).await;
            error = error.or(failed);
        }
        Ok(Seen {
            topic: wanted.topic.clone(),
            start_offset: topic.start,
            end_offset: topic.end,
            records: shown,
            error,
        })
    }
}

/// Reads the records again through the module, and says why something may be missing.
async fn transform(
    topic: &read::Topic,
    module: &SmartModule,
    raw: &[read::Raw],
    shown: &mut [Shown],
) -> Option<String> {
    let (first, last) = (raw.first()?.offset, raw.last()?.offset);
    let mut until = match pairing::makes_several(module) {
        true => Until::Made(pairing::Awaited::of(raw, module)),
        false => Until::Offset(last + 1),
    };
    let (made, failed) = topic.read(first, &mut until, Some(module)).await;
    let paired = pairing::pair(raw, made, module, failed.is_none());
    for (shown, made) in shown.iter_mut().zip(paired) {
        shown.transformed = made;
    }
    let missing = shown.iter().any(|shown| shown.transformed.is_none());
    failed.or_else(|| {
        missing.then(|| "what the module made cannot be told apart by record".to_owned())
    })
}

fn check(wanted: &Peek) -> Result<(), Error> {
    if !(1..=COUNT_MAX).contains(&wanted.count) {
        return Err(Error::Request(format!("count is 1 to {COUNT_MAX}")));
    }
    let filter = wanted.filter.as_deref().unwrap_or("");
    if filter.len() > KEY_BYTES_MAX {
        return Err(Error::Request(format!(
            "filter is at most {KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

/// First offset to read, and the one behind the last; bounds of the topic respected.
fn range(wanted: &Peek, start: i64, end: i64) -> (i64, i64) {
    let want = match wanted.filter {
        Some(_) => SCAN_MAX,
        None => wanted.count,
    };
    let most = i64::try_from(want).unwrap_or(i64::MAX);
    let first = match wanted.start {
        Some(first) => i64::try_from(first).unwrap_or(i64::MAX),
        None => end.saturating_sub(most),
    };
    let first = first.clamp(start.min(end), end);
    (first, first.saturating_add(most).min(end))
}

/// Those that match: from a given start the first, otherwise the newest.
fn keep(raw: &mut Vec<read::Raw>, wanted: &Peek) {
    if let Some(filter) = &wanted.filter {
        raw.retain(|record| record.contains(filter.as_bytes()));
    }
    let count = usize::try_from(wanted.count).unwrap_or(usize::MAX);
    match wanted.start {
        Some(_) => raw.truncate(count),
        None => drop(raw.drain(..raw.len().saturating_sub(count))),
    }
}

fn show(raw: &[read::Raw]) -> Vec<Shown> {
    let mut left = LOOK_BYTES_MAX;
    let one = |record: &read::Raw| {
        let (value, truncated) = text(&record.value, VALUE_BYTES_MAX.min(left));
        left -= value.len().min(left);
        Shown {
            offset: record.offset,
            at: record.at,
            key: record.key.as_ref().map(|key| text(key, KEY_BYTES_MAX).0),
            value,
            truncated,
            transformed: None,
        }
    };
    raw.iter().map(one).collect()
}

/// Text of bytes, and whether it was cut.
fn text(bytes: &[u8], bytes_max: usize) -> (String, bool) {
    if bytes.len() <= bytes_max {
        return (String::from_utf8_lossy(bytes).into_owned(), false);
    }
    // Not in the middle of a letter.
    let mut end = bytes_max;
    while end > 0 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peek(start: Option<u64>, count: u64, filter: Option<&str>) -> Peek {
        Peek {
            topic: "t".into(),
            start,
            count,
            filter: filter.map(str::to_owned),
            smartmodule: None,
        }
    }

    #[test]
    fn a_look_stays_within_the_topic_and_its_limits() {
        assert_eq!(range(&peek(None, 20, None), 5, 100), (80, 100));
        assert_eq!(range(&peek(None, 20, None), 95, 100), (95, 100));
        assert_eq!(range(&peek(Some(0), 20, None), 5, 100), (5, 25));
        assert_eq!(range(&peek(Some(900), 20, None), 5, 100), (100, 100));
        assert_eq!(range(&peek(Some(u64::MAX), 20, None), 5, 100), (100, 100));
        assert_eq!(range(&peek(None, 20, Some("x")), 0, 5_000), (4_000, 5_000));
        assert_eq!(range(&peek(None, 20, None), 0, 0), (0, 0));
    }

    #[test]
    fn a_long_value_is_cut_between_letters() {
        assert_eq!(text("aé".as_bytes(), 2), ("a".to_owned(), true));
        assert_eq!(text("aé".as_bytes(), 3), ("aé".to_owned(), false));
    }
}
