//! Every setting of millrace: one [table](self::table) of names, types, defaults and meanings, and the values in
//! force.
//!
//! Precedence: flag > environment > `.env` (or `--env-file`) > default. All values are checked when they are
//! loaded, so that reading one later cannot fail. Unknown `MILLRACE_*` names and near misses of the other names are
//! errors with a suggestion; whatever else stands in the file or the environment is left alone.
//!
//! Marts and plan of columns are made for a selection of tables: who selects other tables (`--tables` beside the
//! demo's `.env`) does not inherit them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::args::Cli;

mod names;
pub mod size;
mod suggest;
pub mod table;
#[cfg(test)]
mod tests;
pub mod value;

pub use names::Names;
pub use table::{Described, Setting, SETTINGS};
use table::{ELSEWHERE, MILLRACE_COLUMNS, MILLRACE_LOG_FORMAT, MILLRACE_MARTS, MILLRACE_TABLES};
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
    /// The deployment that a command talks to: what `up` wrote into this file.
    Deployment(PathBuf),
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
            Origin::Deployment(path) | Origin::File(path) => path.display().fmt(f),
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
        let flags = cli.command.settings().into_iter();
        let flags = flags.map(|(name, text)| (name.to_owned(), text));
        settings.take(flags.collect(), &Origin::Flag)?;
        settings.check()?;
        Ok(settings)
    }

    /// The same settings as those that a deployment was started with, where it said so in `file`. A flag of this command
    /// stays above that.
    ///
    /// # Errors
    /// If the deployment has another version's settings.
    pub fn of_deployment(
        &self,
        told: &BTreeMap<String, String>,
        file: &Path,
    ) -> Result<Settings, Error> {
        let by_flag = |name: &str| {
            let given = self.given.get(name);
            given.is_some_and(|given| given.origin == Origin::Flag)
        };
        let told = told.iter().filter(|(name, _)| !by_flag(name));
        let told = told.map(|(name, text)| (name.clone(), text.clone()));
        let mut settings = self.clone();
        settings.take(told.collect(), &Origin::Deployment(file.to_owned()))?;
        settings.check()?;
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
        let tables = pairs
            .iter()
            .find(|(name, _)| name == MILLRACE_TABLES.name());
        let selects_others = |(_, text): &(String, String)| text != self.in_force(MILLRACE_TABLES);
        if tables.is_some_and(selects_others) {
            self.given.remove(MILLRACE_MARTS.name());
            self.given.remove(MILLRACE_COLUMNS.name());
        }
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
                    expected: (setting.expected_instead_of)(text),
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
        T::parse(self.in_force(setting))
            .unwrap_or_else(|| unreachable!("{} was checked when it was loaded", setting.name()))
    }

    fn in_force<T: Value>(&self, setting: Setting<T>) -> &str {
        match self.given.get(setting.name()) {
            Some(given) => &given.text,
            None => setting.default(),
        }
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
