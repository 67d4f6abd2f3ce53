//! `/metrics`: the [`Status`] in Prometheus' text format. Base units (seconds, bytes); what is not known is
//! absent, never 0.

mod reach;
mod text;

use crate::status::{
    Answer, Projection, Source, State, Status, TableState, Topic, Verdict, WalStatus,
};

use text::Text;

/// Content type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole text.
pub(crate) fn render(status: &Status) -> String {
    let mut text = Text::default();
    build(&mut text, status);
    sources(&mut text, status);
    lags(&mut text, &status.projections);
    verdicts(&mut text, &status.projections);
    progress(&mut text, &status.projections);
    if let Answer::Known(source) = &status.source {
        postgres(&mut text, source);
    }
    capture(&mut text, status);
    if let Answer::Known(topics) = &status.topics {
        topic_metrics(&mut text, topics);
        reach::reach(&mut text, topics);
    }
    tables(&mut text, status);
    quarantine(&mut text, status);
    ingest(&mut text, status);
    latency(&mut text, status);
    hops(&mut text, status);
    verify(&mut text, status);
    text.finish()
}

fn build(text: &mut Text, status: &Status) {
    text.family("millrace_info", "gauge", "Version of the program.")
        .sample(&[("version", &status.millrace)], Some(1));
    let at = status.at.epoch_ms();
    text.family(
        "millrace_status_timestamp_seconds",
        "gauge",
        "When these values were read, seconds of the Unix epoch.",
    )
    .sample(&[], seconds(Some(at)));
    text.family(
        "millrace_verdict",
        "gauge",
        "1 for the overall verdict, 0 for the others.",
    );
    for verdict in Verdict::ALL {
        let holds = u8::from(verdict == status.verdict);
        text.sample(&[("verdict", verdict.name())], Some(holds));
    }
}

fn sources(text: &mut Text, status: &Status) {
    text.family(
        "millrace_source_up",
        "gauge",
        "1 if the part answered in time, 0 if not.",
    );
    let ingest = status
        .ingest
        .as_ref()
        .map(|ingest| ("ingest", ingest.verdict()));
    let parts = [
        ("postgres", status.source.verdict()),
        ("capture", status.capture.verdict()),
        ("fluvio", status.topics.verdict()),
        ("projector", projector(status)),
        ("mysql", status.target.verdict()),
    ];
    for (part, verdict) in parts.into_iter().chain(ingest) {
        let up = u8::from(verdict == Verdict::Ok);
        text.sample(&[("source", part)], Some(up));
    }
}

/// Each state that it says is one of its projections.
fn projector(status: &Status) -> Verdict {
    let mut states = status.projections.iter().map(|p| p.state);
    match states.any(|state| state != State::Unknown) {
        true => Verdict::Ok,
        false => Verdict::Unknown,
    }
}

fn lags(text: &mut Text, projections: &[Projection]) {
    each(
        text,
        projections,
        "millrace_projection_lag_seconds",
        "Age of the oldest transaction of Postgres that is not applied.",
        |projection| seconds(projection.lag.total_ms),
    );
    each(
        text,
        projections,
        "millrace_projection_own_lag_seconds",
        "Age of the oldest transaction of the log that is not applied.",
        |projection| seconds(projection.lag.own_ms),
    );
    each(
        text,
        projections,
        "millrace_projection_inherited_lag_seconds",
        "Age of the oldest transaction of Postgres that is not in the log.",
        |projection| seconds(projection.lag.inherited_ms),
    );
    each(
        text,
        projections,
        "millrace_projection_lag_records",
        "Records of the log that are not accounted for.",
        |projection| projection.lag.records,
    );
    each(
        text,
        projections,
        "millrace_projection_lag_transactions",
        "Transactions that were read from the log and are not applied.",
        |projection| projection.lag.transactions,
    );
    each(
        text,
        projections,
        "millrace_projection_lag_bytes",
        "WAL between what is applied and its end.",
        |projection| projection.lag.bytes,
    );
}

fn verdicts(text: &mut Text, projections: &[Projection]) {
    text.family(
        "millrace_projection_verdict",
        "gauge",
        "1 for the verdict on the projection, 0 for the others.",
    );
    for projection in projections {
        // A difference is one of the whole; `millrace_verify_differences` says in which table it is.
        for verdict in Verdict::ALL.iter().filter(|v| **v != Verdict::Different) {
            let labels = [
                ("projection", projection.name.as_str()),
                ("verdict", verdict.name()),
            ];
            let holds = u8::from(*verdict == projection.verdict);
            text.sample(&labels, Some(holds));
        }
    }
}

fn progress(text: &mut Text, projections: &[Projection]) {
    each(
        text,
        projections,
        "millrace_projection_paused",
        "1 if a person paused it, 0 if not; absent if the projector does not answer.",
        |projection| {
            let known = projection.state != State::Unknown;
            known.then(|| u8::from(projection.paused_since.is_some()))
        },
    );
    each(
        text,
        projections,
        "millrace_projection_transactions_per_second",
        "Source transactions applied, over the last 10 s.",
        |projection| projection.rate.transactions_per_s,
    );
    each(
        text,
        projections,
        "millrace_projection_changes_per_second",
        "Row changes applied, over the last 10 s.",
        |projection| projection.rate.changes_per_s,
    );
    each(
        text,
        projections,
        "millrace_projection_position_lsn",
        "Position as a number of WAL bytes.",
        |projection| projection.position.lsn.map(|lsn| lsn.0),
    );
    each(
        text,
        projections,
        "millrace_projection_eta_seconds",
        "Until caught up, at the present speed.",
        |projection| projection.eta_s,
    );
}

fn each<V: std::fmt::Display>(
    text: &mut Text,
    projections: &[Projection],
    name: &'static str,
    help: &str,
    value: impl Fn(&Projection) -> Option<V>,
) {
    text.family(name, "gauge", help);
    for projection in projections {
        let labels = [("projection", projection.name.as_str())];
        text.sample(&labels, value(projection));
    }
}

fn postgres(text: &mut Text, source: &Source) {
    text.family(
        "millrace_source_lsn",
        "gauge",
        "End of the WAL as a number of bytes.",
    )
    .sample(&[], Some(source.lsn.0));
    text.family(
        "millrace_source_wal_bytes_per_second",
        "gauge",
        "WAL written, over the last 10 s.",
    )
    .sample(&[], source.wal_bytes_per_s);
    let outstanding = source.heartbeat.as_ref().map(|beats| beats.outstanding);
    text.family(
        "millrace_heartbeats_outstanding",
        "gauge",
        "Heartbeats written in Postgres and not seen in MySQL.",
    )
    .sample(&[], outstanding);
    let Some(slot) = &source.slot else {
        return;
    };
    let labels = [("slot", slot.name.as_str())];
    text.family(
        "millrace_slot_active",
        "gauge",
        "1 if somebody reads the slot.",
    )
    .sample(&labels, Some(u8::from(slot.active)));
    text.family(
        "millrace_slot_lost",
        "gauge",
        "1 if Postgres removed WAL that the slot needs: capture cannot continue.",
    )
    .sample(
        &labels,
        Some(u8::from(slot.wal_status == Some(WalStatus::Lost))),
    );
    text.family(
        "millrace_slot_retained_bytes",
        "gauge",
        "WAL that Postgres keeps for the slot.",
    )
    .sample(&labels, slot.retained_bytes);
    text.family(
        "millrace_slot_left_bytes",
        "gauge",
        "WAL that may be written before the slot is lost; absent if there is no limit.",
    )
    .sample(&labels, slot.left_bytes);
    text.family(
        "millrace_slot_behind_bytes",
        "gauge",
        "WAL that the slot's reader has not confirmed.",
    )
    .sample(&labels, slot.behind_bytes);
}

fn capture(text: &mut Text, status: &Status) {
    let capture = status.capture.known();
    text.family(
        "millrace_capture_transactions_per_second",
        "gauge",
        "Transactions written to the log, over the last 10 s.",
    )
    .sample(&[], capture.and_then(|capture| capture.transactions_per_s));
    text.family(
        "millrace_capture_sessions_total",
        "counter",
        "Sessions with Postgres since capture started.",
    )
    .sample(&[], capture.and_then(|capture| capture.sessions));
}

fn topic_metrics(text: &mut Text, topics: &[Topic]) {
    text.family(
        "millrace_topic_end_offset",
        "gauge",
        "Offset that the next record gets.",
    );
    for topic in topics {
        text.sample(&[("topic", topic.name.as_str())], Some(topic.end_offset));
    }
    text.family("millrace_topic_bytes", "gauge", "Bytes on disk.");
    for topic in topics {
        text.sample(&[("topic", topic.name.as_str())], topic.bytes);
    }
    text.family(
        "millrace_consumer_lag_records",
        "gauge",
        "Records behind the consumer's last committed offset.",
    );
    for topic in topics {
        for consumer in &topic.consumers {
            let labels = [
                ("topic", topic.name.as_str()),
                ("consumer", consumer.name.as_str()),
            ];
            text.sample(&labels, Some(consumer.lag_records));
        }
    }
}

fn tables(text: &mut Text, status: &Status) {
    text.family(
        "millrace_table_live",
        "gauge",
        "1 if the table moves with every commit, 0 if not; absent where that is not known.",
    );
    for table in &status.tables {
        let live = (table.state != TableState::Unknown).then_some(table.state == TableState::Live);
        text.sample(&[("table", &table.name)], live.map(u8::from));
    }
    text.family(
        "millrace_table_copied_ratio",
        "gauge",
        "Of a table that is copied: what is read and loaded, of a whole of 1.",
    );
    for table in &status.tables {
        let share = table.copy.as_ref().and_then(|copy| copy.share());
        text.sample(&[("table", &table.name)], share);
    }
}

fn quarantine(text: &mut Text, status: &Status) {
    text.family(
        "millrace_quarantined_values",
        "gauge",
        "Values of the table that MySQL cannot hold: NULL there, and kept in quarantine.",
    );
    for table in &status.tables {
        text.sample(&[("table", &table.name)], table.quarantined);
    }
}

fn ingest(text: &mut Text, status: &Status) {
    let (Some(ingest), Some(rejected)) = (&status.ingest, &status.rejected) else {
        return;
    };
    let behind = ingest.known().and_then(|ingest| ingest.behind_events);
    text.family(
        "millrace_ingest_behind_events",
        "gauge",
        "Incoming users that are not stored.",
    )
    .sample(&[], behind);
    let counts = rejected.known();
    text.family(
        "millrace_rejected_records",
        "gauge",
        "Rejected records by what was done about them.",
    )
    .sample(&[("state", "open")], counts.map(|counts| counts.open))
    .sample(&[("state", "retried")], counts.map(|counts| counts.retried))
    .sample(
        &[("state", "discarded")],
        counts.map(|counts| counts.discarded),
    );
}

fn latency(text: &mut Text, status: &Status) {
    let latency = &status.latency;
    text.family(
        "millrace_end_to_end_latency_seconds",
        "gauge",
        "Heartbeat committed in Postgres until seen in MySQL, over the last 300 s.",
    )
    .sample(&[("quantile", "0.5")], seconds(latency.p50_ms))
    .sample(&[("quantile", "0.95")], seconds(latency.p95_ms))
    .sample(&[("quantile", "0.99")], seconds(latency.p99_ms));
    text.family(
        "millrace_end_to_end_latency_samples",
        "gauge",
        "Heartbeats that those are taken from.",
    )
    .sample(&[], Some(latency.samples));
}

fn hops(text: &mut Text, status: &Status) {
    text.family(
        "millrace_hop_age_seconds",
        "gauge",
        "How long what waits at this hop has waited.",
    );
    for hop in &status.pipeline {
        text.sample(&[("hop", &hop.label.to_lowercase())], seconds(hop.age_ms));
    }
}

fn verify(text: &mut Text, status: &Status) {
    let verify = status.verify.as_ref();
    text.family(
        "millrace_verify_equal",
        "gauge",
        "1 if the last verification that gave an answer found everything equal, 0 if something was different.",
    )
    .sample(&[], verify.and_then(|verify| verify.equal).map(u8::from));
    let at = verify.and_then(|verify| verify.at);
    text.family(
        "millrace_verify_timestamp_seconds",
        "gauge",
        "When the last answer of a verification came, seconds of the Unix epoch.",
    )
    .sample(&[], seconds(at.map(|at| at.epoch_ms())));
    text.family(
        "millrace_verify_differences",
        "gauge",
        "Differences that the last verification found in the table.",
    );
    for table in verify.map_or(&[][..], |verify| &verify.tables) {
        let labels = [("table", table.name.as_str())];
        text.sample(&labels, Some(table.differences));
    }
    let periodic = verify.and_then(|verify| verify.periodic.as_ref());
    text.family(
        "millrace_verify_period_seconds",
        "gauge",
        "Seconds between two verifications that the projector runs by itself; not there if it runs none.",
    )
    .sample(&[], periodic.map(|periodic| periodic.period_s));
    text.family(
        "millrace_verify_waiting",
        "gauge",
        "1 if a verification that is due waits for something, such as a transaction of Postgres that does not end.",
    )
    .sample(
        &[],
        periodic.map(|periodic| u8::from(periodic.waits_for.is_some())),
    );
    let unfinished = verify.filter(|verify| !verify.running);
    text.family(
        "millrace_verify_unfinished",
        "gauge",
        "1 if a verification after that answer gave none, 0 if not.",
    )
    .sample(
        &[],
        unfinished.map(|verify| u8::from(verify.unfinished.is_some())),
    );
}

/// Exact: three decimal places.
fn seconds(ms: Option<u64>) -> Option<String> {
    let ms = ms?;
    Some(match ms % 1_000 {
        0 => (ms / 1_000).to_string(),
        rest => format!("{}.{rest:03}", ms / 1_000),
    })
}

#[cfg(test)]
mod tests;
