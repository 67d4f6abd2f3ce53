//! Where the servers of a deployment are: `endpoints.json` of a data directory, or the settings.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::address::{http, Database, Host, HostPort};
use crate::args::{Target, DATA_DIR};
use crate::settings::table::{
    DASHBOARD_HOST, DASHBOARD_PORT, FLUVIO_HOST, FLUVIO_PORT, FLUVIO_SPU_ADDRESS,
    MILLRACE_CAPTURE_CONTROL_HOST, MILLRACE_CAPTURE_CONTROL_PORT, MILLRACE_COLUMNS,
    MILLRACE_CONTROL_HOST, MILLRACE_CONTROL_PORT, MILLRACE_CONTROL_TOKEN,
    MILLRACE_GENERATE_CONTROL_PORT, MILLRACE_INGEST_CONTROL_HOST, MILLRACE_INGEST_CONTROL_PORT,
    MILLRACE_MARTS, MILLRACE_NAME, MILLRACE_PUBLICATION, MILLRACE_SLOT, MILLRACE_TABLES,
    MILLRACE_TOPIC_CHANGES, MILLRACE_TOPIC_REJECTED, MILLRACE_TOPIC_SNAPSHOT, MILLRACE_TOPIC_USERS,
    MILLRACE_VALUES, MYSQL_DB, MYSQL_HOST, MYSQL_PASSWORD, MYSQL_PORT, MYSQL_USER, POSTGRES_DB,
    POSTGRES_HOST, POSTGRES_PASSWORD, POSTGRES_PORT, POSTGRES_SCHEMA, POSTGRES_USER,
};
use crate::settings::{Setting, Settings, SETTINGS};

/// The settings that say what a pipeline is. A command that talks to a deployment works with those of the deployment,
/// whatever its own settings file says.
const OF_THE_PIPELINE: [&str; 12] = [
    MILLRACE_NAME.name(),
    MILLRACE_TABLES.name(),
    MILLRACE_MARTS.name(),
    MILLRACE_COLUMNS.name(),
    MILLRACE_VALUES.name(),
    MILLRACE_TOPIC_CHANGES.name(),
    MILLRACE_TOPIC_SNAPSHOT.name(),
    MILLRACE_TOPIC_USERS.name(),
    MILLRACE_TOPIC_REJECTED.name(),
    MILLRACE_PUBLICATION.name(),
    MILLRACE_SLOT.name(),
    POSTGRES_SCHEMA.name(),
];

/// Addresses with credentials; `up` writes them once everything listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// `postgres://` URL of the source.
    pub postgres: String,
    /// `mysql://` URL.
    pub mysql: String,
    /// `host:port` of the Fluvio controller.
    pub fluvio: String,
    /// `http://` URL of the projector's control API.
    pub control: String,
    /// `http://` URL of capture's control API.
    pub capture_control: String,
    /// `http://` URL of ingest's control API; empty where there is no ingest.
    pub ingest_control: String,
    /// `http://` URL of the page.
    pub dashboard: String,
    /// Bearer token of the control APIs.
    pub control_token: String,
    /// What the pipeline is, by the names of the settings; empty where the settings themselves say it.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Process that serves them; 0 for a deployment described by settings.
    pub pid: u32,
    /// Where they were found.
    #[serde(skip)]
    pub found: Found,
}

/// `endpoints.json` holds something else. It is replaced in one step, so it was not caught half-written.
#[derive(Debug, thiserror::Error)]
#[error("{} is damaged", path.display())]
pub(crate) struct Damaged {
    path: PathBuf,
    source: serde_json::Error,
}

/// Where endpoints were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// In the settings.
    #[default]
    Settings,
    /// In this file.
    File(PathBuf),
}

/// The settings that say where a control API is.
#[derive(Clone, Copy)]
pub(crate) struct ControlAddress {
    host: Option<Setting<Option<Host>>>,
    port: Setting<u16>,
}

/// The projector's.
pub(crate) const PROJECTOR_CONTROL: ControlAddress = ControlAddress {
    host: None,
    port: MILLRACE_CONTROL_PORT,
};
/// Capture's.
pub(crate) const CAPTURE_CONTROL: ControlAddress = ControlAddress {
    host: Some(MILLRACE_CAPTURE_CONTROL_HOST),
    port: MILLRACE_CAPTURE_CONTROL_PORT,
};
/// Ingest's.
pub(crate) const INGEST_CONTROL: ControlAddress = ControlAddress {
    host: Some(MILLRACE_INGEST_CONTROL_HOST),
    port: MILLRACE_INGEST_CONTROL_PORT,
};

impl ControlAddress {
    /// Host and port. Where a service has no host of its own, it is that of all.
    pub(crate) fn of(self, settings: &Settings) -> (Host, u16) {
        let own = self.host.and_then(|host| settings.get(host));
        let host = own.unwrap_or_else(|| settings.get(MILLRACE_CONTROL_HOST));
        (host, settings.get(self.port))
    }

    fn url(self, settings: &Settings) -> String {
        let (host, port) = self.of(settings);
        http(&host, port)
    }
}

/// Where the generator's control API is, if it has one. Nobody but a probe asks it, so it has no entry of its own in
/// [`Endpoints`].
pub(crate) fn generate_control(settings: &Settings) -> Option<(Host, u16)> {
    let port = settings.get(MILLRACE_GENERATE_CONTROL_PORT)?;
    Some((settings.get(MILLRACE_CONTROL_HOST), port))
}

impl Endpoints {
    /// Finds the endpoints that a command was pointed at: those of `--data-dir`; without it, those of a `millrace
    /// up` that runs on the default data directory, unless a setting names another machine; else those of the
    /// settings.
    ///
    /// # Errors
    /// If the data directory was named and has none, or they are damaged.
    pub fn find(target: &Target, settings: &Settings) -> anyhow::Result<Endpoints> {
        match &target.data_dir {
            Some(dir) => Endpoints::read(dir),
            None => Endpoints::find_from(Path::new(DATA_DIR), settings),
        }
    }

    fn find_from(default_dir: &Path, settings: &Settings) -> anyhow::Result<Endpoints> {
        let may_be_here = crate::exposure::hosts(settings)
            .iter()
            .all(Host::is_loopback);
        if may_be_here && file(default_dir).exists() {
            let endpoints = Endpoints::read(default_dir)?;
            if is_alive(endpoints.pid) {
                return Ok(endpoints);
            }
        }
        Endpoints::from_settings(settings)
    }

    /// The settings under which these endpoints are to be used.
    ///
    /// # Errors
    /// If the deployment has settings that this version does not know.
    pub fn settings(&self, own: &Settings) -> anyhow::Result<Settings> {
        match &self.found {
            Found::Settings => Ok(own.clone()),
            Found::File(path) => Ok(own.of_deployment(&self.settings, path)?),
        }
    }

    /// Notes what the pipeline is. The folder of the marts does not depend on where a command is run.
    ///
    /// # Errors
    /// If there is no working directory.
    pub(crate) fn note_pipeline(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let ours = SETTINGS
            .iter()
            .filter(|one| OF_THE_PIPELINE.contains(&one.name));
        let pairs = ours.map(|one| (one.name.to_owned(), settings.text(one).to_owned()));
        self.settings = pairs.collect();
        if let Some(marts) = settings.get(MILLRACE_MARTS) {
            let marts = std::path::absolute(marts)?.display().to_string();
            self.settings
                .insert(MILLRACE_MARTS.name().to_owned(), marts);
        }
        Ok(())
    }

    /// Reads `endpoints.json` of a data directory.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn read(data_dir: &Path) -> anyhow::Result<Endpoints> {
        let path = file(data_dir);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "{} cannot be read; is `millrace up --data-dir {}` running?",
                path.display(),
                data_dir.display()
            )
        })?;
        let endpoints: Endpoints = serde_json::from_slice(&text).map_err(|source| Damaged {
            path: path.clone(),
            source,
        })?;
        Ok(Endpoints {
            found: Found::File(path),
            ..endpoints
        })
    }

    /// Writes `endpoints.json`, which holds passwords.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_private(&file(data_dir), &serde_json::to_vec_pretty(self)?)
    }

    /// Removes `endpoints.json`; nothing listens any more.
    pub fn remove(data_dir: &Path) {
        // Absent already is as good as removed.
        let _ = std::fs::remove_file(file(data_dir));
    }

    /// The endpoints that the settings describe.
    ///
    /// # Errors
    /// If a part of an address cannot be part of a URL.
    pub fn from_settings(settings: &Settings) -> anyhow::Result<Endpoints> {
        Ok(Endpoints {
            postgres: postgres(settings)?,
            mysql: mysql(settings)?,
            fluvio: fluvio(settings),
            control: PROJECTOR_CONTROL.url(settings),
            capture_control: CAPTURE_CONTROL.url(settings),
            ingest_control: INGEST_CONTROL.url(settings),
            dashboard: http(&settings.get(DASHBOARD_HOST), settings.get(DASHBOARD_PORT)),
            control_token: settings.get(MILLRACE_CONTROL_TOKEN).into(),
            settings: BTreeMap::new(),
            pid: 0,
            found: Found::Settings,
        })
    }
}

/// The cluster, as its clients want to be told.
fn fluvio(settings: &Settings) -> String {
    let controller = HostPort {
        host: settings.get(FLUVIO_HOST),
        port: settings.get(FLUVIO_PORT),
    };
    millrace_topic::endpoint(&controller.to_string(), settings.get(FLUVIO_SPU_ADDRESS))
}

fn postgres(settings: &Settings) -> anyhow::Result<String> {
    Database {
        scheme: "postgres",
        host: &settings.get(POSTGRES_HOST),
        port: settings.get(POSTGRES_PORT),
        user: &String::from(settings.get(POSTGRES_USER)),
        password: &String::from(settings.get(POSTGRES_PASSWORD)),
        name: &String::from(settings.get(POSTGRES_DB)),
    }
    .url()
}

fn mysql(settings: &Settings) -> anyhow::Result<String> {
    Database {
        scheme: "mysql",
        host: &settings.get(MYSQL_HOST),
        port: settings.get(MYSQL_PORT),
        user: &String::from(settings.get(MYSQL_USER)),
        password: &String::from(settings.get(MYSQL_PASSWORD)),
        name: &String::from(settings.get(MYSQL_DB)),
    }
    .url()
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("endpoints.json")
}

/// False if there is no such process: it was killed and could not remove its file.
fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
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
        let written = file.write_all(bytes);
        let put = written.and_then(|()| std::fs::rename(&partial, path));
        if put.is_err() {
            // A full disk needs the room, and nobody needs half a file.
            let _ = std::fs::remove_file(&partial);
        }
        put
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::ScratchDir;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Settings::resolve(None, pairs.collect()).unwrap()
    }

    #[test]
    fn a_service_has_a_control_host_of_its_own_or_that_of_all() {
        let settings = settings(&[
            ("MILLRACE_CONTROL_HOST", "project"),
            ("MILLRACE_INGEST_CONTROL_HOST", "ingest"),
        ]);
        let endpoints = Endpoints::from_settings(&settings).unwrap();
        assert_eq!(endpoints.control, "http://project:8081");
        assert_eq!(endpoints.capture_control, "http://project:8082");
        assert_eq!(endpoints.ingest_control, "http://ingest:8083");
    }

    #[test]
    fn both_spellings_of_an_ipv6_address_work_in_every_host_setting() {
        for host in ["::1", "[::1]"] {
            let names = [
                "POSTGRES_HOST",
                "MYSQL_HOST",
                "FLUVIO_HOST",
                "DASHBOARD_HOST",
                "MILLRACE_CONTROL_HOST",
                "MILLRACE_CAPTURE_CONTROL_HOST",
                "MILLRACE_INGEST_CONTROL_HOST",
            ];
            let settings = settings(&names.map(|name| (name, host)));
            let found = Endpoints::from_settings(&settings).unwrap();
            assert_eq!(
                found.postgres,
                "postgres://db_user:qwerty@[::1]:5432/postgres_db"
            );
            assert_eq!(found.mysql, "mysql://db_user:qwerty@[::1]:3306/mysql_db");
            assert_eq!(found.fluvio, "[::1]:9003");
            assert_eq!(found.dashboard, "http://[::1]:8080");
            assert_eq!(found.control, "http://[::1]:8081");
            assert_eq!(found.capture_control, "http://[::1]:8082");
            assert_eq!(found.ingest_control, "http://[::1]:8083");
        }
    }

    #[test]
    fn a_client_in_the_network_of_the_units_asks_for_their_local_addresses() {
        let fluvio = |units: &str| {
            let settings = settings(&[("FLUVIO_HOST", "sc"), ("FLUVIO_SPU_ADDRESS", units)]);
            Endpoints::from_settings(&settings).unwrap().fluvio
        };
        assert_eq!(fluvio("public"), "sc:9003");
        assert_eq!(fluvio("local"), "sc:9003?spu=local");
    }

    #[test]
    fn a_deployment_notes_what_it_captures_and_a_command_elsewhere_works_with_that() {
        let scratch = ScratchDir::new("deployment").unwrap();
        let of_up = settings(&[
            ("MILLRACE_TABLES", "public.*"),
            ("MILLRACE_MARTS", "my/marts"),
        ]);
        let mut endpoints = Endpoints::from_settings(&of_up).unwrap();
        endpoints.note_pipeline(&of_up).unwrap();
        assert!(!endpoints.settings.contains_key("POSTGRES_PASSWORD"));
        endpoints.write(scratch.path()).unwrap();
        let found = Endpoints::read(scratch.path()).unwrap();
        let elsewhere = settings(&[("MILLRACE_TABLES", "sales.*")]);
        let used = found.settings(&elsewhere).unwrap();
        assert_eq!(used.get(MILLRACE_TABLES).to_string(), "public.*");
        let marts = used.get(MILLRACE_MARTS).unwrap();
        assert!(marts.is_absolute() && marts.ends_with("my/marts"));
        let used = Endpoints::from_settings(&elsewhere).unwrap();
        let used = used.settings(&elsewhere).unwrap();
        assert_eq!(used.get(MILLRACE_TABLES).to_string(), "sales.*");
    }

    #[test]
    fn a_missing_file_says_what_to_start() {
        let error = Endpoints::read(Path::new("nowhere")).unwrap_err();
        assert!(error.to_string().contains("millrace up --data-dir nowhere"));
    }

    #[test]
    fn a_running_up_is_found_and_one_that_was_killed_is_not() {
        let scratch = ScratchDir::new("endpoints").unwrap();
        let here = settings(&[]);
        let find = |settings: &Settings| Endpoints::find_from(scratch.path(), settings).unwrap();
        assert_eq!(find(&here).found, Found::Settings);
        let mut endpoints = Endpoints::from_settings(&here).unwrap();
        endpoints.control_token = "made by up".to_owned();
        endpoints.pid = std::process::id();
        endpoints.write(scratch.path()).unwrap();
        let found = find(&here);
        assert_eq!(found.found, Found::File(file(scratch.path())));
        assert_eq!(found.control_token, "made by up");
        // `up` runs on this machine only: whoever names another one does not mean it.
        assert_eq!(
            find(&settings(&[("MYSQL_HOST", "db.example.org")])).found,
            Found::Settings
        );
        // No process has this number: it is above the limit of the kernel.
        endpoints.pid = u32::MAX;
        endpoints.write(scratch.path()).unwrap();
        assert_eq!(find(&here).found, Found::Settings);
    }
}
