//! What millrace needs of a Fluvio cluster, the embedded broker or a real one alike: a streaming unit,
//! topics with explicit retention, and the SmartModules compiled into this binary.

use std::time::Duration;

use anyhow::{anyhow, bail, Context};
use fluvio::config::FluvioClusterConfig;
use fluvio::metadata::customspu::CustomSpuSpec;
use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::smartmodule::{SmartModuleSpec, SmartModuleWasm};
use fluvio::metadata::spu::SpuSpec;
use fluvio::FluvioAdmin;
use fluvio_controlplane_metadata::spu::{Endpoint, IngressAddr, IngressPort};
use tokio::time::{sleep, timeout, Instant};

use crate::address::HostPort;

/// Name and WebAssembly of each SmartModule, from `smartmodules/`.
pub static SMARTMODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/smartmodules.rs"));

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
    let config = FluvioClusterConfig::new(endpoint);
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

/// Registers every SmartModule; a module of the same name is replaced.
pub async fn register_smartmodules(admin: &FluvioAdmin) -> anyhow::Result<()> {
    for (name, wasm) in SMARTMODULES {
        let spec = SmartModuleSpec {
            wasm: SmartModuleWasm::from_raw_wasm_bytes(wasm)?,
            ..Default::default()
        };
        admin
            .create((*name).to_owned(), false, spec)
            .await
            .with_context(|| format!("the cluster refused SmartModule {name}"))?;
    }
    Ok(())
}

/// Waits until at least one streaming unit is online.
pub async fn wait_for_spu(admin: &FluvioAdmin) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut said = false;
    while !any_spu_online(admin).await? {
        if !std::mem::replace(&mut said, true) {
            let wait = CONNECT_TIMEOUT.as_secs();
            tracing::info!("the cluster has no streaming unit (SPU) online yet; waiting for {wait} s");
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

/// Registers a custom streaming unit, `ID,PUBLIC_HOST:PORT,PRIVATE_HOST:PORT`; one that exists stays.
pub async fn register_spu(admin: &FluvioAdmin, text: &str) -> anyhow::Result<()> {
    let spec = parse_spu(text).with_context(|| {
        format!("--spu {text:?}: expected ID,PUBLIC_HOST:PORT,PRIVATE_HOST:PORT")
    })?;
    let id = spec.id;
    let known = admin.all::<SpuSpec>().await?;
    if known.iter().any(|spu| spu.spec.id == id) {
        return Ok(());
    }
    admin
        .create(format!("custom-spu-{id}"), false, spec)
        .await
        .with_context(|| format!("the cluster refused streaming unit {id}"))
}

fn parse_spu(text: &str) -> Option<CustomSpuSpec> {
    let mut fields = text.split(',');
    let id = fields.next()?.trim().parse().ok()?;
    let public: HostPort = fields.next()?.parse().ok()?;
    let private: HostPort = fields.next()?.parse().ok()?;
    // Clients join host and port with a colon: an IPv6 address keeps its brackets.
    Some(CustomSpuSpec {
        id,
        public_endpoint: IngressPort {
            port: public.port,
            ingress: vec![IngressAddr {
                hostname: Some(public.host.to_string()),
                ip: None,
            }],
            ..Default::default()
        },
        private_endpoint: Endpoint {
            port: private.port,
            host: private.host.to_string(),
            ..Default::default()
        },
        rack: None,
        public_endpoint_local: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streaming_unit_is_parsed_and_rubbish_is_not() {
        let spec = parse_spu("5001,spu:9010,spu:9011").unwrap();
        assert_eq!((spec.id, spec.public_endpoint.port), (5001, 9010));
        assert_eq!(spec.private_endpoint.host, "spu");
        for text in ["1,::1:9010,[::1]:9011", "1,[::1]:9010,::1:9011"] {
            let spec = parse_spu(text).unwrap();
            assert_eq!(spec.public_endpoint.addr(), "[::1]:9010", "{text}");
            assert_eq!(spec.private_endpoint.host, "[::1]", "{text}");
        }
        for text in [
            "",
            "5001",
            "x,spu:1,spu:2",
            "1,spu,spu:2",
            "1,spu:99999,spu:2",
        ] {
            assert!(parse_spu(text).is_none(), "{text}");
        }
    }
}
