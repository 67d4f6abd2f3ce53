use super::*;

fn column(name: &str, kind: Kind) -> Column {
    Column {
        source: name.into(),
        name: name.into(),
        key: false,
        kind,
        policy: crate::replica::Policy::Stop,
    }
}

fn answer(bucket: &str, rows: &str, one: &str, other: &str) -> [Option<String>; 4] {
    [bucket, rows, one, other].map(|text| Some(text.to_owned()))
}

fn sums(answers: &[[Option<String>; 4]]) -> Sums {
    let mut sums = Sums::default();
    for answer in answers {
        sums.add(answer).expect("an answer");
    }
    sums
}

#[test]
fn a_row_is_the_digest_of_its_columns_texts() {
    let columns = [column("id", Kind::Int), column("a`\"b", Kind::VarChar(9))];
    let types = ["integer", "character varying(9)"];
    let sides = digest(columns.iter().zip(types), std::iter::empty());
    assert!(
        sides
            .source
            .starts_with("encode(sha256(convert_to(concat_ws(',', coalesce(t.\"id\"::text, '-'), "),
        "{}",
        sides.source
    );
    assert!(sides.source.contains("t.\"a`\"\"b\""), "{}", sides.source);
    assert!(
        sides
            .replica
            .starts_with("SHA2(concat_ws(',', IFNULL(t.`id`, '-'), IF(t.`a``\"b` IS NULL"),
        "{}",
        sides.replica
    );
}

#[test]
fn no_call_has_more_arguments_than_postgres_allows() {
    for (count, calls) in [(1, 1), (90, 1), (91, 3), (1_017, 13)] {
        let texts = vec!["x".to_owned(); count];
        let text = joined(&texts);
        assert_eq!(text.matches("concat_ws").count(), calls, "{count} columns");
        assert_eq!(text.matches('x').count(), count);
    }
}

#[test]
fn text_types_are_told_from_those_that_only_print_as_text() {
    assert!(is_text("text") && is_text("character varying(20)") && is_text("character varying"));
    for other in [
        "character(3)",
        "bpchar",
        "jsonb",
        "text[]",
        "public.text",
        "citext",
    ] {
        assert!(!is_text(other), "{other}");
    }
}

#[test]
fn sums_do_not_depend_on_how_the_rows_were_split() {
    let whole = sums(&[answer("a", "3", "60", "7"), answer("b", "1", "5", "5")]);
    let mut split = sums(&[answer("a", "1", "50", "3")]);
    split.extend(&sums(&[
        answer("b", "1", "5", "5"),
        answer("a", "2", "10", "4"),
    ]));
    assert_eq!(split, whole);
    assert_eq!(split.differing(&whole), Vec::<String>::new());
    assert_eq!(split.rows(), 4);
}

#[test]
fn a_bucket_differs_by_its_rows_or_a_sum_or_by_being_on_one_side_only() {
    let one = sums(&[
        answer("a", "1", "1", "1"),
        answer("b", "1", "1", "1"),
        answer("c", "1", "1", "1"),
        answer("d", "1", "1", "1"),
    ]);
    let other = sums(&[
        answer("a", "1", "1", "1"),
        answer("b", "2", "1", "1"),
        answer("c", "1", "1", "2"),
        answer("e", "1", "1", "1"),
    ]);
    assert_eq!(one.differing(&other), ["b", "c", "d", "e"]);
    assert_eq!(other.differing(&one), ["b", "c", "d", "e"]);
}

#[test]
fn sums_beyond_64_bits_are_kept_exactly() {
    let large = "1152921504606846975000000000";
    let one = sums(&[answer("", "9", large, "0")]);
    let other = sums(&[answer("", "9", "1152921504606846975000000001", "0")]);
    assert_eq!(one.differing(&other), [""]);
}

#[test]
fn an_empty_range_has_no_buckets_whatever_the_server_says() {
    let nothing = [Some(String::new()), Some("0".into()), None, None];
    assert_eq!(sums(&[nothing]), Sums::default());
    assert!(Sums::default().add(&[None, None]).is_none());
}

#[test]
fn the_rows_of_some_buckets_are_chosen_by_the_start_of_their_digest() {
    let buckets = ["0a".to_owned(), "ff".to_owned()];
    assert_eq!(in_buckets("d", &buckets), "left(d, 2) IN ('0a', 'ff')");
    assert_eq!(in_buckets("d", &[String::new()]), "1 = 1");
}
