//! MySQL fails: it is named, at once, and nobody else is blamed.

use super::*;

fn silent(readings: &mut Readings) {
    readings.target = Answer::Unknown("no answer within 900 ms".into());
}

fn failing(readings: &mut Readings) {
    projector(readings).error = Some("[MR-P001] MySQL is away".into());
}

fn rested() -> World {
    let mut world = World::at_rest();
    world.ticks(2, |_| ());
    world
}

#[test]
fn an_error_of_the_projector_is_not_fresh_however_short_the_lag_is() {
    let status = rested().tick(|readings| {
        failing(readings);
        pend(readings, at(2_500));
    });
    assert_eq!(said(&status).0, Verdict::FallingBehind);
    assert_eq!(
        status.headline,
        "Falling behind: all 2 projections, 500 ms behind: MR-P001: MySQL is away"
    );
    assert_eq!(said(&rested().tick(failing)).0, Verdict::FallingBehind);
}

#[test]
fn a_mysql_that_does_not_answer_is_not_fresh() {
    let mut world = rested();
    let status = world.tick(silent);
    let (verdict, lag) = said(&status);
    assert_eq!((verdict, lag.total_ms), (Verdict::Unknown, None));
    assert_eq!(status.projections[0].caught_up, None);
    assert_eq!(
        status.headline,
        "Unknown: all 2 projections: MySQL: no answer within 900 ms"
    );
    let status = world.tick(|readings| pend(readings, at(3_900)));
    assert_eq!(said(&status).0, Verdict::FallingBehind);
    let reason = status.projections[0].reason.as_deref();
    assert_eq!(reason, Some("MySQL: no answer within 900 ms"));
    let status = world.tick(failing);
    assert!(status.headline.contains("MR-P001"), "{}", status.headline);
}

#[test]
fn an_error_is_named_also_where_the_lag_is_not_known() {
    let status = rested().tick(|readings| {
        failing(readings);
        readings.source = away();
    });
    assert_eq!(
        status.headline,
        "Unknown: all 2 projections: Postgres: connection refused; MR-P001: MySQL is away"
    );
}

#[test]
fn an_error_while_a_snapshot_is_loaded_is_in_the_headline() {
    let status = rested().tick(|readings| {
        failing(readings);
        projector(readings).state = State::Loading;
    });
    assert_eq!(said(&status).0, Verdict::FallingBehind);
    assert!(status.headline.contains("MR-P001"), "{}", status.headline);
}

#[test]
fn a_mysql_that_hangs_is_the_slowest_hop_and_the_cause() {
    let status = rested().ticks(14, |readings| {
        silent(readings);
        pend(readings, at(1_000));
    });
    assert_eq!(said(&status).0, Verdict::Stalled);
    let reason = status.projections[0].reason.clone().unwrap_or_default();
    assert!(
        reason.ends_with(": MySQL: no answer within 900 ms"),
        "{reason}"
    );
    assert_eq!(slowest(&status), Some(HopName::Mysql));
    assert_eq!(age(&status, HopName::Mysql), said(&status).1.own_ms);
    assert_eq!(age(&status, HopName::Projector), Some(0));
}

#[test]
fn of_a_mysql_that_does_not_answer_it_is_not_said_that_nothing_waits() {
    assert_eq!(age(&rested().tick(silent), HopName::Mysql), None);
}

#[test]
fn a_projector_that_is_late_to_say_what_is_committed_has_not_gone_back() {
    let mut world = rested();
    world.tick(|readings| {
        readings.target = Answer::Known(target_at(2_000));
        projector(readings).end_lsn = Some(Lsn(1_500));
    });
    let status = world.tick(silent);
    assert_ne!(said(&status).0, Verdict::Rewound);
    assert_eq!(status.projections[0].position.lsn, Some(Lsn(2_000)));
    let status = world.tick(|readings| projector(readings).end_lsn = Some(Lsn(2_500)));
    assert_eq!(status.projections[0].position.lsn, Some(Lsn(2_500)));
    let status = world.tick(|readings| apply(readings, 1_500));
    assert_eq!(said(&status).0, Verdict::Rewound);
}

#[test]
fn who_caught_up_and_then_stands_is_not_catching_up() {
    let mut world = World::at_rest();
    world.tick(|readings| pend(readings, at(-59_000)));
    // Resumed: a minute of lag is gone in a few seconds.
    let mut second = 0;
    world.ticks(5, |readings| {
        second += 1;
        apply(readings, 1_000 + second);
        pend(readings, at(second as i64 * 1_000));
    });
    // It stands, seven seconds long: less than a minute, and growing.
    let status = world.ticks(7, |_| ());
    assert_eq!(said(&status).0, Verdict::FallingBehind);
    assert_eq!(status.projections[0].eta_s, None);
    assert!(!status.headline.contains("about"), "{}", status.headline);
}

#[test]
fn a_lag_like_a_saw_gets_no_estimate_while_nothing_moves() {
    let mut world = World::at_rest();
    let mut estimates = 0;
    for tooth in 0..4_u64 {
        for second in 0..8_u64 {
            let status = world.tick(|readings| {
                apply(readings, 1_001 + tooth);
                pend(readings, at(tooth as i64 * 8_000 - 9_000));
            });
            let stands = second > 3;
            assert!(!stands || said(&status).0 != Verdict::CatchingUp);
            estimates += u32::from(stands && status.projections[0].eta_s.is_some());
        }
    }
    assert_eq!(estimates, 0);
}
