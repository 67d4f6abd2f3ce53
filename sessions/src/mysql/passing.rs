//! Which errors of MySQL may pass by themselves.
//!
//! The lists of server errors of MySQL 9 and MariaDB 11 were gone through once. An error is in the list if the same
//! statement, in a new session, may succeed without anybody changing millrace or its settings: the server was short
//! of something, was busy, was told to stand still, or is another one after a failover.

use std::io;

use sqlx::mysql::MySqlDatabaseError;

/// Error number, and what the server says with it.
const PASSING: [(u16, &str); 59] = [
    (3, "writing a file failed (EE_WRITE)"),
    (20, "disk full (EE_DISK_FULL)"),
    (28, "no space left on the device (errno)"),
    (1015, "a file cannot be locked"),
    (1016, "a file cannot be opened: too many are open"),
    (1020, "the record has changed since it was read"),
    (1021, "disk full, waiting for space"),
    (1024, "reading a file failed"),
    (1026, "writing a file failed"),
    (1028, "a sort was aborted"),
    (
        1030,
        "the storage engine failed: disk full, or a node that is leaving",
    ),
    (1036, "the table is read only: the server is, for now"),
    (1037, "out of memory"),
    (1038, "out of memory for sorting"),
    (1040, "too many connections"),
    (1041, "out of resources"),
    (1047, "the node is not ready (Galera)"),
    (1053, "the server is shutting down"),
    (1077, "the server has shut down"),
    (1079, "the server has shut down"),
    (1080, "the thread was closed by force"),
    (1114, "the table is full: the disk is"),
    (1135, "no thread can be created"),
    (1152, "the connection was aborted"),
    (
        1153,
        "the packet is too large for a limit that was lowered meanwhile",
    ),
    (1154, "a pipe was broken"),
    (1155, "fcntl failed"),
    (1156, "packets are out of order"),
    (1157, "a packet could not be uncompressed"),
    (1158, "reading from the network failed"),
    (1159, "reading from the network took too long"),
    (1160, "writing to the network failed"),
    (1161, "writing to the network took too long"),
    (1180, "COMMIT failed"),
    (1181, "ROLLBACK failed"),
    (1184, "a new connection was aborted"),
    (1203, "the user has too many connections"),
    (1205, "a lock was waited for too long"),
    (1206, "no room for more locks"),
    (1213, "deadlock"),
    (1226, "the user has used up what is granted per hour"),
    (
        1290,
        "an option prevents it: read_only, super_read_only, max_session_mem_used",
    ),
    (1317, "interrupted"),
    (
        1412,
        "the table's definition has changed during the transaction",
    ),
    (1615, "the statement must be prepared again"),
    (1637, "too many transactions at once"),
    (
        1792,
        "the session is read only: a proxy sent it to a replica",
    ),
    (1836, "the server is read only for now"),
    (1874, "InnoDB is read only for now"),
    (1878, "a temporary file could not be written: disk full"),
    (1927, "the connection was killed"),
    (1969, "the statement took longer than max_statement_time"),
    (3024, "the statement took longer than max_execution_time"),
    (3032, "the server is offline for clients"),
    (3058, "deadlock of named locks"),
    (3100, "group replication refused the commit"),
    (3101, "group replication rolled the transaction back"),
    (3168, "the server is not available"),
    (3169, "the session was killed"),
];

/// Numbers of this range are those of a client library: a proxy passes on what happened behind it.
const OF_CLIENTS: std::ops::RangeInclusive<u16> = 2_000..=2_099;
/// ProxySQL: no server of the group could be reached in time.
const OF_PROXIES: std::ops::RangeInclusive<u16> = 9_001..=9_006;
/// MySQL: disconnected for having been silent. MariaDB has another error of this number.
const SILENT_TOO_LONG: u16 = 4031;

/// What a server says that does not let somebody in: the password was changed, the account was locked, the host was
/// blocked, the database is being restored. A person mends that on the server's side.
const REFUSING: [u16; 15] = [
    1042, 1043, 1044, 1045, 1049, 1129, 1130, 1133, 1251, 1396, 1524, 1698, 1820, 1862, 3118,
];

/// The server's number of an error, if the server said it.
pub fn server_code(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()?
        .try_downcast_ref::<MySqlDatabaseError>()
        .map(MySqlDatabaseError::number)
}

/// True for server errors that pass by themselves, and for everything that is about the connection.
pub fn may_pass(error: &sqlx::Error) -> bool {
    match server_code(error) {
        Some(SILENT_TOO_LONG) => true,
        Some(code) => {
            let listed = PASSING.iter().any(|(passing, _)| *passing == code);
            listed || OF_CLIENTS.contains(&code) || OF_PROXIES.contains(&code)
        }
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
        ),
    }
}

/// True if the server answers, and does not let us in.
pub fn server_refused(error: &sqlx::Error) -> bool {
    server_code(error).is_some_and(|code| REFUSING.contains(&code))
}

/// True if the server has rolled back because of locks: the same session may repeat the transaction.
pub fn is_lock_conflict(error: &sqlx::Error) -> bool {
    matches!(server_code(error), Some(1020 | 1205 | 1213))
}

/// True if the server did not answer within the time limit. What it made of the statement is unknown.
pub fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_names_no_error_twice() {
        let mut codes: Vec<u16> = PASSING.iter().map(|(code, _)| *code).collect();
        let listed = codes.clone();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes, listed);
        assert!(REFUSING.iter().all(|code| !codes.contains(code)));
    }

    /// Out of disk, out of connections, read only for a while, interrupted by a limit: all of them ended a projector.
    #[test]
    fn what_ended_projectors_is_waited_out() {
        for code in [1030, 1180, 1203, 1226, 1792, 1836, 1878, 1969, 3024, 3100] {
            assert!(PASSING.iter().any(|(known, _)| *known == code), "{code}");
        }
    }

    #[test]
    fn what_is_about_the_connection_may_pass_and_a_wrong_setting_does_not() {
        let timed_out = sqlx::Error::Io(io::ErrorKind::TimedOut.into());
        assert!(may_pass(&timed_out) && is_silence(&timed_out));
        let refused = sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into());
        assert!(may_pass(&refused) && !is_silence(&refused));
        assert!(!may_pass(&sqlx::Error::Configuration("no URL".into())));
    }
}
