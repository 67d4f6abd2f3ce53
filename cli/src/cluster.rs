//! What millrace needs of a Fluvio cluster, the embedded broker or a real one alike: a streaming unit, and
//! topics with explicit retention.

use std::time::Duration;

use anyhow::{anyhow, bail, Context};
use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::spu::SpuSpec;
use fluvio::FluvioAdmin;
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
pub async fn connect(endpoint: &str) -> anyhow::Result<FluvioAdmin> {
    let config = millrace_topic::cluster(endpoint);
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut said = false;
    loop {
        let attempt = FluvioAdmin::connect_with_config(&config);
        let error = match timeout(ATTEMPT_TIMEOUT, attempt).await {
            Ok(Ok(admin)) => return Ok(admin),
            Ok(Err(error)) => error,
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
pub async fn wait_for_spu(admin: &FluvioAdmin) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut said = false;
    while !any_spu_online(admin).await? {
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

/// Where a topic of one partition ends: the offset that its next record gets.
pub async fn end_offset(admin: &FluvioAdmin, topic: &str) -> anyhow::Result<i64> {
    let name = format!("{topic}-0");
    let partitions = admin.all::<PartitionSpec>().await?;
    let partition = partitions.iter().find(|partition| partition.name == name);
    let end = partition
        .with_context(|| format!("topic {topic} does not exist"))?
        .status
        .leader
        .hw;
    if end < 0 {
        bail!("the end of topic {topic} is not known yet");
    }
    Ok(end)
}

/// True if a streaming unit is there to keep records.
pub(crate) async fn any_spu_online(admin: &FluvioAdmin) -> anyhow::Result<bool> {
    let spus = admin.all::<SpuSpec>().await?;
    Ok(spus.iter().any(|spu| spu.status.is_online()))
}
