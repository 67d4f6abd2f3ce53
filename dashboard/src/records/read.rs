//! Reading a range of a topic, on a connection of its own.

use std::future::Future;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, OffsetManagementStrategy, RetryMode};
use fluvio::metadata::partition::PartitionSpec;
use fluvio::{
    Fluvio, Offset, SmartModuleContextData, SmartModuleExtraParams, SmartModuleInvocation,
    SmartModuleInvocationWasm, SmartModuleKind,
};
use futures_util::StreamExt;
use millrace_control::in_words;
use tokio::time::{timeout, timeout_at, Instant};

use crate::status::Time;

use super::pairing::Awaited;
use super::{Error, Module, COMPILED_WITHIN, READ_WITHIN};

/// Above the segment size of our topics, so that no server cuts a batch in two.
const FETCH_BYTES_MAX: i32 = 32 * 1024 * 1024;
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
    client: Fluvio,
    name: String,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Connects and finds the topic.
pub(super) async fn open(endpoint: &str, name: &str) -> Result<Topic, Error> {
    let opening = async {
        let client = Fluvio::connect_with_config(&millrace_topic::cluster(endpoint))
            .await
            .map_err(|error| Error::Fluvio(in_words(error.as_ref())))?;
        let admin = client.admin().await;
        let partitions = admin.all::<PartitionSpec>().await;
        let partitions = partitions.map_err(|error| Error::Fluvio(in_words(error.as_ref())))?;
        let key = format!("{name}-0");
        let partition = partitions.iter().find(|partition| partition.name == key);
        let status = &partition
            .ok_or_else(|| Error::NoTopic(name.chars().take(64).collect()))?
            .status;
        Ok(Topic {
            client,
            name: name.to_owned(),
            start: status.base_offset.max(0),
            end: status.leader.hw.max(0),
        })
    };
    timeout(READ_WITHIN, opening)
        .await
        .map_err(|_| Error::Timeout)?
}

impl Topic {
    /// Records from `first` on, raw or as a module makes them, until `until` is satisfied. Also why it may
    /// be less.
    pub(super) async fn read(
        &self,
        first: i64,
        until: &mut Until,
        module: Option<&Module>,
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
        module: Option<&Module>,
        records: &mut Vec<Raw>,
    ) -> Result<(), String> {
        let config = ConsumerConfigExtBuilder::default()
            .topic(self.name.as_str())
            .partition(0)
            .offset_start(Offset::absolute(first).map_err(|error| error.to_string())?)
            .offset_strategy(OffsetManagementStrategy::None)
            .max_bytes(FETCH_BYTES_MAX)
            .smartmodule(module.map(invocation).into_iter().collect::<Vec<_>>())
            .retry_mode(RetryMode::Disabled)
            .disable_continuous(true)
            .build()
            .map_err(|error| error.to_string())?;
        let mut patience = Patience::with(module);
        let stream = patience
            .wait(self.client.consumer_with_config(config))
            .await?;
        let mut stream = stream.map_err(|error| in_words(error.as_ref()))?;
        let mut bytes = 0;
        while let Some(record) = patience.wait(stream.next()).await? {
            patience.has_begun();
            let record = raw(record.map_err(|code| code.to_string())?);
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
    fn with(module: Option<&Module>) -> Patience {
        match module {
            None => Patience::of(READ_WITHIN, cut_off()),
            Some(Module { name, .. }) => {
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

fn raw(record: fluvio::consumer::Record) -> Raw {
    let ms = record.timestamp();
    let at = (ms > 0).then(|| Time::from_epoch_us(ms.checked_mul(1_000)?));
    Raw {
        offset: record.offset,
        at: at.flatten(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().to_vec(),
    }
}

fn invocation(module: &Module) -> SmartModuleInvocation {
    SmartModuleInvocation {
        wasm: SmartModuleInvocationWasm::Predefined(module.name.clone()),
        kind: SmartModuleKind::Generic(SmartModuleContextData::None),
        params: SmartModuleExtraParams::from(module.params.clone()),
        name: Some(module.name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact() -> Module {
        Module {
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
