use super::*;

fn options() -> MySqlOptions {
    MySqlOptions {
        data_dir: "d".into(),
        port: 1,
        db: "mysql_db".into(),
        user: "db_user".into(),
        password: r"it's\x".into(),
        all_rights: false,
        binary: None,
        arguments: Vec::new(),
    }
}

#[test]
fn names_and_passwords_are_quoted_and_rights_end_at_the_database() {
    let sql = accounts_sql(&options(), Flavour::MySql);
    assert!(sql.contains(r"IDENTIFIED BY 'it''s\\x';"), "{sql}");
    assert!(
        sql.contains("CREATE DATABASE IF NOT EXISTS `mysql_db` CHARACTER SET utf8mb4"),
        "{sql}"
    );
    assert!(
        sql.contains(r"GRANT ALL PRIVILEGES ON `mysql\_db`.* TO 'db_user'@'%';"),
        "{sql}"
    );
    assert!(
        sql.contains("ACCOUNT LOCK")
            && !accounts_sql(&options(), Flavour::MariaDb).contains("LOCK")
    );
}
