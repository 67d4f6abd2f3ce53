use super::*;

const STATUS: &str = include_str!("../../tests/golden/status.json");
const METRICS: &str = include_str!("../../tests/golden/metrics.txt");

fn status() -> Status {
    serde_json::from_str(STATUS).expect("the golden status")
}

/// `MILLRACE_BLESS=1` writes the file anew.
#[test]
fn the_golden_status_gives_the_golden_metrics() {
    let text = render(&status());
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
        std::fs::write(path, &text).expect("the golden file");
    }
    assert_eq!(text, METRICS);
}

#[test]
fn a_status_is_the_same_after_json() {
    let again = serde_json::to_value(status()).expect("JSON");
    let golden: serde_json::Value = serde_json::from_str(STATUS).expect("JSON");
    assert_eq!(again, golden);
}

#[test]
fn a_lag_that_is_not_known_is_absent_and_not_zero() {
    let mut status = status();
    for projection in &mut status.projections {
        projection.lag = crate::status::Lag::default();
    }
    let text = render(&status);
    for part in ["", "own_", "inherited_"] {
        let name = format!("millrace_projection_{part}lag");
        assert!(!text.contains(&name), "{name}");
    }
    assert!(text.contains("millrace_projection_verdict{"));
}

#[test]
fn a_projector_that_does_not_answer_is_down_and_a_lost_slot_is_lost() {
    let mut status = status();
    let has = |status: &Status, line: &str| render(status).lines().any(|found| found == line);
    assert!(has(&status, r#"millrace_source_up{source="projector"} 1"#));
    assert!(has(&status, r#"millrace_slot_lost{slot="mill\"race"} 0"#));
    for projection in &mut status.projections {
        projection.state = State::Unknown;
    }
    if let Answer::Known(source) = &mut status.source {
        source.slot.as_mut().expect("a slot").wal_status = Some(WalStatus::Lost);
    }
    assert!(has(&status, r#"millrace_source_up{source="projector"} 0"#));
    assert!(has(&status, r#"millrace_slot_lost{slot="mill\"race"} 1"#));
}

/// Alert rules and the Grafana dashboard ask for nothing that is not there.
#[test]
fn what_the_monitoring_files_ask_for_is_in_the_metrics() {
    let files = [
        include_str!("../../../docs/monitoring/alerts.yml"),
        include_str!("../../../docs/monitoring/alerts_test.yml"),
        include_str!("../../../docs/monitoring/grafana.json"),
    ];
    let mut status = status();
    if let Answer::Known(source) = &mut status.source {
        // Without a limit of its WAL there is no such metric.
        source.slot.as_mut().expect("a slot").left_bytes = Some(1);
    }
    let metrics = render(&status);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut asked = 0;
    for word in files.iter().flat_map(|file| file.split(|c| !is_part(c))) {
        if word.starts_with("millrace_") {
            let family = format!("# TYPE {word} ");
            assert!(metrics.contains(&family), "{word} is no metric");
            asked += 1;
        }
    }
    assert!(asked > 50, "only {asked} were found");
}
