//! A difference that verify found is known until a later verification is equal, and outranks everything.

use super::*;
use crate::collect::{Answered, Compared, FoundReading};

fn found(answer: Answered, differences: u64) -> FoundReading {
    FoundReading {
        at: at(500),
        answer,
        lsn: Some(Lsn(900)),
        tables: [("orders", differences), ("mart_x", 0)]
            .map(|(name, differences)| Compared {
                name: name.into(),
                rows: 10,
                differences,
                quarantined: 0,
            })
            .into(),
        not_live: Vec::new(),
        error: None,
    }
}

fn keep(readings: &mut Readings, answered: FoundReading) {
    projector(readings).verify = Some(FindingsReading {
        answered: Some(answered),
        unfinished: None,
        history: Vec::new(),
    });
}

#[test]
fn a_known_difference_outranks_fresh_and_says_where_it_is() {
    let mut world = World::at_rest();
    let status = world.tick(|readings| keep(readings, found(Answered::Different, 3)));
    assert_eq!(status.verdict, Verdict::Different);
    assert_eq!(
        status.headline,
        "Different: verify found 3 differences in orders at 2026-01-02 03:00:00 UTC; \
         otherwise fresh: all 2 projections caught up"
    );
    // Late or not is another question: alerts on that go on.
    assert_eq!(said(&status).0, Verdict::Ok);
    let differences: Vec<_> = status.projections.iter().map(|p| p.differences).collect();
    assert_eq!(differences, [Some(3), Some(0)]);
}

#[test]
fn a_known_difference_outranks_what_is_late_and_what_is_not_known() {
    let mut world = World::at_rest();
    world.tick(|readings| keep(readings, found(Answered::Different, 1)));
    let status = world.tick(|readings| readings.source = away());
    assert_eq!(status.verdict, Verdict::Different);
    assert!(
        status
            .headline
            .ends_with("otherwise unknown: all 2 projections: Postgres: connection refused"),
        "{}",
        status.headline
    );
}

#[test]
fn a_difference_stays_known_while_the_projector_is_away_or_has_not_asked_mysql() {
    let mut world = World::at_rest();
    world.tick(|readings| keep(readings, found(Answered::Different, 1)));
    let status = world.tick(|readings| readings.projector = away());
    assert_eq!(status.verdict, Verdict::Different);
    let status = world.tick(|readings| readings.projector = Answer::Known(projector_at(1_000)));
    assert_eq!(status.verdict, Verdict::Different);
}

#[test]
fn one_that_gave_no_answer_changes_nothing_and_is_told() {
    let mut world = World::at_rest();
    let status = world.tick(|readings| {
        keep(readings, found(Answered::Different, 1));
        let mut failed = found(Answered::Unfinished, 0);
        failed.at = at(900);
        failed.error = Some("[MR-V003] no slot".into());
        let findings = projector(readings).verify.as_mut().expect("findings");
        findings.unfinished = Some(failed);
    });
    assert_eq!(status.verdict, Verdict::Different);
    let verify = status.verify.expect("a verification");
    assert_eq!(verify.unfinished.expect("told").reason, "[MR-V003] no slot");
}

#[test]
fn a_later_verification_that_is_equal_ends_it() {
    let mut world = World::at_rest();
    world.tick(|readings| keep(readings, found(Answered::Different, 1)));
    let status = world.tick(|readings| keep(readings, found(Answered::Equal, 0)));
    assert_eq!(status.verdict, Verdict::Ok);
    assert_eq!(status.headline, "Fresh: all 2 projections caught up");
    assert_eq!(status.verify.and_then(|verify| verify.equal), Some(true));
}
