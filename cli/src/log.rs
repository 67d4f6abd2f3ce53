//! The form of the log.

use std::io::IsTerminal;

use crate::args::{Cli, LogFormat};
use crate::settings::table::MILLRACE_LOG_FORMAT;
use crate::settings::{Error, Settings};

/// What the flag says, else the settings.
///
/// # Errors
/// If a setting is wrong.
pub fn log_format(cli: &Cli) -> Result<LogFormat, Error> {
    Ok(Settings::of(cli)?.get(MILLRACE_LOG_FORMAT))
}

/// True if a terminal reads the log and its owner has not forbidden colours (<https://no-color.org>).
#[must_use]
pub fn log_in_colour() -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !forbidden
}
