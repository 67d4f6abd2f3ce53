//! The snapshot topic, as several readers append to it.

use std::sync::Arc;

use millrace_events::Record;
use millrace_topic::{Appender, Fence};
use tokio::sync::Mutex;

use crate::Error;

/// Appends for all readers of a copy: what is in flight is limited for all of them together. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pieces(Arc<Mutex<Appender>>);

impl Pieces {
    pub(crate) fn new(appender: Appender) -> Self {
        Pieces(Arc::new(Mutex::new(appender)))
    }

    /// Sends a record; waits while too much is in flight.
    pub(crate) async fn send(&self, value: Vec<u8>) -> Result<(), Error> {
        Ok(self.0.lock().await.append(value).await?)
    }

    /// Sends a record and waits until it and all before it are acknowledged.
    pub(crate) async fn fence(&self, record: &Record) -> Result<Fence, Error> {
        Ok(self.0.lock().await.fence(record.encode()).await?)
    }

    /// Waits until everything is acknowledged.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        self.0.lock().await.settle().await?;
        Ok(())
    }
}
