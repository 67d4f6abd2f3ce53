//! docker-compose.yml and Dockerfile, read as the engine would read them. `make test-compose` runs them.

use std::collections::BTreeSet;
use std::path::Path;

use millrace_cli::settings::SETTINGS;
use serde_yaml::{Mapping, Value};

/// They end by themselves, or are started by hand.
const ENDS: [&str; 3] = ["init", "fill", "tool"];
const PUBLISHED_ON: &str = "${MILLRACE_PUBLISHED_ON:-127.0.0.1}:";

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn file() -> Value {
    let mut file: Value = serde_yaml::from_str(&text("docker-compose.yml")).expect("YAML");
    // What is merged in may merge others in: the file is two deep.
    for _ in 0..3 {
        file.apply_merge().expect("<<");
    }
    file
}

/// Every service with its name.
fn services() -> Vec<(String, Mapping)> {
    let file = file();
    let services = file["services"].as_mapping().expect("services");
    let services = services.iter().map(|(name, service)| {
        let name = name.as_str().expect("a name").to_owned();
        (name, service.as_mapping().expect("a service").clone())
    });
    services.collect()
}

fn service(name: &str) -> Mapping {
    let found = services().into_iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("no service {name}")).1
}

fn words(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_sequence).into_iter().flatten();
    list.map(|word| word.as_str().expect("text").to_owned())
        .collect()
}

/// Which services `name` waits for, and for what.
fn waits_for(name: &str) -> Vec<(String, String)> {
    match service(name).get("depends_on") {
        Some(Value::Mapping(conditions)) => conditions
            .iter()
            .map(|(on, how)| {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                (text(on), text(&how["condition"]))
            })
            .collect(),
        other => words(other)
            .into_iter()
            .map(|on| (on, "service_started".into()))
            .collect(),
    }
}

#[test]
fn one_service_builds_the_image_and_nobody_looks_for_it_elsewhere() {
    let ours: Vec<_> = services()
        .into_iter()
        .filter(|(_, service)| {
            service["image"]
                .as_str()
                .expect("an image")
                .starts_with("millrace")
        })
        .collect();
    assert!(ours.len() > 5, "{}", ours.len());
    let builds = ours
        .iter()
        .filter(|(_, service)| service.contains_key("build"));
    let builds: Vec<&str> = builds.map(|(name, _)| name.as_str()).collect();
    assert_eq!(builds, ["init"]);
    for (name, service) in &ours {
        assert_eq!(service["pull_policy"], "never", "{name}");
        let builds_or_waits = name == "init"
            || name == "tool"
            || waits_for(name).contains(&("init".into(), "service_completed_successfully".into()));
        assert!(
            builds_or_waits,
            "{name} may start before the image is there"
        );
    }
}

#[test]
fn what_does_not_end_returns_after_a_reboot_and_is_probed() {
    for (name, service) in services() {
        assert_eq!(service["init"], true, "{name}");
        assert!(
            service["logging"]["options"]["max-size"].is_string(),
            "{name}: its log grows for ever"
        );
        if ENDS.contains(&name.as_str()) {
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(service.contains_key("healthcheck"), "{name}");
    }
    for name in ENDS {
        assert_ne!(
            service(name)["restart"],
            "unless-stopped",
            "{name} would begin again and again"
        );
    }
}

#[test]
fn every_port_is_published_on_the_one_address_that_the_warning_is_about() {
    let mut published = 0;
    for (name, service) in services() {
        for port in words(service.get("ports")) {
            assert!(port.starts_with(PUBLISHED_ON), "{name}: {port}");
            published += 1;
        }
        if service["image"]
            .as_str()
            .is_some_and(|image| image.starts_with("millrace"))
        {
            let told = service["environment"]["MILLRACE_PUBLISHED_ON"].as_str();
            assert_eq!(
                told.map(|told| format!("{told}:")).as_deref(),
                Some(PUBLISHED_ON),
                "{name}"
            );
        }
    }
    assert!(published >= 8, "{published}");
}

#[test]
fn versions_are_pinned() {
    let dockerfile = text("Dockerfile");
    let bases = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "));
    let bases = bases.filter_map(|line| line.split(' ').next());
    let bases = bases.filter(|image| image.contains(':')).map(str::to_owned);
    let images = services()
        .into_iter()
        .map(|(_, service)| service["image"].as_str().expect("an image").to_owned());
    let images: BTreeSet<String> = bases
        .chain(images)
        .filter(|image| image != "millrace:local")
        .collect();
    assert!(images.len() >= 5, "{images:?}");
    for image in images {
        let (_, tag) = image
            .split_once(':')
            .unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(
            tag.starts_with(|first: char| first.is_ascii_digit()) && tag.contains('.'),
            "{image}"
        );
    }
}

#[test]
fn every_variable_and_every_setting_given_to_a_service_exists() {
    let known: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let text = text("docker-compose.yml");
    let variables = text.split("${").skip(1).map(|rest| {
        let end = rest.find([':', '}']).expect("the variable ends");
        &rest[..end]
    });
    for variable in variables {
        assert!(known.contains(variable), "${{{variable}}} is not in .env");
    }
    for (name, service) in services() {
        if service["image"] != "millrace:local" {
            continue;
        }
        let given = service["environment"].as_mapping().expect("an environment");
        for setting in given.keys().filter_map(Value::as_str) {
            assert!(known.contains(setting), "{name}: {setting} is no setting");
        }
    }
}

#[test]
fn the_tool_starts_nothing_and_capture_waits_for_the_shop() {
    assert_eq!(waits_for("tool"), []);
    let filled = (
        "fill".to_owned(),
        "service_completed_successfully".to_owned(),
    );
    for name in ["capture", "ingest", "generate"] {
        assert!(waits_for(name).contains(&filled), "{name}");
    }
}

/// A relative folder of `.env` means nothing in a container.
#[test]
fn the_image_has_the_marts_where_the_services_look_for_them() {
    let dockerfile = text("Dockerfile");
    let copied = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("COPY projections/marts "));
    let copied = copied.expect("the marts are in the image");
    for name in ["project", "dashboard", "tool"] {
        assert_eq!(
            service(name)["environment"]["MILLRACE_MARTS"],
            copied,
            "{name}"
        );
    }
    let sent = text(".dockerignore");
    assert!(sent.lines().any(|line| line == "!projections"), "{sent}");
}

#[test]
fn debians_own_compose_takes_the_file() {
    // docker-compose 1.29 refuses what it does not know.
    let file = file();
    let keys = file.as_mapping().expect("a mapping").keys();
    for key in keys.filter_map(Value::as_str) {
        let known = ["services", "volumes", "networks"].contains(&key) || key.starts_with("x-");
        assert!(known, "{key}");
    }
}

/// The projector verifies by itself, and asks capture whether a table was set aside.
#[test]
fn the_projector_listens_to_all_and_asks_capture_where_it_is() {
    let environment = service("project")["environment"].clone();
    assert_eq!(environment["MILLRACE_CONTROL_HOST"], "0.0.0.0");
    assert_eq!(environment["MILLRACE_CAPTURE_CONTROL_HOST"], "capture");
}
