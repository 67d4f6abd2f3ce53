//! The control APIs of the services, as the command line uses them.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_events::Lsn;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::args::DATA_DIR;
use crate::endpoints::{Endpoints, Found};
use crate::output;
use crate::terminal::printable;

/// Time that an answer may take beyond the time that was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// Reading records and sending one again take that long at worst.
const ACTION: Duration = Duration::from_secs(60);

/// `up` starts ingest for the demonstration only: incoming users are the shop's.
pub(crate) const NO_INGEST: &str =
    "this deployment has no ingest; `millrace up --demo` runs one, or `millrace ingest` by itself";

/// A service said no: what was asked for makes no sense as things are.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

impl Refused {
    pub(crate) fn new(reason: impl Into<String>) -> Refused {
        Refused(reason.into())
    }
}

/// What came of a command. A refusal is an answer: it is told, and the exit code says no.
pub(crate) async fn told(
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    match command.await {
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => {
                output::tell(format!("millrace: {refused}"));
                Ok(ExitCode::from(1))
            }
            None => Err(error),
        },
        done => done,
    }
}

/// A service does not accept the token. The text says where the right one is found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TokenRefused(String);

/// One of the services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service<'a> {
    name: &'static str,
    url: &'a str,
    token: &'a str,
    found: &'a Found,
}

impl Endpoints {
    /// The projector.
    pub(crate) fn projector(&self) -> Service<'_> {
        Service {
            name: "the projector",
            url: &self.control,
            token: &self.control_token,
            found: &self.found,
        }
    }

    /// Capture.
    pub(crate) fn capture(&self) -> Service<'_> {
        Service {
            name: "capture",
            url: &self.capture_control,
            token: &self.control_token,
            found: &self.found,
        }
    }

    /// Ingest.
    ///
    /// # Errors
    /// If this deployment has none.
    pub(crate) fn ingest(&self) -> anyhow::Result<Service<'_>> {
        if self.ingest_control.is_empty() {
            bail!(NO_INGEST);
        }
        Ok(Service {
            name: "ingest",
            url: &self.ingest_control,
            token: &self.control_token,
            found: &self.found,
        })
    }
}

impl Service<'_> {
    /// What it answers.
    pub(crate) async fn get(self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path).await
    }

    /// Tells it to do something, and returns what it answers. [`Refused`] if it will not.
    pub(crate) async fn post(self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::POST, path).await
    }

    /// The same with something to say. [`Refused`] if it will not.
    pub(crate) async fn send(self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.request(Method::POST, path, ACTION, Some(body)).await?;
        match answer.status().is_success() {
            true => Ok(()),
            false => self.refused(answer).await,
        }
    }

    /// Fails if it refuses the token, and says then where the token is found. Whatever else is wrong shows later.
    pub(crate) async fn check_token(self) -> anyhow::Result<()> {
        match self.request(Method::GET, "/status", GRACE, None).await {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => self.refused(answer).await,
            _ => Ok(()),
        }
    }

    async fn ask(self, method: Method, path: &str) -> anyhow::Result<Value> {
        let answer = self.request(method, path, ACTION, None).await?;
        if !answer.status().is_success() {
            return self.refused(answer).await;
        }
        let name = self.name;
        let json = answer.json().await;
        json.with_context(|| format!("the answer of {name} is not understood"))
    }

    async fn request(
        self,
        method: Method,
        path: &str,
        timeout: Duration,
        body: Option<&Value>,
    ) -> anyhow::Result<reqwest::Response> {
        let mut request = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(GRACE)
            .build()?
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.token)
            .timeout(timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.with_context(|| self.silent())
    }

    fn silent(self) -> String {
        let (name, url) = (self.name, self.url);
        match self.found {
            Found::File(path) => format!("{name} does not answer at {url} (from {})", path.display()),
            Found::Settings => format!(
                "{name} does not answer at {url} (from the settings, as no `millrace up` runs on {DATA_DIR} here; \
                 --data-dir says where one runs)"
            ),
        }
    }

    /// What to do about a token that was not accepted.
    fn token_refused(self) -> String {
        let name = self.name;
        match self.found {
            Found::File(path) => format!(
                "{name} does not accept the token in {}: another deployment answers at {}; restart `millrace up` \
                 or set another port",
                path.display(),
                self.url
            ),
            Found::Settings => format!(
                "{name} does not accept {}. Set MILLRACE_CONTROL_TOKEN to the value that {name} was started with; \
                 that of a `millrace up` stands in endpoints.json of its data directory, and --data-dir DIR reads it \
                 there",
                match self.token {
                    "" => "requests without a token, and MILLRACE_CONTROL_TOKEN is empty",
                    _ => "the token in MILLRACE_CONTROL_TOKEN",
                }
            ),
        }
    }

    async fn refused<T>(self, answer: reqwest::Response) -> anyhow::Result<T> {
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(TokenRefused(self.token_refused()).into());
        }
        let text = answer.text().await.unwrap_or_default();
        let json: Option<Value> = serde_json::from_str(&text).ok();
        let reason = json.and_then(|json| Some(json["error"].as_str()?.to_owned()));
        let reason = printable(&reason.unwrap_or(text));
        if [StatusCode::CONFLICT, StatusCode::NOT_FOUND].contains(&status) {
            return Err(Refused(reason).into());
        }
        bail!("{} answered {status}: {reason}", self.name)
    }
}

/// Nothing once everything up to `lsn` is applied; why not, if that took longer than `timeout`.
pub(crate) async fn wait(
    endpoints: &Endpoints,
    lsn: Lsn,
    timeout: Duration,
) -> anyhow::Result<Option<String>> {
    let projector = endpoints.projector();
    let seconds = timeout.as_secs().max(1);
    let path = format!(
        "/wait?lsn={}&timeout_s={seconds}",
        lsn.to_string().replace('/', "%2F")
    );
    let answer = projector
        .request(Method::GET, &path, timeout + GRACE, None)
        .await?;
    match answer.status() {
        StatusCode::OK => Ok(None),
        StatusCode::GATEWAY_TIMEOUT => {
            let text = answer.text().await.unwrap_or_default();
            let json: Option<Value> = serde_json::from_str(&text).ok();
            let reason = json.and_then(|json| Some(json["error"].as_str()?.to_owned()));
            Ok(Some(printable(&reason.unwrap_or(text))))
        }
        _ => projector.refused(answer).await,
    }
}
