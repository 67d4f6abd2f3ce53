//! The tables: what capture and the projector say of each, as one.
//!
//! 1. What the projector says of a table counts: it is what MySQL has. Of a table that it does not know yet, capture's
//!    word counts.
//! 2. A table that capture leaves out, or no longer gets all changes of, is not live for capture's reason, whatever MySQL
//!    still has of it.
//! 3. Without an answer of the projector, nothing is known of a table that capture has read.
//! 4. A copy is under way from when it is planned until the projector has it, also while the projector has not heard of it
//!    yet because it is paused or behind. It takes as long as the slower of reading and
//!    loading, each at its present rate; one that has not begun, as long as all that is still to be read. What it waits for is
//!    the reason of a table that has no other.

use std::collections::BTreeMap;

use crate::collect::{
    CaptureReading, CapturedReading, LoadedReading, ProjectedReading, ProjectorReading, Readings,
};
use crate::status::{Table, TableCopy, TableState, Time};

use super::rate::Meters;

/// All tables, by name.
pub(super) fn tables(readings: &Readings, meters: &mut Meters) -> Vec<Table> {
    let mut tables = BTreeMap::new();
    let capture = readings.capture.known();
    let projector = readings.projector.known();
    for captured in capture.map_or(&[][..], |capture| &capture.tables) {
        let unheard = projector.is_some_and(|projector| is_unheard(captured, projector));
        let table = of_captured(captured, unheard, readings.moment.wall);
        tables.insert(captured.table.clone(), table);
    }
    for left_out in capture.map_or(&[][..], |capture| &capture.not_captured) {
        let table = tables
            .entry(left_out.clone())
            .or_insert_with(|| named(left_out));
        table.state = TableState::NotCaptured;
    }
    for problem in capture.map_or(&[][..], |capture| &capture.not_live) {
        let table = tables
            .entry(problem.table.clone())
            .or_insert_with(|| named(&problem.table));
        table.state = TableState::SetAside;
        table.reason = Some(problem.text());
    }
    for projected in projector.map_or(&[][..], |projector| &projector.tables) {
        let table = tables
            .entry(projected.table.clone())
            .or_insert_with(|| named(&projected.table));
        let read = capture.and_then(|capture| {
            capture
                .tables
                .iter()
                .find(|one| one.table == projected.table)
        });
        add_projected(table, projected, read.and_then(|captured| captured.rows));
        if let (Some(copy), Some(loaded)) = (&mut table.copy, &projected.copy) {
            load(copy, &projected.table, loaded, meters, readings);
        }
    }
    expect_planned(&mut tables, capture, meters, readings.moment.mono_ms);
    for table in tables.values_mut() {
        let size = table
            .target
            .as_ref()
            .and_then(|name| readings.sizes.get(name));
        table.rows = size.map(|size| size.rows);
        table.bytes = size.map(|size| size.bytes);
    }
    tables.into_values().collect()
}

fn named(name: &str) -> Table {
    Table {
        name: name.to_owned(),
        target: None,
        state: TableState::Unknown,
        since: None,
        rows: None,
        bytes: None,
        reason: None,
        quarantined: None,
        copy: None,
    }
}

/// A copy has been read to its end, and the projector has not met it in the log.
fn is_unheard(captured: &CapturedReading, projector: &ProjectorReading) -> bool {
    let mut tables = projector.tables.iter();
    let projected = tables.find(|one| one.table == captured.table);
    let heard = projected.map_or(Some(0), |one| one.newest_copy);
    let newer = captured
        .copy
        .zip(heard)
        .is_some_and(|(copy, heard)| copy > heard);
    captured.state == "captured" && newer
}

/// Rules 1, 3 and 4: what is read is on its way to the projector.
fn of_captured(captured: &CapturedReading, unheard: bool, now: Time) -> Table {
    let state = match captured.state.as_str() {
        "planned" => TableState::Planned,
        "copying" => TableState::Copying,
        "captured" if unheard => TableState::Loading,
        _ => TableState::Unknown,
    };
    let eta_s = captured
        .expected_at
        .map(|at| at.ms_since(now).div_ceil(1_000));
    Table {
        state,
        since: captured.since.filter(|_| state != TableState::Unknown),
        copy: (state != TableState::Unknown).then_some(TableCopy {
            rows_read: captured.rows,
            rows_loaded: unheard.then_some(0),
            rows_estimated: captured.rows_estimated,
            eta_s,
        }),
        reason: captured
            .notice
            .as_ref()
            .map(|why| format!("its copy {why}")),
        ..named(&captured.table)
    }
}

fn add_projected(table: &mut Table, projected: &ProjectedReading, rows_read: Option<u64>) {
    table.target = Some(projected.name.clone());
    table.quarantined = projected.quarantined;
    let left_out = matches!(table.state, TableState::NotCaptured | TableState::SetAside);
    if !left_out {
        table.state = projected.state;
        table.since = projected.since;
        table.reason = projected.reason.clone().or(table.reason.take());
    }
    if let Some(loaded) = &projected.copy {
        let copy = table.copy.get_or_insert_with(TableCopy::default);
        copy.rows_read = rows_read;
        copy.rows_loaded = loaded.rows;
        copy.rows_estimated = copy.rows_estimated.or(loaded.rows_estimated);
    }
}

/// Rule 4.
fn load(
    copy: &mut TableCopy,
    table: &str,
    loaded: &LoadedReading,
    meters: &mut Meters,
    readings: &Readings,
) {
    let counter = format!("loaded {table}");
    let rate = meters.rate(&counter, readings.moment.mono_ms, loaded.rows);
    let left = copy
        .rows_estimated
        .zip(loaded.rows)
        .map(|(all, loaded)| all.saturating_sub(loaded));
    let loading = left
        .zip(rate.filter(|rate| *rate > 0.0))
        .map(|(left, rate)| (left as f64 / rate).ceil() as u64);
    copy.eta_s = copy.eta_s.max(loading);
}

/// Rule 4, of copies that nobody has begun.
fn expect_planned(
    tables: &mut BTreeMap<String, Table>,
    capture: Option<&CaptureReading>,
    meters: &mut Meters,
    now_ms: u64,
) {
    let read = capture.map(|capture| capture.tables.iter().filter_map(|one| one.rows).sum());
    let rate = meters.rate("rows read", now_ms, read);
    let Some(rate) = rate.filter(|rate| *rate > 0.0) else {
        return;
    };
    let copies = || tables.values().filter_map(|table| table.copy.as_ref());
    let left: u64 = copies()
        .filter_map(|copy| Some(copy.rows_estimated?.saturating_sub(copy.rows_read?)))
        .sum();
    let all_s = (left as f64 / rate).ceil() as u64;
    let planned = tables.values_mut().filter_map(|table| table.copy.as_mut());
    for copy in planned.filter(|copy| copy.rows_read == Some(0)) {
        copy.eta_s = copy.eta_s.or(Some(all_s));
    }
}
