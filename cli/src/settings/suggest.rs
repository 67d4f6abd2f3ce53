//! Which setting a misspelt name means.

use super::table::SETTINGS;

/// So many mistakes make a near miss of a name that might be somebody else's.
const MISTAKES_MAX: usize = 2;
/// With our prefix it can only be one of ours.
const MISTAKES_MAX_OURS: usize = 6;

/// Names that programs of others read and that are almost ours.
const FOREIGN: &[&str] = &["MYSQL_HOME", "MYSQL_PWD"];

/// The setting that `name` is a near miss of, if its prefix is not ours.
pub(super) fn near_miss(name: &str) -> Option<&'static str> {
    let (mistakes, nearest) = nearest(name)?;
    (mistakes <= MISTAKES_MAX && !FOREIGN.contains(&name)).then_some(nearest)
}

/// The setting that a name with our prefix most likely means.
pub(super) fn of_ours(name: &str) -> Option<&'static str> {
    let (mistakes, nearest) = nearest(name)?;
    (mistakes <= MISTAKES_MAX_OURS).then_some(nearest)
}

fn nearest(name: &str) -> Option<(usize, &'static str)> {
    let name = name.to_ascii_uppercase();
    let distances = SETTINGS
        .iter()
        .map(|setting| (distance(setting.name, &name), setting.name));
    distances.min()
}

/// How many characters were left out, added, replaced, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => cheapest(&rows, a, b, i, j),
            };
        }
    }
    rows[a.len()][b.len()]
}

fn cheapest(rows: &[Vec<usize>], a: &[u8], b: &[u8], i: usize, j: usize) -> usize {
    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
    let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
    match swapped {
        true => best.min(rows[i - 2][j - 2] + 1),
        false => best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_of_all_our_names_are_found() {
        for (name, meant) in [
            ("POSTGRES_PROT", "POSTGRES_PORT"),
            ("POSTGRES_PASSWD", "POSTGRES_PASSWORD"),
            ("MYSQL_HOTS", "MYSQL_HOST"),
            ("FLUVIO_POTR", "FLUVIO_PORT"),
            ("DASHBOARD_PASWORD", "DASHBOARD_PASSWORD"),
            ("MILRACE_USERS", "MILLRACE_USERS"),
            ("postgres_port", "POSTGRES_PORT"),
        ] {
            assert_eq!(near_miss(name), Some(meant), "{name}");
        }
    }

    #[test]
    fn every_setting_with_two_neighbours_swapped_is_recognised() {
        for setting in SETTINGS {
            let mut letters: Vec<char> = setting.name.chars().collect();
            let last = letters.len() - 1;
            letters.swap(last - 1, last);
            let misspelt: String = letters.iter().collect();
            if misspelt != setting.name {
                assert_eq!(near_miss(&misspelt), Some(setting.name), "{misspelt}");
            }
        }
    }

    #[test]
    fn names_that_other_programs_read_are_left_alone() {
        for name in [
            "POSTGRES_INITDB_ARGS",
            "POSTGRES_HOST_AUTH_METHOD",
            "POSTGRES_PASSWORD_FILE",
            "POSTGRES_DB_FILE",
            "MYSQL_ROOT_PASSWORD",
            "MYSQL_ROOT_HOST",
            "MYSQL_DATABASE",
            "MYSQL_TCP_PORT",
            "MYSQL_UNIX_PORT",
            "MYSQL_HOME",
            "MYSQL_PWD",
            "MYSQL_PS1",
            "FLUVIO_CLOUD_URL",
            "PGPORT",
            "PATH",
            "HOME",
            "USER",
        ] {
            assert_eq!(near_miss(name), None, "{name}");
        }
    }
}
