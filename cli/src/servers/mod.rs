//! Private database servers for `millrace up` and for the tests.
//!
//! [`PrivatePostgres`] and [`PrivateMySql`], two kinds of [`Private`] server, run a server of the machine's own installation on loopback, with data
//! in a folder of ours. The machine's own services and their data are never used, touched or looked at.
//!
//! - Starting is idempotent: the data is made in a temporary folder and renamed, so a kill half-way is harmless.
//! - A server that a killed process left behind is adopted if it still answers as asked, and stopped otherwise. It is
//!   ours only if its pid file, its start time and the folder that it works in are: a copied data directory holds
//!   the pid file of the original's server, which is neither adopted nor stopped.
//! - At most one server runs on a data folder; the lock lives as long as the handle, or as its process.
//! - Dropping a handle stops its server hard; [`stop`](Private::stop) does it cleanly, within a bound.
//! - Servers refuse to run as root, so for root they run under another account (see `home.rs`).

mod discover;
mod error;
mod home;
mod mysql;
mod patience;
mod place;
mod ports;
mod postgres;
mod private;
mod process;

pub use discover::{
    mysql as find_mysql, postgres as find_postgres, MySqlBinary, PostgresBinaries, Version,
};
pub use error::Error;
pub use home::{is_own_link, remove, ScratchDir};
pub use mysql::{MySqlOptions, PrivateMySql};
pub use ports::{check_free, free_ports};
pub use postgres::{PostgresOptions, PrivatePostgres};
pub use private::{Kind, Private};

/// Percent-encodes one part of a URL; everything but letters, digits and `-._~`.
fn url_part(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Names and passwords end up in SQL and option files: a control character there is a mistake, not a wish.
fn no_control_characters(what: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Error::BadOption { what });
    }
    Ok(())
}
