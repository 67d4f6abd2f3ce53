//! A running dashboard.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_dashboard::status::Status;
use millrace_dashboard::{Config, Mart, Service, Sources, VerifyFn};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, TOKEN};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Dashboard, control APIs and a client.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) control: Control,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), millrace_dashboard::Error>>,
}

impl Rig {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Rig {
        let (control, services) = Control::start().await;
        let sources = Sources {
            // Nobody listens on port 1.
            postgres: "postgres://u:secret@127.0.0.1:1/x".into(),
            mysql: "mysql://u:secret@127.0.0.1:1/x".into(),
            fluvio: "127.0.0.1:1".into(),
            projector: format!("http://{services}/projector"),
            capture: format!("http://{services}/capture"),
            ingest: format!("http://{services}/ingest"),
            ..Sources::default()
        };
        let mut config = Config::new("127.0.0.1:0".parse().unwrap(), sources);
        config.control_token = TOKEN.into();
        config.user = Some("ann".into());
        config.password = Some("right".into());
        config.tick = Duration::from_millis(50);
        config.marts = vec![Mart {
            name: "mart_x".into(),
            sql: "SELECT 1".into(),
            reads: Vec::new(),
            chart: None,
        }];
        change(&mut config);
        let service = Service::bind(config).await.unwrap();
        let address = service.address();
        let shutdown = CancellationToken::new();
        let rig = Rig {
            address,
            client: reqwest::Client::new(),
            control,
            running: tokio::spawn(service.run(shutdown.clone())),
            shutdown,
        };
        rig.status_where(|_| true).await;
        rig
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        self.get(path).await.json().await.unwrap()
    }

    /// Logs in; the cookie and the CSRF token.
    pub(crate) async fn log_in(&self) -> (String, String) {
        let login = serde_json::json!({"user": "ann", "password": "right"});
        let answer = self.client.post(self.url("/api/login")).json(&login);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        let session: serde_json::Value = answer.json().await.unwrap();
        let csrf = session["csrf"].as_str().unwrap().to_owned();
        (cookie.split(';').next().unwrap().to_owned(), csrf)
    }

    /// Follows the events until a status fulfils the condition.
    pub(crate) async fn status_where(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let request = self.client.get(self.url("/api/events")).bearer_auth(TOKEN);
        let follow = async {
            let mut answer = request.send().await.unwrap();
            let mut text = String::new();
            loop {
                let chunk = answer.chunk().await.unwrap().expect("more events");
                text.push_str(std::str::from_utf8(&chunk).unwrap());
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let data = event.strip_prefix("event: status\ndata: ");
                    let status = data.map(|data| serde_json::from_str(data).unwrap());
                    if let Some(status) = status.filter(&wanted) {
                        return status;
                    }
                    text = rest.to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, follow).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running).await;
        ended.expect("it ends").unwrap().unwrap();
    }
}

/// A verification with a given report.
pub(crate) fn verification(report: serde_json::Value) -> VerifyFn {
    std::sync::Arc::new(move || {
        let report = report.clone();
        Box::pin(async move { Ok(report) })
    })
}
