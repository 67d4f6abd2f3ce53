//! A record and a plan to the bytes that leave the broker.

use std::fmt;

use crate::cuts::{Choice, Cuts};
use crate::plan::{Columns, Lookup, Plan};
use crate::scan::{Cursor, Unscannable, Walk};

/// Why a record cannot be cut. It never shows values of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the JSON of a record.
    Unscannable {
        /// Byte position in the record, from 0.
        position: usize,
    },
    /// The plan leaves out a column of a table's key.
    Key,
    /// The plan leaves nothing of a row.
    EmptyRow,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unscannable { position } => write!(f, "no record: byte {position}"),
            Refusal::Key => f.write_str("the plan leaves out a key column"),
            Refusal::EmptyRow => f.write_str("the plan leaves no column of a row"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Unscannable> for Refusal {
    fn from(error: Unscannable) -> Self {
        Refusal::Unscannable {
            position: error.position,
        }
    }
}

/// The record without the tables and columns that the plan does not name; nothing if all of it
/// stays. Records without rows pass whole.
///
/// Rows of a table that falls stay as `{}`: the end of a copy counts them.
pub fn apply(plan: &Plan, record: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let start = Cursor::new(record);
    let kind = start.text_member("kind")?;
    let mut pass = Pass {
        plan,
        cursor: start,
        cuts: Cuts::new(record),
    };
    match kind.raw {
        b"transaction" => pass.transaction()?,
        b"chunk" => pass.chunk()?,
        b"copy" | b"checkpoint" => pass.tables_of_copies()?,
        _ => return Ok(None),
    }
    pass.cursor.end()?;
    Ok(pass.cuts.finish())
}

/// One pass over a record, from front to back.
struct Pass<'a> {
    plan: &'a Plan,
    cursor: Cursor<'a>,
    cuts: Cuts<'a>,
}

impl<'a> Pass<'a> {
    fn transaction(&mut self) -> Result<(), Refusal> {
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while members.next(&mut self.cursor)?.is_some() {
            match self.cursor.plain_name()?.raw {
                b"schemas" => self.schemas()?,
                b"slices" => self.slices()?,
                b"changes" => self.changes()?,
                _ => self.cursor.skip_value()?,
            }
        }
        Ok(())
    }

    /// Parts of values, each with its table and column.
    fn slices(&mut self) -> Result<(), Refusal> {
        let mut choice = Choice::default();
        let mut walk = Walk::open(&mut self.cursor, b'[')?;
        while let Some(element) = walk.next(&mut self.cursor)? {
            let wanted = match self.plan.table(self.cursor.text_member("table")?) {
                None => false,
                Some(Columns::All) => true,
                Some(Columns::Named(names)) => {
                    Lookup::new(names).contains(self.cursor.text_member("column")?)
                }
            };
            self.cursor.skip_value()?;
            match wanted {
                true => choice.keep(&mut self.cuts, element),
                false => choice.drop(&mut self.cuts, element, self.cursor.at),
            }
        }
        Ok(())
    }

    fn changes(&mut self) -> Result<(), Refusal> {
        let mut choice = Choice::default();
        let mut walk = Walk::open(&mut self.cursor, b'[')?;
        while let Some(element) = walk.next(&mut self.cursor)? {
            let table = self.cursor.text_member("table")?;
            match self.plan.table(table) {
                None => {
                    self.cursor.skip_value()?;
                    choice.drop(&mut self.cuts, element, self.cursor.at);
                }
                Some(Columns::All) => {
                    choice.keep(&mut self.cuts, element);
                    self.cursor.skip_value()?;
                }
                Some(Columns::Named(names)) => {
                    choice.keep(&mut self.cuts, element);
                    self.change(names)?;
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while members.next(&mut self.cursor)?.is_some() {
            let name = self.cursor.plain_name()?;
            let is_row = matches!(name.raw, b"before" | b"after") && self.cursor.peek() == b'{';
            if is_row {
                self.row(names)?;
            } else {
                self.cursor.skip_value()?;
            }
        }
        Ok(())
    }

    fn row(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut choice = Choice::default();
        let mut lookup = Lookup::new(names);
        let mut any = false;
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while let Some(element) = members.next(&mut self.cursor)? {
            any = true;
            let wanted = lookup.contains(self.cursor.name()?);
            self.cursor.skip_value()?;
            if wanted {
                choice.keep(&mut self.cuts, element);
            } else {
                choice.drop(&mut self.cuts, element, self.cursor.at);
            }
        }
        if any && !choice.any_kept() {
            return Err(Refusal::EmptyRow);
        }
        Ok(())
    }

    fn chunk(&mut self) -> Result<(), Refusal> {
        let plan = self.plan;
        let columns = plan.table(self.cursor.text_member("table")?);
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while members.next(&mut self.cursor)?.is_some() {
            match (self.cursor.plain_name()?.raw, columns) {
                (b"slices", _) => self.slices()?,
                (b"rows", Some(Columns::Named(names))) => self.rows(|pass| pass.row(names))?,
                (b"rows", None) => self.rows(Pass::empty_row)?,
                _ => self.cursor.skip_value()?,
            }
        }
        Ok(())
    }

    fn rows(
        &mut self,
        mut row: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut walk = Walk::open(&mut self.cursor, b'[')?;
        while walk.next(&mut self.cursor)?.is_some() {
            row(self)?;
        }
        Ok(())
    }

    fn empty_row(&mut self) -> Result<(), Refusal> {
        if self.cursor.peek() != b'{' {
            return Ok(self.cursor.fail()?);
        }
        let mut inside = self.cursor;
        inside.expect(b'{')?;
        let (start, is_empty) = (inside.at, inside.peek() == b'}');
        self.cursor.skip_value()?;
        if !is_empty {
            self.cuts.cut(start, self.cursor.at - 1);
        }
        Ok(())
    }

    /// Tables as elements that hold a definition and more.
    fn tables_of_copies(&mut self) -> Result<(), Refusal> {
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while members.next(&mut self.cursor)?.is_some() {
            if self.cursor.plain_name()?.is("tables") {
                self.defined_tables()?;
            } else {
                self.cursor.skip_value()?;
            }
        }
        Ok(())
    }

    fn defined_tables(&mut self) -> Result<(), Refusal> {
        let plan = self.plan;
        let mut choice = Choice::default();
        let mut walk = Walk::open(&mut self.cursor, b'[')?;
        while let Some(element) = walk.next(&mut self.cursor)? {
            let Some(definition) = self.cursor.member("definition")? else {
                return Ok(self.cursor.fail()?);
            };
            match plan.table(definition.text_member("table")?) {
                None => {
                    self.cursor.skip_value()?;
                    choice.drop(&mut self.cuts, element, self.cursor.at);
                }
                Some(Columns::All) => {
                    choice.keep(&mut self.cuts, element);
                    self.cursor.skip_value()?;
                }
                Some(Columns::Named(names)) => {
                    choice.keep(&mut self.cuts, element);
                    self.defined_table(names)?;
                }
            }
        }
        Ok(())
    }

    fn defined_table(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while members.next(&mut self.cursor)?.is_some() {
            if self.cursor.plain_name()?.is("definition") {
                self.schema(names)?;
            } else {
                self.cursor.skip_value()?;
            }
        }
        Ok(())
    }

    fn schemas(&mut self) -> Result<(), Refusal> {
        let plan = self.plan;
        let mut choice = Choice::default();
        let mut walk = Walk::open(&mut self.cursor, b'[')?;
        while let Some(element) = walk.next(&mut self.cursor)? {
            match plan.table(self.cursor.text_member("table")?) {
                None => {
                    self.cursor.skip_value()?;
                    choice.drop(&mut self.cuts, element, self.cursor.at);
                }
                Some(Columns::All) => {
                    choice.keep(&mut self.cuts, element);
                    self.cursor.skip_value()?;
                }
                Some(Columns::Named(names)) => {
                    choice.keep(&mut self.cuts, element);
                    self.schema(names)?;
                }
            }
        }
        Ok(())
    }

    fn schema(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut members = Walk::open(&mut self.cursor, b'{')?;
        while members.next(&mut self.cursor)?.is_some() {
            if self.cursor.plain_name()?.is("columns") {
                self.columns(names)?;
            } else {
                self.cursor.skip_value()?;
            }
        }
        Ok(())
    }

    fn columns(&mut self, names: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut choice = Choice::default();
        let mut lookup = Lookup::new(names);
        let mut walk = Walk::open(&mut self.cursor, b'[')?;
        while let Some(element) = walk.next(&mut self.cursor)? {
            let wanted = lookup.contains(self.cursor.text_member("name")?);
            let key = self
                .cursor
                .member("key")?
                .is_some_and(|mut key| key.peek() == b't');
            if key && !wanted {
                return Err(Refusal::Key);
            }
            self.cursor.skip_value()?;
            if wanted {
                choice.keep(&mut self.cuts, element);
            } else {
                choice.drop(&mut self.cuts, element, self.cursor.at);
            }
        }
        Ok(())
    }
}
