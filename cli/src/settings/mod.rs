//! Every setting of millrace: one [table](self::table) of names, types, defaults and meanings, and the values in
//! force.
//!
//! Precedence: flag > environment > `.env` (or `--env-file`) > default. All values are checked when they are
//! loaded, so that reading one later cannot fail. Unknown `MILLRACE_*` names and near misses of the other names are
//! errors with a suggestion; whatever else stands in the file or the environment is left alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::args::Cli;

pub mod size;
mod suggest;
pub mod table;
pub mod value;

pub use table::{Described, Setting, SETTINGS};
use table::{ELSEWHERE, MILLRACE_LOG_FORMAT};
pub use value::Value;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file named by `--env-file` cannot be read, or a line of it cannot be parsed.
    #[error("cannot read settings from {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the reader said.
        reason: String,
    },
    /// A name that looks like one of ours means nothing.
    #[error("{name} (from {origin}) is not a setting of millrace{suggestion}")]
    Unknown {
        /// The name.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// `; did you mean …?` or where to look.
        suggestion: String,
    },
    /// A value is not of the setting's type.
    #[error("{name} = {value:?} (from {origin}) is not {expected}. {name}: {help}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What stands there; `***` for passwords.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What it should be.
        expected: String,
        /// The meaning of the setting.
        help: &'static str,
    },
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// This settings file.
    File(PathBuf),
    /// Nobody gave one.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment => f.write_str("environment"),
            Origin::File(path) => path.display().fmt(f),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A settings file that was read.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Names and values in its order.
    pub pairs: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Given {
    text: String,
    origin: Origin,
}

/// The values in force, by name. All of them are valid.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Given>,
}

impl Settings {
    /// What a command line asks for: its settings file, and the flags that are settings.
    ///
    /// # Errors
    /// If the file cannot be read, or a name or a value is wrong.
    pub fn of(cli: &Cli) -> Result<Settings, Error> {
        let mut settings = Settings::load(cli.env_file.as_deref())?;
        if let Some(format) = cli.log_format {
            settings.set(MILLRACE_LOG_FORMAT, format);
        }
        Ok(settings)
    }

    /// Reads the environment and `env_file`; without one, `.env` in the working directory if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, or a name or a value is wrong.
    pub fn load(env_file: Option<&Path>) -> Result<Settings, Error> {
        let file = match env_file {
            Some(path) => Some(read_file(path)?),
            None if Path::new(".env").exists() => Some(read_file(Path::new(".env"))?),
            None => None,
        };
        // A value that is not Unicode cannot be a value of ours; its name is another program's.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Settings::resolve(file, environment.collect())
    }

    /// Combines the values of a file and of the environment, which wins.
    ///
    /// # Errors
    /// If a name or a value is wrong.
    pub fn resolve(
        file: Option<File>,
        environment: Vec<(String, String)>,
    ) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        if let Some(File { path, pairs }) = file {
            settings.take(pairs, &Origin::File(path))?;
        }
        settings.take(environment, &Origin::Environment)?;
        settings.check()?;
        Ok(settings)
    }

    fn take(&mut self, pairs: Vec<(String, String)>, origin: &Origin) -> Result<(), Error> {
        for (name, text) in pairs {
            match SETTINGS.iter().find(|setting| setting.name == name) {
                Some(setting) => {
                    let origin = origin.clone();
                    self.given.insert(setting.name, Given { text, origin });
                }
                None => refuse_misspelt(name, origin)?,
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        for setting in SETTINGS {
            let text = self.text(setting);
            if !(setting.accepts)(text) {
                return Err(Error::Value {
                    name: setting.name,
                    value: setting.shown(text).to_owned(),
                    origin: self.origin(setting),
                    expected: (setting.expected)(),
                    help: setting.help,
                });
            }
        }
        Ok(())
    }

    /// Puts a value from the command line above everything else.
    pub fn set<T: Value + fmt::Display>(&mut self, setting: Setting<T>, value: T) {
        let (text, origin) = (value.to_string(), Origin::Flag);
        self.given.insert(setting.name(), Given { text, origin });
    }

    /// The value in force.
    #[must_use]
    pub fn get<T: Value>(&self, setting: Setting<T>) -> T {
        let text = match self.given.get(setting.name()) {
            Some(given) => &given.text,
            None => setting.default(),
        };
        T::parse(text)
            .unwrap_or_else(|| unreachable!("{} was checked when it was loaded", setting.name()))
    }

    /// The text of the value in force.
    #[must_use]
    pub fn text(&self, setting: &Described) -> &str {
        match self.given.get(setting.name) {
            Some(given) => &given.text,
            None => setting.default,
        }
    }

    /// Where the value in force comes from.
    #[must_use]
    pub fn origin(&self, setting: &Described) -> Origin {
        match self.given.get(setting.name) {
            Some(given) => given.origin.clone(),
            None => Origin::Default,
        }
    }

    /// Names of password settings that still have their committed demo value. Empty is none: nobody
    /// gets in with it.
    #[must_use]
    pub fn default_passwords(&self) -> Vec<&'static str> {
        SETTINGS
            .iter()
            .filter(|setting| setting.secret && !setting.default.is_empty())
            .filter(|setting| self.text(setting) == setting.default)
            .map(|setting| setting.name)
            .collect()
    }
}

impl Described {
    /// A text for people; `***` for a secret.
    #[must_use]
    pub fn shown<'a>(&self, text: &'a str) -> &'a str {
        match self.secret && !text.is_empty() {
            true => "***",
            false => text,
        }
    }
}

fn read_file(path: &Path) -> Result<File, Error> {
    let error = |error: dotenvy::Error| Error::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let pairs = dotenvy::from_path_iter(path).map_err(error)?;
    Ok(File {
        path: path.to_owned(),
        pairs: pairs
            .map(|pair| pair.map_err(error))
            .collect::<Result<_, _>>()?,
    })
}

fn refuse_misspelt(name: String, origin: &Origin) -> Result<(), Error> {
    if ELSEWHERE.contains(&name.as_str()) {
        return Ok(());
    }
    let is_ours = name.starts_with("MILLRACE_");
    let meant = match is_ours {
        true => suggest::of_ours(&name),
        false => suggest::near_miss(&name),
    };
    let suggestion = match meant {
        Some(meant) => format!("; did you mean {meant}?"),
        None if is_ours => "; `millrace config` lists all settings".to_owned(),
        None => return Ok(()),
    };
    Err(Error::Unknown {
        name,
        origin: origin.clone(),
        suggestion,
    })
}

#[cfg(test)]
mod tests {
    use super::table::{MILLRACE_TRADES_PER_SECOND, MILLRACE_USERS, MYSQL_PORT};
    use super::*;

    fn pair(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    fn file(name: &str, value: &str) -> Option<File> {
        let path = PathBuf::from(".env");
        Some(File {
            path,
            pairs: pair(name, value),
        })
    }

    fn described(name: &str) -> &'static Described {
        SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .unwrap()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let name = "MILLRACE_USERS";
        for (settings, users, origin) in [
            (Settings::resolve(None, vec![]), 500, "default"),
            (Settings::resolve(file(name, "7"), vec![]), 7, ".env"),
            (
                Settings::resolve(file(name, "7"), pair(name, "9")),
                9,
                "environment",
            ),
        ] {
            let mut settings = settings.unwrap();
            assert_eq!(settings.get(MILLRACE_USERS), users);
            assert_eq!(settings.origin(described(name)).to_string(), origin);
            settings.set(MILLRACE_USERS, 11);
            assert_eq!(settings.get(MILLRACE_USERS), 11);
            assert_eq!(settings.origin(described(name)), Origin::Flag);
        }
    }

    #[test]
    fn a_misspelt_name_is_an_error_with_a_suggestion() {
        for (name, said) in [
            ("MILLRACE_USER", "did you mean MILLRACE_USERS?"),
            ("POSTGRES_PROT", "did you mean POSTGRES_PORT?"),
            (
                "MILLRACE_SOMETHING_ELSE_ALTOGETHER",
                "`millrace config` lists all settings",
            ),
        ] {
            for error in [
                Settings::resolve(file(name, "7"), vec![]).unwrap_err(),
                Settings::resolve(None, pair(name, "7")).unwrap_err(),
            ] {
                assert!(error.to_string().contains(said), "{error}");
            }
        }
        for name in [
            "SOMETHING_ELSE",
            "POSTGRES_INITDB_ARGS",
            "MILLRACE_TEST_SEED",
        ] {
            assert!(
                Settings::resolve(file(name, "7"), pair(name, "7")).is_ok(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_meaning_for_every_typed_setting() {
        let mut typed = 0;
        for setting in SETTINGS {
            // No control character can be part of any value but a password, a path or a name.
            let refused = Settings::resolve(None, pair(setting.name, "\u{7} fast"));
            match refused {
                Ok(_) => assert!((setting.accepts)("\u{7} fast"), "{}", setting.name),
                Err(error) => {
                    typed += 1;
                    let error = error.to_string();
                    assert!(
                        error.contains(setting.name) && error.contains(setting.help),
                        "{error}"
                    );
                }
            }
        }
        assert!(typed > 30, "{typed}");
    }

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        for (name, value) in [
            ("MILLRACE_TRADES_PER_SECOND", "fast"),
            ("MILLRACE_TRADES_PER_SECOND", "NaN"),
            ("MILLRACE_TRADES_PER_SECOND", "-1"),
            ("MYSQL_PORT", "many"),
            ("MYSQL_PORT", "65536"),
            ("MILLRACE_RETENTION_DAYS", "0"),
            ("MILLRACE_RETENTION_DAYS", "99999999999999"),
            ("MILLRACE_RETENTION_SIZE", "32"),
            ("MILLRACE_RETENTION_HARD_SIZE", "1MiB"),
            ("MILLRACE_USER_EVENT_PERIOD_MS", "0"),
            ("MILLRACE_ORDER_DETAILS_MIN", "0"),
            ("MILLRACE_COLUMNS", "[]"),
            ("MILLRACE_COLUMNS", "{\"users\":1}"),
            ("MILLRACE_LOG_FORMAT", "xml"),
            ("POSTGRES_HOST", ""),
            ("POSTGRES_SCHEMA", "pg_catalog"),
        ] {
            let error = Settings::resolve(None, pair(name, value)).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(&format!("{name} = {value:?}")), "{error}");
        }
        let settings = Settings::resolve(None, pair("MYSQL_PORT", " 1 ")).unwrap();
        assert_eq!(settings.get(MYSQL_PORT), 1);
        assert_eq!(settings.get(MILLRACE_TRADES_PER_SECOND).0, 5.0);
    }

    #[test]
    fn a_refused_value_of_a_secret_is_not_shown() {
        for setting in SETTINGS.iter().filter(|setting| setting.secret) {
            assert_eq!(setting.shown("x"), "***", "{}", setting.name);
        }
        assert_eq!(SETTINGS.iter().filter(|setting| setting.secret).count(), 4);
    }

    /// `.env` lists every setting once, in the order of the table, with its meaning above it.
    #[test]
    fn the_committed_file_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let listed: Vec<_> = lines
            .windows(2)
            .filter_map(|pair| Some((pair[0], pair[1].split_once('=')?)))
            .filter(|(_, (name, _))| !name.starts_with('#'))
            .map(|(meaning, (name, value))| (name, value, meaning))
            .collect();
        let table: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(listed.iter().map(|line| line.0).collect::<Vec<_>>(), table);
        for (setting, (name, value, meaning)) in SETTINGS.iter().zip(listed) {
            assert_eq!(value, setting.default, "{name}");
            let help = meaning
                .strip_prefix("# ")
                .unwrap_or_default()
                .to_lowercase();
            assert_eq!(help, setting.help.to_lowercase(), "{name}");
        }
    }
}
