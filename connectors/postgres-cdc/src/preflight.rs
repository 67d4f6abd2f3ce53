//! What must be true of the source before anything is created in it. Nothing is changed here.

use millrace_sessions::postgres::PgSession;
use sqlx::Row;

use crate::source::Source;
use crate::{Config, Error};

/// What the checks found out on their way.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// `system_identifier` of the cluster.
    pub(crate) system: String,
    /// Timeline of the cluster.
    pub(crate) timeline: u32,
    /// Database name.
    pub(crate) database: String,
    /// `pg_database.oid`.
    pub(crate) database_oid: u32,
}

/// Names that end up unquoted in replication commands, or in a topic's name.
pub(crate) fn check_config(config: &Config) -> Result<(), Error> {
    for (what, name) in [("publication", &config.publication), ("slot", &config.slot)] {
        let first = name.bytes().next().unwrap_or(b'0');
        let rest = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !rest || first.is_ascii_digit() || name.len() > 63 {
            return Err(Error::Config(format!(
                "{what} {name:?}: use lower-case letters, digits and underscores, at most 63"
            )));
        }
    }
    for topic in [
        &config.topic_changes,
        &format!("{}-1", config.topic_snapshot_prefix),
    ] {
        let valid = topic
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !valid
            || topic.starts_with('-')
            || topic.ends_with('-')
            || !(1..=63).contains(&topic.len())
        {
            return Err(Error::Config(format!(
                "topic {topic:?}: use lower-case letters, digits and hyphens inside, at most 63"
            )));
        }
    }
    for retention in [config.retention, config.retention_of_snapshots] {
        let checked = retention.check();
        checked.map_err(|error| Error::Config(error.to_string()))?;
    }
    Ok(())
}

/// Checks server and role.
pub(crate) async fn check(connection: &mut PgSession, source: &Source) -> Result<Facts, Error> {
    let facts = check_server(connection).await?;
    check_role(connection, source).await?;
    Ok(facts)
}

const SERVER: &str = "
    SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
           current_setting('wal_level'), current_setting('server_encoding'), pg_is_in_recovery(),
           (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
           (SELECT oid::int8 FROM pg_database WHERE datname = current_database()),
           CASE WHEN pg_is_in_recovery() THEN 0
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8 END";

async fn check_server(connection: &mut PgSession) -> Result<Facts, Error> {
    let row = sqlx::query(SERVER).fetch_one(connection).await?;
    if row.try_get::<i32, _>(0)? < 140_000 {
        return Err(Error::PostgresVersion {
            found: row.try_get(1)?,
        });
    }
    if row.try_get::<bool, _>(4)? {
        return Err(Error::Standby);
    }
    let wal_level: String = row.try_get(2)?;
    if wal_level != "logical" {
        return Err(Error::WalLevel { found: wal_level });
    }
    let encoding: String = row.try_get(3)?;
    if encoding == "SQL_ASCII" {
        return Err(Error::Encoding { found: encoding });
    }
    Ok(Facts {
        system: row.try_get(5)?,
        database: row.try_get(6)?,
        database_oid: row.try_get::<i64, _>(7)? as u32,
        timeline: row.try_get::<i64, _>(8)? as u32,
    })
}

async fn check_role(connection: &mut PgSession, source: &Source) -> Result<(), Error> {
    let sql = "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    Err(Error::Privilege {
        user: source.user().into(),
    })
}

/// A slot has to be created: is there room?
pub(crate) async fn check_room_for_slot(connection: &mut PgSession) -> Result<(), Error> {
    let sql =
        "SELECT count(*), current_setting('max_replication_slots')::int8 FROM pg_replication_slots";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    let (used, max): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if used >= max {
        return Err(Error::NoFreeSlot { max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_replication_commands_would_misread_are_refused() {
        let good = Config::new("", "", "s.t".parse().expect("a selection"));
        assert!(check_config(&good).is_ok());
        for name in ["Millrace", "1st", "a-b", "", "a,b"] {
            let mut config = good.clone();
            config.slot = name.into();
            assert!(check_config(&config).is_err(), "{name}");
        }
        for topic in ["Shop", "a_b", "-a", ""] {
            let mut config = good.clone();
            config.topic_changes = topic.into();
            assert!(check_config(&config).is_err(), "{topic}");
        }
    }
}
