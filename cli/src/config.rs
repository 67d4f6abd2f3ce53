//! `millrace config`: the settings in force.

use crate::settings::{Settings, SETTINGS};
use crate::terminal::table;

/// One line per setting; secrets are hidden.
pub(crate) fn list(settings: &Settings) -> String {
    let rows: Vec<Vec<String>> = SETTINGS
        .iter()
        .map(|setting| {
            vec![
                setting.name.to_owned(),
                or_dash(setting.shown(settings.text(setting))),
                settings.origin(setting).to_string(),
                or_dash(setting.shown(setting.default)),
                setting.help.to_owned(),
            ]
        })
        .collect();
    table(&["setting", "value", "from", "default", "meaning"], &rows)
}

fn or_dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_beside_its_default_and_its_origin_and_secrets_are_hidden() {
        let given = [("MYSQL_PORT", "3307"), ("MYSQL_PASSWORD", "hunter2")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::resolve(None, given.to_vec()).unwrap();
        let text = list(&settings);
        let words = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().take(4).map(str::to_owned).collect()
        };
        assert_eq!(
            words("MYSQL_PORT"),
            ["MYSQL_PORT", "3307", "environment", "3306"]
        );
        assert_eq!(
            words("MYSQL_PASSWORD"),
            ["MYSQL_PASSWORD", "***", "environment", "***"]
        );
        assert_eq!(
            words("MILLRACE_SEED"),
            ["MILLRACE_SEED", "42", "default", "42"]
        );
        assert!(!text.contains("hunter2"));
    }
}
