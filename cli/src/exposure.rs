//! The passwords of the demo, where other machines could use them.

use std::net::IpAddr;

use crate::settings::Settings;

const HOSTS: [&str; 7] = [
    "DASHBOARD_HOST",
    "MILLRACE_CONTROL_HOST",
    "MILLRACE_CAPTURE_CONTROL_HOST",
    "MILLRACE_INGEST_CONTROL_HOST",
    "POSTGRES_HOST",
    "MYSQL_HOST",
    "FLUVIO_HOST",
];

/// What to say if anything listens, or is used, beyond this machine with a committed password. `bind` is
/// an address from the command line.
///
/// In a container everything listens on its network, and what counts is where its ports are published.
/// docker-compose.yml publishes them on MILLRACE_PUBLISHED_ON and hands the same value to the services.
pub(crate) fn warning(settings: &Settings, bind: Option<IpAddr>) -> Option<String> {
    let bound = bind.is_some_and(|address| !address.is_loopback());
    let reachable = match settings.text("MILLRACE_PUBLISHED_ON") {
        "" => bound || HOSTS.iter().any(|name| !is_loopback(settings.text(name))),
        published => !is_loopback(published),
    };
    let names = settings.default_passwords();
    (reachable && !names.is_empty()).then(|| {
        format!(
            "WARNING: reachable from other machines with the passwords of the demo; change {}",
            names.join(", ")
        )
    })
}

/// An empty host stands for another one of the list.
fn is_loopback(host: &str) -> bool {
    host.is_empty()
        || host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into()));
        Settings::resolve(Vec::new(), pairs.collect()).unwrap()
    }

    #[test]
    fn this_machine_alone_is_no_reason_to_warn() {
        let local = with(&[("POSTGRES_HOST", "localhost"), ("MYSQL_HOST", "::1")]);
        assert_eq!(warning(&local, Some([127, 0, 0, 1].into())), None);
    }

    #[test]
    fn a_host_or_an_address_of_others_is_and_only_passwords_are_named() {
        let text = warning(&with(&[("MYSQL_HOST", "db.example.org")]), None).unwrap();
        assert!(text.contains("MYSQL_PASSWORD"), "{text}");
        // Empty is no password that anybody could try.
        assert!(!text.contains("MILLRACE_CONTROL_TOKEN"), "{text}");
        assert!(warning(&with(&[]), Some([0, 0, 0, 0].into())).is_some());
    }

    #[test]
    fn in_a_container_it_counts_where_its_ports_are_published() {
        let container = |published| {
            let names = [
                ("MYSQL_HOST", "mysql"),
                ("MILLRACE_PUBLISHED_ON", published),
            ];
            warning(&with(&names), Some([0, 0, 0, 0].into()))
        };
        assert_eq!(container("127.0.0.1"), None);
        assert!(container("0.0.0.0").is_some());
        assert!(container("192.168.1.5").is_some());
        assert!(container("").is_some());
    }

    #[test]
    fn passwords_of_ones_own_end_the_warning() {
        let own = with(&[
            ("MYSQL_HOST", "db.example.org"),
            ("POSTGRES_PASSWORD", "a"),
            ("MYSQL_PASSWORD", "b"),
            ("DASHBOARD_PASSWORD", "c"),
        ]);
        assert_eq!(warning(&own, None), None);
    }
}
