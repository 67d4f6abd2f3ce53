//! `millrace status`: how far behind each part is, read from where the positions are kept.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

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

/// Everything that `status` knows. What cannot be asked is an error text, never a zero.
#[derive(Debug, Serialize)]
struct Overview {
    /// True if the projector is live and has applied the whole log, and capture has the whole source.
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
    let captured = matches!(source, Answer::Known(source) if source.capturing == Some(true));
    let applied = matches!(projector, Answer::Known(status)
        if status["state"] == "live" && status["lag_records"] == 0);
    captured && applied
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
                ("last error", "error"),
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
