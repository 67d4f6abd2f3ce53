//! How far behind the projections are, and what is said of it.

use proptest::prelude::*;

use super::*;

#[test]
fn caught_up_is_zero() {
    let status = World::at_rest().ticks(40, |_| ());
    let (verdict, lag) = said(&status);
    assert_eq!(
        (verdict, lag.total_ms, lag.bytes),
        (Verdict::Ok, Some(0), Some(0))
    );
    assert_eq!(status.projections[0].caught_up, Some(true));
    assert_eq!(slowest(&status), None);
    assert_eq!(status.headline, "Fresh: all 2 projections caught up");
}

#[test]
fn a_paused_projection_is_stopped_and_its_lag_grows() {
    let mut world = World::at_rest();
    world.tick(|_| ());
    let status = world.ticks(30, |readings| {
        pend(readings, at(1_000));
        projector(readings).paused_since = Some(at(1_000));
    });
    let (verdict, lag) = said(&status);
    assert_eq!((verdict, lag.total_ms), (Verdict::Stopped, Some(30_000)));
    assert_eq!(lag.basis, Some(Basis::Exact));
    assert_eq!(slowest(&status), Some(HopName::Projector));
    assert!(status
        .headline
        .starts_with("Stopped: all 2 projections, 30 s behind: paused"));
}

#[test]
fn a_projector_that_does_not_move_is_stalled_after_ten_seconds_and_says_why() {
    let mut world = World::at_rest();
    let stuck = |readings: &mut Readings| {
        pend(readings, at(0));
        projector(readings).error = Some("[MR-P002] MySQL is away".into());
    };
    world.tick(|_| ());
    assert_ne!(said(&world.ticks(9, stuck)).0, Verdict::Stalled);
    let status = world.ticks(2, stuck);
    assert_eq!(said(&status).0, Verdict::Stalled);
    assert!(status.headline.contains("MR-P002"), "{}", status.headline);
    assert_eq!(slowest(&status), Some(HopName::Mysql));
}

#[test]
fn a_position_that_goes_back_is_rewound() {
    let mut world = World::at_rest();
    world.tick(|readings| apply(readings, 2_000));
    let status = world.tick(|readings| apply(readings, 1_500));
    assert_eq!(said(&status).0, Verdict::Rewound);
    assert_eq!(said(&world.ticks(31, |_| ())).0, Verdict::Ok);
}

#[test]
fn without_postgres_the_lag_is_unknown_and_not_zero() {
    let mut world = World::at_rest();
    world.tick(|_| ());
    let status = world.tick(|readings| readings.source = away());
    let (verdict, lag) = said(&status);
    assert_eq!(
        (verdict, lag.total_ms, lag.own_ms),
        (Verdict::Unknown, None, Some(0))
    );
    assert_eq!(status.projections[0].caught_up, None);
    assert_eq!(status.verdict, Verdict::Unknown);
    assert_eq!(
        status.headline,
        "Unknown: all 2 projections: Postgres: connection refused"
    );
}

#[test]
fn without_postgres_capture_is_not_to_blame_however_long_it_lasts() {
    let mut world = World::at_rest();
    world.ticks(3, |readings| {
        source(readings).lsn = Lsn(source(readings).lsn.0 + 500);
        passed_at(readings, 900, at(500));
    });
    let status = world.ticks(20, |readings| {
        readings.source = away();
        readings.beats.outstanding.clear();
        beat_at(readings, 2_000, at(2_500));
    });
    assert_eq!(
        (said(&status).0, said(&status).1.total_ms),
        (Verdict::Unknown, None)
    );
    assert_eq!(
        status.headline,
        "Unknown: all 2 projections: Postgres: connection refused"
    );
}

#[test]
fn what_capture_does_not_fetch_is_inherited_by_heartbeat() {
    let mut world = World::at_rest();
    world.tick(|readings| {
        passed_at(readings, 1_000, at(-1_000));
        beat_at(readings, 2_000, at(1_000));
    });
    let status = world.ticks(19, |readings| readings.capture = away());
    let (verdict, lag) = said(&status);
    assert_eq!((lag.own_ms, lag.inherited_ms), (Some(0), Some(21_000)));
    assert_eq!(
        (lag.total_ms, lag.basis),
        (Some(21_000), Some(Basis::Heartbeat))
    );
    assert_eq!(verdict, Verdict::Stalled);
    assert!(
        status.headline.contains("capture: connection refused"),
        "{}",
        status.headline
    );
    assert_eq!(slowest(&status), Some(HopName::Slot));
}

#[test]
fn without_capture_and_without_heartbeats_nothing_is_known() {
    let status = World::at_rest().tick(|readings| readings.capture = away());
    let (verdict, lag) = said(&status);
    assert_eq!(
        (verdict, lag.inherited_ms, lag.total_ms),
        (Verdict::Unknown, None, None)
    );
}

#[test]
fn a_capture_of_an_older_version_is_vouched_for_by_heartbeats() {
    let status = World::at_rest().tick(|readings| {
        beat_at(readings, 900, at(500));
        readings.beats.outstanding.clear();
        readings.capture = Answer::Known(CaptureReading {
            state: "streaming".into(),
            ..CaptureReading::default()
        });
    });
    let (verdict, lag) = said(&status);
    assert_eq!((verdict, lag.total_ms), (Verdict::Ok, Some(0)));
    assert_eq!(lag.basis, Some(Basis::Heartbeat));
}

#[test]
fn a_lag_that_grows_is_falling_behind() {
    let mut world = World::at_rest();
    let mut lsn = 1_000;
    let status = world.ticks(20, |readings| {
        lsn += 1;
        apply(readings, lsn);
        pend(readings, at(0));
    });
    assert_eq!(said(&status).0, Verdict::FallingBehind);
    assert_eq!(status.projections[0].eta_s, None);
}

#[test]
fn a_lag_that_shrinks_is_catching_up_and_says_until_when() {
    let mut world = World::at_rest();
    let mut second = 0;
    let status = world.ticks(10, |readings| {
        second += 1;
        apply(readings, 1_000 + second);
        // Two seconds of lag less each second: 60 s, 58 s, …
        pend(readings, at(second as i64 * 3_000 - 62_000));
    });
    let (verdict, lag) = said(&status);
    assert_eq!((verdict, lag.total_ms), (Verdict::CatchingUp, Some(42_000)));
    assert_eq!(status.projections[0].eta_s, Some(21));
    assert!(
        status.headline.contains("about 21 s"),
        "{}",
        status.headline
    );
}

#[test]
fn a_projector_that_does_not_answer_is_unknown_and_its_lag_still_grows() {
    let mut world = World::at_rest();
    world.tick(|_| ());
    world.tick(|readings| {
        passed_at(readings, 900, at(0));
        beat_at(readings, 2_000, at(2_000));
        source(readings).slot.as_mut().unwrap().confirmed_lsn = Some(Lsn(2_500));
    });
    let status = world.ticks(30, |readings| readings.projector = away());
    let (verdict, lag) = said(&status);
    assert_eq!(
        (verdict, lag.own_ms, lag.total_ms),
        (Verdict::Unknown, Some(32_000), Some(32_000))
    );
    assert_eq!(lag.records, None);
    assert_eq!(slowest(&status), Some(HopName::Topic));
    assert_eq!(status.projections[1].name, "mart_x");
}

#[test]
fn a_projector_that_has_read_everything_and_waits_for_a_lost_record_is_not_caught_up() {
    let mut world = World::at_rest();
    world.tick(|readings| {
        passed_at(readings, 900, at(-1_000));
        beat_at(readings, 2_000, at(1_000));
        source(readings).slot.as_mut().unwrap().confirmed_lsn = Some(Lsn(2_500));
    });
    let status = world.ticks(14, |_| ());
    let (verdict, lag) = said(&status);
    assert_eq!((lag.records, lag.own_ms), (Some(0), Some(16_000)));
    assert_eq!(
        (lag.basis, verdict),
        (Some(Basis::Heartbeat), Verdict::Stalled)
    );
}

#[test]
fn a_slot_that_is_lost_is_the_headline_even_if_everything_else_looks_well() {
    let status = World::at_rest().ticks(2, |readings| {
        source(readings).slot.as_mut().unwrap().wal_status = Some(WalStatus::Lost);
    });
    assert_eq!(status.verdict, Verdict::Stopped);
    assert!(
        status.headline.contains("slot millrace is lost"),
        "{}",
        status.headline
    );
}

#[test]
fn a_snapshot_that_is_loaded_says_until_when() {
    let mut world = World::at_rest();
    let mut rows = 0;
    let status = world.ticks(30, |readings| {
        rows += 100;
        let projector = projector(readings);
        projector.state = State::Loading;
        projector.snapshot = Some(crate::status::Loading {
            rows,
            rows_estimated: 4_000,
        });
    });
    assert_eq!(said(&status).0, Verdict::CatchingUp);
    assert_eq!(status.projections[0].eta_s, Some(10));
    let status = world.ticks(10, |_| ());
    assert_eq!(said(&status).0, Verdict::Stalled);
}

#[test]
fn another_clock_in_postgres_does_not_change_the_lag() {
    let mut world = World::at_rest();
    let hour_us = 3_600_000_000;
    let status = world.ticks(3, |readings| {
        source(readings).clock_ahead_us = -hour_us;
        pend(readings, at(0).shifted_us(-hour_us));
    });
    assert_eq!(said(&status).1.total_ms, Some(3_000));
}

#[test]
fn rates_are_not_known_before_the_second_sample_and_after_a_restart() {
    let mut world = World::at_rest();
    let rate = |status: &Status| status.projections[0].rate.transactions_per_s;
    let mut count = |count| world.tick(|readings| projector(readings).transactions = Some(count));
    assert_eq!(rate(&count(100)), None);
    assert_eq!(rate(&count(150)), Some(50.0));
    assert_eq!(rate(&count(3)), None);
    assert_eq!(rate(&count(5)), Some(2.0));
}

#[test]
fn what_waits_is_counted_at_one_hop_only() {
    let status = World::at_rest().tick(|readings| pend(readings, at(0)));
    let ages = [
        HopName::Topic,
        HopName::Smartmodules,
        HopName::Projector,
        HopName::Mysql,
    ];
    let ages: Vec<_> = ages.iter().map(|hop| age(&status, *hop)).collect();
    assert_eq!(ages, [Some(0), Some(0), Some(1_000), Some(0)]);
}

fn moments() -> impl Strategy<Value = Option<i64>> {
    proptest::option::of(-100_000_i64..1_000)
}

proptest! {
    /// Whatever is known or not: the total is the larger part or nothing, and never there without
    /// Postgres; what is oldest in any account is not hidden.
    #[test]
    fn the_total_is_the_larger_part_or_not_known(
        source_up: bool, target_up: bool, projector_up: bool, capture_up: bool,
        records in proptest::option::of(0_u64..3),
        pending in moments(),
        outstanding in moments(),
        beat in proptest::option::of((500_u64..3_000, -100_000_i64..1_000)),
    ) {
        let mut world = World::at_rest();
        world.tick(|_| ());
        let status = world.tick(|readings| {
            let projector = projector(readings);
            projector.lag_records = records;
            projector.oldest_pending_at = pending.map(at);
            if let Answer::Known(capture) = &mut readings.capture {
                capture.oldest_pending_at = Some(outstanding.map(at));
            }
            if let Some((lsn, ms)) = beat {
                beat_at(readings, lsn, at(ms));
            }
            if !source_up { readings.source = away(); }
            if !target_up { readings.target = away(); }
            if !projector_up { readings.projector = away(); }
            if !capture_up { readings.capture = away(); }
        });
        let (verdict, lag) = said(&status);
        let parts = lag.own_ms.zip(lag.inherited_ms).map(|(own, inherited)| own.max(inherited));
        prop_assert_eq!(lag.total_ms, parts.filter(|_| source_up));
        if lag.total_ms.is_none() {
            prop_assert!(verdict >= Verdict::Stopped);
        }
        if let (Some(ms), true) = (pending, projector_up) {
            prop_assert!(lag.own_ms >= Some((2_000 - ms) as u64));
        }
        if let (Some(ms), true) = (outstanding, capture_up) {
            prop_assert!(lag.inherited_ms >= Some((2_000 - ms) as u64));
        }
    }
}
