//! The snapshot topic, as several readers append to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use millrace_events::{CopyId, Epoch, Record};
use millrace_topic::{Appender, Fence};
use tokio::sync::Mutex;

use crate::Error;

/// Appends for all readers of a copy: what is in flight is limited for all of them together. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pieces {
    appender: Arc<Mutex<Appender>>,
    /// Values that were named.
    values: Arc<AtomicU64>,
}

impl Pieces {
    pub(crate) fn new(appender: Appender) -> Self {
        Pieces {
            appender: Arc::new(Mutex::new(appender)),
            values: Arc::default(),
        }
    }

    /// A name for a sliced value that no other one of this copy has.
    pub(crate) fn name(&self, copy: CopyId, epoch: Epoch) -> String {
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        format!("{}{}-{value}", copy.value_prefix(), epoch.0)
    }

    /// Sends a record; waits while too much is in flight.
    pub(crate) async fn send(&self, value: Vec<u8>) -> Result<(), Error> {
        Ok(self.appender.lock().await.append(value).await?)
    }

    /// Sends a record and waits until it and all before it are acknowledged.
    pub(crate) async fn fence(&self, record: &Record) -> Result<Fence, Error> {
        Ok(self.appender.lock().await.fence(record.encode()).await?)
    }

    /// Waits until everything is acknowledged.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        self.appender.lock().await.settle().await?;
        Ok(())
    }
}
