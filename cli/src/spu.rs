//! Registering the streaming units (SPUs) of a Fluvio cluster.

use std::str::FromStr;

use anyhow::Context;
use fluvio::metadata::customspu::CustomSpuSpec;
use fluvio::metadata::spu::SpuSpec;
use fluvio::FluvioAdmin;
use fluvio_controlplane_metadata::spu::{CustomSpuKey, Endpoint, IngressAddr, IngressPort};

use crate::address::HostPort;

/// A streaming unit as it is to be registered: `ID,PUBLIC,PRIVATE[,LOCAL]`, addresses as `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamingUnit {
    id: i32,
    /// Where clients reach it.
    public: HostPort,
    /// Where other units reach it.
    private: HostPort,
    /// Where clients in its own network reach it, if elsewhere.
    local: Option<HostPort>,
}

impl FromStr for StreamingUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<StreamingUnit, String> {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let (id, addresses) = match fields.as_slice() {
            [id, addresses @ ..] if (2..=3).contains(&addresses.len()) => (id, addresses),
            _ => {
                return Err(
                    "expected an id and two or three addresses: 5001,spu:9010,spu:9011".into(),
                )
            }
        };
        let address = |text: &str| {
            text.parse::<HostPort>()
                .map_err(|error| format!("{text:?}: {error}"))
        };
        Ok(StreamingUnit {
            id: id
                .parse()
                .map_err(|_| format!("{id:?} is not the id of a streaming unit"))?,
            public: address(addresses[0])?,
            private: address(addresses[1])?,
            local: addresses.get(2).map(|text| address(text)).transpose()?,
        })
    }
}

/// Registers the unit. One that is known at these addresses is left alone, and one that is known at others is told
/// anew: a port that is published may change from one start to the next.
pub(crate) async fn register(admin: &FluvioAdmin, unit: &StreamingUnit) -> anyhow::Result<()> {
    let wanted = spec(unit);
    let known = admin.all::<SpuSpec>().await?;
    if let Some(known) = known.iter().find(|known| known.spec.id == unit.id) {
        if same_addresses(&known.spec, &wanted) {
            return Ok(());
        }
        let (id, was) = (unit.id, known.spec.public_endpoint.addr());
        tracing::info!(id, was, now = %unit.public, "the streaming unit gets another address");
        admin
            .delete::<CustomSpuSpec>(CustomSpuKey::Id(id))
            .await
            .with_context(|| {
                format!("streaming unit {id} is registered at {was} and cannot be changed")
            })?;
    }
    admin
        .create(format!("custom-spu-{}", unit.id), false, wanted)
        .await
        .with_context(|| format!("the cluster refused streaming unit {}", unit.id))
}

fn same_addresses(known: &SpuSpec, wanted: &CustomSpuSpec) -> bool {
    known.public_endpoint == wanted.public_endpoint
        && known.private_endpoint == wanted.private_endpoint
        && known.public_endpoint_local == wanted.public_endpoint_local
}

fn spec(unit: &StreamingUnit) -> CustomSpuSpec {
    let endpoint = |address: &HostPort| Endpoint {
        port: address.port,
        host: address.host.to_string(),
        ..Default::default()
    };
    CustomSpuSpec {
        id: unit.id,
        public_endpoint: IngressPort {
            port: unit.public.port,
            ingress: vec![IngressAddr {
                hostname: Some(unit.public.host.to_string()),
                ip: None,
            }],
            ..Default::default()
        },
        private_endpoint: endpoint(&unit.private),
        rack: None,
        public_endpoint_local: unit.local.as_ref().map(endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_have_an_address_for_its_own_network() {
        let unit: StreamingUnit = "5001, 127.0.0.1:9010, spu:9011, spu:9010".parse().unwrap();
        let spec = spec(&unit);
        assert_eq!(spec.id, 5001);
        assert_eq!(spec.public_endpoint.addr(), "127.0.0.1:9010");
        assert_eq!(spec.private_endpoint.host, "spu");
        let local = spec.public_endpoint_local.unwrap();
        assert_eq!((local.host.as_str(), local.port), ("spu", 9010));
        let plain: StreamingUnit = "5001,spu:9010,spu:9011".parse().unwrap();
        assert_eq!(plain.local, None);
    }

    /// Clients join host and port with a colon.
    #[test]
    fn an_ipv6_address_keeps_its_brackets_however_it_was_written() {
        for text in ["1,::1:9010,[::1]:9011", "1,[::1]:9010,::1:9011"] {
            let spec = spec(&text.parse().unwrap());
            assert_eq!(spec.public_endpoint.addr(), "[::1]:9010", "{text}");
            assert_eq!(spec.private_endpoint.host, "[::1]", "{text}");
        }
    }

    #[test]
    fn rubbish_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "expected an id"),
            ("5001,spu:9010", "expected an id"),
            ("x,spu:1,spu:2", "\"x\" is not the id"),
            ("1,spu,spu:2", "\"spu\": expected HOST:PORT"),
            ("1,spu:1,spu:2,spu:99999", "\"spu:99999\": expected"),
        ] {
            let refused = text.parse::<StreamingUnit>().unwrap_err();
            assert!(refused.starts_with(part), "{text:?}: {refused}");
        }
    }
}
