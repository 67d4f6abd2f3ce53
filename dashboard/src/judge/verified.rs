//! What is known from verifications: what the projector keeps, and what this page's own button has just found.

use crate::collect::{Answered, Button, FindingsReading, FoundReading};
use crate::status::{Periodic, Unfinished, Verified, Verify};

/// The newest answer of both, and what came after it. `None`: no verification is known.
pub(super) fn known(
    button: &Button,
    kept: Option<&FindingsReading>,
    periodic: Option<&Periodic>,
) -> Option<Verify> {
    let kept_answer = kept.and_then(|kept| kept.answered.as_ref());
    let kept_unfinished = kept.and_then(|kept| kept.unfinished.as_ref());
    let own = button.last.as_ref();
    let is_answer = |found: &&FoundReading| found.answer != Answered::Unfinished;
    let own_answer = own.filter(is_answer);
    let own_unfinished = own.filter(|found| !is_answer(found));
    let answer = newest(kept_answer, own_answer);
    let unfinished = newest(kept_unfinished, own_unfinished)
        .filter(|found| answer.is_none_or(|answer| answer.at < found.at));
    if answer.is_none() && unfinished.is_none() && periodic.is_none() && !button.running {
        return None;
    }
    let itself = periodic.is_some_and(|periodic| periodic.running_since.is_some());
    let verify = answer.map(answered).unwrap_or_default();
    let same = |found: &FoundReading| found.lsn == verify.lsn && verify.equal.is_some();
    let differences = own_answer.filter(|own| same(own));
    Some(Verify {
        running: button.running || itself,
        differences: differences.map_or_else(Vec::new, |_| button.differences.clone()),
        unfinished: unfinished.map(told),
        history: kept.map_or_else(Vec::new, |kept| kept.history.clone()),
        periodic: periodic.cloned(),
        ..verify
    })
}

fn newest<'a>(
    one: Option<&'a FoundReading>,
    other: Option<&'a FoundReading>,
) -> Option<&'a FoundReading> {
    one.into_iter().chain(other).max_by_key(|found| found.at)
}

fn answered(found: &FoundReading) -> Verify {
    let table = |table: &crate::collect::Compared| Verified {
        name: table.name.clone(),
        rows: table.rows,
        equal: table.differences == 0,
        differences: table.differences,
        quarantined: table.quarantined,
    };
    Verify {
        at: Some(found.at),
        lsn: found.lsn,
        equal: Some(found.answer == Answered::Equal),
        tables: found.tables.iter().map(table).collect(),
        not_live: found.not_live.clone(),
        ..Verify::default()
    }
}

fn told(found: &FoundReading) -> Unfinished {
    let not_live = || match found.not_live.as_slice() {
        [] => "it gave no reason".to_owned(),
        names => format!("not live: {}", names.join(", ")),
    };
    Unfinished {
        at: found.at,
        reason: found.error.clone().unwrap_or_else(not_live),
        not_live: found.not_live.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Compared;
    use crate::status::Time;

    fn found(answer: Answered, second: i64) -> FoundReading {
        FoundReading {
            at: Time::from_epoch_us(second * 1_000_000).expect("a time"),
            answer,
            lsn: Some(millrace_events::Lsn(16)),
            tables: vec![Compared {
                name: "orders".into(),
                rows: 3,
                differences: u64::from(answer == Answered::Different),
                quarantined: 0,
            }],
            not_live: Vec::new(),
            error: None,
        }
    }

    fn button(last: Option<FoundReading>) -> Button {
        Button {
            running: false,
            last,
            differences: vec!["orders 5: status".into()],
        }
    }

    fn kept(answered: Option<FoundReading>, unfinished: Option<FoundReading>) -> FindingsReading {
        FindingsReading {
            answered,
            unfinished,
            history: Vec::new(),
        }
    }

    #[test]
    fn the_later_answer_counts_whoever_asked() {
        let here = button(Some(found(Answered::Different, 5)));
        let elsewhere = kept(Some(found(Answered::Equal, 9)), None);
        assert_eq!(
            known(&here, Some(&elsewhere), None).unwrap().equal,
            Some(true)
        );
        let earlier = kept(Some(found(Answered::Equal, 4)), None);
        let verify = known(&here, Some(&earlier), None).unwrap();
        assert_eq!((verify.equal, verify.differences_total()), (Some(false), 1));
        assert_eq!(verify.differences.len(), 1);
    }

    #[test]
    fn one_without_an_answer_takes_none_away_and_is_told() {
        let mut failed = found(Answered::Unfinished, 9);
        failed.error = Some("[MR-V003] no slot".into());
        let kept = kept(Some(found(Answered::Different, 5)), Some(failed));
        let verify = known(&button(None), Some(&kept), None).unwrap();
        assert_eq!(verify.equal, Some(false));
        assert_eq!(verify.unfinished.unwrap().reason, "[MR-V003] no slot");
    }

    #[test]
    fn nothing_is_known_before_the_first_one() {
        assert_eq!(known(&button(None), None, None), None);
        assert_eq!(known(&button(None), Some(&kept(None, None)), None), None);
    }

    #[test]
    fn one_that_the_projector_runs_by_itself_is_running_and_says_what_it_waits_for() {
        let mut periodic = Periodic {
            period_s: 300,
            next_at: None,
            running_since: Some(found(Answered::Equal, 9).at),
            waits_for: None,
        };
        let verify = known(&button(None), None, Some(&periodic)).unwrap();
        assert!(verify.running);
        periodic.running_since = None;
        periodic.waits_for = Some("pid 7".into());
        let verify = known(&button(None), None, Some(&periodic)).unwrap();
        assert_eq!((verify.running, verify.periodic), (false, Some(periodic)));
    }
}
