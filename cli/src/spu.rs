//! Streaming units (SPUs) on the command line.

use millrace_topic::{StreamingUnit, UnitAddress};

use crate::address::HostPort;

/// A streaming unit as it is to be registered: `ID,PUBLIC,PRIVATE[,LOCAL]`, addresses as `HOST:PORT`.
pub(crate) fn parse(text: &str) -> Result<StreamingUnit, String> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let (id, addresses) = match fields.as_slice() {
        [id, addresses @ ..] if (2..=3).contains(&addresses.len()) => (id, addresses),
        _ => {
            return Err("expected an id and two or three addresses: 5001,spu:9010,spu:9011".into())
        }
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

fn address(text: &str) -> Result<UnitAddress, String> {
    let address: HostPort = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    Ok(UnitAddress {
        host: address.host.to_string(),
        port: address.port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_have_an_address_for_its_own_network() {
        let unit = parse("5001, 127.0.0.1:9010, spu:9011, spu:9010").unwrap();
        assert_eq!((unit.id, unit.public.host.as_str()), (5001, "127.0.0.1"));
        let local = unit.local.unwrap();
        assert_eq!((local.host.as_str(), local.port), ("spu", 9010));
        assert_eq!(parse("5001,spu:9010,spu:9011").unwrap().local, None);
    }

    /// Clients join host and port with a colon.
    #[test]
    fn an_ipv6_address_keeps_its_brackets_however_it_was_written() {
        for text in ["1,::1:9010,[::1]:9011", "1,[::1]:9010,::1:9011"] {
            let unit = parse(text).unwrap();
            assert_eq!(unit.public.host, "[::1]", "{text}");
            assert_eq!(unit.private.host, "[::1]", "{text}");
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
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with(part), "{text:?}: {refused}");
        }
    }
}
