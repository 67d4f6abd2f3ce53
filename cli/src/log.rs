//! The form of the log.

use anyhow::bail;

use crate::args::{Cli, LogFormat};
use crate::settings::Settings;

/// What the flag says, else the settings.
///
/// # Errors
/// If the settings cannot be read, or name no form.
pub fn log_format(cli: &Cli) -> anyhow::Result<LogFormat> {
    if let Some(format) = cli.log_format {
        return Ok(format);
    }
    let settings = Settings::load(cli.env_file.as_deref())?;
    match settings.text("MILLRACE_LOG_FORMAT") {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        other => bail!("MILLRACE_LOG_FORMAT = {other:?}: expected human or json"),
    }
}
