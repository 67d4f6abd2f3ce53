//! The passwords of the demo, where other machines could use them.

use std::net::IpAddr;

use crate::address::Host;
use crate::settings::table::{
    DASHBOARD_HOST, FLUVIO_HOST, MILLRACE_CAPTURE_CONTROL_HOST, MILLRACE_CONTROL_HOST,
    MILLRACE_CONTROL_TOKEN, MILLRACE_INGEST_CONTROL_HOST, MILLRACE_PUBLISHED_ON, MYSQL_HOST,
    POSTGRES_HOST,
};
use crate::settings::{Setting, Settings};

const HOSTS: [Setting<Host>; 5] = [
    DASHBOARD_HOST,
    MILLRACE_CONTROL_HOST,
    POSTGRES_HOST,
    MYSQL_HOST,
    FLUVIO_HOST,
];
const OPTIONAL_HOSTS: [Setting<Option<Host>>; 2] =
    [MILLRACE_CAPTURE_CONTROL_HOST, MILLRACE_INGEST_CONTROL_HOST];

/// Token of the control APIs in docker-compose.yml, where none is set: everybody can read it there.
const COMPOSE_TOKEN: &str = "compose";

/// Every host that the settings name.
pub(crate) fn hosts(settings: &Settings) -> Vec<Host> {
    let optional = OPTIONAL_HOSTS.iter().filter_map(|host| settings.get(*host));
    HOSTS
        .iter()
        .map(|host| settings.get(*host))
        .chain(optional)
        .collect()
}

/// What to say if anything listens, or is used, beyond this machine with a committed password. `bind` is
/// an address from the command line.
///
/// In a container everything listens on its network, and what counts is where its ports are published.
/// docker-compose.yml publishes them on MILLRACE_PUBLISHED_ON and hands the same value to the services.
pub(crate) fn warning(settings: &Settings, bind: Option<IpAddr>) -> Option<String> {
    let mut hosts = match settings.get(MILLRACE_PUBLISHED_ON) {
        Some(published) => vec![published],
        None => hosts(settings)
            .into_iter()
            .chain(bind.map(Host::from))
            .collect(),
    };
    hosts.retain(|host| !host.is_loopback());
    let reachable = !hosts.is_empty();
    let mut names = settings.default_passwords();
    if String::from(settings.get(MILLRACE_CONTROL_TOKEN)) == COMPOSE_TOKEN {
        names.push("MILLRACE_CONTROL_TOKEN");
    }
    (reachable && !names.is_empty()).then(|| {
        format!(
            "WARNING: other machines can reach this with the passwords of the demo; change {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into()));
        Settings::resolve(None, pairs.collect()).unwrap()
    }

    #[test]
    fn this_machine_alone_is_no_reason_to_warn() {
        let local = with(&[
            ("POSTGRES_HOST", "localhost"),
            ("MYSQL_HOST", "::1"),
            ("FLUVIO_HOST", "[::1]"),
        ]);
        assert_eq!(warning(&local, Some([127, 0, 0, 1].into())), None);
    }

    #[test]
    fn a_host_or_an_address_of_others_is_and_only_passwords_are_named() {
        let text = warning(&with(&[("MYSQL_HOST", "db.example.org")]), None).unwrap();
        assert!(text.contains("MYSQL_PASSWORD"), "{text}");
        // Empty is no password that anybody could try.
        assert!(!text.contains("MILLRACE_CONTROL_TOKEN"), "{text}");
        assert!(warning(&with(&[]), Some([0, 0, 0, 0].into())).is_some());
        assert!(warning(&with(&[("DASHBOARD_HOST", "::")]), None).is_some());
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
    fn the_token_of_docker_compose_yml_is_no_secret() {
        let file = include_str!("../../docker-compose.yml");
        let line =
            format!("MILLRACE_CONTROL_TOKEN: ${{MILLRACE_CONTROL_TOKEN:-{COMPOSE_TOKEN}}}\n");
        assert!(file.contains(&line), "{line}");
        let container = |published, token| {
            let names = [
                ("POSTGRES_PASSWORD", "a"),
                ("MYSQL_PASSWORD", "b"),
                ("DASHBOARD_PASSWORD", "c"),
                ("MILLRACE_PUBLISHED_ON", published),
                ("MILLRACE_CONTROL_TOKEN", token),
            ];
            warning(&with(&names), Some([0, 0, 0, 0].into()))
        };
        let text = container("0.0.0.0", COMPOSE_TOKEN).unwrap();
        assert!(text.ends_with("change MILLRACE_CONTROL_TOKEN"), "{text}");
        assert_eq!(container("127.0.0.1", COMPOSE_TOKEN), None);
        assert_eq!(container("0.0.0.0", "d"), None);
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
