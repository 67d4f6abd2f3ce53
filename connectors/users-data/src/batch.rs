//! What the events of one transaction amount to.

use std::collections::HashMap;

use millrace_sm_user_event::{RejectReason, Rejection, User, UserEvent};

/// A record of the topic behind the SmartModule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) offset: i64,
    pub(crate) value: Vec<u8>,
}

/// Events in the order of the topic, without gap.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: usize,
    pub(crate) users: Vec<(i64, User)>,
    pub(crate) rejected: Vec<Refused>,
}

/// An event that is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) offset: i64,
    pub(crate) rejection: Rejection,
    pub(crate) sqlstate: Option<String>,
    pub(crate) constraint: Option<String>,
}

impl Batch {
    pub(crate) fn read(events: &[Event]) -> Batch {
        let mut batch = Batch {
            events: events.len(),
            ..Batch::default()
        };
        for Event { offset, value } in events {
            match serde_json::from_slice(value) {
                Ok(UserEvent::User { user }) => batch.users.push((*offset, user)),
                Ok(UserEvent::Rejected(rejection)) => batch.reject(*offset, rejection),
                Err(_) => batch.reject(
                    *offset,
                    Rejection {
                        reason: RejectReason::Unreadable,
                        field: None,
                    },
                ),
            }
        }
        batch
    }

    fn reject(&mut self, offset: i64, rejection: Rejection) {
        self.rejected.push(Refused {
            offset,
            rejection,
            sqlstate: None,
            constraint: None,
        });
    }
}

/// The last user of each email. One statement must not write a row twice.
pub(crate) fn last_of_each(users: &[(i64, User)]) -> Vec<&User> {
    let mut place = HashMap::new();
    let mut last: Vec<&User> = Vec::with_capacity(users.len());
    for (_, user) in users {
        match place.get(user.email.as_str()) {
            Some(index) => last[*index] = user,
            None => {
                place.insert(user.email.as_str(), last.len());
                last.push(user);
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(email: &str, first_name: &str) -> Vec<u8> {
        format!(
            r#"{{"kind":"user","user":{{"first_name":"{first_name}","last_name":"L","email":"{email}","phone":null,"registration_date":"2026-01-02 03:04:05.000000","loyalty_status":"Gold"}}}}"#
        )
        .into_bytes()
    }

    fn batch(values: &[Vec<u8>]) -> Batch {
        let events = (7..).zip(values);
        let events: Vec<Event> = events
            .map(|(offset, value)| Event {
                offset,
                value: value.clone(),
            })
            .collect();
        Batch::read(&events)
    }

    #[test]
    fn users_and_rejections_keep_their_offsets() {
        let rejected = br#"{"kind":"rejected","reason":"bad_email","field":"email"}"#;
        let batch = batch(&[
            user("a@x.org", "A"),
            rejected.to_vec(),
            b"surprise".to_vec(),
        ]);
        assert_eq!((batch.events, batch.users[0].0), (3, 7));
        let reasons: Vec<_> = batch
            .rejected
            .iter()
            .map(|one| (one.offset, one.rejection.reason))
            .collect();
        assert_eq!(
            reasons,
            [(8, RejectReason::BadEmail), (9, RejectReason::Unreadable)]
        );
    }

    #[test]
    fn the_last_of_two_users_with_one_email_wins() {
        let batch = batch(&[
            user("a@x.org", "A"),
            user("b@x.org", "B"),
            user("a@x.org", "C"),
        ]);
        let names: Vec<_> = last_of_each(&batch.users)
            .into_iter()
            .map(|user| user.first_name.as_str())
            .collect();
        assert_eq!(names, ["C", "B"]);
        assert_eq!(batch.users.len(), 3);
    }
}
