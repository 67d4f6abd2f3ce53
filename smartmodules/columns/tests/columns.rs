//! What `columns` keeps and drops, record by record and against a model that parses.

mod model;

use millrace_events::Record;
use millrace_sm_columns::{apply, error_record, Plan, Refusal};
use proptest::prelude::*;

const TRANSACTION: &str = r#"{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","part":0,"last":true,"schemas":[{"id":1,"table":"source.users","columns":[{"name":"user_id","type":"integer","oid":23,"key":true},{"name":"email","type":"text","oid":25},{"name":"phone","type":"text","oid":25}]},{"id":2,"table":"source.orders","columns":[{"name":"order_id","type":"integer","oid":23,"key":true}]}],"changes":[{"table":"source.orders","op":"delete","schema":2,"before":{"order_id":1}},{"table":"source.users","op":"insert","schema":1,"after":{"user_id":1,"email":"a, \"b\" {c}","phone":null}},{"table":"source.orders","op":"truncate","schema":2}]}"#;

fn cut(plan: &str, record: &str) -> Result<Option<String>, Refusal> {
    let plan = Plan::parse(plan).expect("plan");
    let kept = apply(&plan, record.as_bytes())?;
    Ok(kept.map(|bytes| String::from_utf8(bytes).expect("UTF-8 stays UTF-8")))
}

#[test]
fn tables_and_columns_outside_the_plan_fall_and_the_rest_stays_byte_for_byte() {
    let kept = cut(r#"{"source.users":["email","user_id"]}"#, TRANSACTION).expect("scan");
    let expected = r#"{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","part":0,"last":true,"schemas":[{"id":1,"table":"source.users","columns":[{"name":"user_id","type":"integer","oid":23,"key":true},{"name":"email","type":"text","oid":25}]}],"changes":[{"table":"source.users","op":"insert","schema":1,"after":{"user_id":1,"email":"a, \"b\" {c}"}}]}"#;
    assert_eq!(kept.as_deref(), Some(expected));
}

#[test]
fn a_transaction_of_unwanted_tables_stays_a_record_so_that_the_chain_holds() {
    let kept = cut("{}", TRANSACTION).expect("scan").expect("cut");
    assert!(kept.ends_with(r#""schemas":[],"changes":[]}"#), "{kept}");
    Record::decode(kept.as_bytes()).expect("still a record");
}

#[test]
fn a_record_of_which_nothing_falls_is_passed_on_as_it_is() {
    let all = r#"{"source.users":"*","source.orders":["order_id"]}"#;
    assert_eq!(cut(all, TRANSACTION), Ok(None));
    for passing in [
        r#"{"kind":"start","epoch":1,"at":"2026-01-02T03:04:05Z"}"#,
        r#"{"kind":"progress","epoch":1,"prev":"0/1","end_lsn":"0/2","at":"2026-01-02T03:04:05Z"}"#,
        r#"{"kind":"plan","epoch":1,"copy":1,"table":"source.users","chunk":1,"up_to":["7"]}"#,
        r#"{"kind":"from a newer millrace"}"#,
    ] {
        assert_eq!(cut("{}", passing), Ok(None));
    }
}

#[test]
fn a_plan_without_a_key_column_is_refused() {
    assert_eq!(
        cut(r#"{"source.users":["email"]}"#, TRANSACTION),
        Err(Refusal::Key)
    );
    let delete = r#"{"kind":"transaction","changes":[{"table":"source.users","op":"delete","schema":1,"before":{"user_id":1}}]}"#;
    assert_eq!(
        cut(r#"{"source.users":["email"]}"#, delete),
        Err(Refusal::EmptyRow)
    );
}

#[test]
fn rows_of_an_unwanted_table_stay_countable() {
    let rows = r#"{"kind":"chunk","epoch":1,"copy":1,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"5:5:","lsn":"0/1","schema":1,"rows":[{"user_id":1},{"user_id":2}]}"#;
    let kept = cut("{}", rows).expect("scan").expect("cut");
    assert!(kept.ends_with(r#""rows":[{},{}]}"#), "{kept}");
    let Ok(Record::Chunk(chunk)) = Record::decode(kept.as_bytes()) else {
        panic!("{kept}");
    };
    assert_eq!(chunk.rows.len(), 2);
}

#[test]
fn what_is_no_record_is_refused_without_showing_it() {
    for broken in [
        "",
        "secret",
        "{",
        "[]",
        "{}",
        "\"secret\"",
        r#"{"kind":1}"#,
        r#"{"kind":"transaction""#,
        r#"{"kind":"transaction","changes":[{"op":"secret"}]}"#,
        r#"{"kind":"transaction","changes":"secret"}"#,
        r#"{"kind":"transaction","changes":[{"table":"source.users","after":{"secret":1,}}]}"#,
        r#"{"kind":"transaction","ch\u0061nges":[]}"#,
        r#"{"kind":"transaction","changes":[]} secret"#,
    ] {
        let refusal = cut(r#"{"source.users":["user_id"]}"#, broken).expect_err(broken);
        let record = error_record(42, &refusal);
        assert!(!record.contains("secret"), "{record}");
        let value: serde_json::Value = serde_json::from_str(&record).expect("JSON");
        assert_eq!(
            (&value["kind"], &value["offset"]),
            (&"error".into(), &42.into())
        );
        assert!(
            Record::decode(record.as_bytes()).is_err(),
            "no reader takes it for a record"
        );
    }
}

#[test]
fn text_that_is_no_plan_is_refused() {
    for (text, shown) in [
        ("", "JSON object"),
        ("[]", "JSON object"),
        (r#"{"users":"*"}"#, "\"users\", which is no table"),
        (r#"{"source.users":1}"#, "\"source.users\""),
        (r#"{"source.users":"all"}"#, "\"source.users\""),
        (r#"{"source.users":["a",1]}"#, "\"source.users\""),
    ] {
        let error = Plan::parse(text).expect_err(text);
        assert!(error.to_string().contains(shown), "{error}");
    }
}

#[test]
fn names_with_escapes_are_compared_as_names() {
    let record = r#"{"kind":"transaction","changes":[{"table":"s.\"we\"\"ird\"","op":"insert","schema":1,"after":{"k":1,"a\\b":2,"\u0063":3,"d\"":4}}]}"#;
    let kept = cut(r#"{"s.\"we\"\"ird\"":["k","a\\b","c"]}"#, record).expect("scan");
    assert!(kept
        .expect("cut")
        .ends_with(r#""after":{"k":1,"a\\b":2,"\u0063":3}}]}"#));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn scanning_equals_parsing(record in model::record(), plan in model::plan(), spaced in any::<bool>()) {
        let compact = record.encode();
        let bytes = if spaced { model::with_white_space(&compact) } else { compact };
        let scanned = apply(&Plan::parse(&plan.to_string()).expect("plan"), &bytes);
        match model::apply(&plan, record.clone()) {
            None => prop_assert!(matches!(scanned, Err(Refusal::Key | Refusal::EmptyRow)), "{:?}", scanned),
            Some(expected) if expected == record => prop_assert_eq!(scanned, Ok(None)),
            Some(expected) => {
                let kept = scanned.expect("scan").expect("something falls");
                prop_assert_eq!(Record::decode(&kept).expect("a record"), expected);
            }
        }
    }

    #[test]
    fn broken_bytes_never_panic_and_never_grow(record in model::record(), plan in model::plan(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let plan = Plan::parse(&plan.to_string()).expect("plan");
        if let Ok(Some(kept)) = apply(&plan, &bytes) {
            prop_assert!(kept.len() < bytes.len());
        }
    }
}
