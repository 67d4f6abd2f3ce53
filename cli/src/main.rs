//! The binary of millrace. Everything is in the library beside it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millrace_cli::args::{Cli, Command, LogFormat};
use millrace_cli::output;
use millrace_control::in_words;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What still runs on a thread of its own when everything has ended, a SmartModule for example.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether results have been read.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Last words are given up after this, where nobody reads them.
const READ_WITHIN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    output::adopt_panics();
    let code = work(Cli::parse());
    output::stderr().flush(READ_WITHIN);
    code
}

fn work(cli: Cli) -> ExitCode {
    let wanted = wanted(&cli.command);
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(millrace_cli::log_in_colour())
        .with_writer(output::stderr().clone());
    match millrace_cli::log_format(&cli) {
        Ok(LogFormat::Human) => log.finish().with(wanted).init(),
        Ok(LogFormat::Json) => {
            output::stderr().report_in_json();
            log.json().flatten_event(true).finish().with(wanted).init();
        }
        Err(error) => {
            output::tell(format!("millrace: {}", in_words(&error)));
            return ExitCode::from(2);
        }
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::tell(format!("millrace: cannot start its threads: {error}"));
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(run(cli));
    runtime.shutdown_timeout(LEAVE_WITHIN);
    code
}

/// What is logged: as `RUST_LOG` says (`warn,millrace=debug`), or by default. Logs go where talk goes. The Fluvio client
/// logs what it retries by itself: only its errors matter. `up` tells what happens in lines of its own.
fn wanted(command: &Command) -> Targets {
    let said = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    said.unwrap_or_else(|| {
        let quiet = Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("fluvio", LevelFilter::ERROR)
            .with_target("fluvio_socket", LevelFilter::OFF);
        match command {
            Command::Up(_) => quiet,
            _ => quiet.with_target("millrace", LevelFilter::INFO),
        }
    })
}

async fn run(cli: Cli) -> ExitCode {
    let outcome = millrace_cli::run(cli).await;
    read_results().await;
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::tell(format!("millrace: {}", in_words(error.as_ref())));
            if let Some(code) = millrace_cli::code(&error) {
                output::tell(format!("millrace: see {code} in docs/errors"));
            }
            ExitCode::from(2)
        }
    }
}

/// Results are waited for as long as somebody reads them, in a pager for example, but not against a signal.
async fn read_results() {
    if output::stdout().flush(Duration::ZERO) {
        return;
    }
    let Ok(interrupted) = millrace_cli::shutdown_on_signal() else {
        return;
    };
    while !output::stdout().flush(Duration::ZERO) && !interrupted.is_cancelled() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
