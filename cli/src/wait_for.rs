//! `millrace wait-for`: returns when MySQL has what Postgres has committed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, Context};
use millrace_control::in_words;
use millrace_events::Lsn;
use millrace_sessions::postgres::{Server, Work};
use serde_json::Value;
use tokio::time::{sleep, timeout_at, Instant};

use crate::answer;
use crate::args;
use crate::control::{self, TokenRefused};
use crate::endpoints::{Damaged, Endpoints};
use crate::output;
use crate::settings::Settings;
use crate::terminal::plain;

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Tries until the time is up, as everything may still be starting: exit code 1.
///
/// # Errors
/// At once what more time does not mend: endpoints that are damaged, a token that is refused.
pub(crate) async fn run(args: &args::WaitFor, settings: &Settings) -> anyhow::Result<ExitCode> {
    let timeout = Duration::try_from_secs_f64(args.timeout)
        .with_context(|| format!("--timeout {}: expected seconds", args.timeout))?;
    let deadline = Instant::now() + timeout;
    let (mut reason, mut mark) = (None, Mark::default());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let attempt = attempt(args, settings, left, &mut mark);
        let failed = match timeout_at(deadline, attempt).await {
            Ok(Ok(lsn)) => {
                answer::print(&format!("{lsn}\n"))?;
                tell_what_stands_still(args, settings).await;
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Err(error)) if is_final(&error) => return Err(error),
            Ok(Err(error)) => error,
            // What was said before tells more than that the time is up.
            Err(_) => reason.unwrap_or_else(|| anyhow::anyhow!("MySQL was not there in time")),
        };
        if Instant::now() + RETRY_PAUSE >= deadline {
            let failed = in_words(failed.as_ref());
            output::tell(format!("gave up after {} s: {failed}", args.timeout));
            return Ok(ExitCode::from(1));
        }
        reason = Some(failed);
        sleep(RETRY_PAUSE).await;
    }
}

/// The marker in the WAL that this command waits for, and the source that it was written to: a later attempt may find
/// another one.
#[derive(Default)]
struct Mark(Option<(String, Lsn)>);

impl Mark {
    /// Writes it with the first call.
    async fn lsn(&mut self, endpoints: &Endpoints) -> anyhow::Result<Lsn> {
        match &self.0 {
            Some((source, lsn)) if *source == endpoints.postgres => Ok(*lsn),
            _ => {
                let lsn = marker(endpoints).await?;
                self.0 = Some((endpoints.postgres.clone(), lsn));
                Ok(lsn)
            }
        }
    }
}

/// Names the tables and marts that are set aside: they do not move, so it was not waited for them.
async fn tell_what_stands_still(args: &args::WaitFor, settings: &Settings) {
    let status = async {
        let endpoints = Endpoints::find(&args.target, settings)?;
        endpoints.projector().get("/status").await
    };
    // It has just answered; if it does not any more, that is somebody else's question.
    let names = status.await.map(|status| set_aside(&status));
    let names = names.unwrap_or_default().join(", ");
    if !names.is_empty() {
        output::tell(format!(
            "set aside, and not waited for: {names}; `millrace tables list` and `marts list` say why"
        ));
    }
}

fn set_aside(status: &Value) -> Vec<String> {
    let named = |list: &str, name: &str| -> Vec<String> {
        let all = status[list].as_array().into_iter().flatten();
        let aside = all.filter(|one| one["state"] == "set_aside");
        aside.map(|one| plain(&one[name])).collect()
    };
    [named("tables", "table"), named("marts", "name")].concat()
}

fn is_final(error: &anyhow::Error) -> bool {
    error.is::<Damaged>() || error.is::<TokenRefused>()
}

async fn attempt(
    args: &args::WaitFor,
    settings: &Settings,
    left: Duration,
    mark: &mut Mark,
) -> anyhow::Result<Lsn> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    let lsn = match args.lsn {
        Some(lsn) => lsn,
        None => mark.lsn(&endpoints).await?,
    };
    reached(&endpoints, lsn, left).await?;
    Ok(lsn)
}

/// Writes a transactional message into the WAL. Everything committed before it has a smaller LSN, and
/// its own commit carries the log past it on an idle source.
pub(crate) async fn marker(endpoints: &Endpoints) -> anyhow::Result<Lsn> {
    let mut source = Server::parse(&endpoints.postgres)?
        .connect("millrace wait-for", Work::Ask)
        .await
        .context("Postgres does not answer")?;
    let lsn: String =
        sqlx::query_scalar("SELECT pg_logical_emit_message(true, 'millrace', 'wait-for')::text")
            .fetch_one(&mut source)
            .await?;
    source.close().await?;
    Ok(lsn.parse()?)
}

/// Waits until MySQL has everything up to `lsn`.
pub(crate) async fn reached(
    endpoints: &Endpoints,
    lsn: Lsn,
    timeout: Duration,
) -> anyhow::Result<()> {
    match control::wait(endpoints, lsn, timeout).await? {
        None => Ok(()),
        Some(reason) => bail!("MySQL had not reached {lsn}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::servers::ScratchDir;

    /// For a position that nobody reaches, with more time than a test has.
    async fn wait(scratch: &ScratchDir) -> anyhow::Error {
        let target = args::Target {
            data_dir: Some(scratch.path().to_owned()),
        };
        let args = args::WaitFor {
            target,
            lsn: Some(Lsn(1)),
            timeout: 3_600.0,
        };
        let settings = Settings::default();
        let waited = run(&args, &settings);
        let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
        waited.expect("no answer at once").unwrap_err()
    }

    #[test]
    fn what_is_set_aside_is_named() {
        let status = serde_json::json!({
            "tables": [{ "table": "public.a", "state": "live" }, { "table": "public.b", "state": "set_aside" }],
            "marts": [{ "name": "mart_b", "state": "set_aside" }, { "name": "mart_c", "state": "waiting" }],
        });
        assert_eq!(set_aside(&status), ["public.b", "mart_b"]);
    }

    #[tokio::test]
    async fn damaged_endpoints_are_told_at_once() {
        let scratch = ScratchDir::new("wait-for-damaged").unwrap();
        std::fs::write(scratch.path().join("endpoints.json"), "{").unwrap();
        let error = wait(&scratch).await.to_string();
        assert!(error.ends_with("endpoints.json is damaged"), "{error}");
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let answer =
                    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let scratch = ScratchDir::new("wait-for-token").unwrap();
        let endpoints = Endpoints {
            control,
            ..Endpoints::from_settings(&Settings::default()).unwrap()
        };
        endpoints.write(scratch.path()).unwrap();
        let error = wait(&scratch).await.to_string();
        assert!(error.contains("does not accept the token"), "{error}");
    }
}
