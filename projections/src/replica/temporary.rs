//! Temporary tables, made anew each time they are needed.
//!
//! InnoDB keeps the rows that a DELETE took out of a temporary table, marked as deleted, and every later statement walks
//! over them: after one large batch, each small one would pay for it until the session ends. TRUNCATE would end the open
//! transaction; making the table anew does not, on both servers.

use super::quoted;
use crate::script::{About, Script, ScriptError};

/// Makes an empty temporary table, in place of one of that name. Does not commit.
pub(crate) async fn anew(
    script: &mut Script<'_>,
    name: &str,
    definition: &str,
    about: &About,
) -> Result<(), ScriptError> {
    let name = quoted(name);
    let drop = format!("DROP TEMPORARY TABLE IF EXISTS {name}");
    script.push(&drop, about).await?;
    let create = format!("CREATE TEMPORARY TABLE {name} {definition}");
    script.push(&create, about).await
}
