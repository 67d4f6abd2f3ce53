//! Events of the topic `users-data`, as the SmartModule hands them to ingest, and what becomes of those that are
//! refused.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

/// What `user-event` makes of an event: normalised, or refused.
///
/// JSON: `{"kind":"user","user":{…}}` or `{"kind":"rejected","reason":"…","field":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum UserEvent {
    /// A user to store.
    User {
        /// Fits the columns of table `users`.
        user: User,
    },
    /// Not to be stored.
    Rejected(Rejection),
}

/// A user whose fields are trimmed, checked and within the lengths of the columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// 1 to 100 characters.
    pub first_name: String,
    /// 1 to 100 characters.
    pub last_name: String,
    /// Lower case, at most 255 characters; identifies the user.
    pub email: String,
    /// At most 50 characters.
    pub phone: Option<String>,
    /// UTC, in microseconds. JSON: `2026-01-02 03:04:05.000006`.
    #[serde(with = "timestamp")]
    pub registration_date: NaiveDateTime,
    /// The customer's standing.
    pub loyalty_status: LoyaltyStatus,
}

/// Column `users.loyalty_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoyaltyStatus {
    /// The few best customers.
    Gold,
    /// Regular customers.
    Silver,
    /// Everybody else.
    Bronze,
}

impl LoyaltyStatus {
    /// The text stored in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            LoyaltyStatus::Gold => "Gold",
            LoyaltyStatus::Silver => "Silver",
            LoyaltyStatus::Bronze => "Bronze",
        }
    }
}

/// Why an event is refused. It never holds values of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// What is wrong.
    pub reason: RejectReason,
    /// Where; nothing if it is the event as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What is wrong with a refused event. JSON: in `snake_case`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// More bytes than an event may have.
    Oversized,
    /// Not JSON.
    MalformedJson,
    /// JSON, but not an object.
    NotAnObject,
    /// A field is missing or null.
    MissingField,
    /// A field is not a string.
    NotText,
    /// A field holds nothing but white space.
    Empty,
    /// A field is longer than its column.
    TooLong,
    /// A field holds a control character.
    ControlCharacter,
    /// Not an email address.
    BadEmail,
    /// Not a date and time, or outside of the years 1000 to 9999.
    BadDate,
    /// None of the known loyalty statuses.
    UnknownLoyaltyStatus,
    /// The SmartModule handed over what ingest does not understand.
    Unreadable,
    /// The database refused it; the dead letter names SQLSTATE and constraint.
    RefusedByDatabase,
}

/// A refused event in the topic `users-data-rejected`, complete enough to be shown and retried.
///
/// It is acknowledged before ingest moves past the event, so that none is lost; after a kill in
/// between it is written again. (`topic`, `partition`, `offset`) tells such a duplicate, and is the
/// record's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEvent {
    /// Topic of the event.
    pub topic: String,
    /// Partition of the event.
    pub partition: u32,
    /// Offset of the event.
    pub offset: i64,
    /// When it was refused.
    pub at: DateTime<Utc>,
    /// Why it was refused.
    #[serde(flatten)]
    pub rejection: Rejection,
    /// SQLSTATE, where the database refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// Constraint of the database that it violates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// The event as it was sent; nothing if the topic no longer has it.
    pub original: Option<String>,
    /// `original` was cut to the limit of ingest.
    pub truncated: bool,
    /// The event was not UTF-8; `original` shows what is not as U+FFFD.
    pub lossy: bool,
}

impl RejectedEvent {
    /// Key of the record: the same for every copy of the same rejection.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

mod timestamp {
    use chrono::NaiveDateTime;
    use serde::{de, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        at: &NaiveDateTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&at.format("%Y-%m-%d %H:%M:%S%.6f"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<NaiveDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_event_comes_back_from_its_json() {
        let json = r#"{"kind":"user","user":{"first_name":"Ada","last_name":"Lovelace","email":"ada@example.org","phone":null,"registration_date":"2026-01-02 03:04:05.000006","loyalty_status":"Gold"}}"#;
        let event: UserEvent = serde_json::from_str(json).expect("JSON");
        assert_eq!(serde_json::to_string(&event).expect("JSON"), json);
    }

    #[test]
    fn a_rejected_event_is_one_flat_object() {
        let rejected = RejectedEvent {
            topic: "users-data".to_owned(),
            partition: 0,
            offset: 7,
            at: DateTime::UNIX_EPOCH,
            rejection: Rejection {
                reason: RejectReason::BadEmail,
                field: Some("email".to_owned()),
            },
            sqlstate: None,
            constraint: None,
            original: Some("{}".to_owned()),
            truncated: false,
            lossy: false,
        };
        let json = serde_json::to_string(&rejected).expect("JSON");
        assert_eq!(
            json,
            r#"{"topic":"users-data","partition":0,"offset":7,"at":"1970-01-01T00:00:00Z","reason":"bad_email","field":"email","original":"{}","truncated":false,"lossy":false}"#
        );
        assert_eq!(
            serde_json::from_str::<RejectedEvent>(&json).ok(),
            Some(rejected)
        );
    }
}
