//! `millrace rejected`: what was refused of the incoming users, and what to do about it.

use std::process::ExitCode;

use serde_json::Value;

use crate::args::{self, Asked, RejectedAction, RejectedState};
use crate::control::Refused;
use crate::endpoints::Endpoints;
use crate::output;
use crate::settings::Settings;
use crate::terminal::{json, plain, printable, table};

/// Exit 0 done, 1 if ingest says that it cannot be done with this event.
pub(crate) async fn run(args: &args::Rejected, settings: &Settings) -> anyhow::Result<ExitCode> {
    match answer(args, settings).await {
        Ok(text) => {
            output::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => {
                output::say(&format!("millrace: {refused}"));
                Ok(ExitCode::from(1))
            }
            None => Err(error),
        },
    }
}

async fn answer(args: &args::Rejected, settings: &Settings) -> anyhow::Result<String> {
    let one = |offset: u64, action: &str| format!("/rejected/{offset}{action}");
    let (asked, path, changes) = match &args.action {
        RejectedAction::List(list) => (&list.asked, path(list), false),
        RejectedAction::Show(record) => (&record.asked, one(record.offset, ""), false),
        RejectedAction::Retry(record) => (&record.asked, one(record.offset, "/retry"), true),
        RejectedAction::Discard(record) => (&record.asked, one(record.offset, "/discard"), true),
    };
    let endpoints = Endpoints::find(&asked.target, settings)?;
    let answer = match changes {
        true => endpoints.ingest().post(&path).await?,
        false => endpoints.ingest().get(&path).await?,
    };
    Ok(shown(asked, &args.action, &answer))
}

fn path(list: &args::RejectedList) -> String {
    let state = match list.state {
        RejectedState::Open => "open",
        RejectedState::Retried => "retried",
        RejectedState::Discarded => "discarded",
        RejectedState::All => "all",
    };
    let before = list.before.map(|offset| format!("&before={offset}"));
    let before = before.unwrap_or_default();
    format!("/rejected?state={state}&limit={}{before}", list.limit)
}

fn shown(asked: &Asked, action: &RejectedAction, answer: &Value) -> String {
    match action {
        _ if asked.json => json(answer),
        RejectedAction::List(_) => page(answer),
        _ => record(answer),
    }
}

fn page(page: &Value) -> String {
    let rows: Vec<Vec<String>> = page["records"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            ["offset", "at", "state", "reason", "field", "source_offset"]
                .map(|field| plain(&one[field]))
                .to_vec()
        })
        .collect();
    let header = ["offset", "rejected at", "state", "reason", "field", "event"];
    let counts = &page["counts"];
    let mut text = table(&header, &rows);
    text += &format!(
        "\n{} open, {} retried, {} discarded\n",
        counts["open"], counts["retried"], counts["discarded"]
    );
    if let Some(before) = page["next_before"].as_i64() {
        text += &format!("more with --before {before}\n");
    }
    text
}

fn record(one: &Value) -> String {
    let event = format!(
        "{} partition {} offset {}",
        plain(&one["source_topic"]),
        plain(&one["source_partition"]),
        plain(&one["source_offset"])
    );
    let mut lines = vec![
        ("offset", plain(&one["offset"])),
        ("state", plain(&one["state"])),
        ("acted at", plain(&one["acted_at"])),
        ("rejected at", plain(&one["at"])),
        ("event", event),
    ];
    for (label, field) in [
        ("reason", "reason"),
        ("field", "field"),
        ("SQLSTATE", "sqlstate"),
        ("constraint", "constraint"),
        ("as sent", "original"),
        ("by user-event", "transformed"),
    ] {
        lines.push((label, plain(&one[field])));
    }
    for (flag, meaning) in [
        ("truncated", "only the beginning of it is kept"),
        ("lossy", "it was not UTF-8; what is not is shown as U+FFFD"),
    ] {
        if one[flag] == true {
            lines.push(("note", meaning.to_owned()));
        }
    }
    let line = |(label, value): (&str, String)| format!("{label:<14} {}\n", printable(&value));
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cannot_talk_to_the_terminal() {
        let one = serde_json::json!({
            "offset": 3, "source_topic": "users-data", "source_partition": 0, "source_offset": 9,
            "state": "open", "acted_at": null, "at": "2026-01-02T03:04:05.000000Z",
            "reason": "malformed_json", "field": "\u{1b}[2J", "sqlstate": null, "constraint": null,
            "original": "\u{1b}]0;owned\u{7}\r\nfake line \u{9b}31m\u{202e}", "transformed": null,
            "truncated": true, "lossy": false,
        });
        let page_of = serde_json::json!({
            "counts": { "open": 1, "retried": 0, "discarded": 0 }, "records": [one],
            "next_before": 3,
        });
        for text in [record(&one), page(&page_of), json(&one)] {
            let raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(raw), "{text:?}");
        }
        assert!(!record(&one).lines().any(|line| line.starts_with("fake")));
        assert!(page(&page_of).contains("more with --before 3"));
        let back: Value = serde_json::from_str(&json(&one)).unwrap();
        assert_eq!(back, one);
    }
}
