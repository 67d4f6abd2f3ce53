//! The real binary, run where it finds no settings.

#![allow(dead_code)]

use std::process::{Command, Stdio};

use clap::CommandFactory;
use millrace_cli::args::Cli;

/// The binary, outside of any checkout, with none of our settings.
pub(crate) fn millrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command
        .env_clear()
        .envs(
            std::env::vars()
                .filter(|(name, _)| ["PATH", "HOME", "TMPDIR"].contains(&name.as_str())),
        )
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null());
    command
}

/// Every command and command of a command, and the program itself, which has no name.
pub(crate) fn commands() -> Vec<Vec<String>> {
    fn add(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
        all.push(path.to_vec());
        for sub in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            let mut path = path.to_vec();
            path.push(sub.get_name().to_owned());
            add(sub, &path, all);
        }
    }
    let mut all = Vec::new();
    add(&Cli::command(), &[], &mut all);
    all
}

/// Those that do something themselves.
pub(crate) fn leaves() -> Vec<Vec<String>> {
    let all = commands();
    let is_leaf = |command: &&Vec<String>| {
        !all.iter()
            .any(|other| other.len() > command.len() && other.starts_with(command))
    };
    all.iter().filter(is_leaf).cloned().collect()
}
