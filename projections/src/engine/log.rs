//! Where records come from: a Fluvio topic, or a vector in a test.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fluvio::consumer::{ConsumerConfigExtBuilder, OffsetManagementStrategy, RetryMode};
use fluvio::dataplane::link::ErrorCode;
use fluvio::metadata::partition::PartitionSpec;
use fluvio::{
    Fluvio, FluvioAdmin, FluvioError, SmartModuleContextData, SmartModuleExtraParams,
    SmartModuleInvocation, SmartModuleInvocationWasm, SmartModuleKind,
};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::Mutex;

/// Above the segment size of our topics, so that no server cuts a batch in two.
const FETCH_BYTES_MAX: i32 = 32 * 1024 * 1024;
/// No answer for longer than this counts as a failure.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Number of a record in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset behind this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record's value as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its number.
    pub offset: Offset,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// A read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The topic does not exist, or not yet.
    #[error("topic not found")]
    NoTopic,
    /// Retention removed the records.
    #[error("retention removed the records before offset {next}")]
    Evicted {
        /// First one that is left.
        next: Offset,
    },
    /// The topic ends before the wanted offset.
    #[error("the topic ends before it")]
    Beyond,
    /// Anything that may pass.
    #[error("{0}")]
    Other(String),
}

/// Records in offset order; ends or fails when the connection does.
pub type RecordStream = Pin<Box<dyn Stream<Item = Result<RawRecord, LogError>> + Send>>;

/// A place that keeps topics of one partition.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Streams a topic from `from` on, waiting for records that do not exist yet. May skip records
    /// or begin elsewhere after a fault: the caller checks the offsets.
    async fn read(&self, topic: &str, from: Offset) -> Result<RecordStream, LogError>;

    /// The offset that the next record will get, as far as is known; may lag behind.
    async fn end(&self, topic: &str) -> Result<Offset, LogError>;

    /// Forgets connections after an error.
    async fn reset(&self);
}

/// A SmartModule that the broker applies before the records leave it. It must map one to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmartModule {
    /// Name under which the broker knows it.
    pub name: String,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
}

/// Bare name and parameters, as the position row keeps them: a version leaves out what another does.
impl fmt::Display for SmartModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        write!(f, "{}", name.split('@').next().unwrap_or_default())?;
        for (name, value) in &self.params {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// A Fluvio cluster, or the embedded broker: the client cannot tell.
pub struct FluvioLog {
    endpoint: String,
    smartmodule: Option<SmartModule>,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    data: Option<Arc<Fluvio>>,
    admin: Option<Arc<FluvioAdmin>>,
}

impl FluvioLog {
    /// Connects at the first read.
    pub fn new(endpoint: String, smartmodule: Option<SmartModule>) -> Self {
        FluvioLog {
            endpoint,
            smartmodule,
            clients: Mutex::default(),
        }
    }

    async fn data(&self) -> Result<Arc<Fluvio>, LogError> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = &clients.data {
            return Ok(client.clone());
        }
        let config = millrace_topic::cluster(&self.endpoint);
        let client = in_time(async {
            Fluvio::connect_with_config(&config)
                .await
                .map_err(|e| classify(e.downcast_ref(), e.downcast_ref(), format!("{e:#}")))
        })
        .await?;
        let client = Arc::new(client);
        clients.data = Some(client.clone());
        Ok(client)
    }

    async fn admin(&self) -> Result<Arc<FluvioAdmin>, LogError> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = &clients.admin {
            return Ok(client.clone());
        }
        let config = millrace_topic::cluster(&self.endpoint);
        let client = in_time(async {
            FluvioAdmin::connect_with_config(&config)
                .await
                .map_err(|e| classify(e.downcast_ref(), e.downcast_ref(), format!("{e:#}")))
        })
        .await?;
        let client = Arc::new(client);
        clients.admin = Some(client.clone());
        Ok(client)
    }

    fn invocation(&self) -> Vec<SmartModuleInvocation> {
        let of = |module: &SmartModule| SmartModuleInvocation {
            wasm: SmartModuleInvocationWasm::Predefined(module.name.clone()),
            kind: SmartModuleKind::Generic(SmartModuleContextData::None),
            params: SmartModuleExtraParams::from(module.params.clone()),
            name: Some(module.name.clone()),
        };
        self.smartmodule.iter().map(of).collect()
    }
}

#[async_trait]
impl Log for FluvioLog {
    async fn read(&self, topic: &str, from: Offset) -> Result<RecordStream, LogError> {
        let client = self.data().await?;
        let from = i64::try_from(from.0).map_err(|_| LogError::Beyond)?;
        let start =
            fluvio::Offset::absolute(from).map_err(|error| LogError::Other(error.to_string()))?;
        let config = ConsumerConfigExtBuilder::default()
            .topic(topic)
            .partition(0)
            .offset_start(start)
            .offset_strategy(OffsetManagementStrategy::None)
            .max_bytes(FETCH_BYTES_MAX)
            .smartmodule(self.invocation())
            .retry_mode(RetryMode::Disabled)
            .build()
            .map_err(|error| LogError::Other(error.to_string()))?;
        let stream = in_time(async {
            client
                .consumer_with_config(config)
                .await
                .map_err(|e| classify(e.downcast_ref(), e.downcast_ref(), format!("{e:#}")))
        })
        .await?;
        let stream = stream.map(move |record| {
            // The stream lives no longer than its client.
            let _client = &client;
            match record {
                Ok(record) => Ok(RawRecord {
                    offset: Offset(u64::try_from(record.offset).unwrap_or_default()),
                    value: record.into_inner().into_value().to_vec(),
                }),
                Err(code) => Err(of_code(&code)),
            }
        });
        Ok(Box::pin(stream))
    }

    async fn end(&self, topic: &str) -> Result<Offset, LogError> {
        let admin = self.admin().await?;
        let partitions = in_time(async {
            admin
                .all::<PartitionSpec>()
                .await
                .map_err(|e| classify(e.downcast_ref(), e.downcast_ref(), format!("{e:#}")))
        })
        .await?;
        let name = format!("{topic}-0");
        let partition = partitions
            .iter()
            .find(|partition| partition.name == name)
            .ok_or(LogError::NoTopic)?;
        u64::try_from(partition.status.leader.hw)
            .map(Offset)
            .map_err(|_| LogError::Other("its end is not known yet".into()))
    }

    async fn reset(&self) {
        *self.clients.lock().await = Clients::default();
    }
}

/// Awaits an answer of the client, for a limited time.
async fn in_time<T>(answer: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(LogError::Other(format!(
            "no answer within {} s",
            REQUEST_TIMEOUT.as_secs()
        ))),
    }
}

/// The client hands out untyped errors; these are the two kinds that are inside.
fn classify(client: Option<&FluvioError>, code: Option<&ErrorCode>, text: String) -> LogError {
    match (client, code) {
        (Some(FluvioError::TopicNotFound(_) | FluvioError::PartitionNotFound(..)), _) => {
            LogError::NoTopic
        }
        (_, Some(code)) => of_code(code),
        _ => LogError::Other(text),
    }
}

fn of_code(code: &ErrorCode) -> LogError {
    match code {
        ErrorCode::TopicNotFound | ErrorCode::TopicDeleted => LogError::NoTopic,
        ErrorCode::OffsetEvicted { next_available, .. } => LogError::Evicted {
            next: Offset(u64::try_from(*next_available).unwrap_or_default()),
        },
        // The server has no code for it, only these words.
        ErrorCode::Other(text) if text.contains("is greater than leo") => LogError::Beyond,
        // The whole message would show the record.
        ErrorCode::SmartModuleRuntimeError(error) => {
            LogError::Other(format!("the SmartModule failed at offset {}", error.offset))
        }
        code => LogError::Other(code.to_string()),
    }
}
