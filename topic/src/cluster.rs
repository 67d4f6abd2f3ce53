//! Connecting: when first asked, and anew after any failure.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluvio::{Fluvio, FluvioAdmin};
use futures_util::future::BoxFuture;
use futures_util::FutureExt;
use tokio::time::timeout;

use crate::limits::REQUEST_TIMEOUT;
use crate::{endpoint, TopicError};

/// A Fluvio cluster, or the embedded broker: nobody can tell. Cheap to clone; clones share one connection.
///
/// A connection that failed, or whose request was given up in the middle, is not used again: after a restart of the
/// controller a client's metadata would never be refreshed.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    endpoint: String,
    connection: Mutex<Option<Connection>>,
    /// Held while connecting, so that one connection is made and not many.
    connecting: tokio::sync::Mutex<()>,
}

/// What is asked through. Streams and producers keep a clone: they live no longer than their client.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Clients>);

pub(crate) struct Clients {
    pub(crate) data: Fluvio,
    pub(crate) admin: FluvioAdmin,
}

impl std::ops::Deref for Connection {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.0
    }
}

impl Cluster {
    /// The cluster at an endpoint (`HOST:PORT` of the controller, see [`endpoint()`](crate::endpoint())). Does no IO yet.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Cluster {
        Cluster(Arc::new(Inner {
            endpoint: endpoint.into(),
            connection: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }))
    }

    /// Connects, if it is not connected.
    ///
    /// # Errors
    /// If nobody answers there, or not as a Fluvio controller does.
    pub async fn connect(&self) -> Result<(), TopicError> {
        self.connection().await.map(drop)
    }

    /// Forgets the connection: what is asked next makes a new one.
    pub fn reset(&self) {
        *self.slot() = None;
    }

    /// The same cluster over a connection of its own.
    pub(crate) fn apart(&self) -> Cluster {
        Cluster::new(self.0.endpoint.as_str())
    }

    pub(crate) async fn connection(&self) -> Result<Connection, TopicError> {
        let _connecting = self.0.connecting.lock().await;
        if let Some(connection) = &*self.slot() {
            return Ok(connection.clone());
        }
        let endpoint = &self.0.endpoint;
        let doing = format!("connecting to Fluvio at {endpoint}");
        let connect = async {
            let data = Fluvio::connect_with_config(&endpoint::cluster(endpoint)).await?;
            let admin = data.admin().await;
            Ok(Connection(Arc::new(Clients { data, admin })))
        };
        let connection = in_time(&doing, None, REQUEST_TIMEOUT, connect.boxed()).await?;
        *self.slot() = Some(connection.clone());
        Ok(connection)
    }

    /// Forgets this connection, if it is still the one that is used.
    pub(crate) fn forget(&self, failed: &Connection) {
        let mut slot = self.slot();
        if slot
            .as_ref()
            .is_some_and(|used| Arc::ptr_eq(&used.0, &failed.0))
        {
            *slot = None;
        }
    }

    /// Asks for something that is about no single topic.
    pub(crate) async fn ask<T, F>(
        &self,
        doing: &str,
        request: impl FnOnce(Connection) -> F,
    ) -> Result<T, TopicError>
    where
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        self.ask_within(doing, None, REQUEST_TIMEOUT, request).await
    }

    /// Asks for something of a topic.
    pub(crate) async fn ask_of<T, F>(
        &self,
        doing: &str,
        topic: &str,
        request: impl FnOnce(Connection) -> F,
    ) -> Result<T, TopicError>
    where
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        self.ask_within(doing, Some(topic), REQUEST_TIMEOUT, request)
            .await
    }

    pub(crate) async fn ask_within<T, F>(
        &self,
        doing: &str,
        topic: Option<&str>,
        limit: Duration,
        request: impl FnOnce(Connection) -> F,
    ) -> Result<T, TopicError>
    where
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        let connection = self.connection().await?;
        let mut distrust = Distrust {
            cluster: self,
            connection: Some(connection.clone()),
        };
        // Boxed, because the client's futures are nested too deep for the compiler otherwise.
        let answer = in_time(doing, topic, limit, request(connection).boxed()).await?;
        distrust.connection = None;
        Ok(answer)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        let slot = self.0.connection.lock();
        slot.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that nothing has come from yet. Dropped like that, it is not used again.
struct Distrust<'a> {
    cluster: &'a Cluster,
    connection: Option<Connection>,
}

impl Drop for Distrust<'_> {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            self.cluster.forget(connection);
        }
    }
}

async fn in_time<T>(
    doing: &str,
    topic: Option<&str>,
    limit: Duration,
    answer: BoxFuture<'_, anyhow::Result<T>>,
) -> Result<T, TopicError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| TopicError::of(doing, topic, error)),
        Err(_) => Err(TopicError::Timeout {
            doing: doing.to_owned(),
            limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_endpoint() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = free.local_addr().expect("its address").to_string();
        drop(free);
        let error = Cluster::new(endpoint.as_str()).connect().await;
        let error = error.expect_err("nobody listens").to_string();
        assert_eq!(error, format!("connecting to Fluvio at {endpoint}"));
    }
}
