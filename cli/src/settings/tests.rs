//! Settings: precedence, refusals, and the committed `.env`.

use std::collections::BTreeSet;

use millrace_events::TableId;
use millrace_shop_generator::shop;

use super::table::{
    MILLRACE_COLUMNS, MILLRACE_TABLES, MILLRACE_TRADES_PER_SECOND, MILLRACE_USERS, MYSQL_PORT,
    POSTGRES_SCHEMA,
};
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
        ("MILLRACE_USER_EVENT_PERIOD_MS", "-1"),
        ("MILLRACE_ORDER_DETAILS_MIN", "0"),
        ("MILLRACE_COLUMNS", "[]"),
        ("MILLRACE_COLUMNS", "{\"a.b\":1}"),
        ("MILLRACE_COLUMNS", "{\"b\":\"*\"}"),
        ("MILLRACE_TABLES", ""),
        ("MILLRACE_TABLES", "!a.b"),
        ("MILLRACE_TABLES", "b"),
        ("MILLRACE_VALUES", ""),
        ("MILLRACE_VALUES", "nul"),
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
fn the_part_of_a_list_that_is_wrong_is_named() {
    for (name, value, part) in [
        (
            "MILLRACE_TABLES",
            "public.*,sales",
            "\"sales\" is no pattern",
        ),
        (
            "MILLRACE_VALUES",
            "null,public.t.c=txt",
            "did you mean text?",
        ),
        ("MILLRACE_VALUES", "public.t=null", "write public.t.*"),
    ] {
        let error = Settings::resolve(None, pair(name, value)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_refused_value_of_a_secret_is_not_shown() {
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        assert_eq!(setting.shown("x"), "***", "{}", setting.name);
    }
    assert_eq!(SETTINGS.iter().filter(|setting| setting.secret).count(), 4);
}

/// What `.env` sets for the shop of the demo; everything else in it is the default.
const DEMO: [&str; 7] = [
    "MILLRACE_NAME",
    "MILLRACE_TABLES",
    "MILLRACE_MARTS",
    "MILLRACE_COLUMNS",
    "MILLRACE_VERIFY_PERIOD",
    "MILLRACE_PUBLICATION",
    "MILLRACE_SLOT",
];

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env")
}

/// `.env` lists every setting once, in the order of the table, with its meaning above it.
#[test]
fn the_committed_file_is_the_table() {
    let text = std::fs::read_to_string(committed()).unwrap();
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
        let is_default = value == setting.default;
        assert_ne!(is_default, DEMO.contains(&name), "{name}={value}");
        let help = meaning
            .strip_prefix("# ")
            .unwrap_or_default()
            .to_lowercase();
        assert_eq!(help, setting.help.to_lowercase(), "{name}");
    }
}

#[test]
fn the_committed_file_selects_the_whole_shop_and_nothing_but_it() {
    let settings = Settings::load(Some(&committed())).unwrap();
    let schema = settings.get(POSTGRES_SCHEMA);
    let shop = shop::TABLES.map(|table| TableId::new(schema.as_str(), table));
    let tables = settings.get(MILLRACE_TABLES);
    assert!(shop.iter().all(|table| tables.matches(table)), "{tables}");
    assert!(!tables.matches(&TableId::new(schema.as_str(), "another")));
    let columns = settings.get(MILLRACE_COLUMNS).unwrap().0;
    let planned: BTreeSet<TableId> = columns.keys().map(|key| key.parse().unwrap()).collect();
    assert_eq!(planned, shop.into_iter().collect());
}

#[test]
fn who_selects_other_tables_inherits_neither_marts_nor_columns() {
    let of = |tables: &str, also: &[(&str, &str)]| {
        let file = committed();
        let pairs = read_file(&file).unwrap();
        let given = also.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        let given = pair("MILLRACE_TABLES", tables).into_iter().chain(given);
        let settings = Settings::resolve(Some(pairs), given.collect()).unwrap();
        (settings.get(MILLRACE_MARTS), settings.get(MILLRACE_COLUMNS))
    };
    assert_eq!(of("public.*", &[]), (None, None));
    let (marts, columns) = of("public.*", &[("MILLRACE_MARTS", "mine")]);
    assert_eq!((marts, columns), (Some("mine".into()), None));
    let shop = Settings::load(Some(&committed())).unwrap();
    let same = shop.get(MILLRACE_TABLES).to_string();
    let (marts, columns) = of(&same, &[]);
    assert!(marts.is_some() && columns.is_some());
}

#[test]
fn a_command_works_with_the_settings_of_its_deployment_but_for_its_own_flags() {
    let mut here = Settings::resolve(file("MILLRACE_NAME", "here"), vec![]).unwrap();
    let told = [("MILLRACE_NAME", "there"), ("MILLRACE_MARTS", "/marts")];
    let told = told.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let told = BTreeMap::from(told);
    let path = Path::new("d/endpoints.json");
    let settings = here.of_deployment(&told, path).unwrap();
    assert_eq!(Names::of(&settings).changes, "there-changes");
    let origin = settings.origin(described("MILLRACE_MARTS"));
    assert_eq!(origin.to_string(), "d/endpoints.json");
    let flag = pair("MILLRACE_NAME", "flagged");
    here.take(flag, &Origin::Flag).unwrap();
    let settings = here.of_deployment(&told, path).unwrap();
    assert_eq!(Names::of(&settings).changes, "flagged-changes");
}
