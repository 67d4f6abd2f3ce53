//! The binary of millrace. Everything is in the library beside it.

use std::process::ExitCode;

use clap::Parser;
use millrace_cli::args::Cli;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Logs go where talk goes. The Fluvio client logs what it retries by itself: only its errors matter.
    let default = "warn,fluvio=error,fluvio_socket=off,millrace=info";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match millrace_cli::run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            ExitCode::from(2)
        }
    }
}
