//! The projector's control API, as a client: hold, stop before an LSN, release.

use std::time::Duration;

use millrace_events::Lsn;
use reqwest::RequestBuilder;
use serde::Deserialize;

use super::{By, Config, Error, Finding};

/// Time that an answer may take beyond the time that was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// The projector answers by then whether MySQL has taken what was found.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

/// A projector that can be told to hold.
#[derive(Clone)]
pub(super) struct Projector {
    client: reqwest::Client,
    url: String,
    token: String,
}

/// The projector stands still until this is released or dropped.
pub(super) struct Held {
    projector: Projector,
    id: u64,
    over: bool,
}

#[derive(Deserialize)]
struct Hold {
    id: u64,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

impl Projector {
    pub(super) fn new(config: &Config) -> Result<Projector, Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(GRACE)
            .build()
            .map_err(|error| Error::Projector(error.to_string()))?;
        Ok(Projector {
            client,
            url: config.control_url.trim_end_matches('/').to_owned(),
            token: config.control_token.clone(),
        })
    }

    /// Returns when the projector stands still between two commits. Whoever stops waiting for that leaves no hold behind: it
    /// is taken to its end, and released.
    pub(super) async fn hold(&self, by: By, timeout: Duration) -> Result<Held, Error> {
        let projector = self.clone();
        let asked = tokio::spawn(async move { projector.ask_to_hold(by, timeout).await });
        asked
            .await
            .map_err(|error| Error::Projector(error.to_string()))?
    }

    async fn ask_to_hold(&self, by: By, timeout: Duration) -> Result<Held, Error> {
        let by = match by {
            By::Person => "person",
            By::Period => "period",
        };
        let path = format!("/hold?timeout_s={}&by={by}", seconds(timeout));
        let body = self.post(&path, timeout).await?;
        let hold: Hold = serde_json::from_str(&body)
            .map_err(|_| Error::Projector("unexpected answer to a hold".into()))?;
        Ok(Held {
            projector: self.clone(),
            id: hold.id,
            over: false,
        })
    }

    /// Lets the projector keep what was found.
    pub(super) async fn found(&self, finding: &Finding) -> Result<(), Error> {
        let request = self.request("/verified", WRITTEN_WITHIN).json(finding);
        self.send(request).await.map(|_| ())
    }

    async fn post(&self, path: &str, timeout: Duration) -> Result<String, Error> {
        self.send(self.request(path, timeout)).await
    }

    fn request(&self, path: &str, timeout: Duration) -> RequestBuilder {
        self.client
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .timeout(timeout + GRACE)
    }

    async fn send(&self, request: RequestBuilder) -> Result<String, Error> {
        let failed = |error: reqwest::Error| Error::Projector(error.without_url().to_string());
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.text().await.map_err(failed)?;
        if status.is_success() {
            Ok(body)
        } else {
            let problem: Option<Problem> = serde_json::from_str(&body).ok();
            let error = problem.map_or_else(|| body.trim().to_owned(), |problem| problem.error);
            Err(Error::Projector(format!("{status}: {error}")))
        }
    }
}

impl Held {
    /// Lets the projector apply exactly the commits before `lsn`; returns when it has.
    pub(super) async fn stop_before(&self, lsn: Lsn, timeout: Duration) -> Result<(), Error> {
        let path = format!(
            "/stop-before?id={}&lsn={lsn}&timeout_s={}",
            self.id,
            seconds(timeout)
        );
        self.projector.post(&path, timeout).await.map(|_| ())
    }

    /// Lets the projector go on. An error if the hold had ended by itself before.
    pub(super) async fn release(mut self) -> Result<(), Error> {
        let released = self
            .projector
            .post(&self.path_of_release(), Duration::ZERO)
            .await;
        self.over = true;
        released.map(|_| ())
    }

    fn path_of_release(&self) -> String {
        format!("/release?id={}", self.id)
    }
}

/// Whoever is interrupted still releases: on a thread of its own, because the runtime may be ending.
impl Drop for Held {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (projector, path) = (self.projector.clone(), self.path_of_release());
        let released = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                // A client of its own: the old one's connections belong to the old runtime.
                let projector = Projector {
                    client: reqwest::Client::new(),
                    ..projector
                };
                let _ = runtime.block_on(projector.post(&path, Duration::ZERO));
            }
        });
        let _ = released.join();
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}
