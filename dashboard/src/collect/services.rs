//! The services' control APIs, over HTTP.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::Deserialize;

use crate::config::Config;
use crate::status::Rejected;

use super::limit::ANSWER_WITHIN;
use super::{CaptureReading, IngestReading, ProjectorReading};

/// An action may take so long: a pause waits for a commit, a retry for the broker.
const ACTION_WITHIN: Duration = Duration::from_secs(55);
/// Longer answers are refused. A rejected record holds at most a message of the broker.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which control API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Projector,
    Capture,
    Ingest,
}

/// Speaks with all of them. Cheap to clone; connections are kept.
#[derive(Clone)]
pub(crate) struct Services {
    client: Client,
    token: String,
    projector: String,
    capture: String,
    ingest: String,
}

/// An answer to be passed on.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

#[derive(Deserialize)]
struct Counts {
    counts: Rejected,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

impl Services {
    pub(crate) fn new(config: &Config) -> Services {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(ANSWER_WITHIN)
            .build()
            // Fails only if TLS cannot be set up, and there is none.
            .unwrap_or_default();
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        Services {
            client,
            token: config.control_token.clone(),
            projector: plain(&config.sources.projector),
            capture: plain(&config.sources.capture),
            ingest: plain(&config.sources.ingest),
        }
    }

    pub(super) async fn projector(&self) -> Result<ProjectorReading, String> {
        self.json(Which::Projector, "/status").await
    }

    pub(super) async fn capture(&self) -> Result<CaptureReading, String> {
        self.json(Which::Capture, "/status").await
    }

    /// False where there is no ingest to be asked.
    pub(super) fn has_ingest(&self) -> bool {
        !self.ingest.is_empty()
    }

    pub(super) async fn ingest(&self) -> Result<IngestReading, String> {
        self.json(Which::Ingest, "/status").await
    }

    pub(super) async fn rejected(&self) -> Result<Rejected, String> {
        let page: Counts = self.json(Which::Ingest, "/rejected?limit=1").await?;
        Ok(page.counts)
    }

    /// True once the projector has applied everything up to `lsn`, false if it did not in time.
    pub(crate) async fn wait(&self, lsn: &str, timeout: Duration) -> Result<bool, String> {
        let seconds = timeout.as_secs().max(1);
        let path = format!("/wait?lsn={}&timeout_s={seconds}", lsn.replace('/', "%2F"));
        let limit = timeout + ACTION_WITHIN;
        let answer = self
            .send(Method::GET, Which::Projector, &path, limit)
            .await?;
        match answer.status {
            200 => Ok(true),
            504 => Ok(false),
            _ => Err(refusal(&answer)),
        }
    }

    /// Sends a request on, and brings the answer back as it is.
    pub(crate) async fn forward(
        &self,
        method: Method,
        which: Which,
        path: &str,
    ) -> Result<Forwarded, String> {
        self.send(method, which, path, ACTION_WITHIN).await
    }

    async fn json<T: DeserializeOwned>(&self, which: Which, path: &str) -> Result<T, String> {
        let answer = self.send(Method::GET, which, path, ANSWER_WITHIN).await?;
        if answer.status != StatusCode::OK.as_u16() {
            return Err(refusal(&answer));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| format!("its answer is not understood: {error}"))
    }

    async fn send(
        &self,
        method: Method,
        which: Which,
        path: &str,
        timeout: Duration,
    ) -> Result<Forwarded, String> {
        let base = self.base(which);
        if base.is_empty() {
            return Err("its control API is not configured".to_owned());
        }
        let mut response = self
            .client
            .request(method, format!("{base}{path}"))
            .bearer_auth(&self.token)
            .timeout(timeout)
            .send()
            .await
            .map_err(failure)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("its answer is too long".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Forwarded { status, body })
    }

    fn base(&self, which: Which) -> &str {
        match which {
            Which::Projector => &self.projector,
            Which::Capture => &self.capture,
            Which::Ingest => &self.ingest,
        }
    }
}

/// Without the URL, and in words: "connection refused" says more than "error sending request".
fn failure(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    format!("does not answer: {deepest}")
}

fn refusal(answer: &Forwarded) -> String {
    let said = serde_json::from_slice::<Problem>(&answer.body).map(|problem| problem.error);
    match said {
        Ok(said) => format!("answered {}: {said}", answer.status),
        Err(_) => format!("answered {}", answer.status),
    }
}
