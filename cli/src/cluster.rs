//! Waiting for a Fluvio cluster, the embedded broker or a real one alike, and for a streaming unit of it.

use std::time::Duration;

use anyhow::{anyhow, bail, Context};
use millrace_topic::Cluster;
use tokio::time::{sleep, timeout, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// A controller that is there answers sooner.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Connects to the controller, trying again for a minute: compose starts everything at once. Says so within
/// seconds if nobody answers.
///
/// # Errors
/// If there is no controller.
pub async fn connect(endpoint: &str) -> anyhow::Result<Cluster> {
    let cluster = Cluster::new(endpoint);
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut said = false;
    loop {
        let error = match timeout(ATTEMPT_TIMEOUT, cluster.connect()).await {
            Ok(Ok(())) => return Ok(cluster),
            Ok(Err(error)) => error.into(),
            Err(_) => anyhow!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
        };
        if Instant::now() >= deadline {
            return Err(error).with_context(|| {
                format!("no Fluvio controller at {endpoint}; check FLUVIO_HOST and FLUVIO_PORT")
            });
        }
        if !std::mem::replace(&mut said, true) {
            let wait = CONNECT_TIMEOUT.as_secs();
            tracing::warn!(
                "no Fluvio controller answers at {endpoint} ({error:#}); trying for {wait} s"
            );
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Waits until at least one streaming unit is online.
///
/// # Errors
/// If none is after a minute.
pub async fn wait_for_spu(cluster: &Cluster) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut said = false;
    while !cluster.has_unit_online().await? {
        if !std::mem::replace(&mut said, true) {
            let wait = CONNECT_TIMEOUT.as_secs();
            tracing::info!(
                "the cluster has no streaming unit (SPU) online yet; waiting for {wait} s"
            );
        }
        if Instant::now() >= deadline {
            bail!(
                "the cluster has no streaming unit (SPU) online; register one with `millrace init --spu`"
            );
        }
        sleep(RETRY_PAUSE).await;
    }
    Ok(())
}
