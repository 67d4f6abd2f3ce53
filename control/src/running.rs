//! A service at work.

use std::future::Future;
use std::pin::Pin;

/// What `run` of a service returns: it ends when the service was told to, or with the reason why it cannot go on.
///
/// Boxed by the service itself, so that it is compiled once, with the service. An `async fn` would be compiled
/// again in every crate that awaits it: most of what building the binary and the tests took (ADR 14).
pub type Running<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;
