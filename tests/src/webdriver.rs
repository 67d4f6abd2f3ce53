//! A session with chromedriver: the few commands of the WebDriver protocol that the tests need.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{bail, ensure, Context};
use reqwest::{Method, RequestBuilder};
use serde_json::{json, Value};

/// The protocol's name for the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The driver's own limits (30 s for a script) come first.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const MISSING: &str =
    "no chromedriver on this machine: `make setup` installs it (Debian: chromium chromium-driver)";

/// A browser with one tab. Ends with its driver when dropped.
pub(crate) struct Session {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT/session/ID`
    url: String,
    _driver: Driver,
}

/// chromedriver and its browser, in a process group of their own: without it the browser stays.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // The shell's own kill: a bare machine has no such program.
        let _ = Command::new("sh")
            .args(["-c", "kill -s KILL -- \"-$1\"", "sh"])
            .arg(self.0.id().to_string())
            .status();
        let _ = self.0.wait();
    }
}

impl Session {
    /// Starts a driver on a free port, and a browser with these capabilities.
    pub(crate) async fn start(capabilities: Value) -> anyhow::Result<Session> {
        let (driver, port) = tokio::task::spawn_blocking(start_driver).await??;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build()?;
        let url = format!("http://127.0.0.1:{port}/session");
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let made = answer(http.post(&url).json(&wanted))
            .await
            .context("chromedriver starts no browser; is Debian's package chromium installed?")?;
        let id = made["sessionId"].as_str().context("a session without id")?;
        Ok(Session {
            url: format!("{url}/{id}"),
            http,
            _driver: driver,
        })
    }

    /// Sends a command with a body, and returns the value of its answer.
    pub(crate) async fn tell(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).json(&body);
        answer(request)
            .await
            .with_context(|| format!("chromedriver's {path}"))
    }

    /// Asks for a value.
    pub(crate) async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path);
        answer(request)
            .await
            .with_context(|| format!("chromedriver's {path}"))
    }

    /// Path of the first element.
    pub(crate) async fn find(&self, css: &str) -> anyhow::Result<String> {
        let wanted = json!({ "using": "css selector", "value": css });
        let found = self.tell("element", wanted).await;
        path_of(&found.with_context(|| format!("no {css} on the page"))?)
    }

    /// Path of the element that has the focus.
    pub(crate) async fn focused(&self) -> anyhow::Result<String> {
        let focused = self.ask("element/active").await;
        path_of(&focused.context("nothing has the focus")?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.url))
    }
}

fn path_of(element: &Value) -> anyhow::Result<String> {
    let id = element[ELEMENT].as_str().context("an element without id")?;
    Ok(format!("element/{id}"))
}

/// The value of an answer, or what went wrong in the driver's words.
async fn answer(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let succeeded = answer.status().is_success();
    let mut body: Value = answer.json().await?;
    let value = body["value"].take();
    ensure!(succeeded, "{}: {}", value["error"], value["message"]);
    Ok(value)
}

/// Starts chromedriver on a free port, and returns when it listens.
fn start_driver() -> anyhow::Result<(Driver, u16)> {
    let child = Command::new("chromedriver")
        .arg("--port=0")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut driver = Driver(child.context(MISSING)?);
    let said = driver.0.stdout.take().context("chromedriver is mute")?;
    let mut heard = String::new();
    let mut lines = BufReader::new(said).lines();
    for line in lines.by_ref() {
        let line = line?;
        if let Some(port) = line.split("started successfully on port ").nth(1) {
            let port = port.trim_end_matches('.').parse()?;
            // It goes on talking, and must not find the pipe closed.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((driver, port));
        }
        heard += &format!("{line}\n");
    }
    bail!("chromedriver ended:\n{heard}")
}
