//! What a person sees of a running deployment: where everything is, how far behind, and the marts.

use std::path::Path;
use std::time::{Duration, Instant};

use millrace_control::in_words;
use millrace_projections::marts::Mart;
use millrace_sessions::mysql;
use sqlx::mysql::MySqlRow;
use sqlx::Row;

use super::databases::Shown;
use super::{Deployment, Services};
use crate::args;
use crate::endpoints::Endpoints;
use crate::settings::table::{DASHBOARD_PASSWORD, DASHBOARD_USER};
use crate::settings::Settings;
use crate::terminal::{printable, table};

/// A summary waits no longer for a figure.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A table of every server with its address and login, and what to do next.
pub(super) fn services(args: &args::Up, settings: &Settings, deployment: &Deployment) -> String {
    let row = |service: &str, address: String, user: String, password: String| {
        vec![service.to_owned(), address, user, password]
    };
    let endpoints = &deployment.endpoints;
    let control = |service: &str, url: &str| {
        row(
            service,
            url.to_owned(),
            "token".into(),
            "in endpoints.json".into(),
        )
    };
    let mut rows: Vec<_> = deployment.databases.iter().flat_map(database).collect();
    rows.extend([
        row(
            "Fluvio (topics)",
            endpoints.fluvio.clone(),
            "-".into(),
            "-".into(),
        ),
        row(
            "page",
            endpoints.dashboard.clone(),
            settings.get(DASHBOARD_USER).map_or("-".into(), Into::into),
            settings
                .get(DASHBOARD_PASSWORD)
                .map_or("-".into(), Into::into),
        ),
        control("control: projector", &endpoints.control),
        control("control: capture", &endpoints.capture_control),
    ]);
    if !endpoints.ingest_control.is_empty() {
        rows.push(control("control: ingest", &endpoints.ingest_control));
    }
    let profile = format!(
        "\nfluvio CLI:  fluvio profile add millrace {} local\n",
        endpoints.fluvio
    );
    table(&["service", "address", "login", "password"], &rows)
        + &profile
        + &next_steps(&program(), &args.data_dir, &endpoints.dashboard)
}

/// A database, and how tools that want JDBC find it.
fn database(shown: &Shown) -> Vec<Vec<String>> {
    let row = |title: &str, address: &str| {
        vec![
            title.to_owned(),
            address.to_owned(),
            shown.user.clone(),
            shown.password.clone(),
        ]
    };
    let jdbc = shown.jdbc.as_ref().map(|address| row("  JDBC", address));
    let first = row(&shown.title, &shown.address);
    [first].into_iter().chain(jdbc).collect()
}

/// What a person who sees this for the first time can do now.
fn next_steps(program: &str, data_dir: &Path, page: &str) -> String {
    let data_dir = match data_dir == Path::new(args::DATA_DIR) {
        true => String::new(),
        false => format!(" --data-dir {}", data_dir.display()),
    };
    format!(
        "\n\
         Open this page:          {page}\n\
         Try this elsewhere:      {program} verify{data_dir}\n\
         Stop everything:         Ctrl-C; the next start resumes where this one stopped\n"
    )
}

/// As this program was called, so that the line can be copied.
fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "millrace".to_owned())
}

/// A mart in one line.
struct SummedUp {
    name: String,
    /// Answers with its rows and the number that sums it up.
    question: String,
    /// What that number is; `None` if its description has none.
    title: Option<String>,
}

impl SummedUp {
    fn new(mart: &Mart) -> SummedUp {
        let table = format!("`{}`", mart.name());
        let number = mart.summary().map_or("NULL".to_owned(), |summary| {
            format!("({})", summary.sql.replace("{table}", &table))
        });
        SummedUp {
            name: mart.name().to_owned(),
            question: format!("SELECT (SELECT COUNT(*) FROM {table}), CAST({number} AS CHAR)"),
            title: mart.summary().map(|summary| summary.title.clone()),
        }
    }

    fn line(&self, row: &MySqlRow) -> String {
        let rows: i64 = row.try_get_unchecked(0).unwrap_or_default();
        let number: Option<String> = row.try_get_unchecked(1).ok().flatten();
        let number = number.as_deref().unwrap_or("-");
        let number = self
            .title
            .as_ref()
            .map(|title| format!("   {title}: {number}"));
        format!("{rows:>7} rows{}", number.unwrap_or_default())
    }
}

/// The block that `up` redraws.
pub(super) struct Live {
    marts: Vec<SummedUp>,
    target: mysql::Pool,
    last: Option<(Instant, u64)>,
}

impl Live {
    /// Connects lazily: a summary must not stop anything.
    pub(super) fn new(settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Live> {
        let marts = crate::services::marts(settings)?;
        Ok(Live {
            marts: marts.iter().map(SummedUp::new).collect(),
            target: mysql::pool(&endpoints.mysql, 1)?,
            last: None,
        })
    }

    /// One block of text: the lines of [`lag`](Self::lag), then the marts.
    pub(super) async fn draw(&self, lag: String) -> String {
        let mut text = lag;
        for mart in &self.marts {
            let asked = tokio::time::timeout(ANSWER_WITHIN, self.ask(&mart.question)).await;
            let line = match asked {
                Ok(Ok(row)) => mart.line(&row),
                Ok(Err(error)) => format!("not readable: {}", in_words(&error)),
                Err(_) => "not readable: MySQL does not answer".to_owned(),
            };
            text += &format!("  {:<26}{}\n", mart.name, printable(&line));
        }
        text
    }

    async fn ask(&self, query: &str) -> sqlx::Result<MySqlRow> {
        let mut session = self.target.session().await?;
        sqlx::query(query).fetch_one(&mut *session).await
    }

    /// The lines about the services; empty before there is a projector.
    pub(super) fn lag(&mut self, services: &Services) -> String {
        let Some(status) = services.projector.get().map(|projector| projector.status()) else {
            return String::new();
        };
        let now = Instant::now();
        let rate = self.last.map(|(then, transactions)| {
            let new = status.transactions.saturating_sub(transactions);
            new as f64 / now.duration_since(then).as_secs_f64().max(0.001)
        });
        self.last = Some((now, status.transactions));
        let sent = services.user_events.get().map(|users| users.status().sent);
        let sent = sent.map(|sent| format!("  {sent} users arrived"));
        let down: String = services
            .down()
            .iter()
            .map(|line| format!("  {line}\n"))
            .collect();
        down + &format!(
            "  {} UTC  {:?}  lag {} records  at {}  {} transactions ({:.1}/s){}\n",
            chrono::Utc::now().format("%H:%M:%S"),
            status.state,
            status
                .lag_records
                .map_or("unknown".to_owned(), |lag| lag.to_string()),
            status.end_lsn.map_or("-".to_owned(), |lsn| lsn.to_string()),
            status.transactions,
            rate.unwrap_or(0.0),
            sent.unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_steps_name_the_page_a_command_that_finds_this_deployment_and_the_way_out() {
        let page = "http://127.0.0.1:8080";
        let steps = next_steps("./millrace", Path::new(".millrace"), page);
        let lines: Vec<&str> = steps.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with(page), "{steps}");
        assert!(lines[1].ends_with("./millrace verify"), "{steps}");
        assert!(lines[2].contains("Ctrl-C"), "{steps}");
        let elsewhere = next_steps("./millrace", Path::new("/tmp/d"), page);
        assert!(
            elsewhere.contains("./millrace verify --data-dir /tmp/d\n"),
            "{elsewhere}"
        );
    }
}
