//! How a cluster is addressed.
//!
//! An *endpoint* is text: `HOST:PORT` of the controller, or `HOST:PORT?spu=local`. The controller tells clients
//! where its streaming units (SPUs) are. Each unit has a public address and may have a local one, for clients
//! in its own network, a network of containers for example; `?spu=local` asks for that. A unit without a local
//! address is reached at its public one either way.

use std::str::FromStr;

use fluvio::FluvioClusterConfig;

/// What the endpoint of a client in the units' own network ends with.
const LOCAL: &str = "?spu=local";

/// Which address of a streaming unit a client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpuAddress {
    /// The one for clients anywhere.
    Public,
    /// The one for clients in the unit's own network.
    Local,
}

/// The text is neither `public` nor `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAddress;

impl FromStr for SpuAddress {
    type Err = UnknownAddress;

    fn from_str(text: &str) -> Result<SpuAddress, UnknownAddress> {
        match text {
            "public" => Ok(SpuAddress::Public),
            "local" => Ok(SpuAddress::Local),
            _ => Err(UnknownAddress),
        }
    }
}

/// The endpoint of the cluster whose controller is at `controller` (`HOST:PORT`).
#[must_use]
pub fn endpoint(controller: &str, units: SpuAddress) -> String {
    match units {
        SpuAddress::Public => controller.to_owned(),
        SpuAddress::Local => format!("{controller}{LOCAL}"),
    }
}

/// Configuration of a client of the cluster at `endpoint`.
#[must_use]
pub(crate) fn cluster(endpoint: &str) -> FluvioClusterConfig {
    let (controller, local) = match endpoint.strip_suffix(LOCAL) {
        Some(controller) => (controller, true),
        None => (endpoint, false),
    };
    let mut config = FluvioClusterConfig::new(controller);
    config.use_spu_local_address = local;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_asks_for_local_addresses_only_where_its_endpoint_says_so() {
        for (controller, units) in [
            ("sc:9003", SpuAddress::Public),
            ("sc:9003", SpuAddress::Local),
            ("[::1]:9003", SpuAddress::Public),
        ] {
            let config = cluster(&endpoint(controller, units));
            assert_eq!(config.endpoint, controller);
            assert_eq!(config.use_spu_local_address, units == SpuAddress::Local);
        }
    }
}
