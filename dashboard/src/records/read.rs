//! Reading a range of a topic, on a connection of its own.

use std::future::Future;
use std::time::Duration;

use millrace_control::in_words;
use millrace_topic::{Cluster, Offset, Read, Record, SmartModule, TopicError};
use tokio::time::{timeout, timeout_at, Instant};

use crate::status::Time;

use super::pairing::{makes_several, Awaited};
use super::{Error, COMPILED_WITHIN, READ_WITHIN};

/// Longer values are not kept; what is shown of them is far less.
const READ_BYTES_MAX: usize = 64 << 20;
/// A module may make many records of one.
const MADE_MAX: usize = 20_000;

/// A record as it stands in the topic.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) offset: i64,
    pub(super) at: Option<Time>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
}

impl Raw {
    pub(super) fn contains(&self, text: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(text.len().max(1)).any(|part| part == text);
        within(&self.value) || self.key.as_deref().is_some_and(within)
    }
}

/// A topic's first partition with its bounds.
pub(super) struct Topic {
    cluster: Cluster,
    name: String,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Connects and finds the topic.
pub(super) async fn open(endpoint: &str, name: &str) -> Result<Topic, Error> {
    // On a connection of its own: a look reads up to the whole of what one fetch brings.
    let cluster = Cluster::new(endpoint);
    let bounds = timeout(READ_WITHIN, cluster.bounds(name)).await;
    let bounds = bounds
        .map_err(|_| Error::Timeout)?
        .map_err(|error| Error::Fluvio(in_words(&error)))?;
    let bounds = bounds.ok_or_else(|| Error::NoTopic(name.chars().take(64).collect()))?;
    Ok(Topic {
        cluster,
        name: name.to_owned(),
        start: bounds.start.to_i64(),
        end: bounds.end.to_i64(),
    })
}

impl Topic {
    /// Records from `first` on, raw or as a module makes them, until `until` is satisfied. Also why it may
    /// be less.
    pub(super) async fn read(
        &self,
        first: i64,
        until: &mut Until,
        module: Option<&SmartModule>,
    ) -> (Vec<Raw>, Option<String>) {
        let mut records = Vec::new();
        if first >= self.end || matches!(until, Until::Offset(past) if *past <= first) {
            return (records, None);
        }
        let reading = self.collect(first, until, module, &mut records);
        let error = reading.await.err();
        (records, error.filter(|_| !until.has_all()))
    }

    /// Ends at the end of the topic at the latest: a module that leaves everything out gives nothing
    /// to end at, so the server is told not to wait.
    async fn collect(
        &self,
        first: i64,
        until: &mut Until,
        module: Option<&SmartModule>,
        records: &mut Vec<Raw>,
    ) -> Result<(), String> {
        let mut read = Read::new(&self.name)
            .from(Offset::of(first))
            .through(module.cloned())
            .until_now();
        if module.is_some_and(makes_several) {
            read = read.unnumbered();
        }
        let mut patience = Patience::with(module);
        let said = |error: TopicError| in_words(&error);
        let reading = patience.wait(self.cluster.read(read)).await?;
        let mut reading = reading.map_err(said)?;
        let mut bytes = 0;
        while let Some(record) = patience.wait(reading.next()).await?.map_err(said)? {
            patience.has_begun();
            let record = raw(record);
            if until.is_passed_by(&record) {
                return Ok(());
            }
            bytes += record.value.len();
            if bytes > READ_BYTES_MAX || records.len() >= MADE_MAX {
                return Err("cut off: these records are too large".to_owned());
            }
            let last = matches!(until, Until::Offset(past) if record.offset + 1 >= *past);
            records.push(record);
            if last {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How long is waited, and what is said when that is over.
struct Patience {
    deadline: Instant,
    excuse: String,
}

impl Patience {
    fn with(module: Option<&SmartModule>) -> Patience {
        match module {
            None => Patience::of(READ_WITHIN, cut_off()),
            Some(SmartModule { name, .. }) => {
                let seconds = COMPILED_WITHIN.as_secs();
                let excuse = format!("{name} made nothing within {seconds} s; the broker may still be compiling it: look again");
                Patience::of(COMPILED_WITHIN, excuse)
            }
        }
    }

    fn of(within: Duration, excuse: String) -> Patience {
        Patience {
            deadline: Instant::now() + within,
            excuse,
        }
    }

    /// A module that makes records is compiled: from now on it is reading that takes the time.
    fn has_begun(&mut self) {
        if self.excuse != cut_off() {
            *self = Patience::of(READ_WITHIN, cut_off());
        }
    }

    async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, String> {
        let answer = timeout_at(self.deadline, answer).await;
        answer.map_err(|_| self.excuse.clone())
    }
}

fn cut_off() -> String {
    format!("cut off after {} s", READ_WITHIN.as_secs())
}

/// Where reading ends.
pub(super) enum Until {
    /// Before this offset.
    Offset(i64),
    /// When everything awaited is there, and something else comes.
    Made(Awaited),
}

impl Until {
    fn is_passed_by(&mut self, record: &Raw) -> bool {
        match self {
            Until::Offset(past) => record.offset >= *past,
            Until::Made(awaited) => !awaited.takes(record) && awaited.has_all(),
        }
    }

    fn has_all(&self) -> bool {
        matches!(self, Until::Made(awaited) if awaited.has_all())
    }
}

fn raw(record: Record) -> Raw {
    let at = record.sent_at_ms.and_then(|ms| ms.checked_mul(1_000));
    Raw {
        offset: record.offset.to_i64(),
        at: at.and_then(Time::from_epoch_us),
        key: record.key,
        value: record.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact() -> SmartModule {
        SmartModule {
            name: "redact".into(),
            params: std::collections::BTreeMap::new(),
        }
    }

    fn left(patience: &Patience) -> Duration {
        patience.deadline.saturating_duration_since(Instant::now())
    }

    #[test]
    fn a_module_is_given_the_time_that_compiling_it_takes_and_records_are_not() {
        let minute = Duration::from_secs(60);
        let mut patience = Patience::with(Some(&redact()));
        assert!(left(&patience) > minute, "{:?}", left(&patience));
        patience.has_begun();
        assert!(left(&patience) <= READ_WITHIN);
        assert!(left(&Patience::with(None)) <= READ_WITHIN);
    }

    #[tokio::test]
    async fn whoever_waits_in_vain_hears_that_the_module_may_still_be_compiled() {
        let mut patience = Patience::with(Some(&redact()));
        patience.deadline = Instant::now();
        let said = patience.wait(std::future::pending::<()>()).await;
        let said = said.unwrap_err();
        assert!(said.contains("redact made nothing within 110 s"), "{said}");
        assert!(said.contains("compiling"), "{said}");
    }
}
