//! `millrace status`: how far behind each part is, read from where the positions are kept.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use millrace_events::Lsn;
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row};

use crate::args;
use crate::cluster;
use crate::control;
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::table;

const WATCH_PERIOD: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// More WAL than this behind the slot is a commit on its way. What an idle source writes by itself,
/// checkpoints for example, is small and confirmed within seconds; a large transaction that capture is
/// still reading is not.
const BEHIND_BYTES_MAX: i64 = 1 << 20;

/// Everything that `status` knows. What cannot be asked is an error text, never a zero.
#[derive(Debug, Serialize)]
struct Overview {
    /// True if the projector is live and has applied the whole log, and capture has the whole source,
    /// but for what was committed a moment ago; `wait-for` is exact.
    caught_up: bool,
    source: Answer<Source>,
    projector: Answer<Value>,
    ingest: Answer<Ingest>,
}

/// Incoming users.
#[derive(Debug, Serialize)]
struct Ingest {
    /// Where the topic ends.
    end_offset: i64,
    /// The next event to be stored, as Postgres knows it with the rows; none before the first.
    next_offset: i64,
    /// Events that are not in Postgres yet.
    behind_events: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer<T> {
    Known(T),
    Unknown(String),
}

/// Postgres' side of the pipeline.
#[derive(Debug, Serialize)]
struct Source {
    /// End of the WAL.
    lsn: String,
    /// The slot is being read.
    capturing: Option<bool>,
    /// What Postgres was told is durable in the log.
    confirmed_lsn: Option<String>,
    /// Bytes of WAL behind that: not captured yet, or not acknowledged yet.
    behind_bytes: Option<i64>,
    /// Bytes of WAL that Postgres keeps for the slot.
    retained_bytes: Option<i64>,
}

/// Prints once, or again and again with `--watch`. Exit 0 caught up, 1 behind, 2 unknown.
pub(crate) async fn run(args: &args::Status, settings: &Settings) -> anyhow::Result<ExitCode> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    loop {
        let overview = look(settings, &endpoints).await;
        if args.json {
            println!("{}", serde_json::to_string(&overview)?);
        } else {
            print!("{}", text(&overview));
        }
        if !args.watch {
            return Ok(exit_code(&overview));
        }
        tokio::time::sleep(WATCH_PERIOD).await;
    }
}

async fn look(settings: &Settings, endpoints: &Endpoints) -> Overview {
    let (source, projector, ingest) = tokio::join!(
        answer("Postgres", source(settings, endpoints)),
        control::status(endpoints),
        answer("Fluvio or Postgres", ingest(settings, endpoints)),
    );
    let projector = match projector {
        Ok(status) => Answer::Known(status),
        Err(error) => Answer::Unknown(format!("{error:#}")),
    };
    Overview {
        caught_up: caught_up(&source, &projector),
        source,
        projector,
        ingest,
    }
}

/// What was asked, or why there is no answer.
async fn answer<T>(who: &str, asked: impl Future<Output = anyhow::Result<T>>) -> Answer<T> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(known)) => Answer::Known(known),
        Ok(Err(error)) => Answer::Unknown(format!("{error:#}")),
        Err(_) => Answer::Unknown(format!(
            "{who} did not answer within {} s",
            ANSWER_WITHIN.as_secs()
        )),
    }
}

async fn ingest(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Ingest> {
    let topic = settings.text("MILLRACE_TOPIC_USERS");
    let config = fluvio::FluvioClusterConfig::new(&endpoints.fluvio);
    let admin = fluvio::FluvioAdmin::connect_with_config(&config).await?;
    let end_offset = cluster::end_offset(&admin, topic).await?;
    let mut connection = PgConnection::connect(&endpoints.postgres).await?;
    let next_offset = millrace_users_data::stored_offset(&mut connection, topic)
        .await?
        .unwrap_or(0);
    connection.close().await?;
    Ok(Ingest {
        end_offset,
        next_offset,
        behind_events: (end_offset - next_offset).max(0),
    })
}

fn caught_up(source: &Answer<Source>, projector: &Answer<Value>) -> bool {
    let (Answer::Known(source), Answer::Known(projector)) = (source, projector) else {
        return false;
    };
    is_captured(source) && is_applied(projector, source.confirmed_lsn.as_deref())
}

fn is_captured(source: &Source) -> bool {
    let near = |bytes| bytes <= BEHIND_BYTES_MAX;
    source.capturing == Some(true) && source.behind_bytes.is_some_and(near)
}

/// Records read are not enough: a projector that waits for a missing record has read them all. Its
/// position stands still then, and falls behind what capture was told is durable. The count of holes
/// does not help, it keeps those that were filled long ago.
fn is_applied(projector: &Value, confirmed: Option<&str>) -> bool {
    let reached = match (position(projector["end_lsn"].as_str()), position(confirmed)) {
        (Some(end), Some(confirmed)) => end >= confirmed,
        _ => false,
    };
    projector["state"] == "live"
        && projector["lag_records"] == 0
        && projector["log_error"].is_null()
        && reached
}

fn position(text: Option<&str>) -> Option<Lsn> {
    text?.parse().ok()
}

async fn source(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Source> {
    let mut connection = PgConnection::connect(&endpoints.postgres).await?;
    let row = sqlx::query(
        "SELECT pg_current_wal_lsn()::text AS lsn, slot.active AS capturing, \
             slot.confirmed_flush_lsn::text AS confirmed_lsn, \
             (pg_current_wal_lsn() - slot.confirmed_flush_lsn)::bigint AS behind_bytes, \
             (pg_current_wal_lsn() - slot.restart_lsn)::bigint AS retained_bytes \
         FROM (SELECT) AS one LEFT JOIN pg_replication_slots AS slot ON slot.slot_name = $1",
    )
    .bind(settings.text("MILLRACE_SLOT"))
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(Source {
        lsn: row.try_get("lsn")?,
        capturing: row.try_get("capturing")?,
        confirmed_lsn: row.try_get("confirmed_lsn")?,
        behind_bytes: row.try_get("behind_bytes")?,
        retained_bytes: row.try_get("retained_bytes")?,
    })
}

fn exit_code(overview: &Overview) -> ExitCode {
    match overview {
        Overview {
            source: Answer::Known(_),
            projector: Answer::Known(_),
            ingest: Answer::Known(_),
            caught_up,
        } => ExitCode::from(u8::from(!caught_up)),
        _ => ExitCode::from(2),
    }
}

fn text(overview: &Overview) -> String {
    let mut rows = Vec::new();
    let mut row = |part: &str, what: &str, value: String| {
        rows.push(vec![part.to_owned(), what.to_owned(), value]);
    };
    match &overview.source {
        Answer::Known(source) => {
            row("source", "WAL ends at", source.lsn.clone());
            let shown =
                |value: &Option<i64>| value.map_or("no slot".to_owned(), |bytes| bytes.to_string());
            row(
                "capture",
                "state",
                match source.capturing {
                    Some(true) => "streaming",
                    Some(false) => "not connected",
                    None => "no slot",
                }
                .to_owned(),
            );
            row(
                "capture",
                "durable up to",
                source.confirmed_lsn.clone().unwrap_or("-".into()),
            );
            row("capture", "bytes behind", shown(&source.behind_bytes));
            row(
                "capture",
                "bytes of WAL kept",
                shown(&source.retained_bytes),
            );
        }
        Answer::Unknown(reason) => row("source", "unknown", reason.clone()),
    }
    match &overview.projector {
        Answer::Known(status) => {
            for (what, field) in [
                ("state", "state"),
                ("applied up to", "end_lsn"),
                ("source time of that", "source_at"),
                ("records behind", "lag_records"),
                ("transactions", "transactions"),
                ("commits", "batches"),
                ("holes since the start", "holes"),
                ("last error", "error"),
                ("error of the log", "log_error"),
            ] {
                row("projector", what, plain(&status[field]));
            }
        }
        Answer::Unknown(reason) => row("projector", "unknown", reason.clone()),
    }
    match &overview.ingest {
        Answer::Known(ingest) => {
            row("ingest", "stored up to", ingest.next_offset.to_string());
            row("ingest", "events behind", ingest.behind_events.to_string());
        }
        Answer::Unknown(reason) => row("ingest", "unknown", reason.clone()),
    }
    table(&["part", "what", "value"], &rows)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(confirmed: &str, behind_bytes: i64) -> Answer<Source> {
        Answer::Known(Source {
            lsn: "0/9000000".into(),
            capturing: Some(true),
            confirmed_lsn: Some(confirmed.into()),
            behind_bytes: Some(behind_bytes),
            retained_bytes: Some(behind_bytes),
        })
    }

    fn projector(end_lsn: &str) -> Value {
        serde_json::json!({
            "state": "live", "lag_records": 0, "end_lsn": end_lsn, "log_error": null
        })
    }

    #[test]
    fn an_idle_pipeline_is_caught_up_also_after_a_hole_that_was_filled() {
        let mut status = projector("0/2000");
        status["holes"] = 3.into();
        assert!(caught_up(&source("0/2000", 500), &Answer::Known(status)));
        let ahead = Answer::Known(projector("1/0"));
        assert!(caught_up(&source("0/FFFFFFFF", 500), &ahead));
    }

    #[test]
    fn a_projector_that_waits_at_a_hole_is_behind() {
        let waiting = Answer::Known(projector("0/1FFF"));
        assert!(!caught_up(&source("0/2000", 0), &waiting));
    }

    #[test]
    fn a_large_transaction_on_its_way_is_behind() {
        let status = Answer::Known(projector("0/2000"));
        assert!(!caught_up(&source("0/2000", 2 << 20), &status));
    }

    #[test]
    fn what_is_not_known_is_not_caught_up() {
        let status = projector("0/2000");
        let unknown = Answer::Unknown("away".into());
        assert!(!caught_up(&unknown, &Answer::Known(status.clone())));
        let mut unread = status.clone();
        unread["log_error"] = "no broker".into();
        assert!(!caught_up(&source("0/2000", 0), &Answer::Known(unread)));
        let mut starting = status;
        starting["end_lsn"] = Value::Null;
        assert!(!caught_up(&source("0/2000", 0), &Answer::Known(starting)));
    }
}
