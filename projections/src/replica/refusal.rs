//! What a server's refusal of a statement is about. Pure.

use millrace_sessions::mysql::server_code;

/// It takes a value for one that its column cannot hold. Only somebody who altered a replica table meets these, or a
/// type that the two servers understand in another way than we do.
const OF_A_VALUE: [u16; 17] = [
    1264, // out of range
    1265, // truncated
    1292, // incorrect value
    1366, // incorrect value
    1367, // illegal value
    1406, // too long
    1411, // incorrect value for a function
    1441, // a time that overflows
    1690, // out of range
    3140, // no JSON
    3141, // no JSON
    3144, // a character set that JSON does not allow
    3155, // JSON of another type
    3156, // JSON of another type
    3157, // JSON that is too deep
    3819, // a check
    4025, // a check, on MariaDB
];

/// It takes no such row: because of its size, or of what somebody added to the table.
const OF_A_ROW: [u16; 22] = [
    1048, // NULL: see `is_of_other_keys`
    1062, // a unique key
    1118, // too large
    1216, // a foreign key
    1217, // a foreign key
    1305, // a trigger that calls what is not there
    1318, // a trigger that calls something with other arguments
    1329, // a trigger that finds nothing
    1364, // a column without a default
    1422, // a trigger that would commit
    1424, // a trigger that calls itself
    1442, // a trigger that changes the table
    1449, // a trigger whose definer is gone
    1451, // a foreign key
    1452, // a foreign key
    1557, // a foreign key
    1644, // a trigger that says no
    1713, // too large for the undo log
    1761, // a foreign key
    1762, // a foreign key
    1906, // a generated column, on MariaDB
    3105, // a generated column
];

/// The table is gone or damaged, or cannot be as we make it.
const OF_A_TABLE: [u16; 14] = [
    1034, // damaged
    1050, // there is one
    1054, // no such column
    1069, // too many keys
    1070, // too many parts of a key
    1071, // too long a key
    1117, // too many columns
    1136, // another number of columns
    1146, // no such table
    1194, // damaged
    1347, // a view
    1709, // too long an index
    1712, // damaged
    1932, // gone from the engine
];

/// NULL in a column that takes none.
const NULL: u16 = 1048;

/// True if a row may have met one of another key: what we write is NULL nowhere else where it must not be. Somebody has
/// added a unique key or changed a collation, or has made a column NOT NULL.
pub(crate) fn is_of_other_keys(error: &sqlx::Error) -> bool {
    server_code(error) == Some(NULL)
}

/// True if the row may be taken without one of its values.
pub(crate) fn is_of_a_value(error: &sqlx::Error) -> bool {
    server_code(error).is_some_and(|code| OF_A_VALUE.contains(&code))
}

/// True if it is about this one table, its rows or their values: the others can go on without it, and a repetition will
/// be refused as well.
pub(crate) fn is_of_one_table(error: &sqlx::Error) -> bool {
    let of_table = |code| OF_A_TABLE.contains(&code) || OF_A_ROW.contains(&code);
    is_of_a_value(error) || server_code(error).is_some_and(of_table)
}
