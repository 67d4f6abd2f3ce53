//! One sentence that tells a person whether the marts are fresh, and if not, why.

use crate::status::{Basis, Hop, HopName, Projection, Verdict};

/// The worst of all, and the sentence about it.
pub(super) fn overall(projections: &[Projection], pipeline: &[Hop]) -> (Verdict, String) {
    let worst = projections.iter().map(|p| p.verdict).max();
    let worst = worst.unwrap_or(Verdict::Unknown);
    let slot = pipeline.iter().find(|hop| hop.hop == HopName::Slot);
    match slot.filter(|slot| slot.verdict == Verdict::Stopped && worst < Verdict::Stopped) {
        Some(slot) => (
            Verdict::Stopped,
            format!("Capture is stopped: {}", slot.detail),
        ),
        None if worst == Verdict::Ok => (worst, fresh(projections)),
        None => (worst, trouble(projections, worst)),
    }
}

fn fresh(projections: &[Projection]) -> String {
    let who = all(projections.len());
    let longest = projections.iter().filter_map(|p| p.lag.total_ms).max();
    match longest.filter(|ms| *ms > 0) {
        Some(ms) => format!("Fresh: {who} within {}", duration(ms)),
        None => format!("Fresh: {who} caught up"),
    }
}

fn trouble(projections: &[Projection], worst: Verdict) -> String {
    let affected: Vec<&Projection> = projections
        .iter()
        .filter(|projection| projection.verdict == worst)
        .collect();
    let Some(first) = affected.first() else {
        return "Unknown: no projection is known".to_owned();
    };
    let who = match affected.len() {
        1 => first.name.clone(),
        many if many == projections.len() => all(many),
        many => format!("{} and {} more", first.name, many - 1),
    };
    let mut sentence = format!("{}: {who}", capitalised(worst.words()));
    // A duration that only one part of the lag is known of would be too short.
    if let Some(ms) = first.lag.total_ms.filter(|ms| *ms > 0) {
        let most = match first.lag.basis {
            Some(Basis::Exact) | None => "",
            Some(Basis::Heartbeat | Basis::Wal) => "at most ",
        };
        sentence.push_str(&format!(", {most}{} behind", duration(ms)));
    }
    if let Some(eta_s) = first.eta_s {
        sentence.push_str(&format!(", there in about {}", duration(eta_s * 1_000)));
    }
    match &first.reason {
        Some(reason) if worst != Verdict::CatchingUp => format!("{sentence}: {reason}"),
        _ => sentence,
    }
}

fn all(count: usize) -> String {
    match count {
        1 => "the projection".to_owned(),
        count => format!("all {count} projections"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Rounded down to a unit that a person reads.
fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}
