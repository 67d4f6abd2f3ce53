//! Sessions with MySQL and MariaDB.
