//! `millrace health`: the probe for containers. One line per service, within three seconds, exit 0 or 1.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, Context};
use futures_util::future::join_all;
use millrace_control::{in_words, NotReady};
use millrace_topic::Cluster;
use reqwest::StatusCode;

use crate::address::http as http_url;
use crate::answer;
use crate::args::{self, Probed};
use crate::control::NO_INGEST;
use crate::endpoints::{generate_control, Endpoints};
use crate::settings::Settings;
use crate::terminal::printable;

/// A probe that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Asks one service, or all at once. Exit 0 if it lives (with `--ready`: does its work), 1 if not.
pub(crate) async fn run(args: &args::Health, settings: &Settings) -> anyhow::Result<ExitCode> {
    let endpoints = Endpoints::find(&args.target, settings)?;
    let generator = generate_control(settings).map(|(host, port)| http_url(&host, port));
    let asked: Vec<Probed> = match args.service {
        Some(service) => vec![service],
        None => {
            let is_there = |service: &Probed| {
                *service != Probed::Ingest || !endpoints.ingest_control.is_empty()
            };
            let generate = generator.as_ref().map(|_| Probed::Generate);
            let services = Probed::ALWAYS.into_iter().filter(is_there);
            services.chain(generate).collect()
        }
    };
    let answers = asked
        .iter()
        .map(|service| ask(*service, args.ready, &endpoints, generator.as_deref()));
    let (mut lines, mut code) = (String::new(), ExitCode::SUCCESS);
    for (service, answer) in asked.iter().zip(join_all(answers).await) {
        let said = match &answer {
            Ok(()) if args.ready => "ready".to_owned(),
            Ok(()) => "alive".to_owned(),
            Err(reason) => printable(&in_words(reason.as_ref())),
        };
        lines += &format!("{}: {said}\n", service.name());
        if answer.is_err() {
            code = ExitCode::from(1);
        }
    }
    answer::print(&lines)?;
    Ok(code)
}

async fn ask(
    service: Probed,
    ready: bool,
    endpoints: &Endpoints,
    generator: Option<&str>,
) -> anyhow::Result<()> {
    let probe = async {
        match service {
            Probed::Broker => broker(&endpoints.fluvio, ready).await,
            Probed::Project => http(&endpoints.control, ready, endpoints).await,
            Probed::Capture => http(&endpoints.capture_control, ready, endpoints).await,
            Probed::Ingest if endpoints.ingest_control.is_empty() => bail!(NO_INGEST),
            Probed::Ingest => http(&endpoints.ingest_control, ready, endpoints).await,
            Probed::Dashboard => http(&endpoints.dashboard, ready, endpoints).await,
            Probed::Generate => match generator {
                Some(url) => http(url, ready, endpoints).await,
                None => bail!("it has no control API; set MILLRACE_GENERATE_CONTROL_PORT"),
            },
        }
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, probe).await;
    answer.unwrap_or_else(|_| bail!("no answer within {} s", ANSWER_WITHIN.as_secs()))
}

/// `/health` or `/ready`; the token is for the whole reason.
async fn http(url: &str, ready: bool, endpoints: &Endpoints) -> anyhow::Result<()> {
    let path = if ready { "ready" } else { "health" };
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(format!("{url}/{path}"))
        .bearer_auth(&endpoints.control_token)
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("nobody answers at {url}"))?;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(());
    }
    let text = answer.text().await.unwrap_or_default();
    match serde_json::from_str::<NotReady>(&text) {
        Ok(because) => bail!("{because}"),
        Err(_) => bail!("answered {status}"),
    }
}

/// It lives if its controller speaks our protocol, and is ready if a streaming unit is there for the records.
async fn broker(endpoint: &str, ready: bool) -> anyhow::Result<()> {
    let cluster = Cluster::new(endpoint);
    let connected = cluster.connect().await;
    connected.with_context(|| format!("nobody answers at {endpoint}"))?;
    if ready && !cluster.has_unit_online().await? {
        bail!("no streaming unit is online");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A projector at this address.
    fn endpoints(control: String) -> Endpoints {
        let settings = Settings::default();
        Endpoints {
            control,
            ..Endpoints::from_settings(&settings).unwrap()
        }
    }

    /// A service that lives and does not do its work.
    async fn waiting_service() -> Endpoints {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4_096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let (status, body) = match request[..length].starts_with(b"GET /health ") {
                    true => ("200 OK", r#"{"ok":true}"#),
                    false => (
                        "503 Service Unavailable",
                        r#"{"error":"MySQL fails","code":"MR-P001","detail":"no route"}"#,
                    ),
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
                let answer = format!("{head}Connection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        endpoints(url)
    }

    #[tokio::test]
    async fn a_service_that_waits_for_mysql_lives_and_is_not_ready() {
        let endpoints = waiting_service().await;
        ask(Probed::Project, false, &endpoints, None).await.unwrap();
        let because = ask(Probed::Project, true, &endpoints, None)
            .await
            .unwrap_err();
        assert_eq!(because.to_string(), "MySQL fails (MR-P001): no route");
    }

    #[tokio::test]
    async fn a_generator_without_a_control_api_says_how_it_gets_one() {
        let endpoints = endpoints("http://127.0.0.1:1".to_owned());
        let because = ask(Probed::Generate, false, &endpoints, None).await;
        let because = because.unwrap_err().to_string();
        assert!(
            because.contains("MILLRACE_GENERATE_CONTROL_PORT"),
            "{because}"
        );
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_or_hangs_is_neither() {
        // Nobody listens on port 1; the other accepts and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hangs = format!("http://{}", silent.local_addr().unwrap());
        for (url, reason) in [
            ("http://127.0.0.1:1".to_owned(), "nobody answers"),
            (hangs, "no answer within 3 s"),
        ] {
            let began = Instant::now();
            let because = ask(Probed::Project, false, &endpoints(url), None).await;
            let because = because.unwrap_err().to_string();
            assert!(because.contains(reason), "{because}");
            assert!(began.elapsed() < ANSWER_WITHIN * 2);
        }
    }
}
