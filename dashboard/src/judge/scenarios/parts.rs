//! A part that has ended is not well, however fresh the marts are.

use super::*;

fn ingest(readings: &mut Readings) -> &mut IngestReading {
    match &mut readings.ingest {
        Some(Answer::Known(ingest)) => ingest,
        _ => panic!("ingest is away in this scenario"),
    }
}

#[test]
fn an_ingest_that_has_ended_is_stopped_and_says_why() {
    let status = World::at_rest().tick(|readings| {
        ingest(readings).state = "failed".into();
        ingest(readings).last_error = Some("ingest-topic-recreated: read up to 5".into());
    });
    assert_eq!(status.verdict, Verdict::Stopped);
    assert_eq!(
        status.headline,
        "Stopped: ingest has ended: ingest-topic-recreated: read up to 5; \
         otherwise fresh: all 2 projections caught up"
    );
}

#[test]
fn an_ingest_that_does_not_answer_is_unknown_and_one_that_tries_again_is_behind() {
    let status = World::at_rest().tick(|readings| readings.ingest = Some(away()));
    assert_eq!(status.verdict, Verdict::Unknown);
    assert!(status
        .headline
        .starts_with("Unknown: ingest: connection refused"));
    let status = World::at_rest().tick(|readings| {
        ingest(readings).state = "connecting".into();
        ingest(readings).last_error = Some("Postgres: away".into());
    });
    assert_eq!(status.verdict, Verdict::FallingBehind);
}

#[test]
fn a_pipeline_without_ingest_misses_none() {
    let status = World::at_rest().tick(|readings| {
        readings.ingest = None;
        readings.rejected = None;
    });
    assert_eq!(status.verdict, Verdict::Ok, "{}", status.headline);
    assert_eq!((status.ingest, status.rejected), (None, None));
}

#[test]
fn a_pipeline_that_is_known_to_be_late_is_late_whether_or_not_ingest_answers() {
    let late = |readings: &mut Readings| {
        readings.ingest = Some(away());
        projector(readings).error = Some("MR-P001: MySQL fails".into());
    };
    let status = World::at_rest().tick(late);
    assert_eq!(status.verdict, Verdict::FallingBehind);
    assert!(
        status
            .headline
            .ends_with("otherwise unknown: ingest: connection refused"),
        "{}",
        status.headline
    );
    // What is not known of the pipeline itself is worse.
    let status = World::at_rest().tick(|readings| {
        readings.source = away();
        readings.ingest = Some(away());
    });
    assert_eq!(status.verdict, Verdict::Unknown);
    assert!(
        !status.headline.starts_with("Unknown: ingest"),
        "{}",
        status.headline
    );
}

#[test]
fn a_capture_that_has_ended_says_why_in_place_of_the_slot_that_nobody_reads() {
    let status = World::at_rest().tick(|readings| {
        source(readings).slot.as_mut().expect("a slot").active = false;
        if let Answer::Known(capture) = &mut readings.capture {
            capture.state = "stopped".into();
            capture.last_error = Some("capture-wal-level: it is replica".into());
        }
    });
    assert_eq!(status.verdict, Verdict::Stopped);
    assert!(
        status
            .headline
            .starts_with("Stopped: capture has ended: capture-wal-level: it is replica"),
        "{}",
        status.headline
    );
}

#[test]
fn a_capture_whose_log_cannot_go_on_says_what_to_do() {
    let status = World::at_rest().tick(|readings| {
        if let Answer::Known(capture) = &mut readings.capture {
            capture.state = "void".into();
            capture.last_error =
                Some("capture-slot-missing: it is gone; `millrace tables begin-again`".into());
        }
    });
    assert_eq!(status.verdict, Verdict::Stopped);
    let words = "Stopped: capture cannot go on: capture-slot-missing: it is gone; `millrace tables begin-again`";
    assert!(status.headline.starts_with(words), "{}", status.headline);
}

#[test]
fn a_part_that_cannot_say_so_itself_is_stopped_and_named_with_its_reason() {
    let status = World::at_rest().tick(|readings| {
        readings.parts_down.push(PartDown {
            name: "trade".into(),
            since: at(0),
            fault: "the shop has no products. Fill it with `millrace generate`".into(),
            outlook: "next try at 03:00:30 UTC".into(),
        });
    });
    assert_eq!(status.verdict, Verdict::Stopped);
    assert_eq!(
        status.headline,
        "Stopped: trade is down: the shop has no products; next try at 03:00:30 UTC; \
         otherwise fresh: all 2 projections caught up"
    );
    assert_eq!(status.parts_down[0].name, "trade");
    let whole = &status.parts_down[0].fault.message;
    assert!(whole.ends_with("`millrace generate`"), "{whole}");
}
