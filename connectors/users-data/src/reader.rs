//! Reading the topic: through the SmartModule for what it says, raw for what was sent.

use std::pin::Pin;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, OffsetManagementStrategy, RetryMode};
use fluvio::dataplane::link::ErrorCode;
use fluvio::{
    Fluvio, Offset, SmartModuleContextData, SmartModuleExtraParams, SmartModuleInvocation,
    SmartModuleInvocationWasm, SmartModuleKind,
};
use futures_util::{Stream, StreamExt};
use tokio::time::{timeout, timeout_at, Instant};

use crate::batch::Event;
use crate::error::SessionError;
use crate::original::Original;
use crate::position::Anchor;
use crate::topic::{answer, REQUEST_TIMEOUT};
use crate::{Config, Error};

/// Above the segment size of our topics, so that no server cuts a batch in two.
const FETCH_BYTES_MAX: i32 = 32 * 1024 * 1024;
/// A server that has a record sends it at once; one that has not waits for it to be written.
const ANCHOR_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream that has records to bring and brings none for so long is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Its first answer includes the compilation of the SmartModule, which a broker may do for each stream. It is waited for
/// twice as long at each attempt, up to this.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(240);

/// How patiently a stream is waited for at its beginning; outlives the session.
#[derive(Debug, Default)]
pub(crate) struct FirstAnswer {
    /// How often in a row a stream did not begin in time.
    missed: u32,
}

impl FirstAnswer {
    fn within(&self) -> Duration {
        let grown = SILENCE.saturating_mul(2_u32.saturating_pow(self.missed));
        grown.min(FIRST_ANSWER_MAX)
    }
}

/// A record as it stands in the topic or comes out of the SmartModule.
pub(crate) struct Record {
    pub(crate) offset: i64,
    timestamp_ms: i64,
    pub(crate) value: Vec<u8>,
}

pub(crate) type Records = Pin<Box<dyn Stream<Item = Result<Record, ErrorCode>> + Send>>;

/// The events of the topic, in order and without gap.
pub(crate) struct Reader {
    topic: String,
    records: Records,
    /// Offset of the next event; unknown before the first of a topic that was never read.
    next: Option<i64>,
    /// The stream has begun.
    answered: bool,
    /// Since when the topic is known to have more than the stream brings.
    behind_since: Option<Instant>,
    /// Why the stream ended behind the last batch; told at the next call.
    failed: Option<SessionError>,
}

impl Reader {
    /// Reads from `next`, or from the first event that there is.
    pub(crate) async fn open(
        fluvio: &Fluvio,
        config: &Config,
        next: Option<i64>,
    ) -> Result<Reader, SessionError> {
        let module = vec![SmartModuleInvocation {
            wasm: SmartModuleInvocationWasm::Predefined(config.smartmodule.clone()),
            kind: SmartModuleKind::Generic(SmartModuleContextData::None),
            params: SmartModuleExtraParams::from(config.smartmodule_params.clone()),
            name: Some(config.smartmodule.clone()),
        }];
        Ok(Reader {
            topic: config.topic.clone(),
            records: records(fluvio, &config.topic, next, module).await?,
            next,
            answered: false,
            behind_since: None,
            failed: None,
        })
    }

    /// Fails if the topic, which ends at `end`, has events that the stream does not bring. To be asked when a batch is
    /// empty.
    pub(crate) fn check_silence(
        &mut self,
        end: Option<i64>,
        first: &mut FirstAnswer,
        now: Instant,
    ) -> Result<(), SessionError> {
        if end.is_none_or(|end| end <= self.next.unwrap_or(0)) {
            self.behind_since = None;
            return Ok(());
        }
        let waited = now.duration_since(*self.behind_since.get_or_insert(now));
        match self.answered {
            true if waited >= SILENCE => {
                Err(SessionError::Fluvio("the stream fell silent".to_owned()))
            }
            false if waited >= first.within() => {
                first.missed += 1;
                Err(SessionError::Fluvio(format!(
                    "the stream did not begin within {} s (the broker may be compiling the SmartModule); \
                     the next attempt waits {} s",
                    waited.as_secs(),
                    first.within().as_secs()
                )))
            }
            _ => Ok(()),
        }
    }

    /// The next events: waits at most `patience` for the first, and `wait_max` for others behind
    /// it. Nothing if there is none. May be cancelled without losing an event.
    pub(crate) async fn batch(
        &mut self,
        patience: Duration,
        wait_max: Duration,
        events_max: usize,
    ) -> Result<Vec<Event>, SessionError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut events = Vec::new();
        let mut deadline = Instant::now() + patience;
        while events.len() < events_max {
            let Ok(record) = timeout_at(deadline, self.records.next()).await else {
                break;
            };
            let event = match self.event(record) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                // What came before it is good, and must be stored before anybody skips what did not come.
                Err(error) if !events.is_empty() => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            };
            if events.is_empty() {
                deadline = Instant::now() + wait_max;
            }
            events.push(event);
        }
        Ok(events)
    }

    fn event(
        &mut self,
        record: Option<Result<Record, ErrorCode>>,
    ) -> Result<Option<Event>, SessionError> {
        let record = record.ok_or_else(|| SessionError::Fluvio("the stream ended".into()))?;
        let record = record.map_err(|code| failure(code, &self.topic, self.next))?;
        (self.answered, self.behind_since) = (true, None);
        self.in_sequence(record)
    }

    /// Offsets are contiguous. A server may repeat records, and one that lost its way may skip some:
    /// then they are asked for again.
    fn in_sequence(&mut self, record: Record) -> Result<Option<Event>, SessionError> {
        let next = self.next.unwrap_or(record.offset);
        if record.offset < next {
            return Ok(None);
        }
        if record.offset > next {
            return Err(SessionError::Suspicious(Error::EventsMissing {
                topic: self.topic.clone(),
                next_offset: next,
                found: record.offset,
            }));
        }
        self.next = Some(next + 1);
        Ok(Some(Event {
            offset: record.offset,
            value: record.value,
        }))
    }
}

/// The records as they were sent, for those of `offsets` (ascending) that the topic still has. Each
/// is cut as soon as it is read.
pub(crate) async fn originals(
    fluvio: &Fluvio,
    config: &Config,
    offsets: &[i64],
) -> Result<Vec<(i64, Original)>, SessionError> {
    let mut found = Vec::new();
    let mut wanted = offsets;
    while let (Some(first), Some(last)) = (wanted.first(), wanted.last()) {
        let mut records = records(fluvio, &config.topic, Some(*first), Vec::new()).await?;
        match next_raw(&mut records).await? {
            Raw::Expired { available } => {
                // They went between being read and being refused; the refusal still counts.
                let gone = wanted.partition_point(|offset| *offset < available.max(first + 1));
                wanted = &wanted[gone..];
            }
            Raw::Record(mut record) => loop {
                if wanted.binary_search(&record.offset).is_ok() {
                    let original = Original::of(&record.value, config.original_bytes_max);
                    found.push((record.offset, original));
                }
                if record.offset >= *last {
                    return Ok(found);
                }
                record = match next_raw(&mut records).await? {
                    Raw::Record(record) => record,
                    Raw::Expired { .. } => return Ok(found),
                };
            },
        }
    }
    Ok(found)
}

/// The anchor of the record at `offset`, which was read before; nothing if retention removed it.
/// If it is not there although it is older than `next_offset`, the topic is another one.
pub(crate) async fn anchor(
    fluvio: &Fluvio,
    topic: &str,
    offset: i64,
    next_offset: i64,
) -> Result<Option<Anchor>, SessionError> {
    let mut records = records(fluvio, topic, Some(offset), Vec::new()).await?;
    let Ok(record) = timeout(ANCHOR_TIMEOUT, records.next()).await else {
        return Err(no_anchor(fluvio, topic, offset, next_offset).await?);
    };
    match record {
        Some(Ok(record)) if record.offset == offset => {
            Ok(Some(Anchor::of(offset, record.timestamp_ms, &record.value)))
        }
        Some(Ok(_) | Err(ErrorCode::OffsetEvicted { .. })) => Ok(None),
        Some(Err(code)) => Err(failure(code, topic, Some(next_offset))),
        None => Err(SessionError::Fluvio("the stream ended".to_owned())),
    }
}

/// Silence alone says nothing of a topic: only one that is known to end before the record is another one.
async fn no_anchor(
    fluvio: &Fluvio,
    topic: &str,
    offset: i64,
    next_offset: i64,
) -> Result<SessionError, SessionError> {
    let bounds = crate::topic::bounds(fluvio, topic).await?;
    let topic = topic.to_owned();
    Ok(match bounds {
        Some(bounds) if bounds.end <= offset => {
            SessionError::Suspicious(Error::TopicRecreated { topic, next_offset })
        }
        _ => SessionError::Fluvio(format!(
            "topic {topic} did not bring record {offset} in time"
        )),
    })
}

/// What a read without SmartModule brought.
pub(crate) enum Raw {
    Record(Record),
    Expired { available: i64 },
}

/// The next record of a topic that is known to have one.
pub(crate) async fn next_raw(records: &mut Records) -> Result<Raw, SessionError> {
    match timeout(REQUEST_TIMEOUT, records.next()).await {
        Ok(Some(Ok(record))) => Ok(Raw::Record(record)),
        Ok(Some(Err(ErrorCode::OffsetEvicted { next_available, .. }))) => Ok(Raw::Expired {
            available: next_available,
        }),
        Ok(Some(Err(code))) => Err(SessionError::Fluvio(describe(&code))),
        Ok(None) => Err(SessionError::Fluvio("the stream ended".to_owned())),
        Err(_) => Err(SessionError::Fluvio(
            "no record of the topic in time".to_owned(),
        )),
    }
}

/// The records of a topic from `from` on, or from the first that there is.
pub(crate) async fn records(
    fluvio: &Fluvio,
    topic: &str,
    from: Option<i64>,
    modules: Vec<SmartModuleInvocation>,
) -> Result<Records, SessionError> {
    let what = format!("reading topic {topic}");
    let failed = |error: String| SessionError::Fluvio(format!("{what}: {error}"));
    let start = match from {
        Some(offset) => Offset::absolute(offset).map_err(|error| failed(error.to_string()))?,
        None => Offset::beginning(),
    };
    let config = ConsumerConfigExtBuilder::default()
        .topic(topic)
        .partition(0)
        .offset_start(start)
        .offset_strategy(OffsetManagementStrategy::None)
        .max_bytes(FETCH_BYTES_MAX)
        .smartmodule(modules)
        .retry_mode(RetryMode::Disabled)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let stream = answer(&what, fluvio.consumer_with_config(config)).await?;
    Ok(Box::pin(stream.map(|record| {
        record.map(|record| Record {
            offset: record.offset,
            timestamp_ms: record.timestamp(),
            value: record.value().to_vec(),
        })
    })))
}

fn failure(code: ErrorCode, topic: &str, next: Option<i64>) -> SessionError {
    let topic = topic.to_owned();
    match (code, next) {
        (ErrorCode::OffsetEvicted { next_available, .. }, Some(next_offset)) => {
            SessionError::Suspicious(Error::EventsExpired {
                topic,
                next_offset,
                available: next_available,
            })
        }
        // The server has no code for it, only these words.
        (ErrorCode::Other(text), Some(next_offset)) if text.contains("is greater than leo") => {
            SessionError::Suspicious(Error::TopicRecreated { topic, next_offset })
        }
        (code, _) => SessionError::Fluvio(describe(&code)),
    }
}

/// The code's own text of a failed SmartModule would show the record.
pub(crate) fn describe(code: &ErrorCode) -> String {
    match code {
        ErrorCode::SmartModuleRuntimeError(error) => {
            format!("the SmartModule failed at offset {}", error.offset)
        }
        code => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn reader(offsets: &[i64], next: Option<i64>) -> Reader {
        let records: Vec<_> = offsets
            .iter()
            .map(|offset| {
                Ok(Record {
                    offset: *offset,
                    timestamp_ms: 0,
                    value: Vec::new(),
                })
            })
            .collect();
        Reader {
            topic: "t".to_owned(),
            records: Box::pin(stream::iter(records).chain(stream::pending())),
            next,
            answered: false,
            behind_since: None,
            failed: None,
        }
    }

    async fn read(reader: &mut Reader) -> Result<Vec<i64>, SessionError> {
        let events = reader
            .batch(Duration::from_millis(1), Duration::ZERO, 3)
            .await?;
        Ok(events.iter().map(|event| event.offset).collect())
    }

    #[tokio::test]
    async fn repeated_records_are_dropped_and_batches_end_at_their_limit() {
        let mut reader = reader(&[5, 6, 7, 7, 8, 9, 10], Some(7));
        assert_eq!(read(&mut reader).await.expect("events"), [7, 8, 9]);
        assert_eq!(read(&mut reader).await.expect("events"), [10]);
        assert_eq!(read(&mut reader).await.expect("no events"), [0; 0]);
    }

    #[tokio::test]
    async fn a_gap_ends_the_session_after_what_came_before_it() {
        let mut reader = reader(&[7, 9], Some(7));
        assert_eq!(
            read(&mut reader).await.expect("the event before the gap"),
            [7]
        );
        let error = read(&mut reader).await.expect_err("gap");
        let SessionError::Suspicious(Error::EventsMissing {
            next_offset, found, ..
        }) = error
        else {
            panic!("{error}");
        };
        assert_eq!((next_offset, found), (8, 9));
    }

    #[tokio::test]
    async fn a_topic_never_read_begins_where_it_begins() {
        let mut reader = reader(&[3, 4], None);
        assert_eq!(read(&mut reader).await.expect("events"), [3, 4]);
    }

    #[tokio::test]
    async fn the_first_answer_is_waited_for_longer_each_time_and_later_silence_is_not() {
        let mut first = FirstAnswer::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for seconds in [15, 30, 60, 120, 240, 240] {
            let mut silent = reader(&[], Some(7));
            for earlier in [0, seconds - 1] {
                let checked = silent.check_silence(Some(9), &mut first, after(earlier));
                checked.expect("it may still begin");
            }
            let checked = silent.check_silence(Some(9), &mut first, after(seconds));
            let error = checked.expect_err("too long").to_string();
            assert!(error.contains(&format!("within {seconds} s")), "{error}");
        }
        let mut begun = reader(&[7], Some(7));
        assert_eq!(read(&mut begun).await.expect("events"), [7]);
        for (end, seconds) in [(8, 0), (9, 3_600), (9, 3_614)] {
            let checked = begun.check_silence(Some(end), &mut first, after(seconds));
            checked.expect("nothing is late");
        }
        let checked = begun.check_silence(Some(9), &mut first, after(3_615));
        let error = checked.expect_err("silent").to_string();
        assert!(error.contains("fell silent"), "{error}");
    }

    #[test]
    fn an_evicted_offset_is_told_with_its_code_once_it_is_believed() {
        let code = || ErrorCode::OffsetEvicted {
            offset: 5,
            next_available: 9,
        };
        let error = failure(code(), "t", Some(5));
        let SessionError::Suspicious(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.code(), "ingest-events-expired");
        assert!(error.to_string().contains("SET next_offset = 9"), "{error}");
        // A topic that was never read has no events to miss.
        assert!(matches!(
            failure(code(), "t", None),
            SessionError::Fluvio(_)
        ));
    }

    #[test]
    fn an_offset_behind_the_end_means_another_topic() {
        let text = "start offset: 100 is greater than leo: 5".to_owned();
        let error = failure(ErrorCode::Other(text), "t", Some(100));
        assert!(
            matches!(
                error,
                SessionError::Suspicious(Error::TopicRecreated { .. })
            ),
            "{error}"
        );
    }
}
