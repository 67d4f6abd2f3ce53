//! The binary of millrace. Everything is in the library beside it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millrace_cli::args::{Cli, Command, LogFormat};
use millrace_control::in_words;
use tracing_subscriber::EnvFilter;

/// What still runs on a thread of its own when everything has ended, a SmartModule for example.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Logs go where talk goes. The Fluvio client logs what it retries by itself: only its errors
    // matter. `up` tells what happens in lines of its own.
    let default = match cli.command {
        Command::Up(_) => "warn,fluvio=error,fluvio_socket=off",
        _ => "warn,fluvio=error,fluvio_socket=off,millrace=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match millrace_cli::log_format(&cli) {
        Ok(LogFormat::Human) => log.init(),
        Ok(LogFormat::Json) => log.json().flatten_event(true).init(),
        Err(error) => {
            eprintln!("millrace: {}", in_words(error.as_ref()));
            return ExitCode::from(2);
        }
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("millrace: cannot start its threads: {error}");
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(run(cli));
    runtime.shutdown_timeout(LEAVE_WITHIN);
    code
}

async fn run(cli: Cli) -> ExitCode {
    match millrace_cli::run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace: {}", in_words(error.as_ref()));
            if let Some(code) = millrace_cli::code(&error) {
                eprintln!("millrace: see {code} in docs/errors");
            }
            ExitCode::from(2)
        }
    }
}
