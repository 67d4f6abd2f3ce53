//! Reading the topic: through the SmartModule for what it says, raw for what was sent.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use millrace_topic::{
    Cluster, Offset, Patience, Read, Record, RecordStream, SmartModule, TopicError,
};
use tokio::time::{timeout, timeout_at, Instant};

use crate::batch::Event;
use crate::error::SessionError;
use crate::original::Original;
use crate::position::Anchor;
use crate::{Config, Error};

/// A server that has a record sends it at once; one that has not waits for it to be written.
const ANCHOR_TIMEOUT: Duration = Duration::from_secs(5);

/// The events of the topic, in order and without gap.
pub(crate) struct Reader {
    topic: String,
    records: RecordStream,
    /// Offset of the next event; unknown before the first of a topic that was never read.
    next: Option<i64>,
    patience: Arc<Patience>,
    /// The stream has brought something.
    begun: bool,
    /// Since when the topic is known to have more than the stream brings.
    behind_since: Option<Instant>,
    /// Why the stream ended behind the last batch; told at the next call.
    failed: Option<SessionError>,
}

impl Reader {
    /// Reads from `next`, or from the first event that there is.
    pub(crate) async fn open(
        cluster: &Cluster,
        config: &Config,
        next: Option<i64>,
        patience: Arc<Patience>,
    ) -> Result<Reader, SessionError> {
        let module = SmartModule {
            name: config.smartmodule.clone(),
            params: config.smartmodule_params.clone(),
        };
        let read = Read::new(&config.topic)
            .from(next.and_then(Offset::of))
            .through(Some(module));
        Ok(Reader {
            topic: config.topic.clone(),
            records: cluster.read(read).await?.into_stream(),
            next,
            patience,
            begun: false,
            behind_since: None,
            failed: None,
        })
    }

    /// Fails if the topic, which ends at `end`, has events that the stream does not bring. To be asked when a batch is
    /// empty.
    pub(crate) fn check_silence(
        &mut self,
        end: Option<i64>,
        now: Instant,
    ) -> Result<(), SessionError> {
        if end.is_none_or(|end| end <= self.next.unwrap_or(0)) {
            self.behind_since = None;
            return Ok(());
        }
        let waited = now.duration_since(*self.behind_since.get_or_insert(now));
        if waited < self.patience.limit(self.begun) {
            return Ok(());
        }
        let gives_up = self.patience.gives_up(&self.topic, self.begun, waited);
        Err(gives_up.into())
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
                Ok(event) => event,
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

    fn event(&mut self, record: Option<Result<Record, TopicError>>) -> Result<Event, SessionError> {
        let ended = || TopicError::Ended {
            topic: self.topic.clone(),
        };
        let record = record.unwrap_or_else(|| Err(ended()));
        let record = record.map_err(|error| failure(error, self.next))?;
        if !self.begun {
            let since = self.behind_since.map(|since| since.elapsed());
            self.patience.has_begun(since.unwrap_or_default());
        }
        (self.begun, self.behind_since) = (true, None);
        let offset = record.offset.to_i64();
        self.next = Some(offset + 1);
        Ok(Event {
            offset,
            value: record.value,
        })
    }
}

/// The records as they were sent, for those of `offsets` (ascending) that the topic still has. Each
/// is cut as soon as it is read.
pub(crate) async fn originals(
    cluster: &Cluster,
    config: &Config,
    offsets: &[i64],
) -> Result<Vec<(i64, Original)>, SessionError> {
    let mut found = Vec::new();
    let mut wanted = offsets;
    while let (Some(first), Some(last)) = (wanted.first(), wanted.last()) {
        match read_originals(cluster, config, (*first, *last), wanted, &mut found).await {
            Ok(()) => break,
            // They went between being read and being refused; the refusal still counts.
            Err(TopicError::Evicted { next, .. }) => {
                let next = next.to_i64().max(first + 1);
                wanted = &wanted[wanted.partition_point(|offset| *offset < next)..];
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

async fn read_originals(
    cluster: &Cluster,
    config: &Config,
    (first, last): (i64, i64),
    wanted: &[i64],
    found: &mut Vec<(i64, Original)>,
) -> Result<(), TopicError> {
    let read = Read::new(&config.topic)
        .from(Offset::of(first))
        .up_to(Offset::of(last).unwrap_or_default());
    let mut reading = cluster.read(read).await?;
    while let Some(record) = reading.next().await? {
        let offset = record.offset.to_i64();
        if wanted.binary_search(&offset).is_ok() {
            let original = Original::of(&record.value, config.original_bytes_max);
            found.push((offset, original));
        }
    }
    Ok(())
}

/// The anchor of the record at `offset`, which was read before; nothing if retention removed it.
/// If it is not there although it is older than `next_offset`, the topic is another one.
pub(crate) async fn anchor(
    cluster: &Cluster,
    topic: &str,
    offset: i64,
    next_offset: i64,
) -> Result<Option<Anchor>, SessionError> {
    let read = Read::new(topic).from(Offset::of(offset));
    let mut reading = cluster.read(read).await?;
    let Ok(record) = timeout(ANCHOR_TIMEOUT, reading.next()).await else {
        return Err(no_anchor(cluster, topic, offset, next_offset).await?);
    };
    match record {
        Ok(Some(record)) => Ok(Some(Anchor::of(
            offset,
            record.sent_at_ms.unwrap_or(-1),
            &record.value,
        ))),
        Ok(None) | Err(TopicError::Evicted { .. } | TopicError::Gap { .. }) => Ok(None),
        Err(error) => Err(failure(error, Some(next_offset))),
    }
}

/// Silence alone says nothing of a topic: only one that is known to end before the record is another one.
async fn no_anchor(
    cluster: &Cluster,
    topic: &str,
    offset: i64,
    next_offset: i64,
) -> Result<SessionError, SessionError> {
    let bounds = cluster.bounds(topic).await?;
    let topic = topic.to_owned();
    Ok(match bounds {
        Some(bounds) if bounds.end.to_i64() <= offset => {
            SessionError::Suspicious(Error::TopicRecreated { topic, next_offset })
        }
        _ => SessionError::Fluvio(format!(
            "topic {topic} did not bring record {offset} in time"
        )),
    })
}

fn failure(error: TopicError, next: Option<i64>) -> SessionError {
    let (next_offset, error) = match (next, error) {
        (Some(next_offset), error) => (next_offset, error),
        (None, error) => return error.into(),
    };
    SessionError::Suspicious(match error {
        TopicError::Evicted { topic, next, .. } => Error::EventsExpired {
            topic,
            next_offset,
            available: next.to_i64(),
        },
        TopicError::Gap { topic, found, .. } => Error::EventsMissing {
            topic,
            next_offset,
            found: found.to_i64(),
        },
        TopicError::Beyond { topic, .. } => Error::TopicRecreated { topic, next_offset },
        other => return other.into(),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(15);

    /// Brings these events, and then the error if there is one.
    fn reader(offsets: &[u64], error: Option<TopicError>, next: Option<i64>) -> Reader {
        let event = |offset: &u64| {
            Ok(Record {
                offset: Offset(*offset),
                sent_at_ms: None,
                key: None,
                value: Vec::new(),
            })
        };
        let records: Vec<_> = offsets.iter().map(event).chain(error.map(Err)).collect();
        Reader {
            topic: "t".to_owned(),
            records: Box::pin(stream::iter(records).chain(stream::pending())),
            next,
            patience: Arc::new(Patience::new(SILENCE)),
            begun: false,
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
    async fn batches_end_at_their_limit_and_a_topic_never_read_begins_where_it_begins() {
        let mut reader = reader(&[7, 8, 9, 10], None, None);
        assert_eq!(read(&mut reader).await.expect("events"), [7, 8, 9]);
        assert_eq!(read(&mut reader).await.expect("events"), [10]);
        assert_eq!(read(&mut reader).await.expect("no events"), [0; 0]);
    }

    #[tokio::test]
    async fn a_gap_ends_the_session_after_what_came_before_it() {
        let gap = TopicError::Gap {
            topic: "t".to_owned(),
            wanted: Offset(8),
            found: Offset(9),
        };
        let mut reader = reader(&[7], Some(gap), Some(7));
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
    async fn the_first_answer_is_waited_for_longer_each_time_and_later_silence_is_not() {
        let patience = Arc::new(Patience::new(SILENCE));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for seconds in [15, 30, 60, 120, 240, 240] {
            let mut silent = reader(&[], None, Some(7));
            silent.patience = patience.clone();
            for earlier in [0, seconds - 1] {
                let checked = silent.check_silence(Some(9), after(earlier));
                checked.expect("it may still begin");
            }
            let checked = silent.check_silence(Some(9), after(seconds));
            let error = checked.expect_err("too long").to_string();
            assert!(error.contains(&format!("within {seconds} s")), "{error}");
        }
        let mut begun = reader(&[7], None, Some(7));
        begun.patience = patience;
        assert_eq!(read(&mut begun).await.expect("events"), [7]);
        for (end, seconds) in [(8, 0), (9, 3_600), (9, 3_614)] {
            let checked = begun.check_silence(Some(end), after(seconds));
            checked.expect("nothing is late");
        }
        let checked = begun.check_silence(Some(9), after(3_615));
        let error = checked.expect_err("silent").to_string();
        assert!(error.contains("fell silent"), "{error}");
    }

    #[test]
    fn an_evicted_offset_is_told_with_its_code_once_it_is_believed() {
        let evicted = || TopicError::Evicted {
            topic: "t".to_owned(),
            wanted: Offset(5),
            next: Offset(9),
        };
        let error = failure(evicted(), Some(5));
        let SessionError::Suspicious(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.code(), "ingest-events-expired");
        assert!(error.to_string().contains("SET next_offset = 9"), "{error}");
        // A topic that was never read has no events to miss.
        assert!(matches!(failure(evicted(), None), SessionError::Fluvio(_)));
    }

    #[test]
    fn an_offset_behind_the_end_means_another_topic() {
        let topic = "t".to_owned();
        let wanted = Offset(100);
        let error = failure(TopicError::Beyond { topic, wanted }, Some(100));
        assert!(
            matches!(
                error,
                SessionError::Suspicious(Error::TopicRecreated { .. })
            ),
            "{error}"
        );
    }
}
