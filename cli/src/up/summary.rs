//! What a person sees of a running deployment: where everything is, how far behind, and the marts.

use std::path::Path;
use std::time::{Duration, Instant};

use millrace_control::in_words;
use millrace_sessions::mysql;
use sqlx::mysql::MySqlRow;
use sqlx::Row;

use super::{Deployment, Services};
use crate::args;
use crate::endpoints::Endpoints;
use crate::settings::table::{
    DASHBOARD_PASSWORD, DASHBOARD_USER, MYSQL_PASSWORD, MYSQL_USER, POSTGRES_PASSWORD,
    POSTGRES_USER,
};
use crate::settings::Settings;
use crate::terminal::table;

/// A summary waits no longer for a figure.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Marts with the figure that the summary shows of each.
const FIGURES: [(&str, &str, &str); 4] = [
    ("mart_user_activity", "total spent", "SELECT COUNT(*), CAST(SUM(total_spent) AS CHAR) FROM mart_user_activity"),
    ("mart_product_rating", "mean rating", "SELECT COUNT(*), CAST(ROUND(AVG(rating), 4) AS CHAR) FROM mart_product_rating"),
    ("mart_user_loyalty_points", "points", "SELECT COUNT(*), CAST(SUM(total_loyalty_points) AS CHAR) FROM mart_user_loyalty_points"),
    (
        "mart_average_check",
        "Completed/Gold",
        "SELECT COUNT(*), CAST(MAX(CASE WHEN status = 'Completed' AND loyalty_status = 'Gold' THEN average_check END) AS CHAR) FROM mart_average_check",
    ),
];

/// A table of every server with its address and login, and what to do next.
pub(super) fn services(args: &args::Up, settings: &Settings, deployment: &Deployment) -> String {
    let row = |service: &str, address: String, user: String, password: String| {
        vec![service.to_owned(), address, user, password]
    };
    let postgres: (String, String) = (
        settings.get(POSTGRES_USER).into(),
        settings.get(POSTGRES_PASSWORD).into(),
    );
    let mysql: (String, String) = (
        settings.get(MYSQL_USER).into(),
        settings.get(MYSQL_PASSWORD).into(),
    );
    let endpoints = &deployment.endpoints;
    let control = |service: &str, url: &str| {
        row(
            service,
            url.to_owned(),
            "token".into(),
            "in endpoints.json".into(),
        )
    };
    let rows = vec![
        row(
            "Postgres (source)",
            without_login(&endpoints.postgres),
            postgres.0.clone(),
            postgres.1.clone(),
        ),
        row(
            "  JDBC",
            deployment.databases.postgres_jdbc.clone(),
            postgres.0,
            postgres.1,
        ),
        row(
            &format!("{} (replica, marts)", deployment.databases.mysql_product),
            without_login(&endpoints.mysql),
            mysql.0.clone(),
            mysql.1.clone(),
        ),
        row(
            "  JDBC",
            deployment.databases.mysql_jdbc.clone(),
            mysql.0,
            mysql.1,
        ),
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
        control("control: ingest", &endpoints.ingest_control),
    ];
    let profile = format!(
        "\nfluvio CLI:  fluvio profile add millrace {} local\n",
        endpoints.fluvio
    );
    table(&["service", "address", "login", "password"], &rows)
        + &profile
        + &next_steps(&program(), &args.data_dir, &endpoints.dashboard)
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

fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

/// The block that `up` redraws.
pub(super) struct Live {
    target: mysql::Pool,
    last: Option<(Instant, u64)>,
}

impl Live {
    /// Connects lazily: a summary must not stop anything.
    pub(super) fn new(_settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Live> {
        let target = mysql::pool(&endpoints.mysql, 1)?;
        Ok(Live { target, last: None })
    }

    /// One block of text: the lines of [`lag`](Self::lag), then the marts.
    pub(super) async fn draw(&self, lag: String) -> String {
        let mut text = lag;
        for (mart, label, query) in FIGURES {
            let line = match tokio::time::timeout(ANSWER_WITHIN, self.ask(query)).await {
                Ok(Ok(row)) => {
                    let rows: i64 = row.get(0);
                    let figure = row.try_get_unchecked::<Option<String>, _>(1).ok().flatten();
                    format!(
                        "{rows:>7} rows   {label}: {}",
                        figure.as_deref().unwrap_or("-")
                    )
                }
                Ok(Err(error)) => format!("not readable: {}", in_words(&error)),
                Err(_) => "not readable: MySQL does not answer".to_owned(),
            };
            text += &format!("  {mart:<26}{line}\n");
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
        let sent = services
            .user_events
            .get()
            .map_or(0, |users| users.status().sent);
        let down: String = services
            .down()
            .iter()
            .map(|line| format!("  {line}\n"))
            .collect();
        down + &format!(
            "  {} UTC  {:?}  lag {} records  at {}  {} transactions ({:.1}/s)  {sent} users arrived\n",
            chrono::Utc::now().format("%H:%M:%S"),
            status.state,
            status.lag_records.map_or("unknown".to_owned(), |lag| lag.to_string()),
            status.end_lsn.map_or("-".to_owned(), |lsn| lsn.to_string()),
            status.transactions,
            rate.unwrap_or(0.0),
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
