//! One verdict from all that is known, and one sentence that tells a person whether the marts are right and fresh, and
//! if not, why.

use crate::status::{Basis, Projection, Verdict, Verify};

use super::parts::Trouble;

/// Tables that a sentence names.
const NAMES_MAX: usize = 2;

/// The worst of all, and the sentence about it; what is next worst is told behind it.
pub(super) fn overall(
    projections: &[Projection],
    parts: Vec<Trouble>,
    verify: Option<&Verify>,
) -> (Verdict, String) {
    let mut all: Vec<Trouble> = different(verify).into_iter().chain(parts).collect();
    all.push(of_projections(projections));
    // Stable: of two as bad the one whose cause is nearer comes first.
    all.sort_by_key(|one| std::cmp::Reverse(rank(one)));
    let Some((first, rest)) = all.split_first() else {
        return (Verdict::Unknown, "Unknown".to_owned());
    };
    let begin = capitalised(&first.in_words());
    let sentence = match rest.first() {
        Some(next) if next.verdict == first.verdict => format!("{begin}; {}", next.sentence),
        Some(next) => format!("{begin}; otherwise {}", next.in_words()),
        None => begin,
    };
    (first.verdict, sentence)
}

/// Worst last. What is certain outranks what is not known: often it is why that is not known. That a part aside is not
/// known is outranked by a pipeline that is known to be late, too.
fn rank(trouble: &Trouble) -> usize {
    const RANKS: [(Verdict, bool); 9] = [
        (Verdict::Ok, false),
        (Verdict::CatchingUp, false),
        (Verdict::Unknown, true),
        (Verdict::FallingBehind, false),
        (Verdict::Unknown, false),
        (Verdict::Stalled, false),
        (Verdict::Stopped, false),
        (Verdict::Rewound, false),
        (Verdict::Different, false),
    ];
    let is_aside = trouble.is_aside && trouble.verdict == Verdict::Unknown;
    let ranked = (trouble.verdict, is_aside);
    let found = RANKS.iter().position(|rank| *rank == ranked);
    found.unwrap_or(RANKS.len())
}

impl Trouble {
    fn in_words(&self) -> String {
        format!("{}: {}", self.verdict.words(), self.sentence)
    }
}

/// A difference that is known.
fn different(verify: Option<&Verify>) -> Option<Trouble> {
    let verify = verify.filter(|verify| verify.equal == Some(false))?;
    let tables = verify.tables.iter().filter(|table| !table.equal);
    let names: Vec<&str> = tables.map(|table| table.name.as_str()).collect();
    let at = verify
        .at
        .map_or(String::new(), |at| format!(" at {}", at.in_words()));
    let count = match verify.differences_total() {
        1 => "1 difference".to_owned(),
        many => format!("{many} differences"),
    };
    Some(Trouble {
        verdict: Verdict::Different,
        sentence: format!("verify found {count} in {}{at}", listed(&names)),
        is_aside: false,
    })
}

fn listed(names: &[&str]) -> String {
    match names.split_at_checked(NAMES_MAX) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{} and {} more", first.join(", "), rest.len())
        }
        _ => names.join(" and "),
    }
}

fn of_projections(projections: &[Projection]) -> Trouble {
    let worst = projections.iter().map(|p| p.verdict).max();
    let worst = worst.unwrap_or(Verdict::Unknown);
    Trouble {
        verdict: worst,
        sentence: match worst {
            Verdict::Ok => fresh(projections),
            _ => trouble(projections, worst),
        },
        is_aside: false,
    }
}

fn fresh(projections: &[Projection]) -> String {
    let who = all(projections.len());
    let longest = projections.iter().filter_map(|p| p.lag.total_ms).max();
    match longest.filter(|ms| *ms > 0) {
        Some(ms) => format!("{who} within {}", duration(ms)),
        None => format!("{who} caught up"),
    }
}

fn trouble(projections: &[Projection], worst: Verdict) -> String {
    let affected: Vec<&Projection> = projections
        .iter()
        .filter(|projection| projection.verdict == worst)
        .collect();
    let Some(first) = affected.first() else {
        return "no projection is known".to_owned();
    };
    let mut sentence = match affected.len() {
        1 => first.name.clone(),
        many if many == projections.len() => all(many),
        many => format!("{} and {} more", first.name, many - 1),
    };
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
