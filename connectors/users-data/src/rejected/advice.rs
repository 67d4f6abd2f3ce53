//! What would have been valid in place of a rejected event. Pure; shows no values of the event.

use millrace_sm_user_event::{self as user_event, RejectReason};

const EXAMPLE: &str = r#"{"first_name":"Ada","last_name":"Lovelace","email":"ada@example.org","phone":"1","registration_date":"2026-01-02 03:04:05","loyalty_status":"Gold"}"#;

/// What to send instead, for people who look at many rejections of one reason in one field.
pub(crate) fn valid(reason: RejectReason, field: Option<&str>, bytes_max: usize) -> String {
    let the_field = || field.unwrap_or("a field").to_owned();
    match reason {
        RejectReason::Oversized => {
            format!("an event of at most {bytes_max} bytes (MILLRACE_USER_EVENT_BYTES_MAX)")
        }
        RejectReason::MalformedJson => format!("one JSON object in UTF-8, such as {EXAMPLE}"),
        RejectReason::NotAnObject => format!("one JSON object per record, such as {EXAMPLE}"),
        RejectReason::MissingField => format!("an event that has the field {}", the_field()),
        RejectReason::NotText => format!("{} that is a JSON string, in quotes", the_field()),
        RejectReason::Empty => format!("{} with at least one visible character", the_field()),
        RejectReason::TooLong => too_long(field),
        RejectReason::ControlCharacter => {
            format!("{} without line breaks, tabs and other control characters", the_field())
        }
        RejectReason::BadEmail => {
            "an address such as ada@example.org: one @, no blanks or invisible characters, a domain with a dot"
                .to_owned()
        }
        RejectReason::BadDate => {
            "2026-01-02, 2026-01-02 03:04:05 or 2026-01-02T03:04:05.000006+02:00, in the years 1000 to 9999; without \
             an offset (Z, +02, +0200, +02:00) it is UTC"
                .to_owned()
        }
        RejectReason::UnknownLoyaltyStatus => "Gold, Silver or Bronze".to_owned(),
        RejectReason::Unreadable => {
            "the same event, once SmartModule user-event and ingest are of one version (`millrace init` registers it)"
                .to_owned()
        }
        RejectReason::RefusedByDatabase => {
            "values that the constraints and triggers of table users accept; or the same event, once those accept it"
                .to_owned()
        }
    }
}

fn too_long(field: Option<&str>) -> String {
    let known = user_event::CHARS_MAX
        .iter()
        .find(|(name, _)| Some(*name) == field);
    match known {
        Some((name, max)) => format!("{name} of at most {max} characters"),
        None => "a shorter text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_valid() {
        let event = user_event::validate(EXAMPLE.as_bytes(), user_event::BYTES_MAX_DEFAULT);
        assert!(
            matches!(event, user_event::UserEvent::User { .. }),
            "{event:?}"
        );
    }

    #[test]
    fn the_dates_that_are_called_valid_are() {
        let text = valid(RejectReason::BadDate, Some("registration_date"), 1);
        for date in [
            "2026-01-02",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05.000006+02:00",
        ] {
            assert!(text.contains(date), "{text}");
            let event = EXAMPLE.replace("2026-01-02 03:04:05", date);
            let event = user_event::validate(event.as_bytes(), user_event::BYTES_MAX_DEFAULT);
            assert!(
                matches!(event, user_event::UserEvent::User { .. }),
                "{date}"
            );
        }
    }

    #[test]
    fn the_limits_are_those_of_the_module() {
        let too_long = |field| valid(RejectReason::TooLong, Some(field), 1);
        assert_eq!(too_long("email"), "email of at most 255 characters");
        assert!(valid(RejectReason::Oversized, None, 77).contains("77 bytes"));
    }
}
