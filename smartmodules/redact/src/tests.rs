use millrace_events::{Record, Row, Value};

use crate::{apply, error_record, Policy, PolicyError, Refusal};

const POLICY: &str = r#"{"source.users":{"user_id":"hash","email":"hash","phone":"null","last_name":"mask","first_name":"drop","age":"mask"}}"#;
const ROW: &str = r#"{"user_id":7,"first_name":"Secret1","last_name":"Secret2","email":"secret3@example.org","phone":"secret4","age":4711,"city":"Paris"}"#;
const SCHEMA: &str = r#"{"id":1,"table":"source.users","columns":[{"name":"user_id","type":"bigint","oid":20,"key":true},{"name":"first_name","type":"character varying(100)","oid":1043,"mod":104},{"name":"email","type":"character varying(255)","oid":1043,"mod":259},{"name":"phone","type":"text","oid":25}]}"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text, Some("salt")).expect("policy")
}

fn transaction() -> String {
    format!(
        r#"{{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05.000006Z","part":0,"last":true,"schemas":[{SCHEMA}],"changes":[{{"table":"source.users","op":"update","schema":1,"before":{ROW},"after":{ROW}}},{{"table":"source.cities","op":"insert","schema":2,"after":{{"first_name":"kept"}}}}]}}"#
    )
}

fn redacted(policy: &Policy, record: &str) -> Record {
    let bytes = apply(policy, record.as_bytes())
        .expect("a record")
        .expect("redacted");
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert!(
        !text.to_lowercase().contains("secret") && !text.contains("4711"),
        "{text}"
    );
    Record::decode(text.as_bytes()).expect("still a record")
}

fn assert_redacted(row: &Row) {
    let names: Vec<&str> = row.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["user_id", "last_name", "email", "phone", "age", "city"]
    );
    assert_eq!(row.get("last_name"), Some(&Value::Text("S***".into())));
    assert_eq!(row.get("phone"), Some(&Value::Null));
    assert_eq!(row.get("age"), Some(&Value::Text("***".into())));
    assert_eq!(row.get("city"), Some(&Value::Text("Paris".into())));
    // printf 'salt\0007' | sha256sum
    let hash = "62a5988ca00f84fa2d9b4330a83598f514922c9838418e130e462237c559a4be";
    assert_eq!(row.get("user_id"), Some(&Value::Text(hash.into())));
}

#[test]
fn rows_of_a_transaction_are_redacted_on_both_sides_and_other_tables_stay() {
    let Record::Transaction(part) = redacted(&policy(POLICY), &transaction()) else {
        panic!("another kind");
    };
    assert_redacted(part.changes[0].before.as_ref().expect("before"));
    assert_redacted(part.changes[0].after.as_ref().expect("after"));
    let city = part.changes[1].after.as_ref().expect("after");
    assert_eq!(city.get("first_name"), Some(&Value::Text("kept".into())));
}

#[test]
fn of_a_redacted_value_no_slice_is_left_and_nothing_that_depends_on_its_text() {
    let slice = |column: &str, text: &str| {
        format!(
            r#"{{"table":"source.users","column":"{column}","value":"1-1","slice":0,"text":"{text}"}}"#
        )
    };
    let sliced = r#"{"sliced":"1-1","slices":1,"bytes":9000000}"#;
    let columns = ["first_name", "last_name", "email", "phone"];
    let secrets = columns.map(|column| slice(column, "secret"));
    let values = columns.map(|column| format!(r#""{column}":{sliced}"#));
    let (slices, row) = (secrets.join(","), values.join(","));
    let city = slice("city", "Paris");
    let transaction = format!(
        r#"{{"kind":"transaction","epoch":1,"commit_lsn":"0/10","end_lsn":"0/20","prev":"0/10","xid":7,"at":"2026-01-02T03:04:05Z","part":0,"last":true,"slices":[{slices},{city}],"changes":[{{"table":"source.users","op":"insert","schema":1,"after":{{{row},"city":{sliced}}}}}]}}"#
    );
    let chunk = format!(
        r#"{{"kind":"chunk","epoch":1,"copy":1,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"5:5:","lsn":"0/10","schema":1,"slices":[{slices},{city}],"rows":[{{{row},"city":{sliced}}}]}}"#
    );
    for record in [transaction, chunk] {
        let (slices, row) = match redacted(&policy(POLICY), &record) {
            Record::Transaction(mut part) => (part.slices, part.changes.remove(0).after),
            Record::Chunk(mut chunk) => (chunk.slices, Some(chunk.rows.remove(0))),
            _ => panic!("another kind"),
        };
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].column, "city");
        let row = row.expect("a row");
        assert_eq!(row.get("first_name"), None);
        assert_eq!(row.get("last_name"), Some(&Value::Text("***".into())));
        assert_eq!(row.get("email"), Some(&Value::Null));
        assert_eq!(row.get("phone"), Some(&Value::Null));
        assert!(matches!(row.get("city"), Some(Value::Sliced(_))));
    }
}

#[test]
fn definitions_follow_the_policy() {
    let Record::Transaction(part) = redacted(&policy(POLICY), &transaction()) else {
        panic!("another kind");
    };
    let shape = part.schemas[0].columns.iter();
    let shape: Vec<_> = shape
        .map(|c| (c.name.as_str(), c.type_name.as_str(), c.type_mod, c.key))
        .collect();
    assert_eq!(
        shape,
        [
            ("user_id", "text", -1, true),
            ("email", "text", -1, false),
            ("phone", "text", -1, false)
        ]
    );
}

#[test]
fn chunks_their_definitions_and_their_keys_are_redacted() {
    let chunk = format!(
        r#"{{"kind":"chunk","epoch":1,"copy":1,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"5:5:","lsn":"0/10","schema":1,"rows":[{ROW}]}}"#
    );
    let Record::Chunk(chunk) = redacted(&policy(POLICY), &chunk) else {
        panic!("another kind");
    };
    assert_redacted(&chunk.rows[0]);
    let copy = format!(
        r#"{{"kind":"copy","epoch":1,"copy":1,"lsn":"0/10","topic":"t","tables":[{{"definition":{SCHEMA},"estimated_rows":7}}],"at":"2026-01-02T03:04:05Z"}}"#
    );
    let Record::Copy(copy) = redacted(&policy(POLICY), &copy) else {
        panic!("another kind");
    };
    let columns = copy.tables[0].definition.columns.iter();
    let names: Vec<_> = columns.map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["user_id", "email", "phone"]);
    let plan =
        r#"{"kind":"plan","epoch":1,"copy":1,"table":"source.users","chunk":1,"up_to":["4711"]}"#;
    let Record::Plan(plan) = redacted(&policy(POLICY), plan) else {
        panic!("another kind");
    };
    assert_eq!(plan.up_to, None);
}

#[test]
fn equal_values_have_equal_hashes_and_another_salt_gives_others() {
    let id = |salt: &str| {
        let policy = Policy::parse(POLICY, Some(salt)).expect("policy");
        let Record::Transaction(part) = redacted(&policy, &transaction()) else {
            panic!("another kind");
        };
        part.changes[0]
            .after
            .as_ref()
            .expect("after")
            .get("user_id")
            .cloned()
    };
    assert_eq!(id("salt"), id("salt"));
    assert_ne!(id("salt"), id("pepper"));
}

#[test]
fn null_stays_null_and_short_text_is_masked_whole() {
    let policy = policy(r#"{"source.users":{"a":"hash","b":"mask","c":"mask","d":"mask"}}"#);
    let chunk = r#"{"kind":"chunk","epoch":1,"copy":1,"table":"source.users","chunk":1,"piece":0,"last":true,"visible":"5:5:","lsn":"0/10","schema":1,"rows":[{"a":null,"b":null,"c":"Bob","d":"Übel"}]}"#;
    let Record::Chunk(chunk) = redacted(&policy, chunk) else {
        panic!("another kind");
    };
    let row: Vec<_> = chunk.rows[0]
        .0
        .iter()
        .map(|(_, value)| value.clone())
        .collect();
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(row, [Value::Null, Value::Null, text("***"), text("Ü***")]);
}

#[test]
fn keys_may_only_be_hashed() {
    for action in ["drop", "null", "mask"] {
        let policy = policy(&format!(r#"{{"source.users":{{"user_id":"{action}"}}}}"#));
        assert_eq!(apply(&policy, transaction().as_bytes()), Err(Refusal::Key));
    }
}

#[test]
fn what_cannot_be_redacted_comes_out_as_an_error_without_its_values() {
    for broken in [
        "secret",
        r#"{"kind":"secret"}"#,
        r#"{"kind":"transaction","xid":"secret"}"#,
    ] {
        let refusal = apply(&policy(POLICY), broken.as_bytes()).expect_err(broken);
        let record = String::from_utf8(error_record(9, &refusal)).expect("UTF-8");
        assert!(
            record.contains(r#""offset":9"#) && !record.contains("secret"),
            "{record}"
        );
    }
}

#[test]
fn records_without_rows_pass() {
    let start = r#"{"kind":"start","epoch":1,"at":"2026-01-02T03:04:05Z"}"#;
    assert_eq!(apply(&policy(POLICY), start.as_bytes()), Ok(None));
}

#[test]
fn what_is_no_policy_is_refused_and_the_salt_is_never_shown() {
    let error = |text: &str| Policy::parse(text, None).map(|_| ()).expect_err(text);
    assert_eq!(error("[]"), PolicyError::Shape);
    assert_eq!(error(r#"{"source.users":"hash"}"#), PolicyError::Shape);
    let key = PolicyError::Key("users".into());
    assert_eq!(error(r#"{"users":{"email":"null"}}"#), key);
    let unknown = PolicyError::Action("source.users".into(), "email".into());
    assert_eq!(error(r#"{"source.users":{"email":"encrypt"}}"#), unknown);
    assert_eq!(error(POLICY), PolicyError::Salt);
    assert!(!format!("{:?}", Policy::parse(POLICY, Some("s3cret"))).contains("s3cret"));
}
