//! What the services say is wrong beside the projections: a part that has ended, or does not do its work.

use millrace_control::Fault;

use crate::collect::{CaptureReading, IngestReading, Readings};
use crate::status::{Answer, Hop, HopName, PartDown, Table, TableState, Verdict};

/// Something that is not well, in words for the headline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) verdict: Verdict,
    pub(super) sentence: String,
    /// It is about a part from which nothing follows for the projections: that it is not known leaves theirs known.
    pub(super) is_aside: bool,
}

/// What is wrong with capture, with ingest, with the parts that cannot say so themselves, and with single tables. Whether
/// the projections are late is not said here.
pub(super) fn troubles(readings: &Readings, hops: &[Hop], tables: &[Table]) -> Vec<Trouble> {
    let capture = ended_capture(readings.capture.known()).or_else(|| slot(hops));
    let ingest = match &readings.ingest {
        None => None,
        Some(Answer::Known(ingest)) => failed_ingest(ingest),
        Some(Answer::Unknown(reason)) => Some(Trouble {
            verdict: Verdict::Unknown,
            sentence: format!("ingest: {reason}"),
            is_aside: true,
        }),
    };
    let others = readings.parts_down.iter().map(down);
    let all = capture.into_iter().chain(ingest).chain(others);
    all.chain(set_aside(tables)).collect()
}

/// Tables that no longer move, in one sentence: the list of tables says why of each.
fn set_aside(tables: &[Table]) -> Option<Trouble> {
    let mut aside = tables
        .iter()
        .filter(|table| table.state == TableState::SetAside);
    let first = aside.next()?;
    let others = match aside.count() {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    // What to do about it stands in the list, where there is room.
    let reason = first
        .reason
        .as_deref()
        .and_then(|reason| reason.split("; ").next());
    let reason = reason.unwrap_or("no reason is known");
    Some(Trouble {
        verdict: Verdict::Stopped,
        sentence: format!("table {} is set aside{others}: {reason}", first.name),
        is_aside: true,
    })
}

/// The first sentence: the others, which say more of it and what to do, stand where there is room.
fn in_short(fault: &Fault) -> String {
    let text = fault.to_string();
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].to_owned()
}

fn down(part: &PartDown) -> Trouble {
    let PartDown {
        name,
        fault,
        outlook,
        ..
    } = part;
    Trouble {
        verdict: Verdict::Stopped,
        sentence: format!("{name} is down: {}; {outlook}", in_short(fault)),
        is_aside: true,
    }
}

fn ended_capture(capture: Option<&CaptureReading>) -> Option<Trouble> {
    let capture = capture?;
    let fault = capture.last_error.as_ref();
    match capture.state.as_str() {
        "stopped" | "failed" => Some(ended("capture", false, fault)),
        "void" => Some(void(fault)),
        _ => None,
    }
}

/// Nobody reads Postgres, for a reason that capture does not say.
fn slot(hops: &[Hop]) -> Option<Trouble> {
    let slot = hops.iter().find(|hop| hop.hop == HopName::Slot);
    let slot = slot.filter(|slot| slot.verdict == Verdict::Stopped)?;
    Some(Trouble {
        verdict: Verdict::Stopped,
        sentence: format!("capture: {}", slot.detail),
        is_aside: false,
    })
}

fn failed_ingest(ingest: &IngestReading) -> Option<Trouble> {
    match (ingest.state.as_str(), &ingest.last_error) {
        ("stopped" | "failed", fault) => Some(ended("ingest", true, fault.as_ref())),
        ("connecting", Some(fault)) => Some(Trouble {
            verdict: Verdict::FallingBehind,
            sentence: format!("ingest tries again: {}", in_short(fault)),
            is_aside: true,
        }),
        _ => None,
    }
}

/// It looks again by itself, but nothing comes of that as a rule.
fn void(fault: Option<&Fault>) -> Trouble {
    let why = fault.map_or(String::new(), |fault| format!(": {}", in_short(fault)));
    Trouble {
        verdict: Verdict::Stopped,
        sentence: format!("capture cannot go on{why}"),
        is_aside: false,
    }
}

fn ended(part: &str, is_aside: bool, fault: Option<&Fault>) -> Trouble {
    let why = fault.map_or(String::new(), |fault| format!(": {}", in_short(fault)));
    Trouble {
        verdict: Verdict::Stopped,
        sentence: format!("{part} has ended{why}"),
        is_aside,
    }
}
