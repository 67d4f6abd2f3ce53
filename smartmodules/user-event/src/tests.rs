use crate::event::{LoyaltyStatus, RejectReason, User, UserEvent};
use proptest::prelude::*;
use serde_json::{json, Value};

use crate::{validate, BYTES_MAX_DEFAULT};

fn event() -> Value {
    json!({
        "first_name": " Ada ", "last_name": "Lovelace", "email": " Ada.Lovelace@Example.ORG ",
        "phone": "+44 20 7946 0000", "registration_date": "2026-01-02T03:04:05Z",
        "loyalty_status": "gold", "unknown": [1, 2]
    })
}

fn with(field: &str, value: Value) -> UserEvent {
    let mut event = event();
    event[field] = value;
    validate(event.to_string().as_bytes(), BYTES_MAX_DEFAULT)
}

fn user(event: UserEvent) -> User {
    match event {
        UserEvent::User { user } => user,
        UserEvent::Rejected(rejection) => panic!("{rejection:?}"),
    }
}

#[track_caller]
fn assert_rejected(event: UserEvent, reason: RejectReason, field: Option<&str>) {
    let UserEvent::Rejected(rejection) = event else {
        panic!("accepted: {event:?}");
    };
    assert_eq!(
        (rejection.reason, rejection.field.as_deref()),
        (reason, field)
    );
}

#[test]
fn an_event_is_trimmed_and_normalised() {
    let user = user(validate(event().to_string().as_bytes(), BYTES_MAX_DEFAULT));
    assert_eq!(
        (user.first_name.as_str(), user.last_name.as_str()),
        ("Ada", "Lovelace")
    );
    assert_eq!(user.email, "ada.lovelace@example.org");
    assert_eq!(user.phone.as_deref(), Some("+44 20 7946 0000"));
    assert_eq!(user.registration_date.to_string(), "2026-01-02 03:04:05");
    assert_eq!(user.loyalty_status, LoyaltyStatus::Gold);
}

#[test]
fn dates_become_utc_in_microseconds() {
    for (text, expected) in [
        ("2026-01-02 03:04:05", "2026-01-02 03:04:05"),
        ("2026-01-02T03:04:05", "2026-01-02 03:04:05"),
        ("2026-01-02 03:04:05.5", "2026-01-02 03:04:05.500"),
        ("2026-01-02T03:04:05.123456", "2026-01-02 03:04:05.123456"),
        (
            "2026-01-02T03:04:05.123456789+02:00",
            "2026-01-02 01:04:05.123456",
        ),
        ("2026-01-02 03:04:05-05:30", "2026-01-02 08:34:05"),
        ("2026-01-02 03:04:05+02", "2026-01-02 01:04:05"),
        ("2026-01-02 03:04:05+0200", "2026-01-02 01:04:05"),
        ("2026-01-02T03:04:05-0000", "2026-01-02 03:04:05"),
        ("2026-01-02 03:04:05 +0200", "2026-01-02 01:04:05"),
        ("2026-01-02 03:04:05.25-01", "2026-01-02 04:04:05.250"),
        ("2026-01-02 03:04:05Z", "2026-01-02 03:04:05"),
        ("2026-01-02t03:04:05z", "2026-01-02 03:04:05"),
        ("2026-01-01 00:00:00+14", "2025-12-31 10:00:00"),
        ("2026-01-02", "2026-01-02 00:00:00"),
        ("2024-02-29", "2024-02-29 00:00:00"),
    ] {
        let date = user(with("registration_date", json!(text))).registration_date;
        assert_eq!(date.to_string(), expected, "{text}");
    }
}

#[test]
fn what_is_no_date_is_rejected() {
    for text in [
        "yesterday",
        "2026-13-02",
        "2025-02-29",
        "2026-01-02T",
        "2026-01-02Z",
        "2026-01-02 03",
        "2026-01-02 03:04",
        "2026-01-02 03:04:05+",
        "2026-01-02 03:04:05+2",
        "2026-01-02 03:04:05+020",
        "2026-01-02 03:04:05+24",
        "2026-01-02 03:04:05+02:60",
        "2026-01-02 03:04:05+02:000",
        "2026-01-02 03:04:05++2",
        "2026-01-02 03:04:05+ü",
        "2026-01-02 03:04:05 UTC",
        "2026-13-02 03:04:05",
        "2026-02-30 03:04:05",
        "2026-01-02 25:00:00",
        "2026-1-2 3:4:5",
        "+2026-01-02 03:04:05",
        "2026-01-02 03:04:05.",
        "2026-01-02 03:04:05 x",
        "2026-01-02 03:04:60",
        "0000-01-02 03:04:05",
        "0999-12-31 23:59:59",
        "9999-12-31T23:59:59-01:00",
        "2026-01-02 03:04:05.1234567890",
        "2026-01-02  03:04:05",
        "２026-01-02 03:04:05",
    ] {
        assert_rejected(
            with("registration_date", json!(text)),
            RejectReason::BadDate,
            Some("registration_date"),
        );
    }
}

#[test]
fn a_name_of_characters_that_nobody_sees_is_no_name() {
    let invisible = [
        "\u{200b}",
        "\u{200c}",
        "\u{200d}",
        "\u{2060}",
        "\u{feff}",
        "\u{ad}",
        "\u{34f}",
        "\u{61c}",
        "\u{115f}",
        "\u{180e}",
        "\u{202e}",
        "\u{2066}",
        "\u{2800}",
        "\u{3164}",
        "\u{fe0f}",
        "\u{ffa0}",
        "\u{fff9}",
        "\u{1d173}",
        "\u{e0001}",
        "\u{e0100}",
        "\u{a0}",
        "\u{2003}",
        "\u{3000}",
        "\u{2028}",
        " \u{200b}\u{a0}\u{200d} ",
    ];
    for field in ["first_name", "last_name", "phone"] {
        for text in invisible {
            assert_rejected(with(field, json!(text)), RejectReason::Empty, Some(field));
        }
    }
}

#[test]
fn invisible_characters_that_belong_to_a_name_stay_and_those_around_it_go() {
    // A Persian name with a zero-width non-joiner, and a Japanese one with a variation selector at its end.
    for name in ["\u{645}\u{6cc}\u{200c}\u{631}", "\u{845b}\u{e0100}"] {
        assert_eq!(user(with("first_name", json!(name))).first_name, name);
    }
    let around = "\u{feff}\u{200b} Ada\u{2060}\u{a0}";
    assert_eq!(user(with("first_name", json!(around))).first_name, "Ada");
}

#[test]
fn a_byte_order_mark_before_the_event_is_left_out() {
    let marked = |marks: usize| {
        let text = format!("{}{}", "\u{feff}".repeat(marks), event());
        validate(text.as_bytes(), BYTES_MAX_DEFAULT)
    };
    assert_eq!(marked(1), marked(0));
    user(marked(1));
    assert_rejected(marked(2), RejectReason::MalformedJson, None);
}

#[test]
fn what_is_no_email_is_rejected() {
    for text in [
        "ada",
        "@example.org",
        "ada@",
        "ada@example",
        "a@b@example.org",
        "ada @example.org",
        "ada@exa mple.org",
        "ada@.org",
        "ada@example..org",
        "ada@-example.org",
        "<ada@example.org>",
        "ada\u{200b}@example.org",
        "ada@exam\u{ad}ple.org",
        "ada@\u{3164}.org",
    ] {
        assert_rejected(
            with("email", json!(text)),
            RejectReason::BadEmail,
            Some("email"),
        );
    }
}

#[test]
fn each_required_field_is_required_and_text() {
    for field in [
        "first_name",
        "last_name",
        "email",
        "registration_date",
        "loyalty_status",
    ] {
        let mut missing = event();
        missing.as_object_mut().expect("object").remove(field);
        let missing = validate(missing.to_string().as_bytes(), BYTES_MAX_DEFAULT);
        assert_rejected(missing, RejectReason::MissingField, Some(field));
        assert_rejected(
            with(field, Value::Null),
            RejectReason::MissingField,
            Some(field),
        );
        assert_rejected(with(field, json!(5)), RejectReason::NotText, Some(field));
        assert_rejected(with(field, json!("  ")), RejectReason::Empty, Some(field));
        assert_rejected(
            with(field, json!("a\u{0}b")),
            RejectReason::ControlCharacter,
            Some(field),
        );
    }
    assert_eq!(user(with("phone", Value::Null)).phone, None);
}

#[test]
fn fields_end_at_the_length_of_their_column() {
    for (field, chars) in [("first_name", 100), ("last_name", 100), ("phone", 50)] {
        user(with(field, json!("ü".repeat(chars))));
        assert_rejected(
            with(field, json!("ü".repeat(chars + 1))),
            RejectReason::TooLong,
            Some(field),
        );
    }
    let email = |chars: usize| json!(format!("{}@example.org", "a".repeat(chars - 12)));
    user(with("email", email(255)));
    assert_rejected(
        with("email", email(256)),
        RejectReason::TooLong,
        Some("email"),
    );
}

#[test]
fn an_unknown_loyalty_status_is_rejected() {
    let field = "loyalty_status";
    assert_rejected(
        with(field, json!("Platinum")),
        RejectReason::UnknownLoyaltyStatus,
        Some(field),
    );
}

#[test]
fn the_event_as_a_whole_may_be_wrong() {
    for (bytes, reason) in [
        (&b""[..], RejectReason::MalformedJson),
        (b"{\"first_name\":", RejectReason::MalformedJson),
        (b"{\"a\":\"\xff\"}", RejectReason::MalformedJson),
        (b"[]", RejectReason::NotAnObject),
        (b"null", RejectReason::NotAnObject),
    ] {
        assert_rejected(validate(bytes, BYTES_MAX_DEFAULT), reason, None);
    }
    let deep = "[".repeat(10_000);
    assert_rejected(
        validate(deep.as_bytes(), BYTES_MAX_DEFAULT),
        RejectReason::MalformedJson,
        None,
    );
}

#[test]
fn an_oversized_event_is_rejected_unread() {
    let bytes = event().to_string();
    user(validate(bytes.as_bytes(), bytes.len()));
    assert_rejected(
        validate(bytes.as_bytes(), bytes.len() - 1),
        RejectReason::Oversized,
        None,
    );
}

proptest! {
    #[test]
    fn rejections_hold_no_values_and_accepted_users_pass_again(
        field in prop::sample::select(vec!["first_name", "last_name", "email", "phone", "registration_date", "loyalty_status"]),
        text in "[#-~ü@. ]{0,120}",
    ) {
        match with(field, json!(text)) {
            UserEvent::User { user } => {
                let again = serde_json::to_vec(&user).expect("JSON");
                prop_assert_eq!(validate(&again, BYTES_MAX_DEFAULT), UserEvent::User { user });
            }
            rejected => {
                let shown = serde_json::to_string(&rejected).expect("JSON");
                prop_assert!(text.len() < 4 || !shown.contains(&text), "{}", shown);
            }
        }
    }
}
