//! What is said of each table, from the moment that it is selected.

use super::*;
use crate::collect::{
    CapturedReading, LoadedReading, MartReading, ProblemReading, ProjectedReading, Size,
};
use crate::status::{Table, TableState};

fn capture(readings: &mut Readings) -> &mut CaptureReading {
    match &mut readings.capture {
        Answer::Known(capture) => capture,
        Answer::Unknown(_) => panic!("capture is away in this scenario"),
    }
}

fn captured(state: &str, rows: u64, expected_at: Option<Time>) -> CapturedReading {
    CapturedReading {
        table: "public.t".into(),
        state: state.into(),
        copy: Some(1),
        since: Some(start()),
        rows: Some(rows),
        rows_estimated: Some(1_000),
        expected_at,
        notice: None,
    }
}

fn projected(state: TableState, loaded: Option<u64>) -> ProjectedReading {
    ProjectedReading {
        table: "public.t".into(),
        name: "t".into(),
        state,
        since: Some(start()),
        reason: None,
        newest_copy: Some(1),
        quarantined: None,
        copy: loaded.map(|rows| LoadedReading {
            rows: Some(rows),
            rows_estimated: Some(1_000),
        }),
    }
}

fn only(status: &Status) -> &Table {
    assert_eq!(status.tables.len(), 1, "{:?}", status.tables);
    &status.tables[0]
}

/// Whether the table is live meanwhile, from its old rows, or was never copied.
#[test]
fn what_a_copy_waits_for_is_said() {
    let mut world = World::at_rest();
    let waits = CapturedReading {
        notice: Some("waits for pid 7".into()),
        ..captured("planned", 0, None)
    };
    let status = world.tick(|readings| capture(readings).tables = vec![waits.clone()]);
    let said = Some("its copy waits for pid 7");
    assert_eq!(only(&status).reason.as_deref(), said);
    let status = world.tick(|readings| {
        projector(readings).tables = vec![projected(TableState::Live, None)];
    });
    let table = only(&status);
    assert_eq!(
        (table.state, table.reason.as_deref()),
        (TableState::Live, said)
    );
    let status = world.tick(|readings| {
        capture(readings).tables = vec![captured("copying", 1, None)];
    });
    assert_eq!(only(&status).reason, None);
}

#[test]
fn a_copy_is_seen_from_its_plan_to_the_live_table() {
    let mut world = World::at_rest();
    let status =
        world.tick(|readings| capture(readings).tables = vec![captured("planned", 0, None)]);
    let table = only(&status);
    assert_eq!(table.state, TableState::Planned);
    let copy = table.copy.as_ref().expect("a copy from the first second");
    assert_eq!(
        (copy.rows_read, copy.rows_estimated),
        (Some(0), Some(1_000))
    );
    assert_eq!(copy.share(), Some(0.0));

    let status = world.tick(|readings| {
        let expected = at(12_000);
        capture(readings).tables = vec![captured("copying", 200, Some(expected))];
    });
    let copy = only(&status).copy.as_ref().expect("a copy");
    assert_eq!((copy.rows_read, copy.eta_s), (Some(200), Some(10)));

    // Loading is the slower one: 100 rows a second of the 800 that are left.
    for loaded in [100, 200] {
        world.tick(|readings| {
            capture(readings).tables = vec![captured("captured", 1_000, None)];
            projector(readings).tables = vec![projected(TableState::Loading, Some(loaded))];
        });
    }
    let status = world.tick(|readings| {
        projector(readings).tables = vec![projected(TableState::Loading, Some(300))];
    });
    let table = only(&status);
    let read = table.copy.as_ref().and_then(|copy| copy.rows_read);
    assert_eq!(read, Some(1_000), "what was read stays known");
    assert_eq!(
        (table.state, table.target.as_deref()),
        (TableState::Loading, Some("t"))
    );
    assert_eq!(table.copy.as_ref().and_then(|copy| copy.eta_s), Some(7));

    let status = world.tick(|readings| {
        projector(readings).tables = vec![projected(TableState::Live, None)];
        readings.sizes.insert(
            "t".into(),
            Size {
                rows: 990,
                bytes: 65_536,
            },
        );
    });
    let table = only(&status);
    assert_eq!((table.state, &table.copy), (TableState::Live, &None));
    assert_eq!((table.rows, table.bytes), (Some(990), Some(65_536)));
}

#[test]
fn a_copy_that_has_not_begun_is_expected_behind_those_before_it() {
    let mut world = World::at_rest();
    let mut status = None;
    for read in [100, 200, 300] {
        let later = CapturedReading {
            table: "public.u".into(),
            ..captured("planned", 0, None)
        };
        status = Some(world.tick(|readings| {
            capture(readings).tables = vec![captured("copying", read, None), later];
        }));
    }
    let status = status.expect("a status");
    let eta = status.tables[1].copy.as_ref().and_then(|copy| copy.eta_s);
    // 700 rows of the one and 1,000 of the other, 100 in a second.
    assert_eq!(
        (status.tables[1].name.as_str(), eta),
        ("public.u", Some(17))
    );
}

#[test]
fn a_live_table_that_is_copied_again_stays_live_and_shows_its_copy() {
    let status = World::at_rest().tick(|readings| {
        capture(readings).tables = vec![captured("copying", 500, None)];
        projector(readings).tables = vec![projected(TableState::Live, Some(250))];
    });
    let table = only(&status);
    assert_eq!(table.state, TableState::Live);
    let copy = table.copy.as_ref().expect("a copy");
    assert_eq!((copy.rows_read, copy.rows_loaded), (Some(500), Some(250)));
    assert_eq!(copy.share(), Some(0.375));
    assert_eq!(status.verdict, Verdict::Ok, "{}", status.headline);
}

#[test]
fn a_copy_that_a_paused_projector_has_not_heard_of_is_under_way() {
    let mut world = World::at_rest();
    let again = CapturedReading {
        copy: Some(2),
        ..captured("captured", 1_000, None)
    };
    let status = world.tick(|readings| {
        capture(readings).tables = vec![again.clone()];
        projector(readings).tables = vec![projected(TableState::Live, None)];
    });
    let table = only(&status);
    assert_eq!(table.state, TableState::Live);
    let copy = table.copy.as_ref().expect("it is read, and not loaded");
    assert_eq!((copy.rows_read, copy.rows_loaded), (Some(1_000), Some(0)));
    let status = world.tick(|readings| projector(readings).tables.clear());
    assert_eq!(only(&status).state, TableState::Loading, "the first copy");
    let heard = ProjectedReading {
        newest_copy: Some(2),
        ..projected(TableState::Live, None)
    };
    let status = world.tick(|readings| projector(readings).tables = vec![heard]);
    assert_eq!(only(&status).copy, None);
}

#[test]
fn a_table_that_is_set_aside_is_in_the_headline_with_its_reason_and_without_what_to_do() {
    let status = World::at_rest().tick(|readings| {
        projector(readings).tables = vec![ProjectedReading {
            reason: Some("[MR-P005] a value has no form in MySQL; widen the column".into()),
            ..projected(TableState::SetAside, None)
        }];
    });
    assert_eq!(status.verdict, Verdict::Stopped);
    assert_eq!(
        status.headline,
        "Stopped: table public.t is set aside: [MR-P005] a value has no form in MySQL; mart_x: public.t, which it \
         reads, is set aside"
    );
    let whole = "[MR-P005] a value has no form in MySQL; widen the column";
    assert_eq!(only(&status).reason.as_deref(), Some(whole));
}

#[test]
fn a_mart_that_is_set_aside_is_stopped_for_its_own_reason_and_the_others_are_fresh() {
    let status = World::at_rest().tick(|readings| {
        projector(readings).marts = vec![MartReading {
            name: "mart_x".into(),
            state: "set_aside".into(),
            reason: Some("[MR-P017] a statement was refused".into()),
            quarantined: None,
        }];
    });
    let [replica, mart] = &status.projections[..] else {
        panic!("{:?}", status.projections)
    };
    assert_eq!(
        (replica.verdict, mart.verdict),
        (Verdict::Ok, Verdict::Stopped)
    );
    let reason = "[MR-P017] a statement was refused";
    assert_eq!(mart.reason.as_deref(), Some(reason));
    assert_eq!(status.verdict, Verdict::Stopped);
}

#[test]
fn values_in_quarantine_are_told_of_the_table_the_replica_and_the_marts_that_read_them() {
    let status = World::at_rest().tick(|readings| {
        projector(readings).tables = vec![ProjectedReading {
            quarantined: Some(3),
            ..projected(TableState::Live, None)
        }];
        projector(readings).marts = vec![MartReading {
            name: "mart_x".into(),
            state: "live".into(),
            reason: None,
            quarantined: Some(3),
        }];
    });
    assert_eq!(only(&status).quarantined, Some(3));
    let of_projections: Vec<_> = status.projections.iter().map(|it| it.quarantined).collect();
    assert_eq!(of_projections, [Some(3), Some(3)]);
    assert_eq!(status.verdict, Verdict::Ok);
}

#[test]
fn what_capture_leaves_out_is_not_live_whatever_mysql_has_of_it() {
    let status = World::at_rest().tick(|readings| {
        projector(readings).tables = vec![projected(TableState::Live, None)];
        capture(readings).not_live = vec![ProblemReading {
            table: "public.t".into(),
            code: Some("capture-filtered".into()),
            reason: "the publication leaves rows out".into(),
            remedy: Some("take the filter off".into()),
        }];
    });
    let table = only(&status);
    assert_eq!(table.state, TableState::SetAside);
    let reason = "capture-filtered: the publication leaves rows out; take the filter off";
    assert_eq!(table.reason.as_deref(), Some(reason));
    let [replica, mart] = &status.projections[..] else {
        panic!("{:?}", status.projections)
    };
    let verdicts = (replica.verdict, mart.verdict);
    assert_eq!(verdicts, (Verdict::Ok, Verdict::Stopped), "it is as old");
    let why = "public.t, which it reads, is set aside";
    assert_eq!(mart.reason.as_deref(), Some(why));
    let status = World::at_rest().tick(|readings| {
        capture(readings).not_captured = vec!["public.t".into()];
    });
    assert_eq!(only(&status).state, TableState::NotCaptured);
}

#[test]
fn without_the_projector_nothing_is_known_of_a_table_that_was_read() {
    let status = World::at_rest().tick(|readings| {
        capture(readings).tables = vec![captured("captured", 1_000, None)];
        readings.projector = away();
    });
    let table = only(&status);
    assert_eq!((table.state, table.since), (TableState::Unknown, None));
}
