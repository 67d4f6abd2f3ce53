use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A snapshot anywhere in the space of 64-bit numbers, its borders close to a wraparound of the low 32 bits as often as
/// not, and the set of numbers that it does not see.
fn snapshot() -> impl Strategy<Value = (Visibility, BTreeSet<u64>)> {
    let xmin = prop_oneof![
        3u64..1 << 40,
        (1u64..1 << 20, 0u64..200).prop_map(|(round, before)| (round << 32) - before.min(100)),
        (1u64..1 << 20, 0u64..200).prop_map(|(round, after)| (round << 32) + after),
    ];
    let running = prop::collection::btree_set(0u64..200, 0..20);
    (xmin, 0u64..200, running).prop_map(|(xmin, width, running)| {
        let xmax = xmin + width;
        let running: BTreeSet<u64> = running
            .into_iter()
            .map(|ahead| xmin + ahead)
            .filter(|xid| *xid < xmax)
            .collect();
        let visibility = Visibility {
            xmin,
            xmax,
            running: running.iter().copied().collect(),
        };
        (visibility, running)
    })
}

/// As `pg_visible_in_snapshot()` decides, on whole numbers.
fn expected(visibility: &Visibility, running: &BTreeSet<u64>, xid: u64) -> bool {
    xid < visibility.xmin || (xid < visibility.xmax && !running.contains(&xid))
}

fn parsed(text: &str) -> Visibility {
    text.parse().expect(text)
}

proptest! {
    #[test]
    fn low_bits_decide_as_whole_numbers_do_up_to_half_the_circle((visibility, running) in snapshot(), near in -300i64..300, far in -(1i64 << 31)..1i64 << 31) {
        for distance in [near, far] {
            let Some(xid) = visibility.xmin.checked_add_signed(distance) else { continue };
            prop_assert_eq!(visibility.sees(Xid(xid as u32)), expected(&visibility, &running, xid));
        }
    }

    #[test]
    fn text_reads_back((visibility, _) in snapshot()) {
        prop_assert_eq!(parsed(&visibility.to_string()), visibility.clone());
        let json = serde_json::to_string(&visibility).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Visibility>(&json).expect("reads"), visibility);
    }

    /// Snapshots of one copy are close to each other.
    #[test]
    fn both_see_what_each_sees((one, _) in snapshot(), shift in 0u64..150, width in 0u64..150, running in prop::collection::btree_set(0u64..150, 0..20), near in -50i64..400) {
        let xmin = one.xmin + shift;
        let listed = running.into_iter().filter(|ahead| *ahead < width).map(|ahead| xmin + ahead);
        let other = Visibility { xmin, xmax: xmin + width, running: listed.collect() };
        let both = one.both(&other);
        prop_assert!(both.is_valid());
        prop_assert_eq!(&both, &other.both(&one));
        let more = one.xmin.saturating_sub(5)..other.xmax.max(one.xmax) + 5;
        let all = more.into_iter().all(|xid| !other.sees(Xid(xid as u32)) || one.sees(Xid(xid as u32)));
        prop_assert_eq!(one.sees_all_of(&other), all);
        prop_assert!(one.sees_all_of(&both) && other.sees_all_of(&both));
        let Some(xid) = one.xmin.checked_add_signed(near) else { return Ok(()) };
        let xid = Xid(xid as u32);
        prop_assert_eq!(both.sees(xid), one.sees(xid) && other.sees(xid));
    }
}

#[test]
fn a_transaction_of_the_round_before_is_seen_and_of_the_next_one_is_not() {
    // xmin is 3 below the wraparound, xmax 10 behind it.
    let visibility = parsed("8589934589:8589934602:8589934589,8589934595");
    for (xid, seen) in [
        (u32::MAX - 3, true),
        (u32::MAX - 2, false),
        (u32::MAX - 1, true),
        (2, true),
        (3, false),
        (9, true),
        (10, false),
        (1 << 30, false),
        (u32::MAX - (1 << 30), true),
    ] {
        assert_eq!(visibility.sees(Xid(xid)), seen, "{xid}");
    }
}

#[test]
fn text_that_is_no_snapshot_is_refused_and_shown() {
    for text in [
        "",
        "1",
        "1:2",
        ":2:",
        "1::",
        "0:1:",
        "1:5:5",
        "1:5:0",
        "1:5:3,2",
        "1:5:2,2",
        "1:5:2,",
        "+1:5:",
        "1:5:2 ",
        "1:18446744073709551615:",
    ] {
        let error = text.parse::<Visibility>().expect_err(text);
        assert!(error.to_string().contains(&format!("{text:?}")));
    }
    assert_eq!(parsed("700:699:"), parsed("700:700:"));
    assert!(parsed("700:700:").sees(Xid(699)));
    assert!(!parsed("700:700:").sees(Xid(700)));
}
