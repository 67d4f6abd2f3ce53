//! The streaming units (SPUs) of a cluster.

use fluvio::metadata::customspu::CustomSpuSpec;
use fluvio::metadata::spu::SpuSpec;
use fluvio_controlplane_metadata::spu::{CustomSpuKey, Endpoint, IngressAddr, IngressPort};

use crate::cluster::Connection;
use crate::{Cluster, TopicError};

/// A streaming unit as it is to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamingUnit {
    /// Its number in the cluster.
    pub id: i32,
    /// Where clients reach it.
    pub public: UnitAddress,
    /// Where other units reach it.
    pub private: UnitAddress,
    /// Where clients in its own network reach it, if elsewhere.
    pub local: Option<UnitAddress>,
}

/// Where a streaming unit listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitAddress {
    /// As it stands in front of a colon: an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl UnitAddress {
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            port: self.port,
            host: self.host.clone(),
            ..Default::default()
        }
    }

    fn ingress(&self) -> IngressPort {
        IngressPort {
            port: self.port,
            ingress: vec![IngressAddr {
                hostname: Some(self.host.clone()),
                ip: None,
            }],
            ..Default::default()
        }
    }
}

impl StreamingUnit {
    fn spec(&self) -> CustomSpuSpec {
        CustomSpuSpec {
            id: self.id,
            public_endpoint: self.public.ingress(),
            private_endpoint: self.private.endpoint(),
            rack: None,
            public_endpoint_local: self.local.as_ref().map(UnitAddress::endpoint),
        }
    }
}

impl Cluster {
    /// True if a streaming unit is there to keep records.
    ///
    /// # Errors
    /// If the controller does not answer as it should.
    pub async fn has_unit_online(&self) -> Result<bool, TopicError> {
        let units = self.ask("listing streaming units", list).await?;
        Ok(units.iter().any(|unit| unit.status.is_online()))
    }

    /// Registers a streaming unit. One that is known at these addresses is left alone, and one that is known at others is told
    /// anew: a port that is published may change from one start to the next.
    ///
    /// # Errors
    /// If the controller refuses it.
    pub async fn register_unit(&self, unit: &StreamingUnit) -> Result<(), TopicError> {
        let (id, wanted) = (unit.id, unit.spec());
        let known = self.ask("listing streaming units", list).await?;
        if let Some(known) = known.iter().find(|known| known.spec.id == id) {
            if same_addresses(&known.spec, &wanted) {
                return Ok(());
            }
            let was = known.spec.public_endpoint.addr();
            tracing::info!(id, was, now = %wanted.public_endpoint.addr(), "the streaming unit gets another address");
            let doing = format!("changing streaming unit {id}, which is registered at {was}");
            let delete = |connection: Connection| async move {
                let key = CustomSpuKey::Id(id);
                connection.admin.delete::<CustomSpuSpec>(key).await
            };
            self.ask(&doing, delete).await?;
        }
        let create = |connection: Connection| async move {
            let name = format!("custom-spu-{id}");
            connection.admin.create(name, false, wanted).await
        };
        self.ask(&format!("registering streaming unit {id}"), create)
            .await
    }
}

async fn list(
    connection: Connection,
) -> anyhow::Result<Vec<fluvio::metadata::objects::Metadata<SpuSpec>>> {
    connection.admin.all::<SpuSpec>().await
}

fn same_addresses(known: &SpuSpec, wanted: &CustomSpuSpec) -> bool {
    known.public_endpoint == wanted.public_endpoint
        && known.private_endpoint == wanted.private_endpoint
        && known.public_endpoint_local == wanted.public_endpoint_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_have_an_address_for_its_own_network() {
        let address = |host: &str, port| UnitAddress {
            host: host.to_owned(),
            port,
        };
        let mut unit = StreamingUnit {
            id: 5001,
            public: address("[::1]", 9010),
            private: address("spu", 9011),
            local: Some(address("spu", 9010)),
        };
        let spec = unit.spec();
        assert_eq!(spec.id, 5001);
        // Clients join host and port with a colon.
        assert_eq!(spec.public_endpoint.addr(), "[::1]:9010");
        assert_eq!(spec.private_endpoint.host, "spu");
        let local = spec.public_endpoint_local.expect("an address");
        assert_eq!((local.host.as_str(), local.port), ("spu", 9010));
        unit.local = None;
        assert_eq!(unit.spec().public_endpoint_local, None);
    }
}
