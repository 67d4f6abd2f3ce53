//! Every setting of millrace: one table of names, defaults and meanings, and the values in force.
//!
//! Precedence: flag > environment > `.env` (or `--env-file`) > default. Unknown `MILLRACE_*` names
//! are errors with a suggestion; other names in the file are left alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

mod table;

use table::ELSEWHERE;
pub use table::{Setting, SETTINGS};

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
    /// A name starts with `MILLRACE_` but means nothing.
    #[error("{name} (from {origin}) is not a setting of millrace{suggestion}")]
    Unknown {
        /// The name.
        name: String,
        /// Where it stands.
        origin: &'static str,
        /// `; did you mean …?` or empty.
        suggestion: String,
    },
    /// A value does not parse.
    #[error("{name} = {value:?} is not {expected}; it means: {help}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What stands there; `***` for passwords.
        value: String,
        /// What it should be.
        expected: &'static str,
        /// The meaning of the setting.
        help: &'static str,
    },
}

/// The values in force, by name.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Reads the environment and `env_file`; without one, `.env` in the working directory if there is one.
    pub fn load(env_file: Option<&Path>) -> Result<Settings, Error> {
        let file = match env_file {
            Some(path) => read_file(path)?,
            None if Path::new(".env").exists() => read_file(Path::new(".env"))?,
            None => Vec::new(),
        };
        Settings::resolve(file, std::env::vars().collect())
    }

    /// Combines the pairs of a file and of the environment, which wins.
    pub fn resolve(
        file: Vec<(String, String)>,
        environment: Vec<(String, String)>,
    ) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        for (origin, pairs) in [
            ("the settings file", file),
            ("the environment", environment),
        ] {
            for (name, value) in pairs {
                match SETTINGS.iter().find(|setting| setting.name == name) {
                    Some(setting) => drop(settings.values.insert(setting.name, value)),
                    None if ELSEWHERE.contains(&name.as_str()) => {}
                    None if name.starts_with("MILLRACE_") => return Err(unknown(name, origin)),
                    None => {}
                }
            }
        }
        Ok(settings)
    }

    /// Puts a value from the command line above everything else.
    pub fn set(&mut self, name: &'static str, value: String) {
        self.values.insert(name, value);
    }

    /// The value of `name`, or its default.
    pub fn text(&self, name: &'static str) -> &str {
        match self.values.get(name) {
            Some(value) => value,
            None => setting(name).default,
        }
    }

    /// The value of `name` as a number or another parsed type; `expected` describes it in errors.
    pub fn parse<T: FromStr>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<T, Error> {
        let text = self.text(name);
        text.trim().parse().map_err(|_| Error::Value {
            name,
            value: shown(setting(name), text),
            expected,
            help: setting(name).help,
        })
    }

    /// A whole number.
    pub fn number(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(name, "a whole number")
    }

    /// A TCP port.
    pub fn port(&self, name: &'static str) -> Result<u16, Error> {
        self.parse(name, "a port number from 0 to 65535")
    }

    /// Names of password settings that still have their committed demo value. Empty is none: nobody
    /// gets in with it.
    pub fn default_passwords(&self) -> Vec<&'static str> {
        SETTINGS
            .iter()
            .filter(|setting| setting.secret && !setting.default.is_empty())
            .filter(|setting| self.text(setting.name) == setting.default)
            .map(|setting| setting.name)
            .collect()
    }
}

fn setting(name: &'static str) -> &'static Setting {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .unwrap_or_else(|| unreachable!("{name} stands in the table of settings"))
}

fn shown(setting: &Setting, value: &str) -> String {
    if setting.secret {
        "***".to_owned()
    } else {
        value.to_owned()
    }
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let error = |reason: String| Error::File {
        path: path.display().to_string(),
        reason,
    };
    dotenvy::from_path_iter(path)
        .map_err(|e| error(e.to_string()))?
        .map(|pair| pair.map_err(|e| error(e.to_string())))
        .collect()
}

fn unknown(name: String, origin: &'static str) -> Error {
    let nearest = SETTINGS
        .iter()
        .map(|setting| (distance(setting.name, &name), setting.name))
        .min();
    let suggestion = match nearest {
        Some((distance, nearest)) if distance <= 6 => format!("; did you mean {nearest}?"),
        _ => "; `millrace config` lists them all".to_owned(),
    };
    Error::Unknown {
        name,
        origin,
        suggestion,
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let name = "MILLRACE_USERS";
        let default = Settings::resolve(vec![], vec![]).unwrap();
        assert_eq!(default.number(name).unwrap(), 500);
        let file = Settings::resolve(pair(name, "7"), vec![]).unwrap();
        assert_eq!(file.number(name).unwrap(), 7);
        let both = Settings::resolve(pair(name, "7"), pair(name, "9")).unwrap();
        assert_eq!(both.number(name).unwrap(), 9);
    }

    #[test]
    fn a_misspelt_name_is_an_error_with_a_suggestion() {
        let error = Settings::resolve(pair("MILLRACE_USER", "7"), vec![]).unwrap_err();
        assert!(
            error.to_string().contains("did you mean MILLRACE_USERS?"),
            "{error}"
        );
        assert!(Settings::resolve(pair("SOMETHING_ELSE", "7"), vec![]).is_ok());
    }

    #[test]
    fn a_bad_value_names_the_setting_and_its_meaning() {
        let settings = Settings::resolve(pair("MYSQL_PORT", "many"), vec![]).unwrap();
        let error = settings.port("MYSQL_PORT").unwrap_err().to_string();
        assert!(error.contains("MYSQL_PORT = \"many\""), "{error}");
    }

    #[test]
    fn the_committed_file_holds_every_setting_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env");
        let file: BTreeMap<String, String> = read_file(&path).unwrap().into_iter().collect();
        for setting in SETTINGS {
            let value = file.get(setting.name).map(String::as_str);
            assert_eq!(value, Some(setting.default), "{} in .env", setting.name);
        }
        assert_eq!(
            file.len(),
            SETTINGS.len(),
            "names in .env that are no setting"
        );
    }
}
