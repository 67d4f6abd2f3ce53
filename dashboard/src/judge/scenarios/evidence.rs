//! A lag of zero is said only on evidence, and a heartbeat measures only what is younger than the
//! first one.

use super::*;

fn slot(readings: &mut Readings) -> &mut Slot {
    source(readings).slot.as_mut().expect("a slot")
}

fn inherited(status: &Status) -> Option<u64> {
    said(status).1.inherited_ms
}

/// Transactions wait at the slot since long before the first heartbeat.
fn waits_since_long_ago(readings: &mut Readings) {
    source(readings).lsn = Lsn(9_000);
    slot(readings).confirmed_lsn = Some(Lsn(1_000));
    readings.beats.outstanding.clear();
    beat_at(readings, 8_000, at(1_000));
}

#[test]
fn a_sender_that_hangs_is_not_fresh_without_heartbeats() {
    let mut world = World::at_rest();
    assert_eq!(inherited(&world.ticks(2, |_| ())), Some(0));
    // It is written on; slot and capture look as ever.
    let status = world.ticks(6, |readings| source(readings).lsn = Lsn(5_000));
    let (verdict, lag) = said(&status);
    assert_eq!(
        (verdict, lag.total_ms),
        (Verdict::FallingBehind, Some(6_000))
    );
    assert_eq!(lag.basis, Some(Basis::Wal));
    assert_eq!(status.projections[0].caught_up, Some(false));
    let status = world.ticks(6, |_| ());
    assert_eq!(said(&status).0, Verdict::Stalled);
    let reason = status.projections[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("capture (streaming)"), "{reason}");
    let received = |readings: &mut Readings| {
        if let Answer::Known(capture) = &mut readings.capture {
            capture.received_lsn = Some(Lsn(5_000));
        }
    };
    assert_eq!(said(&world.tick(received)).0, Verdict::Ok);
}

#[test]
fn that_all_of_two_ticks_ago_was_received_is_no_evidence_of_nothing() {
    let mut world = World::at_rest();
    world.ticks(3, |_| ());
    let status = world.tick(|readings| source(readings).lsn = Lsn(5_000));
    // It may have been written just now.
    assert_eq!(inherited(&status), Some(0));
    let status = world.tick(|_| ());
    assert_eq!(inherited(&status), Some(2_000));
    assert_eq!(said(&status).1.basis, Some(Basis::Wal));
}

#[test]
fn a_heartbeat_vouches_for_nothing_that_came_after_it() {
    let mut world = World::at_rest();
    world.ticks(3, |readings| {
        readings.beats.outstanding.clear();
        passed_at(readings, 900, at(2_900));
        readings.beats.last = readings.beats.passed;
        readings.beats.period_ms = Some(10_000);
    });
    let hangs = |readings: &mut Readings| {
        source(readings).lsn = Lsn(source(readings).lsn.0 + 500);
        slot(readings).confirmed_lsn = Some(Lsn(1_000));
    };
    // Written within the last tick; then a second ago; then longer ago than the heartbeat is young.
    let status = world.tick(hangs);
    assert_eq!(inherited(&status), Some(0));
    assert_eq!(said(&status).1.basis, Some(Basis::Exact));
    assert_eq!(inherited(&world.tick(hangs)), Some(2_000));
    // The next heartbeat waits too: what waits is not as young as this.
    let status = world.tick(|readings| {
        hangs(readings);
        beat_at(readings, 2_400, at(5_800));
    });
    assert_eq!(inherited(&status), Some(3_000));
    assert_eq!(said(&status).1.basis, Some(Basis::Wal));
    // Nor is it where capture does not answer.
    let status = world.tick(|readings| {
        hangs(readings);
        readings.capture = away();
        readings.beats.outstanding.clear();
        beat_at(readings, 2_400, at(6_500));
    });
    assert_eq!(inherited(&status), Some(4_100));
    assert_eq!(said(&status).1.basis, Some(Basis::Heartbeat));
}

#[test]
fn a_heartbeat_that_waits_since_the_start_makes_it_stalled() {
    let mut world = World::at_rest();
    let status = world.ticks(15, waits_since_long_ago);
    assert_eq!(
        (said(&status).0, inherited(&status)),
        (Verdict::Stalled, None)
    );
    let reason = status.projections[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("capture (streaming)"), "{reason}");
}

#[test]
fn the_first_tick_knows_of_nothing_earlier() {
    let mut world = World::at_rest();
    let ahead = |readings: &mut Readings| source(readings).lsn = Lsn(1_001);
    assert_eq!(inherited(&world.tick(ahead)), None);
    assert_eq!(inherited(&World::at_rest().tick(|_| ())), Some(0));
}

#[test]
fn a_source_that_is_written_all_the_time_and_read_at_once_is_fresh() {
    let mut world = World::at_rest();
    let mut lsn = 1_000;
    let status = world.ticks(10, |readings| {
        // What was there in the last tick has been received.
        slot(readings).confirmed_lsn = Some(Lsn(lsn));
        lsn += 500;
        source(readings).lsn = Lsn(lsn);
    });
    assert_eq!(inherited(&status), Some(0));
}

#[test]
fn a_heartbeat_of_long_ago_vouches_for_nothing() {
    let mut world = World::at_rest();
    let status = world.tick(|readings| {
        beat_at(readings, 900, at(500));
        readings.beats.outstanding.clear();
    });
    assert_eq!(inherited(&status), Some(0));
    let status = world.ticks(10, |readings| {
        readings.capture = away();
        source(readings).lsn = Lsn(5_000);
    });
    assert_eq!(inherited(&status), None);
}

#[test]
fn after_a_restart_the_lag_does_not_start_at_zero() {
    let mut world = World::at_rest();
    let status = world.ticks(4, waits_since_long_ago);
    assert_eq!((inherited(&status), said(&status).1.total_ms), (None, None));
    assert_ne!(said(&status).0, Verdict::Ok);
}

#[test]
fn after_a_restart_what_the_log_has_is_not_measured_by_a_younger_heartbeat() {
    let mut world = World::at_rest();
    let status = world.ticks(4, |readings| {
        slot(readings).confirmed_lsn = Some(Lsn(9_000));
        readings.beats.outstanding.clear();
        beat_at(readings, 8_000, at(1_000));
    });
    let (verdict, lag) = said(&status);
    assert_eq!((lag.own_ms, lag.total_ms), (None, None));
    assert_ne!(verdict, Verdict::Ok);
    let status = world.tick(|readings| pend(readings, at(-60_000)));
    assert_eq!(said(&status).1.own_ms, Some(65_000));
}

#[test]
fn what_waits_may_be_as_old_as_the_heartbeat_that_passed_last() {
    let mut world = World::at_rest();
    let waits = |readings: &mut Readings| {
        slot(readings).confirmed_lsn = Some(Lsn(1_000));
        readings.beats.outstanding.clear();
        passed_at(readings, 900, at(-500));
        beat_at(readings, 2_000, at(1_500));
    };
    world.tick(|_| ());
    // Half a second on its way is nothing unusual.
    assert_eq!(inherited(&world.tick(waits)), Some(500));
    let status = world.tick(waits);
    assert_eq!(inherited(&status), Some(3_500));
    assert_eq!(said(&status).1.basis, Some(Basis::Heartbeat));
}

#[test]
fn what_came_after_the_clock_was_read_waits_nevertheless() {
    let mut world = World::at_rest();
    world.tick(|_| ());
    let status = world.tick(|readings| pend(readings, at(2_300)));
    assert_eq!(said(&status).1.own_ms, Some(1));
    assert_eq!(status.projections[0].caught_up, Some(false));
}

#[test]
fn transactions_that_were_not_read_are_not_left_out_of_a_count() {
    let mut world = World::at_rest();
    let count = |status: &Status| said(status).1.transactions;
    let status = world.tick(|readings| {
        pend(readings, at(0));
        projector(readings).lag_records = Some(500);
    });
    assert_eq!(count(&status), Some(5));
    let status = world.tick(|readings| {
        projector(readings).error = Some("[MR-P001] MySQL is away".into());
    });
    assert_eq!((count(&status), said(&status).1.records), (None, Some(500)));
    let status = world.tick(|readings| projector(readings).lag_records = Some(5));
    assert_eq!(count(&status), Some(5));
}
