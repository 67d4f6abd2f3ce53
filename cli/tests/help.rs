//! The whole `--help` of every command, as `tests/help/` keeps it. `MILLRACE_BLESS=1` writes it anew.

// Helpers of tests, which the setting in clippy.toml does not cover.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use support::{commands, millrace};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help")
}

fn file(command: &[String]) -> PathBuf {
    let mut name = vec!["millrace".to_owned()];
    name.extend(command.iter().cloned());
    folder().join(name.join("-")).with_extension("txt")
}

fn help(command: &[String]) -> String {
    let output = millrace().args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}");
    assert!(output.stderr.is_empty(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_help_is_as_it_was_read_and_approved() {
    let bless = std::env::var_os("MILLRACE_BLESS").is_some();
    for command in commands() {
        let (file, help) = (file(&command), help(&command));
        if bless {
            std::fs::write(&file, &help).unwrap();
        }
        let approved = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            help,
            approved,
            "{command:?} --help; MILLRACE_BLESS=1 writes {}",
            file.display()
        );
    }
}

#[test]
fn no_help_is_kept_of_a_command_that_is_gone() {
    let kept = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let known: BTreeSet<PathBuf> = commands().iter().map(|command| file(command)).collect();
    assert_eq!(kept.collect::<BTreeSet<_>>(), known);
}
