//! `millrace quarantine`: the values that MySQL cannot hold.

use std::process::ExitCode;

use serde_json::Value;

use crate::answer;
use crate::args::{self, QuarantineAction, QuarantineList};
use crate::control;
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::{json, plain, printable, table};

/// Of a longer value so many characters are shown in a table.
const VALUE_CHARS_MAX: usize = 60;

/// Exit 0 however many there are: a value in quarantine is where its policy puts it.
pub(crate) async fn run(args: &args::Quarantine, settings: &Settings) -> anyhow::Result<ExitCode> {
    let QuarantineAction::List(list) = &args.action;
    control::told(async {
        let endpoints = Endpoints::find(&list.asked.target, settings)?;
        let page = endpoints.projector().get(&path(list)?).await?;
        let shown = match list.asked.json {
            true => json(&page),
            false => render(&page),
        };
        answer::print(&shown)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

fn path(list: &QuarantineList) -> anyhow::Result<String> {
    let limit = list.limit.to_string();
    let table = list.table.as_ref().map(ToString::to_string);
    let mut url = reqwest::Url::parse("http://projector/quarantine")?;
    url.query_pairs_mut()
        .append_pair("limit", &limit)
        .extend_pairs(table.map(|table| ("table", table)))
        .extend_pairs(list.after.as_ref().map(|after| ("after", after)));
    Ok(format!(
        "{}?{}",
        url.path(),
        url.query().unwrap_or_default()
    ))
}

/// A row per value, and below how many there are and where the next page begins.
fn render(page: &Value) -> String {
    let values: Vec<&Value> = page["values"].as_array().into_iter().flatten().collect();
    let rows: Vec<Vec<String>> = values.iter().map(|value| row(value)).collect();
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => table(
            &[
                "table",
                "key",
                "column",
                "value",
                "MySQL cannot hold",
                "since",
            ],
            &rows,
        ),
    };
    text += &format!("{} in quarantine\n", page["total"]);
    if let Some(after) = page["next_after"].as_str() {
        text += &format!("more: --after '{}'\n", printable(after));
    }
    text
}

fn row(value: &Value) -> Vec<String> {
    let key: Vec<String> = value["key"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(column, value)| format!("{}={}", printable(column), plain(value)))
        .collect();
    vec![
        plain(&value["table"]),
        key.join(", "),
        plain(&value["column"]),
        shortened(value),
        plain(&value["reason"]),
        plain(&value["at"]),
    ]
}

fn shortened(value: &Value) -> String {
    let text = value["value"].as_str().unwrap_or_default();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!(
            "{}… ({} bytes)",
            printable(&text[..end]),
            value["value_bytes"]
        ),
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_with_their_rows_and_reasons_and_long_ones_are_cut() {
        let value = |value: &str, bytes: u64| {
            json!({
                "table": "public.orders", "name": "orders", "key": {"id": "7", "line": "2"},
                "column": "total", "value": value, "value_bytes": bytes,
                "reason": "NaN or infinity in a numeric column", "lsn": "0/16", "at": "2026-01-02T03:04:05Z"
            })
        };
        let page = json!({
            "values": [value("NaN\u{1b}[2J", 3), value(&"9".repeat(100), 120_000)],
            "total": 12, "next_after": "orders/ab/total"
        });
        let text = render(&page);
        for part in [
            "public.orders",
            "id=7, line=2",
            "NaN\\u{1b}[2J",
            "NaN or infinity",
            "999… (120000 bytes)",
            "12 in quarantine\n",
            "more: --after 'orders/ab/total'\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains(&"9".repeat(61)), "{text}");
        let empty = render(&json!({"values": [], "total": 0, "next_after": null}));
        assert_eq!(empty, "0 in quarantine\n");
    }
}
