//! The flags that say what a pipeline is: its name, tables and marts, which are settings, and servers of one's own.

use std::str::FromStr;

use clap::Args;
use millrace_sessions::postgres::Server;
use sqlx::mysql::MySqlConnectOptions;

use crate::settings::table::{MILLRACE_MARTS, MILLRACE_NAME, MILLRACE_TABLES};

/// What a pipeline is called, and what it captures.
#[derive(Debug, Args)]
pub struct Source {
    /// Name of the pipeline, after which its topics, publication and slot are named [default: MILLRACE_NAME]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Tables to capture, such as 'public.*,sales.invoices,!public.audit_*'; marts and columns that the settings file has
    /// for other tables do not apply then [default: MILLRACE_TABLES]
    #[arg(long, value_name = "SELECTION")]
    pub tables: Option<String>,
}

impl Source {
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let name = self.name.clone().map(|name| (MILLRACE_NAME.name(), name));
        let tables = self.tables.clone();
        let tables = tables.map(|tables| (MILLRACE_TABLES.name(), tables));
        name.into_iter().chain(tables).collect()
    }
}

/// A pipeline with its marts.
#[derive(Debug, Args)]
pub struct Pipeline {
    /// The source
    #[command(flatten)]
    pub source: Source,
    /// Folder of the marts, NAME.sql and NAME.json each; '' for none [default: MILLRACE_MARTS]
    #[arg(long, value_name = "DIR")]
    pub marts: Option<String>,
}

impl Pipeline {
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = self.source.settings();
        let marts = self.marts.clone();
        settings.extend(marts.map(|folder| (MILLRACE_MARTS.name(), folder)));
        settings
    }
}

/// What a session with Postgres can be opened by.
pub(super) fn postgres_url(text: &str) -> Result<String, String> {
    let form = "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE";
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(form.to_owned());
    }
    match Server::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{form}: {error}")),
    }
}

/// The same for MySQL. The database is where the tables go, so it has to be named.
pub(super) fn mysql_url(text: &str) -> Result<String, String> {
    let form = "expected mysql://USER:PASSWORD@HOST:PORT/DATABASE";
    let named = text.starts_with("mysql://")
        && MySqlConnectOptions::from_str(text)
            .is_ok_and(|options| options.get_database().is_some_and(|name| !name.is_empty()));
    match named {
        true => Ok(text.to_owned()),
        false => Err(form.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_another_server_or_without_a_database_is_refused_with_the_form_of_a_right_one() {
        assert!(postgres_url("postgres://me:p%40@db.example.org:5433/erp").is_ok());
        assert!(mysql_url("mysql://me:p%40@db.example.org:3307/replica").is_ok());
        for text in [
            "",
            "db.example.org",
            "mysql://me@db/erp",
            "postgres://me@db/erp?sslmode=require",
        ] {
            let refused = postgres_url(text).unwrap_err();
            assert!(refused.contains("postgres://USER"), "{refused}");
        }
        for text in [
            "",
            "postgres://me@db/erp",
            "mysql://me@db",
            "mysql://me@db/",
        ] {
            let refused = mysql_url(text).unwrap_err();
            assert!(refused.contains("mysql://USER"), "{refused}");
        }
    }
}
