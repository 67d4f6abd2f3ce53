//! Marts: tables that are kept equal to a `SELECT` over the replica.

use sqlx::MySqlConnection;

/// A mart statement failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused it.
    #[error("mart statement failed: {0}")]
    Sql(#[from] sqlx::Error),
}

/// The marts that a projector keeps.
#[derive(Clone, Debug, Default)]
pub struct Marts(());

impl Marts {
    /// The four marts of the shop.
    pub fn shop() -> Marts {
        Marts(())
    }
    /// No marts: a replica only.
    pub fn none() -> Marts {
        Marts(())
    }
    /// Names of the marts.
    pub fn names(&self) -> Vec<String> {
        Vec::new()
    }
    /// Columns of `table` that the marts' SQL joins on and that need an index.
    pub fn indexes_for(&self, _table: &str) -> Vec<String> {
        Vec::new()
    }
    /// All physical tables, without suffix.
    pub fn tables(&self) -> Vec<String> {
        Vec::new()
    }
    /// Creates empty mart and state tables.
    pub async fn create(&self, _conn: &mut MySqlConnection, _suffix: &str) -> Result<(), Error> {
        Ok(())
    }
    /// Fills them from the replica tables of the same suffix.
    pub async fn build(&self, _conn: &mut MySqlConnection, _suffix: &str) -> Result<(), Error> {
        Ok(())
    }
    /// Prepares a connection.
    pub async fn prepare_session(&self, _conn: &mut MySqlConnection) -> Result<(), Error> {
        Ok(())
    }
    /// Before `table` is written.
    pub async fn retract(&self, _conn: &mut MySqlConnection, _table: &str) -> Result<(), Error> {
        Ok(())
    }
    /// After `table` was written.
    pub async fn add(&self, _conn: &mut MySqlConnection, _table: &str) -> Result<(), Error> {
        Ok(())
    }
    /// Before all rows of `table` are deleted.
    pub async fn truncate(&self, _conn: &mut MySqlConnection, _table: &str) -> Result<(), Error> {
        Ok(())
    }
}
