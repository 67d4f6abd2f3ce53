//! The page of a running `millrace up`, from this working copy:
//! `cargo run --release -p millrace-dashboard --example dashboard -- DATA_DIR [HOST:PORT]`.
//! The login is `millrace` and the control token of `endpoints.json`.

use millrace_dashboard::{Config, Mart, Service, Sources, Topics};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which data directory?")?;
    let bind = arguments.next().unwrap_or("127.0.0.1:0".to_owned());
    let endpoints = std::fs::read(format!("{folder}/endpoints.json"))?;
    let endpoints: serde_json::Value = serde_json::from_slice(&endpoints)?;
    let text = |name: &str| endpoints[name].as_str().unwrap_or_default().to_owned();
    let sources = Sources {
        postgres: text("postgres"),
        slot: "millrace".into(),
        mysql: text("mysql"),
        fluvio: text("fluvio"),
        topics: Topics {
            changes: "shop-changes".into(),
            snapshot_prefix: "shop-snapshot".into(),
            users: "users-data".into(),
            rejected: "users-data-rejected".into(),
        },
        projector: text("control"),
        capture: text("capture_control"),
        ingest: text("ingest_control"),
    };
    let mut config = Config::new(bind.parse()?, sources);
    config.control_token = text("control_token");
    config.user = Some("millrace".into());
    config.password = Some(config.control_token.clone());
    let marts = [
        "mart_average_check",
        "mart_product_rating",
        "mart_user_activity",
        "mart_user_loyalty_points",
    ];
    let mart = |name: &str| Mart {
        name: name.to_owned(),
        sql: String::new(),
        reads: Vec::new(),
        chart: None,
    };
    config.marts = marts.map(mart).to_vec();
    let service = Service::bind(config).await?;
    println!("http://{}", service.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        // Without a signal there is nothing to stop for.
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    Ok(service.run(shutdown).await?)
}
