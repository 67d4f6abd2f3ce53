//! What an error of Postgres means for whoever got it.

/// Whether waiting can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// The server is away, busy, starting or failing over, or somebody was in the way. Try again.
    Passes,
    /// Password, role, database or permission: a person has to change something outside of the service, which can go
    /// on by itself afterwards.
    Refused,
    /// The statement, or what it was given, is wrong.
    Wrong,
}

/// The outlook of an error of an ordinary session.
pub fn outlook(error: &sqlx::Error) -> Outlook {
    match error {
        sqlx::Error::Database(error) => error.code().map_or(Outlook::Wrong, |code| of(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Outlook::Passes,
        _ => Outlook::Wrong,
    }
}

/// The outlook of an SQLSTATE. Never of a message, which is in the server's language.
pub fn of(sqlstate: &str) -> Outlook {
    match sqlstate {
        // Wrong password, no such role or not allowed from here, no such database, missing permission, role without
        // login.
        "28P01" | "28000" | "3D000" | "42501" | "0LP01" => Outlook::Refused,
        // Read-only: a failover, or an operator who holds writers back for a while. Somebody else was first.
        "25006" | "25P02" | "25P03" | "25P04" | "55006" | "55P03" => Outlook::Passes,
        // Connection, rolled back (deadlock, serialization), out of resources, operator (shutdown, cancelled, starting
        // up), I/O of the server.
        code => match code.get(..2) {
            Some("08" | "40" | "53" | "57" | "58") => Outlook::Passes,
            _ => Outlook::Wrong,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_refused_and_what_is_wrong() {
        for code in [
            "57P03", "57014", "53300", "40P01", "08006", "25006", "58030",
        ] {
            assert_eq!(of(code), Outlook::Passes, "{code}");
        }
        for code in ["28P01", "3D000", "42501"] {
            assert_eq!(of(code), Outlook::Refused, "{code}");
        }
        for code in ["42601", "23505", "42P01", ""] {
            assert_eq!(of(code), Outlook::Wrong, "{code}");
        }
        let away = sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert_eq!(outlook(&away), Outlook::Passes);
    }
}
