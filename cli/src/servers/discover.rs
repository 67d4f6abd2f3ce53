//! Finds the installations of Postgres and of MySQL or MariaDB on this machine.
//!
//! A place told explicitly comes first, then `MILLRACE_POSTGRES_BIN` (a folder) or `MILLRACE_MYSQL_BIN` (the server
//! program), then `PATH`, then the folders that distributions use. Only programs are looked at, never a running
//! service.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_sessions::mysql::{Flavour, OLDEST};

use super::error::{io, Error};

const POSTGRES_VARIABLE: &str = "MILLRACE_POSTGRES_BIN";
const MYSQL_VARIABLE: &str = "MILLRACE_MYSQL_BIN";

const POSTGRES_FOLDERS: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/lib64/pgsql/bin",
];
const MYSQL_FOLDERS: [&str; 7] = [
    "/usr/sbin",
    "/usr/bin",
    "/usr/libexec",
    "/usr/local/mysql/bin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
];

/// A version as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 where a server has none.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.patch {
            0 => Ok(()),
            patch => write!(f, ".{patch}"),
        }
    }
}

/// A Postgres installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// The folder that holds `initdb` and `postgres`.
    pub dir: PathBuf,
    /// Its version.
    pub version: Version,
}

impl PostgresBinaries {
    /// The path of one of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A MySQL or MariaDB server program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MySqlBinary {
    /// The server: `mysqld` or `mariadbd`.
    pub server: PathBuf,
    /// MariaDB's `mariadb-install-db`; MySQL's server initialises itself.
    pub install: Option<PathBuf>,
    /// Which of the two it is.
    pub flavour: Flavour,
    /// Its version.
    pub version: Version,
}

/// Finds Postgres 14 or newer: in the folder `told`, or else the major version `wanted` if it is here, or else the
/// newest.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::TooOld`] when the place told holds an older one.
pub fn postgres(told: Option<&Path>, wanted: Option<u32>) -> Result<PostgresBinaries, Error> {
    if let Some(dir) = told_or_variable(told, POSTGRES_VARIABLE) {
        return postgres_in(&dir)?
            .ok_or_else(|| not_found_postgres(format!("{} has no initdb", dir.display())));
    }
    let mut found: Vec<PostgresBinaries> = path_folders()
        .chain(POSTGRES_FOLDERS.iter().flat_map(|pattern| expand(pattern)))
        .filter_map(|dir| postgres_in(&dir).ok().flatten())
        .collect();
    found.sort_by_key(|candidate| (Some(candidate.version.major) == wanted, candidate.version));
    found.pop().ok_or_else(|| {
        not_found_postgres("looked on PATH and in the distributions' folders".into())
    })
}

fn not_found_postgres(found: String) -> Error {
    Error::NotFound {
        oldest: "PostgreSQL 14",
        found,
        variable: POSTGRES_VARIABLE,
    }
}

/// `None` if the folder holds no Postgres server.
fn postgres_in(dir: &Path) -> Result<Option<PostgresBinaries>, Error> {
    let server = dir.join("postgres");
    if !server.is_file() || !dir.join("initdb").is_file() {
        return Ok(None);
    }
    let server = fs::canonicalize(&server).map_err(io("open", &server))?;
    let output = version_output(&server)?;
    let version = parse_version(&output, "(PostgreSQL)")?;
    if version.major < 14 {
        return Err(Error::TooOld {
            path: server,
            found: version,
            minimum: "14",
        });
    }
    let dir = server
        .parent()
        .map_or_else(|| dir.to_path_buf(), Path::to_path_buf);
    Ok(Some(PostgresBinaries { dir, version }))
}

/// Finds a server that [`OLDEST`] allows: the server program `told`, or else the first on `PATH` and in the
/// distributions' folders.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::TooOld`] when the program told is older.
pub fn mysql(told: Option<&Path>) -> Result<MySqlBinary, Error> {
    if let Some(server) = told_or_variable(told, MYSQL_VARIABLE) {
        return mysql_at(&server);
    }
    path_folders()
        .chain(MYSQL_FOLDERS.iter().map(PathBuf::from))
        .flat_map(|dir| [dir.join("mariadbd"), dir.join("mysqld")])
        .filter(|server| server.is_file())
        .find_map(|server| mysql_at(&server).ok())
        .ok_or_else(|| Error::NotFound {
            oldest: OLDEST,
            found: "looked on PATH and in the distributions' folders".into(),
            variable: MYSQL_VARIABLE,
        })
}

fn mysql_at(server: &Path) -> Result<MySqlBinary, Error> {
    let output = version_output(server)?;
    let version = parse_version(&output, "Ver")?;
    let flavour = match output.contains("MariaDB") {
        true => Flavour::MariaDb,
        false => Flavour::MySql,
    };
    if !works(flavour, version) {
        return Err(Error::TooOld {
            path: server.into(),
            found: version,
            minimum: OLDEST,
        });
    }
    let install = match flavour {
        Flavour::MySql => None,
        Flavour::MariaDb => Some(install_program(server)?),
    };
    Ok(MySqlBinary {
        server: server.into(),
        install,
        flavour,
        version,
    })
}

/// What the projector would refuse is not taken in the first place.
fn works(flavour: Flavour, version: Version) -> bool {
    let (major, minor, patch) = flavour.oldest();
    version
        >= Version {
            major,
            minor,
            patch,
        }
}

fn install_program(server: &Path) -> Result<PathBuf, Error> {
    let beside = server.parent().into_iter().flat_map(|dir| {
        [
            dir.to_path_buf(),
            dir.join("../bin"),
            dir.join("../scripts"),
        ]
    });
    beside
        .chain(path_folders())
        .flat_map(|dir| [dir.join("mariadb-install-db"), dir.join("mysql_install_db")])
        .find(|program| program.is_file())
        .ok_or_else(|| Error::NotFound {
            oldest: "mariadb-install-db of MariaDB 10.6",
            found: format!("{} is there", server.display()),
            variable: MYSQL_VARIABLE,
        })
}

fn told_or_variable(told: Option<&Path>, name: &str) -> Option<PathBuf> {
    let from_variable = || {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    told.map(Path::to_path_buf).or_else(from_variable)
}

fn path_folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .collect::<Vec<_>>()
        .into_iter()
}

/// The folders that match a path with at most one `*`, in no particular order.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![pattern.into()];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect()
}

fn version_output(program: &Path) -> Result<String, Error> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(io("run", program))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version after the word `marker`: "Ver 10.11.19-MariaDB", "(PostgreSQL) 15.18", "(PostgreSQL) 17beta1".
fn parse_version(output: &str, marker: &str) -> Result<Version, Error> {
    let unknown = || Error::UnknownVersion {
        output: output.to_owned(),
    };
    let word = output
        .split_whitespace()
        .skip_while(|word| *word != marker)
        .nth(1)
        .ok_or_else(unknown)?;
    let mut numbers = word.split('.').map(leading_number);
    let major = numbers.next().flatten().ok_or_else(unknown)?;
    let mut next = || numbers.next().flatten().unwrap_or(0);
    let (minor, patch) = (next(), next());
    Ok(Version {
        major,
        minor,
        patch,
    })
}

fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(output: &str, marker: &str) -> (u32, u32, u32) {
        let version = parse_version(output, marker).expect("a version");
        (version.major, version.minor, version.patch)
    }

    #[test]
    fn versions_as_the_servers_print_them() {
        assert_eq!(
            version(
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
                "(PostgreSQL)"
            ),
            (15, 18, 0)
        );
        assert_eq!(
            version("postgres (PostgreSQL) 18beta1", "(PostgreSQL)"),
            (18, 0, 0)
        );
        let maria =
            "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)";
        assert_eq!(version(maria, "Ver"), (10, 11, 19));
        assert_eq!(
            version(
                "/usr/sbin/mysqld  Ver 8.0.36-0ubuntu0.22.04.1 for Linux",
                "Ver"
            ),
            (8, 0, 36)
        );
        assert!(parse_version("something else", "Ver").is_err());
    }

    #[test]
    fn servers_that_the_projector_refuses_are_not_taken() {
        for (flavour, output, expected) in [
            (Flavour::MySql, "mysqld  Ver 8.0.22 for Linux", false),
            (Flavour::MySql, "mysqld  Ver 8.0.23 for Linux", true),
            (Flavour::MySql, "mysqld  Ver 8.4.0 for Linux", true),
            (Flavour::MariaDb, "mariadbd  Ver 10.5.28-MariaDB for", false),
            (Flavour::MariaDb, "mariadbd  Ver 10.6.0-MariaDB for", true),
        ] {
            let version = parse_version(output, "Ver").expect("a version");
            assert_eq!(works(flavour, version), expected, "{output}");
        }
        let shown = parse_version("mysqld  Ver 8.0.22 for Linux", "Ver").expect("a version");
        assert_eq!(shown.to_string(), "8.0.22");
    }

    #[test]
    fn folders_with_a_star_are_expanded() {
        let found = expand("/usr/*/../bin");
        assert!(found.iter().all(|dir| dir.ends_with("../bin")) && !found.is_empty());
        assert_eq!(expand("/no/star"), vec![PathBuf::from("/no/star")]);
        assert!(expand("/not/there/*/bin").is_empty());
    }
}
