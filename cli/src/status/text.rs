//! The status for people: one sentence, a row per projection, then each part of the pipeline.

use millrace_control::Fault;
use millrace_dashboard::status::{
    Answer, Capture, Consumer, Ingest, Latency, Past, Periodic, Projection, Source, Status, Time,
    Topic, Verify,
};

use super::{reach, tables};
use crate::terminal::{printable, table};

pub(super) const UNKNOWN: &str = "unknown";

/// The whole text; what comes from the data cannot steer the terminal.
pub(super) fn render(status: &Status) -> String {
    let mut text = format!("{}\n\n", printable(&status.headline));
    text += &projections(&status.projections);
    text += "\n";
    if !status.tables.is_empty() {
        text += &tables::render(&status.tables);
        text += "\n";
    }
    text += &table(&["part", "what", "value"], &parts(status));
    for (note, names) in shared_notes(&status.projections) {
        text += &format!("{}: {}\n", names.join(", "), printable(&note));
    }
    text
}

fn projections(projections: &[Projection]) -> String {
    let rows: Vec<Vec<String>> = projections.iter().map(projection).collect();
    let header = [
        "projection",
        "verdict",
        "lag",
        "own",
        "inherited",
        "records",
        "tx/s",
        "applied up to",
    ];
    table(&header, &rows)
}

fn projection(projection: &Projection) -> Vec<String> {
    let lag = &projection.lag;
    vec![
        printable(&projection.name),
        verdict(projection),
        duration(lag.total_ms),
        duration(lag.own_ms),
        duration(lag.inherited_ms),
        count(lag.records),
        rate(projection.rate.transactions_per_s),
        known(projection.position.lsn),
    ]
}

/// How it behaves, and whether what it shows is known to be wrong.
fn verdict(projection: &Projection) -> String {
    let words = projection.verdict.words();
    match projection.differences {
        Some(found) if found > 0 => format!("{words}, DIFFERENT"),
        _ => words.to_owned(),
    }
}

/// Projections move together: what is said of several is said once.
fn shared_notes(projections: &[Projection]) -> Vec<(String, Vec<&str>)> {
    let mut shared: Vec<(String, Vec<&str>)> = Vec::new();
    for projection in projections {
        for note in notes(projection) {
            match shared.iter_mut().find(|(known, _)| *known == note) {
                Some((_, names)) => names.push(&projection.name),
                None => shared.push((note, vec![&projection.name])),
            }
        }
    }
    shared
}

/// What a row has no room for.
fn notes(projection: &Projection) -> Vec<String> {
    let error = projection.last_error.as_ref().map(Fault::to_string);
    let resume = || "`millrace projection resume` lets it go on".to_owned();
    let paused = projection.paused_since.map(|_| resume());
    let eta = projection
        .eta_s
        .map(|seconds| format!("caught up in about {seconds} s"));
    let loading = projection.snapshot.map(|loading| {
        format!(
            "loading: {} of {} rows",
            loading.rows, loading.rows_estimated
        )
    });
    let quarantined = projection.quarantined.filter(|values| *values > 0);
    let quarantined = quarantined
        .map(|values| format!("{values} in quarantine, NULL here: `millrace quarantine list`"));
    // Said once: a reason often is the last error, or contains it.
    let error = error.filter(|error| {
        !projection
            .reason
            .as_ref()
            .is_some_and(|r| r.contains(error))
    });
    let reason = projection.reason.clone();
    [reason, paused, eta, loading, quarantined, error]
        .into_iter()
        .flatten()
        .collect()
}

fn parts(status: &Status) -> Vec<Vec<String>> {
    let mut rows = Rows::default();
    rows.answer("source", &status.source, source);
    rows.answer("capture", &status.capture, capture);
    rows.answer("topics", &status.topics, |rows, topics: &Vec<Topic>| {
        topics.iter().for_each(|one| topic(rows, one));
    });
    rows.answer("target", &status.target, |rows, target| {
        rows.add("target", "server", target.server.clone());
        rows.add("target", "applied up to", known(target.applied_lsn));
    });
    if let Some(answer) = &status.ingest {
        rows.answer("ingest", answer, ingest);
    }
    if let Some(answer) = &status.rejected {
        rows.answer("rejected", answer, |rows, counts| {
            rows.add("rejected", "open", counts.open.to_string());
            rows.add("rejected", "retried", counts.retried.to_string());
            rows.add("rejected", "discarded", counts.discarded.to_string());
        });
    }
    for down in &status.parts_down {
        let told = format!("since {}: {}; {}", down.since, down.fault, down.outlook);
        rows.add("down", &down.name, told);
    }
    latency(&mut rows, &status.latency);
    if let Some(said) = &status.verify {
        verify(&mut rows, said);
    }
    rows.0
}

/// Rows of the second table.
#[derive(Default)]
struct Rows(Vec<Vec<String>>);

impl Rows {
    fn add(&mut self, part: &str, what: &str, value: impl AsRef<str>) {
        let row = [part, what, value.as_ref()];
        self.0.push(row.map(printable).into());
    }

    fn answer<T>(&mut self, part: &str, answer: &Answer<T>, show: impl FnOnce(&mut Rows, &T)) {
        match answer {
            Answer::Known(known) => show(self, known),
            Answer::Unknown(reason) => self.add(part, UNKNOWN, reason),
        }
    }
}

fn source(rows: &mut Rows, source: &Source) {
    rows.add("source", "server", &source.server);
    rows.add("source", "WAL ends at", source.lsn.to_string());
    let Some(slot) = &source.slot else {
        rows.add("slot", "state", "there is none");
        return;
    };
    let state = if slot.active {
        "read"
    } else {
        "read by nobody"
    };
    rows.add("slot", "state", state);
    rows.add("slot", "durable up to", known(slot.confirmed_lsn));
    rows.add("slot", "WAL kept", bytes(slot.retained_bytes));
    let left = slot
        .left_bytes
        .map_or("no limit".to_owned(), |left| bytes(Some(left)));
    rows.add("slot", "WAL left before it is lost", left);
}

fn capture(rows: &mut Rows, capture: &Capture) {
    rows.add("capture", "state", &capture.state);
    rows.add(
        "capture",
        "transactions/s",
        rate(capture.transactions_per_s),
    );
    fault(rows, "capture", capture.last_error.as_ref());
}

fn topic(rows: &mut Rows, topic: &Topic) {
    let size = format!("{} records, {}", topic.end_offset, bytes(topic.bytes));
    rows.add("topic", &topic.name, size);
    rows.add("reach", &topic.name, reach::words(&topic.reach));
    for consumer in &topic.consumers {
        rows.add("consumer", &consumer.name, published(consumer));
    }
}

/// What a service publishes for `fluvio consumer list`: a little older than where it is.
fn published(consumer: &Consumer) -> String {
    let at = known(consumer.at);
    let (offset, behind) = (consumer.offset, consumer.lag_records);
    format!("offset {offset} published at {at}; {behind} records behind that one now")
}

fn ingest(rows: &mut Rows, ingest: &Ingest) {
    rows.add("ingest", "state", &ingest.state);
    rows.add("ingest", "events behind", count(ingest.behind_events));
    fault(rows, "ingest", ingest.last_error.as_ref());
}

fn fault(rows: &mut Rows, part: &str, fault: Option<&Fault>) {
    if let Some(fault) = fault {
        rows.add(part, "last error", fault.to_string());
    }
}

fn latency(rows: &mut Rows, latency: &Latency) {
    let [p50, p95, p99] = [latency.p50_ms, latency.p95_ms, latency.p99_ms].map(duration);
    let text = match latency.samples {
        0 => format!("{UNKNOWN}: no heartbeat has arrived"),
        samples => format!("{p50}, {p95}, {p99} ({samples} heartbeats)"),
    };
    rows.add("end to end", "p50, p95, p99", text);
}

fn by_itself(periodic: &Periodic) -> String {
    let every = format!("every {} s", periodic.period_s);
    match (&periodic.waits_for, periodic.next_at) {
        (Some(reason), _) => format!("{every}; one is due and waits for {reason}"),
        (None, Some(at)) => format!("{every}, next at {at}"),
        (None, None) => every,
    }
}

/// When the first one ended, and how many were equal.
fn equal_of(history: &[Past]) -> Option<(Time, usize)> {
    let equal = history.iter().filter(|past| past.answer == "equal");
    Some((history.first()?.at, equal.count()))
}

/// Whoever ran it: this command, the page, another process.
fn verify(rows: &mut Rows, verify: &Verify) {
    let at = known(verify.at);
    let answer = match verify.equal {
        Some(true) => format!("everything equal, {at}"),
        Some(false) => format!("DIFFERENT, {at}; so until a later `millrace verify` is equal"),
        None => UNKNOWN.to_owned(),
    };
    rows.add("verify", "last answer", answer);
    for table in verify.tables.iter().filter(|table| !table.equal) {
        let found = format!("{} of {} rows", table.differences, table.rows);
        rows.add("different", &table.name, found);
    }
    if let Some(later) = &verify.unfinished {
        let told = format!("gave no answer at {}: {}", later.at, later.reason);
        rows.add("verify", "last attempt", told);
    }
    if let Some(periodic) = &verify.periodic {
        rows.add("verify", "by itself", by_itself(periodic));
    }
    if let Some((first, equal)) = equal_of(&verify.history) {
        let count = verify.history.len();
        let told = format!("{equal} of the last {count} found everything equal, since {first}");
        rows.add("verify", "history", told);
    }
    if verify.running {
        rows.add("verify", "now", "running");
    }
}

pub(super) fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or(UNKNOWN.to_owned(), |value| value.to_string())
}

pub(super) fn count(value: Option<u64>) -> String {
    known(value)
}

fn rate(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.to_owned(), |value| format!("{value:.1}"))
}

pub(super) fn duration(ms: Option<u64>) -> String {
    match ms {
        None => UNKNOWN.to_owned(),
        Some(ms @ 0..1_000) => format!("{ms} ms"),
        Some(ms @ 1_000..120_000) => format!("{:.1} s", ms as f64 / 1e3),
        Some(ms @ 120_000..7_200_000) => format!("{} min", ms / 60_000),
        Some(ms) => format!("{} h", ms / 3_600_000),
    }
}

pub(super) fn bytes(bytes: Option<u64>) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let Some(bytes) = bytes else {
        return UNKNOWN.to_owned();
    };
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    match unit {
        0 => format!("{bytes} B"),
        _ => format!(
            "{:.1} {}",
            bytes as f64 / 1024_f64.powi(unit as i32),
            UNITS[unit as usize]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_never_a_number() {
        assert_eq!(duration(None), UNKNOWN);
        assert_eq!(bytes(None), UNKNOWN);
        assert_eq!(rate(None), UNKNOWN);
    }

    #[test]
    fn durations_and_sizes_have_units_that_people_read() {
        let durations = [0, 999, 1_500, 119_900, 180_000, 7_200_000].map(Some);
        assert_eq!(
            durations.map(duration),
            ["0 ms", "999 ms", "1.5 s", "119.9 s", "3 min", "2 h"]
        );
        let sizes = [0, 1023, 1024, 1 << 20, 5 << 40].map(Some);
        assert_eq!(
            sizes.map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 TiB"]
        );
    }
}
