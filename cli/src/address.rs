//! Addresses of servers, and the URLs that are made of them. The only place where a host becomes part of one.
//!
//! `::1` and `[::1]` are the same host. URLs and `HOST:PORT` need the brackets, sockets and name lookups take
//! none of them: [`Host`] knows both forms.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use url::Url;

/// A host name or an address, `::1` with or without brackets. Displayed as a URL wants it: `[::1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(url::Host<String>);

impl Host {
    /// Nothing if `text` can be neither a name nor an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Host> {
        let text = text.trim();
        let host = match text.parse::<Ipv6Addr>() {
            Ok(address) => url::Host::Ipv6(address),
            Err(_) => url::Host::parse(text).ok()?,
        };
        Some(Host(host))
    }

    /// As a socket or a name lookup wants it: `::1`.
    #[must_use]
    pub fn bare(&self) -> String {
        match &self.0 {
            url::Host::Ipv6(address) => address.to_string(),
            other => other.to_string(),
        }
    }

    /// True if only this machine can be meant.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.0 {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.to_canonical().is_loopback(),
        }
    }

    /// True for an IPv6 address.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        matches!(self.0, url::Host::Ipv6(_))
    }

    /// The first address of this host, with a port to listen on.
    pub async fn listen_address(&self, port: u16) -> anyhow::Result<SocketAddr> {
        let mut addresses = tokio::net::lookup_host((self.bare(), port))
            .await
            .with_context(|| format!("the address of host {self} cannot be found"))?;
        addresses
            .next()
            .with_context(|| format!("host {self} has no address"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Host {
        Host(match address {
            IpAddr::V4(address) => url::Host::Ipv4(address),
            IpAddr::V6(address) => url::Host::Ipv6(address),
        })
    }
}

/// A host and a port, `[::1]:9003`. Read from `::1:9003` too: the last colon separates the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

impl std::str::FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<HostPort, String> {
        let parts = text.trim().rsplit_once(':');
        let parsed = parts.and_then(|(host, port)| {
            let (host, port) = (Host::parse(host)?, port.parse().ok()?);
            (port != 0).then_some(HostPort { host, port })
        });
        parsed.ok_or_else(|| "expected HOST:PORT, such as 127.0.0.1:9003 or [::1]:9003".to_owned())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `http://host:port`, without a slash at the end.
pub(crate) fn http(host: &Host, port: u16) -> String {
    format!("http://{host}:{port}")
}

/// Where a database is and who logs in.
pub(crate) struct Database<'a> {
    /// `postgres` or `mysql`.
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a Host,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) name: &'a str,
}

impl Database<'_> {
    /// `scheme://user:password@host:port/name`, reserved characters escaped.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        let place = format!("{}://{}:{}", self.scheme, self.host, self.port);
        let mut url = Url::parse(&place).with_context(|| format!("{place} is not a URL"))?;
        let refused = |()| anyhow::anyhow!("{place} takes no login");
        url.set_username(&escaped(self.user)).map_err(refused)?;
        url.set_password(Some(&escaped(self.password)))
            .map_err(refused)?;
        url.set_path(&escaped(self.name));
        Ok(url.into())
    }
}

/// A part of a URL. `url` itself escapes what would end the part, but leaves `%` and sub-delimiters, which readers of such URLs decode
/// differently.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                (byte as char).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A URL without user and password.
pub(crate) fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

/// The password in a URL, as it is typed; `None` if there is none.
pub(crate) fn password(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(unescaped(url.password()?))
}

/// What [`escaped`] was made of.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match behind.get(..2).map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(b'%');
                rest = behind;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_an_ipv6_host_are_one_host() {
        for text in ["::1", "[::1]", " ::1 ", "0:0:0:0:0:0:0:1"] {
            let host = Host::parse(text).unwrap();
            assert_eq!(
                (host.bare(), host.to_string()),
                ("::1".into(), "[::1]".into()),
                "{text}"
            );
            assert!(host.is_loopback());
        }
        for text in ["db.example.org", "10.0.0.1", "my_db"] {
            let host = Host::parse(text).unwrap();
            assert_eq!((host.bare(), host.to_string()), (text.into(), text.into()));
            assert!(!host.is_loopback());
        }
        for text in ["", "[::1", "a b", "x:y", "a/b", "user@host", "::g"] {
            assert_eq!(Host::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_stands_behind_the_last_colon() {
        for (text, shown) in [
            ("[::1]:9003", "[::1]:9003"),
            ("::1:9003", "[::1]:9003"),
            ("sc:9003", "sc:9003"),
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), shown);
        }
        for text in ["", "::1", "sc", "sc:x", "sc:70000", "sc:0", ":9003"] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_database_url_escapes_what_is_reserved_and_brackets_ipv6() {
        let url = |host: &str, password: &str| {
            let host = Host::parse(host).unwrap();
            let (user, name) = ("u", "my db");
            let database = Database {
                scheme: "mysql",
                host: &host,
                port: 3306,
                user,
                password,
                name,
            };
            database.url().unwrap()
        };
        assert_eq!(
            url("127.0.0.1", "p@ss/w:rd%"),
            "mysql://u:p%40ss%2Fw%3Ard%25@127.0.0.1:3306/my%20db"
        );
        assert_eq!(url("::1", "p"), "mysql://u:p@[::1]:3306/my%20db");
        assert_eq!(url("[::1]", "p"), "mysql://u:p@[::1]:3306/my%20db");
    }

    #[test]
    fn the_password_of_a_url_is_read_as_it_was_typed_and_left_out_where_the_url_is_shown() {
        for typed in ["p@ss/w:rd%", "100%", "ü", "plain"] {
            let url = format!("postgres://me:{}@db:5433/erp", escaped(typed));
            assert_eq!(password(&url).as_deref(), Some(typed));
            assert_eq!(without_login(&url), "postgres://db:5433/erp");
        }
        assert_eq!(password("postgres://me@db/erp"), None);
        assert_eq!(without_login("postgres://db/erp"), "postgres://db/erp");
    }
}
