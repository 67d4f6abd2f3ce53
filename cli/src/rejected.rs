//! `millrace rejected`: which incoming users were rejected, why, and what to do about it.

use std::process::ExitCode;

use serde_json::Value;

use crate::answer;
use crate::args::{self, Asked, RejectedAction, RejectedState};
use crate::control;
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::{json, plain, printable, table};

/// Exit 0 done, 1 if ingest says that it cannot be done with this event.
pub(crate) async fn run(args: &args::Rejected, settings: &Settings) -> anyhow::Result<ExitCode> {
    control::told(async {
        answer::print(&answer(args, settings).await?)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
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
        true => endpoints.ingest()?.post(&path).await?,
        false => endpoints.ingest()?.get(&path).await?,
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

/// The events by reason and field, with what would have been valid.
fn page(page: &Value) -> String {
    let records: Vec<&Value> = page["records"].as_array().into_iter().flatten().collect();
    let mut text = String::new();
    for group in groups(&records) {
        text += &described(group[0], &page["reasons"]);
        text += &listed(&group);
        text += "\n";
    }
    let counts = &page["counts"];
    text += &format!(
        "{} open, {} retried, {} discarded\n",
        counts["open"], counts["retried"], counts["discarded"]
    );
    if let Some(before) = page["next_before"].as_i64() {
        text += &format!("older ones: --before {before}\n");
    }
    text
}

/// Records of one reason in one field; groups and records keep their order, so that the newest comes first.
fn groups<'a>(records: &[&'a Value]) -> Vec<Vec<&'a Value>> {
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    for record in records {
        let same = |group: &&mut Vec<&Value>| {
            ["reason", "field", "valid"]
                .iter()
                .all(|field| group[0][*field] == record[*field])
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups
}

fn described(one: &Value, reasons: &Value) -> String {
    let reason = &one["reason"];
    let counted = reasons.as_array().into_iter().flatten();
    let total = counted
        .filter(|count| &count["reason"] == reason)
        .find_map(|count| count["records"].as_u64());
    let field = match &one["field"] {
        Value::Null => String::new(),
        field => format!(" in {}", plain(field)),
    };
    let total = total.map_or(String::new(), |total| format!(" ({total} of this reason)"));
    format!(
        "{}{field}{total}\nvalid would be: {}\n",
        plain(reason),
        plain(&one["valid"])
    )
}

fn listed(group: &[&Value]) -> String {
    let rows: Vec<Vec<String>> = group
        .iter()
        .map(|one| {
            let retry = match &one["no_retry"] {
                Value::Null => "possible",
                _ => "no",
            };
            let mut row = [
                "offset",
                "at",
                "state",
                "source_offset",
                "sqlstate",
                "constraint",
            ]
            .map(|field| plain(&one[field]))
            .to_vec();
            row.insert(3, retry.to_owned());
            row
        })
        .collect();
    let header = [
        "offset",
        "rejected at",
        "state",
        "retry",
        "event",
        "SQLSTATE",
        "constraint",
    ];
    table(&header, &rows)
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
        ("valid is", "valid"),
        ("no retry", "no_retry"),
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
            "valid": "one JSON object", "no_retry": "it would be rejected again",
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
        assert!(page(&page_of).contains("older ones: --before 3"));
        let back: Value = serde_json::from_str(&json(&one)).unwrap();
        assert_eq!(back, one);
    }

    #[test]
    fn events_stand_by_reason_with_what_would_be_valid_and_whether_a_retry_helps() {
        let one = |offset: u64, reason: &str, field: Option<&str>, no_retry: Option<&str>| {
            serde_json::json!({
                "offset": offset, "at": "2026-01-02T03:04:05Z", "state": "open", "reason": reason, "field": field,
                "source_offset": offset, "sqlstate": null, "constraint": null, "valid": format!("a good {reason}"),
                "no_retry": no_retry,
            })
        };
        let records = [
            one(9, "bad_date", Some("registration_date"), Some("again")),
            one(8, "refused_by_database", None, None),
            one(7, "bad_date", Some("registration_date"), Some("again")),
        ];
        let text = page(&serde_json::json!({
            "counts": { "open": 6, "retried": 0, "discarded": 0 }, "records": records, "next_before": null,
            "reasons": [{ "reason": "bad_date", "records": 5 }, { "reason": "refused_by_database", "records": 1 }],
        }));
        let expected = "\
bad_date in registration_date (5 of this reason)
valid would be: a good bad_date
offset  rejected at           state  retry  event  SQLSTATE  constraint
------  --------------------  -----  -----  -----  --------  ----------
     9  2026-01-02T03:04:05Z  open   no         9  -         -
     7  2026-01-02T03:04:05Z  open   no         7  -         -

refused_by_database (1 of this reason)
valid would be: a good refused_by_database
offset  rejected at           state  retry     event  SQLSTATE  constraint
------  --------------------  -----  --------  -----  --------  ----------
     8  2026-01-02T03:04:05Z  open   possible      8  -         -

6 open, 0 retried, 0 discarded
";
        assert_eq!(text, expected);
    }
}
