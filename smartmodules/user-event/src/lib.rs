//! SmartModule `user-event`: validates and normalises an event of `users-data`, or turns it into a
//! rejection with its reason. One record in, one record out; it never fails, and a reason never
//! holds values of the event. What it says is read by ingest, through this crate's library.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

mod date;
mod event;
mod field;
#[cfg_attr(target_arch = "wasm32", allow(unsafe_code, unreachable_pub))]
mod shim;
#[cfg(test)]
mod tests;
mod visible;

use serde_json::Value;

use crate::field::Fields;
pub use event::{LoyaltyStatus, RejectReason, RejectedEvent, Rejection, User, UserEvent};

/// Events beyond this many bytes are refused unread, where parameter `max_bytes` says nothing else:
/// several times what all columns can hold.
pub const BYTES_MAX_DEFAULT: usize = 16 * 1024;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Characters that the fields of a user may have, as their columns have it.
pub const CHARS_MAX: [(&str, usize); 6] = [
    ("first_name", 100),
    ("last_name", 100),
    ("email", 255),
    ("phone", 50),
    ("registration_date", field::DATE_CHARS_MAX),
    ("loyalty_status", field::STATUS_CHARS_MAX),
];

/// What ingest gets to see in place of the event.
pub fn validate(event: &[u8], bytes_max: usize) -> UserEvent {
    match read(event, bytes_max) {
        Ok(user) => UserEvent::User { user },
        Err(rejection) => UserEvent::Rejected(rejection),
    }
}

fn read(event: &[u8], bytes_max: usize) -> Result<User, Rejection> {
    let whole = |reason| Rejection {
        reason,
        field: None,
    };
    if event.len() > bytes_max {
        return Err(whole(RejectReason::Oversized));
    }
    // Programs of some systems put a byte order mark before UTF-8; JSON does not allow it and says nothing by it.
    let event = event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event);
    let event: Value =
        serde_json::from_slice(event).map_err(|_| whole(RejectReason::MalformedJson))?;
    let Value::Object(event) = event else {
        return Err(whole(RejectReason::NotAnObject));
    };
    let fields = Fields(&event);
    Ok(User {
        first_name: fields.text("first_name", 100)?,
        last_name: fields.text("last_name", 100)?,
        email: fields.email("email", 255)?,
        phone: fields.optional_text("phone", 50)?,
        registration_date: fields.date("registration_date")?,
        loyalty_status: fields.loyalty_status("loyalty_status")?,
    })
}
