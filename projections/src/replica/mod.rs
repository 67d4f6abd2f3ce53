//! How Postgres tables, types and values look in MySQL and MariaDB.
