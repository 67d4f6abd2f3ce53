//! What a person sees of a running deployment: where everything is, how far behind, and the marts.

use std::time::Instant;

use sqlx::mysql::MySqlPoolOptions;
use sqlx::{MySqlPool, Row};

use super::{Deployment, Services};
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::table;

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

/// A table of every server with its address and login.
pub(super) fn services(settings: &Settings, deployment: &Deployment) -> String {
    let text = |name| settings.text(name).to_owned();
    let row = |service: &str, address: String, user: String, password: String| {
        vec![service.to_owned(), address, user, password]
    };
    let postgres = (text("POSTGRES_USER"), text("POSTGRES_PASSWORD"));
    let mysql = (text("MYSQL_USER"), text("MYSQL_PASSWORD"));
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
            text("DASHBOARD_USER"),
            text("DASHBOARD_PASSWORD"),
        ),
        control("control: projector", &endpoints.control),
        control("control: capture", &endpoints.capture_control),
        control("control: ingest", &endpoints.ingest_control),
    ];
    let profile = format!(
        "\nfluvio CLI:  fluvio profile add millrace {} local\n",
        endpoints.fluvio
    );
    table(&["service", "address", "login", "password"], &rows) + &profile
}

fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

/// The block that `up` redraws.
pub(super) struct Live {
    target: MySqlPool,
    last: Option<(Instant, u64)>,
}

impl Live {
    /// Connects lazily: a summary must not stop anything.
    pub(super) fn new(_settings: &Settings, endpoints: &Endpoints) -> anyhow::Result<Live> {
        let target = MySqlPoolOptions::new()
            .max_connections(1)
            .connect_lazy(&endpoints.mysql)?;
        Ok(Live { target, last: None })
    }

    /// One block of text: the lines of [`lag`](Self::lag), then the marts.
    pub(super) async fn draw(&self, lag: String) -> String {
        let mut text = lag;
        for (mart, label, query) in FIGURES {
            let line = match sqlx::query(query).fetch_one(&self.target).await {
                Ok(row) => {
                    let rows: i64 = row.get(0);
                    let figure = row.try_get_unchecked::<Option<String>, _>(1).ok().flatten();
                    format!(
                        "{rows:>7} rows   {label}: {}",
                        figure.as_deref().unwrap_or("-")
                    )
                }
                Err(error) => format!("not readable: {error}"),
            };
            text += &format!("  {mart:<26}{line}\n");
        }
        text
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
