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
use crate::status::{Handle, Reporter};
use crate::{preflight, Config, Error};

/// A session that lasted this long has proved that things work: the delay starts small again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

const NOT_NOW: &str =
    "capture does not follow the stream of Postgres now, and tries again by itself; see `millrace status`";

/// For so long it is tried to begin the log again where what is in the way passes by itself, such as a deadlock.
const ASKED_FOR: Duration = Duration::from_secs(20);

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
        self.reporter.stopped();
        result
    }

    async fn sessions(&mut self) -> Error {
        let mut scan = LogScan::default();
        let mut delay = self.config.backoff_min;
        let (mut silence_max, mut renews_slot) = (STREAM_SILENCE_MIN, false);
        let mut again = None;
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
            let run = session.run(&mut scan, &mut self.requests, &mut again);
            let Err(error) = run.await else {
                continue;
            };
            // Nothing has changed, then: the next attempt says again what is wrong with the log.
            let asked: Option<Request> = again.take();
            if !error.is_transient() && asked.is_none() {
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
            let is_void = error.voids_log() || asked.is_some();
            self.reporter.waits(text(&error), pause, is_void);
            again = match asked {
                Some(asked) if error.code().is_none() && asked.age() < ASKED_FOR => {
                    tokio::time::sleep(pause).await;
                    Some(asked)
                }
                asked => {
                    if let Some(asked) = asked {
                        asked.not_now(text(&error));
                    }
                    self.pause(pause, is_void).await
                }
            };
            delay = (delay * 2).min(self.config.backoff_max);
        }
    }

    /// Waits for the next attempt. A request to begin the log again ends the wait if the log cannot go on.
    async fn pause(&mut self, pause: Duration, is_void: bool) -> Option<Request> {
        let rest = tokio::time::sleep(pause);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => return None,
                Some(request) = self.requests.recv() => match request.begins_again() && is_void {
                    true => return Some(request),
                    false => request.not_now(NOT_NOW.to_owned()),
                },
            }
        }
    }
}

fn text(error: &Error) -> String {
    match error.code() {
        Some(code) => format!("{code}: {}", in_words(error)),
        None => in_words(error),
    }
}
