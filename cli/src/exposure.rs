//! The passwords of the demo, where other machines could use them.

use std::net::IpAddr;

use crate::address::Host;
use crate::settings::table::{
    DASHBOARD_HOST, FLUVIO_HOST, MILLRACE_CAPTURE_CONTROL_HOST, MILLRACE_CONTROL_HOST,
    MILLRACE_INGEST_CONTROL_HOST, MYSQL_HOST, POSTGRES_HOST,
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

/// Every host that the settings name.
pub(crate) fn hosts(settings: &Settings) -> Vec<Host> {
    let optional = OPTIONAL_HOSTS.iter().filter_map(|host| settings.get(*host));
    HOSTS.iter().map(|host| settings.get(*host)).chain(optional).collect()
}

/// What to say if anything listens, or is used, beyond this machine with a committed password. `bind` is
/// an address from the command line.
pub(crate) fn warning(settings: &Settings, bind: Option<IpAddr>) -> Option<String> {
    let mut hosts = hosts(settings).into_iter().chain(bind.map(Host::from));
    let reachable = hosts.any(|host| !host.is_loopback());
    let names = settings.default_passwords();
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
