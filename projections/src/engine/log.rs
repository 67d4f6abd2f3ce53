//! Where records come from: a Fluvio topic, or a vector in a test.

use async_trait::async_trait;
use millrace_topic::{Cluster, Offset, Read, Record, RecordStream, SmartModule, TopicError};

/// A place that keeps topics of one partition.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Streams a topic from `from` on, waiting for records that do not exist yet: every record, once, in order. Ends with
    /// its first error.
    async fn read(&self, topic: &str, from: Offset) -> Result<RecordStream, TopicError>;

    /// The records from the first of these offsets on, up to before the second, whatever module there is.
    async fn range(&self, topic: &str, range: (Offset, Offset)) -> Result<Vec<Record>, TopicError>;

    /// The offset that the next record will get, as far as is known; may lag behind.
    async fn end(&self, topic: &str) -> Result<Offset, TopicError>;

    /// Forgets connections after an error.
    async fn reset(&self);
}

/// A Fluvio cluster, or the embedded broker. The module, which maps one to one, is applied to everything that is read.
pub(super) struct FluvioLog {
    cluster: Cluster,
    module: Option<SmartModule>,
}

impl FluvioLog {
    /// Connects at the first read.
    pub(super) fn new(endpoint: &str, module: Option<SmartModule>) -> Self {
        FluvioLog {
            cluster: Cluster::new(endpoint),
            module,
        }
    }
}

#[async_trait]
impl Log for FluvioLog {
    async fn read(&self, topic: &str, from: Offset) -> Result<RecordStream, TopicError> {
        let read = Read::new(topic).from(from).through(self.module.clone());
        Ok(self.cluster.read(read).await?.into_stream())
    }

    async fn range(&self, topic: &str, range: (Offset, Offset)) -> Result<Vec<Record>, TopicError> {
        self.cluster.range(topic, range).await
    }

    async fn end(&self, topic: &str) -> Result<Offset, TopicError> {
        self.cluster.end(topic).await
    }

    async fn reset(&self) {
        self.cluster.reset();
    }
}
