//! Where the servers of a deployment are: `endpoints.json` of a data directory, or the settings.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use millrace_topic::SpuAddress;
use serde::{Deserialize, Serialize};

use crate::args::Target;
use crate::settings::Settings;

/// Addresses with credentials; `up` writes them once everything listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// `postgres://` URL of the owner of the shop.
    pub postgres: String,
    /// `mysql://` URL.
    pub mysql: String,
    /// `host:port` of the Fluvio controller.
    pub fluvio: String,
    /// `http://` URL of the projector's control API.
    pub control: String,
    /// `http://` URL of capture's control API.
    pub capture_control: String,
    /// `http://` URL of ingest's control API.
    pub ingest_control: String,
    /// `http://` URL of the page.
    pub dashboard: String,
    /// Bearer token of the control APIs.
    pub control_token: String,
    /// Process that serves them; 0 for a deployment described by settings.
    pub pid: u32,
}

/// The settings that say where a control API is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlAddress {
    host: &'static str,
    port: &'static str,
}

/// The projector's.
pub(crate) const PROJECTOR_CONTROL: ControlAddress = ControlAddress {
    host: "MILLRACE_CONTROL_HOST",
    port: "MILLRACE_CONTROL_PORT",
};
/// Capture's.
pub(crate) const CAPTURE_CONTROL: ControlAddress = ControlAddress {
    host: "MILLRACE_CAPTURE_CONTROL_HOST",
    port: "MILLRACE_CAPTURE_CONTROL_PORT",
};
/// Ingest's.
pub(crate) const INGEST_CONTROL: ControlAddress = ControlAddress {
    host: "MILLRACE_INGEST_CONTROL_HOST",
    port: "MILLRACE_INGEST_CONTROL_PORT",
};

impl ControlAddress {
    /// Host and port. Where a service has no host of its own, it is that of all.
    pub(crate) fn of(self, settings: &Settings) -> anyhow::Result<(&str, u16)> {
        let host = match settings.text(self.host) {
            "" => settings.text("MILLRACE_CONTROL_HOST"),
            own => own,
        };
        Ok((host, settings.port(self.port)?))
    }

    fn url(self, settings: &Settings) -> anyhow::Result<String> {
        let (host, port) = self.of(settings)?;
        Ok(format!("http://{host}:{port}"))
    }
}

impl Endpoints {
    /// Finds the endpoints that a command was pointed at.
    pub fn find(target: &Target, settings: &Settings) -> anyhow::Result<Endpoints> {
        match &target.data_dir {
            Some(dir) => Endpoints::read(dir),
            None => Endpoints::from_settings(settings),
        }
    }

    /// Reads `endpoints.json` of a data directory.
    pub fn read(data_dir: &Path) -> anyhow::Result<Endpoints> {
        let path = data_dir.join("endpoints.json");
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "{} cannot be read; is `millrace up --data-dir {}` running?",
                path.display(),
                data_dir.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes `endpoints.json`, which holds passwords.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_private(
            &data_dir.join("endpoints.json"),
            &serde_json::to_vec_pretty(self)?,
        )
    }

    /// Removes `endpoints.json`; nothing listens any more.
    pub fn remove(data_dir: &Path) {
        // Absent already is as good as removed.
        let _ = std::fs::remove_file(data_dir.join("endpoints.json"));
    }

    /// The endpoints that the settings describe.
    pub fn from_settings(settings: &Settings) -> anyhow::Result<Endpoints> {
        let text = |name| settings.text(name);
        Ok(Endpoints {
            postgres: url(
                "postgres",
                [
                    text("POSTGRES_USER"),
                    text("POSTGRES_PASSWORD"),
                    text("POSTGRES_HOST"),
                ],
                settings.port("POSTGRES_PORT")?,
                text("POSTGRES_DB"),
            ),
            mysql: url(
                "mysql",
                [
                    text("MYSQL_USER"),
                    text("MYSQL_PASSWORD"),
                    text("MYSQL_HOST"),
                ],
                settings.port("MYSQL_PORT")?,
                text("MYSQL_DB"),
            ),
            fluvio: fluvio(settings)?,
            control: PROJECTOR_CONTROL.url(settings)?,
            capture_control: CAPTURE_CONTROL.url(settings)?,
            ingest_control: INGEST_CONTROL.url(settings)?,
            dashboard: format!(
                "http://{}:{}",
                text("DASHBOARD_HOST"),
                settings.port("DASHBOARD_PORT")?
            ),
            control_token: text("MILLRACE_CONTROL_TOKEN").to_owned(),
            pid: 0,
        })
    }
}

/// The cluster, as its clients want to be told.
fn fluvio(settings: &Settings) -> anyhow::Result<String> {
    let host = settings.text("FLUVIO_HOST");
    let controller = format!("{host}:{}", settings.port("FLUVIO_PORT")?);
    let units: SpuAddress = settings.parse("FLUVIO_SPU_ADDRESS", "public or local")?;
    Ok(millrace_topic::endpoint(&controller, units))
}

/// Writes a file that only its owner may read, atomically: a reader sees the old file or the new one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        // What a killed run left behind may be open to others.
        let _ = std::fs::remove_file(&partial);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(bytes)?;
        std::fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// `scheme://user:password@host:port/database` with reserved bytes of user, password and database escaped.
fn url(scheme: &str, [user, password, host]: [&str; 3], port: u16, database: &str) -> String {
    format!(
        "{scheme}://{}:{}@{host}:{port}/{}",
        escape(user),
        escape(password),
        escape(database)
    )
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                (byte as char).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bytes_of_a_password_are_escaped() {
        let url = url("mysql", ["u", "p@ss/w:rd", "127.0.0.1"], 3306, "db");
        assert_eq!(url, "mysql://u:p%40ss%2Fw%3Ard@127.0.0.1:3306/db");
    }

    #[test]
    fn a_service_has_a_control_host_of_its_own_or_that_of_all() {
        let pairs = [
            ("MILLRACE_CONTROL_HOST", "project"),
            ("MILLRACE_INGEST_CONTROL_HOST", "ingest"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::resolve(pairs.to_vec(), Vec::new()).unwrap();
        let endpoints = Endpoints::from_settings(&settings).unwrap();
        assert_eq!(endpoints.control, "http://project:8081");
        assert_eq!(endpoints.capture_control, "http://project:8082");
        assert_eq!(endpoints.ingest_control, "http://ingest:8083");
    }

    #[test]
    fn a_client_in_the_network_of_the_units_asks_for_their_local_addresses() {
        let fluvio = |units: &str| {
            let pairs = [("FLUVIO_HOST", "sc"), ("FLUVIO_SPU_ADDRESS", units)];
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let settings = Settings::resolve(pairs.to_vec(), Vec::new()).unwrap();
            Endpoints::from_settings(&settings).map(|endpoints| endpoints.fluvio)
        };
        assert_eq!(fluvio("public").unwrap(), "sc:9003");
        assert_eq!(fluvio("local").unwrap(), "sc:9003?spu=local");
        let refused = fluvio("inner").unwrap_err().to_string();
        assert!(refused.contains("is not public or local"), "{refused}");
    }

    #[test]
    fn a_missing_file_says_what_to_start() {
        let error = Endpoints::read(Path::new("nowhere")).unwrap_err();
        assert!(error.to_string().contains("millrace up --data-dir nowhere"));
    }
}
