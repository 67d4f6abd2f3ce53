//! `millrace marts`: where the marts stand, and building them again, while everything else stays live.

use std::process::ExitCode;

use serde_json::{json, Value};

use crate::answer;
use crate::args::{self, Asked, MartsAction};
use crate::control::{self, Refused};
use crate::endpoints::Endpoints;
use crate::output;
use crate::settings::Settings;
use crate::terminal::{json, plain, printable, table};

/// Lets marts be built again, if that is wanted, and lists the marts as they are then. Exit 1 if one of a list is not live.
pub(crate) async fn run(args: &args::Marts, settings: &Settings) -> anyhow::Result<ExitCode> {
    control::told(rebuild_and_list(args, settings)).await
}

async fn rebuild_and_list(args: &args::Marts, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (asked, named) = match &args.action {
        MartsAction::List(asked) => (asked, &[][..]),
        MartsAction::Rebuild(args) => (&args.asked, args.marts.as_slice()),
    };
    let endpoints = Endpoints::find(&asked.target, settings)?;
    if !named.is_empty() {
        rebuild(&endpoints, named).await?;
        output::tell(begun(named));
    }
    let marts = marts(&endpoints).await?;
    let is_shown =
        |mart: &&Value| named.is_empty() || named.iter().any(|name| mart["name"] == **name);
    let shown: Vec<&Value> = marts.iter().filter(is_shown).collect();
    answer::print(&text(asked, &shown))?;
    let is_list = named.is_empty();
    match is_list && !shown.iter().all(|mart| mart["state"] == "live") {
        true => Ok(ExitCode::from(1)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Lets the projector build marts again; it begins as soon as the tables that they read are live. Nothing is begun if it
/// does not know one of them.
pub(crate) async fn rebuild(endpoints: &Endpoints, named: &[String]) -> anyhow::Result<()> {
    let marts = marts(endpoints).await?;
    let is_known = |name: &&String| marts.iter().any(|mart| mart["name"] == **name);
    if let Some(unknown) = named.iter().find(|name| !is_known(name)) {
        let unknown = printable(unknown);
        let reason =
            format!("the projector keeps no mart {unknown}; `millrace marts list` names them");
        return Err(Refused::new(reason).into());
    }
    for name in named {
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = format!("/rebuild?mart={name}");
        endpoints.projector().post(&path).await?;
    }
    Ok(())
}

async fn marts(endpoints: &Endpoints) -> anyhow::Result<Vec<Value>> {
    let status = endpoints.projector().get("/status").await?;
    Ok(status["marts"].as_array().cloned().unwrap_or_default())
}

fn begun(named: &[String]) -> String {
    format!(
        "being built again: {}. The old tables stay until the new ones take their place; everything else goes on. \
         How far that is: millrace marts list",
        named.join(" ")
    )
}

fn text(asked: &Asked, marts: &[&Value]) -> String {
    match asked.json {
        true => json(&json!({ "marts": marts })),
        false => render(marts),
    }
}

/// A row per mart, and below them why some are not live.
fn render(marts: &[&Value]) -> String {
    let rows: Vec<Vec<String>> = marts.iter().map(|mart| row(mart)).collect();
    let header = ["mart", "state", "since", "quarantine"];
    let mut text = table(&header, &rows);
    for mart in marts.iter().filter(|mart| !mart["reason"].is_null()) {
        text += &format!("{}: {}\n", plain(&mart["name"]), plain(&mart["reason"]));
    }
    text
}

fn row(mart: &Value) -> Vec<String> {
    vec![
        plain(&mart["name"]),
        plain(&mart["state"]).replace('_', " "),
        plain(&mart["since"]),
        plain(&mart["quarantined"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mart_that_is_not_live_says_why() {
        let live = json!({ "name": "mart_a", "state": "live", "since": "2026-01-02T03:04:05Z", "reason": null, "quarantined": 2 });
        let aside = json!({ "name": "mart_b", "state": "set_aside", "since": "2026-01-02T03:04:05Z",
            "reason": "[MR-P017] no column x\u{1b}[2J", "quarantined": 0 });
        let text = render(&[&live, &aside]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].starts_with("mart_a  live "), "{text}");
        assert!(lines[3].contains("set aside"), "{text}");
        assert_eq!(lines[4], "mart_b: [MR-P017] no column x\\u{1b}[2J");
    }
}
