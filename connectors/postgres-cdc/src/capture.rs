//! The service: session after session, until it is told to stop or a person is needed.

use std::time::Duration;

use millrace_control::{in_words, Running};
use millrace_sessions::postgres::replication::STREAM_SILENCE_MIN;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::copy::{Request, Requests};
use crate::log_scan::LogScan;
use crate::receive::MESSAGES_MAX;
use crate::session::Session;
use crate::source::Source;
use crate::status::{Handle, Reporter, State};
use crate::{preflight, Config, Error};

/// A session that lasted this long has proved that things work: the delay starts small again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Captures one database into one topic.
pub struct Capture {
    config: Config,
    source: Source,
    reporter: Reporter,
    handle: Handle,
    requests: mpsc::Receiver<Request>,
}

impl Capture {
    /// Checks the configuration; connects to nothing.
    pub fn new(config: Config) -> Result<Self, Error> {
        preflight::check_config(&config)?;
        let source = Source::new(&config)?;
        // Beside those that are sent, a few wait to be encoded.
        let pending_max = config.in_flight_records_max + 2 * MESSAGES_MAX;
        let (sender, requests) = Requests::new();
        let (reporter, handle) = Reporter::new(pending_max, sender);
        Ok(Capture {
            config,
            source,
            reporter,
            handle,
            requests,
        })
    }

    /// Watches this capture.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Captures until `shutdown`, or until an error that trying again cannot help.
    ///
    /// It may be dropped at any instant: the next run continues from what the topic holds.
    pub fn run(self, shutdown: CancellationToken) -> Running<Error> {
        Box::pin(self.run_until(shutdown))
    }

    async fn run_until(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let result = tokio::select! {
            _ = shutdown.cancelled() => Ok(()),
            error = self.sessions() => Err(error),
        };
        self.reporter.state(State::Stopped);
        result
    }

    async fn sessions(&mut self) -> Error {
        let mut scan = LogScan::default();
        let mut delay = self.config.backoff_min;
        let (mut silence_max, mut renews_slot) = (STREAM_SILENCE_MIN, false);
        loop {
            let started = tokio::time::Instant::now();
            self.reporter.tries();
            let session = Session {
                config: &self.config,
                source: &self.source,
                reporter: &self.reporter,
                silence_max,
                renews_slot,
            };
            let Err(error) = session.run(&mut scan, &mut self.requests).await else {
                continue;
            };
            if !error.is_transient() {
                self.reporter.ends(text(&error));
                return error;
            }
            renews_slot = matches!(error, Error::SlotUnreadable { .. });
            if let Error::Replication(error) = &error {
                silence_max = error.next_silence_max(silence_max);
            }
            if started.elapsed() > HEALTHY_AFTER {
                delay = self.config.backoff_min;
            }
            let pause = delay.mul_f64(rand::random_range(0.5..1.0));
            self.reporter.waits(text(&error), pause);
            tokio::time::sleep(pause).await;
            delay = (delay * 2).min(self.config.backoff_max);
        }
    }
}

fn text(error: &Error) -> String {
    match error.code() {
        Some(code) => format!("{code}: {}", in_words(error)),
        None => in_words(error),
    }
}
