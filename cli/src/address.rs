//! `HOST:PORT` on the command line.

use std::fmt;
use std::str::FromStr;

/// A host and one of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, an IPv6 address in its brackets, as Fluvio's clients want it.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// The text is not `HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, an IPv6 address in brackets: broker.example.org:9010 or [::1]:9010")]
pub struct NotHostPort;

impl FromStr for HostPort {
    type Err = NotHostPort;

    fn from_str(text: &str) -> Result<HostPort, NotHostPort> {
        let (host, port) = text.trim().rsplit_once(':').ok_or(NotHostPort)?;
        let port = port.parse().map_err(|_| NotHostPort)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || port == 0 || host.contains(':') != bracketed {
            return Err(NotHostPort);
        }
        Ok(HostPort {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_kinds_of_addresses_are_read_and_written() {
        for text in ["spu:9010", "127.0.0.1:9010", "[::1]:9010"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:9010".parse::<HostPort>().unwrap().host, "[::1]");
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for text in [
            "",
            "spu",
            "spu:",
            ":9010",
            "spu:0",
            "spu:99999",
            "::1:9010",
            "[::1:9010",
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(NotHostPort), "{text:?}");
        }
    }
}
