//! Slices of values, which stand before the row that they belong to: in a part that has no rows yet.

use millrace_events::{self as events, Row};

use super::{Assembler, Open, Outgoing};
use crate::cut;
use crate::wide::Slice;
use crate::Error;

impl Assembler {
    /// Takes a slice of a value of the next row.
    pub(super) fn slice(&mut self, slice: Slice, out: &mut Vec<Outgoing>) -> Result<(), Error> {
        let Some(table) = self.table(slice.relation)? else {
            return Ok(());
        };
        let slice = table.slice(slice)?;
        let part_bytes = self.limits.part;
        let open = self.open()?;
        open.wanted = true;
        open.push_slice(&slice, part_bytes, out);
        Ok(())
    }

    /// What of a change may not fit into a record goes before it, in slices.
    pub(super) fn make_room(
        &mut self,
        relation: u32,
        (before, after): (Option<&mut Row>, Option<&mut Row>),
        out: &mut Vec<Outgoing>,
    ) {
        let (Some(open), Some(table)) = (self.open.as_mut(), self.tables.get(&relation)) else {
            return;
        };
        let (epoch, values) = (self.epoch.0, &mut self.values_cut);
        let name = || {
            *values += 1;
            format!("{epoch}-cut-{values}")
        };
        let bytes_max = self.limits.record - self.limits.part;
        for text in cut::fit((before, after), &table.schema, bytes_max, name) {
            for slice in text.slices(&table.schema) {
                open.push_slice(&slice, self.limits.part, out);
            }
        }
    }
}

impl Open {
    fn push_slice(&mut self, slice: &events::Slice, part_bytes: usize, out: &mut Vec<Outgoing>) {
        if self.writer.has_changes() {
            out.push(Outgoing::aside(self.writer.cut()));
        }
        self.writer.push_slice(slice);
        if self.writer.size() >= part_bytes {
            out.push(Outgoing::aside(self.writer.cut()));
        }
    }
}
