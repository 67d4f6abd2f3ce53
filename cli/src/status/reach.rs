//! How far back a topic goes, in words.

use millrace_dashboard::status::Reach;

use super::text::{bytes, UNKNOWN};

/// One line: what it has, when it is full, and who holds it.
pub(super) fn words(reach: &Reach) -> String {
    let back = span(reach.reach_s);
    let mut words = format!("goes back {back}");
    words += &match (reach.size_removes_in_s, reach.at_rate_s) {
        (Some(0), Some(full)) => {
            format!("; its size removes records now, after {}", span(Some(full)))
        }
        (Some(left), Some(full)) => format!(
            "; at this rate {} are full in {}, and then it goes back {}",
            bytes(reach.retention_bytes),
            span(Some(left)),
            span(Some(full))
        ),
        (None, Some(full)) => format!(
            "; nothing is written, so it is kept for {}",
            span(Some(full))
        ),
        (_, None) => format!("; for how long is {UNKNOWN}"),
    };
    if let Some(by) = &reach.held_by {
        words += &format!(
            "; kept beyond its retention for {}, which is at offset {}",
            by.consumer, by.offset
        );
    }
    words
}

fn span(seconds: Option<u64>) -> String {
    match seconds {
        None => UNKNOWN.to_owned(),
        Some(s @ 0..120) => format!("{s} s"),
        Some(s @ 120..7_200) => format!("{} min", s / 60),
        Some(s @ 7_200..172_800) => format!("{} h", s / 3_600),
        Some(s) => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use millrace_dashboard::status::HeldBy;

    use super::*;

    #[test]
    fn what_is_known_is_said_and_what_is_not_is_unknown() {
        assert_eq!(
            words(&Reach::default()),
            "goes back unknown; for how long is unknown"
        );
        let reach = Reach {
            reach_s: Some(3 * 3_600),
            retention_bytes: Some(32 << 30),
            size_removes_in_s: Some(5 * 86_400),
            at_rate_s: Some(6 * 86_400),
            ..Reach::default()
        };
        assert_eq!(
            words(&reach),
            "goes back 3 h; at this rate 32.0 GiB are full in 5 days, and then it goes back 6 days"
        );
        let idle = Reach {
            size_removes_in_s: None,
            ..reach.clone()
        };
        assert!(
            words(&idle).contains("nothing is written"),
            "{}",
            words(&idle)
        );
        let held = Reach {
            size_removes_in_s: Some(0),
            held_by: Some(HeldBy {
                consumer: "millrace-projector".into(),
                offset: 7,
            }),
            ..reach
        };
        assert_eq!(
            words(&held),
            "goes back 3 h; its size removes records now, after 6 days; kept beyond its retention for \
             millrace-projector, which is at offset 7"
        );
    }
}
