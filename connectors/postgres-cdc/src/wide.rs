//! Rows that are too large to be held: decoded while the fragments of their message come. Pure.
//!
//! Cells of ordinary size are kept until the row is complete, and so are keys, which the source's index keeps short. Others leave as slices as soon as there is enough of them,
//! ahead of the row; in an old row, of which only the key matters, they are passed over as if they had not been sent.

use bytes::{Buf, Bytes, BytesMut};
use millrace_events::Sliced;

use crate::pgoutput::{Cell, DecodeError, Message, OldTuple, Tuple};

/// A cell of a wide row that is longer than this comes in slices. No type that MySQL stores in another way than as a long
/// text or long bytes prints as much.
pub(crate) const CELL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a slice. An even number, so that no byte of a `bytea`, which are two digits, is cut apart.
pub(crate) const SLICE_BYTES: usize = 512 << 10;

/// A message of a row, as far as it has come.
pub(crate) struct WideRow {
    /// What the names of its values begin with.
    name: String,
    kind: char,
    relation: u32,
    old: Option<OldTuple>,
    side: Side,
    cells: Tuple,
    cells_left: u16,
    /// What has come and is not decoded.
    bytes: BytesMut,
    next: Next,
}

/// Which row the cells belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    OldKey,
    OldFull,
    New,
}

/// What the message goes on with.
#[derive(Clone, Copy)]
enum Next {
    Head,
    Side,
    Cell,
    Length,
    Whole(usize),
    Slice {
        slice: u32,
        sent: usize,
        left: usize,
    },
    Skipped(usize),
    End,
}

impl WideRow {
    /// `name` is that of no other row.
    pub(crate) fn new(name: String) -> Self {
        WideRow {
            name,
            kind: ' ',
            relation: 0,
            old: None,
            side: Side::New,
            cells: Tuple::new(),
            cells_left: 0,
            bytes: BytesMut::new(),
            next: Next::Head,
        }
    }

    /// Takes the next fragment; returns the slices that it completes. `is_key` says of a relation and the position of a column
    /// whether it is part of the key.
    pub(crate) fn take(
        &mut self,
        fragment: &[u8],
        is_key: impl Fn(u32, usize) -> bool,
    ) -> Result<Vec<Message>, DecodeError> {
        self.bytes.extend_from_slice(fragment);
        let mut slices = Vec::new();
        while self.step(&mut slices, &is_key)? {}
        Ok(slices)
    }

    /// The row, behind its last fragment.
    pub(crate) fn finish(self) -> Result<Message, DecodeError> {
        let kind = self.kind;
        if !matches!(self.next, Next::End) {
            return Err(DecodeError::Truncated { kind });
        }
        if !self.bytes.is_empty() {
            let bytes = self.bytes.len();
            return Err(DecodeError::Trailing { kind, bytes });
        }
        let (relation, old, new) = (self.relation, self.old, self.cells);
        match (kind, old) {
            ('I', None) => Ok(Message::Insert { relation, new }),
            ('U', old) => Ok(Message::Update { relation, old, new }),
            ('D', Some(old)) => Ok(Message::Delete { relation, old }),
            (found, _) => Err(unknown("kind of wide row", found)),
        }
    }

    /// Decodes one thing more, if it is here.
    fn step(
        &mut self,
        slices: &mut Vec<Message>,
        is_key: &impl Fn(u32, usize) -> bool,
    ) -> Result<bool, DecodeError> {
        let needed = match self.next {
            Next::Head => 5,
            Next::Side => 3,
            Next::Cell => usize::from(self.cells_left > 0),
            Next::Length => 4,
            Next::Whole(bytes) => bytes,
            Next::Slice { left, .. } => left.min(SLICE_BYTES),
            Next::Skipped(left) => left.min(1),
            Next::End => return Ok(false),
        };
        if self.bytes.len() < needed {
            return Ok(false);
        }
        match self.next {
            Next::Head => self.head(),
            Next::Side => self.side()?,
            Next::Cell if self.cells_left == 0 => self.close(),
            Next::Cell => self.cell()?,
            Next::Length => {
                let is_key = is_key(self.relation, self.cells.len());
                self.length(is_key);
            }
            Next::Whole(bytes) => {
                let text = self.bytes.split_to(bytes).freeze();
                self.push(Cell::Text(text));
            }
            Next::Slice { slice, sent, left } => {
                slices.push(self.slice(slice, sent, left));
            }
            Next::Skipped(left) => self.skip(left),
            Next::End => {}
        }
        Ok(true)
    }

    fn head(&mut self) {
        self.kind = char::from(self.bytes.get_u8());
        self.relation = self.bytes.get_u32();
        self.next = Next::Side;
    }

    fn side(&mut self) -> Result<(), DecodeError> {
        self.side = match self.bytes.get_u8() {
            b'K' => Side::OldKey,
            b'O' => Side::OldFull,
            b'N' => Side::New,
            found => return Err(unknown("kind of row", char::from(found))),
        };
        self.cells_left = self.bytes.get_u16();
        self.next = Next::Cell;
        Ok(())
    }

    /// The row that the cells belong to is complete.
    fn close(&mut self) {
        self.next = match self.side {
            Side::New => Next::End,
            _ if self.kind == 'D' => Next::End,
            _ => Next::Side,
        };
        self.old = match self.side {
            Side::OldKey => Some(OldTuple::Key(std::mem::take(&mut self.cells))),
            Side::OldFull => Some(OldTuple::Full(std::mem::take(&mut self.cells))),
            Side::New => self.old.take(),
        };
    }

    fn cell(&mut self) -> Result<(), DecodeError> {
        match self.bytes.get_u8() {
            b'n' => self.push(Cell::Null),
            b'u' => self.push(Cell::Unchanged),
            b't' => self.next = Next::Length,
            found => return Err(unknown("kind of cell", char::from(found))),
        }
        Ok(())
    }

    fn length(&mut self, is_key: bool) {
        let left = self.bytes.get_u32() as usize;
        self.next = match self.side {
            _ if is_key || left <= CELL_BYTES_MAX => Next::Whole(left),
            Side::New => Next::Slice {
                slice: 0,
                sent: 0,
                left,
            },
            Side::OldKey | Side::OldFull => Next::Skipped(left),
        };
    }

    fn push(&mut self, cell: Cell) {
        self.cells.push(cell);
        self.cells_left -= 1;
        self.next = Next::Cell;
    }

    fn slice(&mut self, slice: u32, sent: usize, left: usize) -> Message {
        let at_hand = left.min(SLICE_BYTES);
        let bytes = match at_hand == left {
            true => left,
            false => whole_characters(&self.bytes[..at_hand]),
        };
        let (column, text) = (self.cells.len(), self.bytes.split_to(bytes).freeze());
        let value = format!("{}-{column}", self.name);
        let (sent, left) = (sent + bytes, left - bytes);
        match left {
            0 => self.push(Cell::Sliced(Sliced {
                sliced: value.clone(),
                slices: slice + 1,
                bytes: sent as u64,
            })),
            left => {
                self.next = Next::Slice {
                    slice: slice + 1,
                    sent,
                    left,
                }
            }
        }
        let relation = self.relation;
        Message::Slice(Slice {
            relation,
            column,
            value,
            slice,
            text,
        })
    }

    fn skip(&mut self, left: usize) {
        let here = left.min(self.bytes.len());
        self.bytes.advance(here);
        match left - here {
            0 => self.push(Cell::Unchanged),
            left => self.next = Next::Skipped(left),
        }
    }
}

/// A part of the text of a cell, before its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Table, as in [`Relation::oid`](crate::pgoutput::Relation::oid).
    pub relation: u32,
    /// Position of the cell in its row.
    pub column: usize,
    /// Name of the value.
    pub value: String,
    /// 0, 1, 2, … without gap.
    pub slice: u32,
    /// The text, in UTF-8.
    pub text: Bytes,
}

fn unknown(what: &'static str, found: char) -> DecodeError {
    DecodeError::Unknown { what, found }
}

/// How many of the bytes are whole characters of UTF-8; all of them if they are no UTF-8, which is found out later.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    let is_first = |byte: &u8| byte & 0xC0 != 0x80;
    let last = bytes.iter().rev().take(4).position(is_first);
    let Some(length) = last.map(|behind| behind + 1) else {
        return bytes.len();
    };
    let start = bytes.len() - length;
    let wanted = match bytes[start] {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    match length < wanted && start > 0 {
        true => start,
        false => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgoutput;

    fn cell(text: &str) -> Vec<u8> {
        let length = (text.len() as u32).to_be_bytes();
        [&b"t"[..], &length, text.as_bytes()].concat()
    }

    fn tuple(kind: u8, cells: &[Vec<u8>]) -> Vec<u8> {
        let count = (cells.len() as u16).to_be_bytes();
        [&[kind][..], &count, &cells.concat()].concat()
    }

    fn message(kind: u8, tuples: &[Vec<u8>]) -> Vec<u8> {
        [&[kind][..], &7u32.to_be_bytes(), &tuples.concat()].concat()
    }

    /// Slices and row of a message that comes in fragments of so many bytes.
    fn decoded(message: &[u8], fragment: usize) -> (Vec<Slice>, Message) {
        let mut row = WideRow::new("1-1".into());
        let mut slices = Vec::new();
        for fragment in message.chunks(fragment) {
            for message in row.take(fragment, |_, _| false).expect("a message") {
                let Message::Slice(slice) = message else {
                    panic!("{message:?}");
                };
                slices.push(slice);
            }
        }
        (slices, row.finish().expect("a row"))
    }

    fn text_of(slices: &[Slice]) -> String {
        let texts = slices.iter().map(|slice| slice.text.to_vec());
        let texts = texts.map(|text| String::from_utf8(text).expect("whole characters"));
        texts.collect()
    }

    #[test]
    fn a_row_without_long_cells_is_what_the_other_decoder_makes_of_it() {
        let key = tuple(b'K', &[cell("1"), b"n".to_vec()]);
        let new = tuple(b'N', &[cell("2"), b"u".to_vec(), b"n".to_vec()]);
        let old = tuple(b'O', &[cell("größe"), b"n".to_vec()]);
        for message in [
            message(b'I', std::slice::from_ref(&new)),
            message(b'U', std::slice::from_ref(&new)),
            message(b'U', &[key.clone(), new.clone()]),
            message(b'U', &[old.clone(), new]),
            message(b'D', &[key]),
            message(b'D', &[old]),
        ] {
            let whole = pgoutput::decode(Bytes::copy_from_slice(&message)).expect("a message");
            for fragment in [1, 3, 1000] {
                assert_eq!(decoded(&message, fragment), (vec![], whole.clone()));
            }
        }
    }

    #[test]
    fn a_long_cell_leaves_in_slices_of_whole_characters_and_the_row_names_it() {
        let long = format!("x{}", "ä€😀".repeat(150_000));
        let new = tuple(b'N', &[cell("1"), cell(&long), cell("end")]);
        for fragment in [997, 128 << 10, 4 << 20] {
            let (slices, row) = decoded(&message(b'I', std::slice::from_ref(&new)), fragment);
            assert!(text_of(&slices) == long, "the text comes back");
            let numbers: Vec<u32> = slices.iter().map(|slice| slice.slice).collect();
            assert_eq!(numbers, (0..slices.len() as u32).collect::<Vec<_>>());
            let Message::Insert { relation: 7, new } = row else {
                panic!("{row:?}");
            };
            let sliced = Cell::Sliced(Sliced {
                sliced: slices[0].value.clone(),
                slices: slices.len() as u32,
                bytes: long.len() as u64,
            });
            assert_eq!(new[1], sliced);
            assert_eq!(new[2], Cell::Text("end".into()));
        }
    }

    #[test]
    fn digits_of_bytes_are_cut_between_bytes() {
        let long = format!("\\x{}", "ab".repeat(SLICE_BYTES + 1));
        let (slices, _) = decoded(&message(b'I', &[tuple(b'N', &[cell(&long)])]), 128 << 10);
        assert!(text_of(&slices) == long, "the text comes back");
        assert!(slices.iter().all(|slice| slice.text.len() % 2 == 0));
        assert_eq!(slices.len(), 3);
    }

    #[test]
    fn a_long_cell_of_an_old_row_counts_as_not_sent() {
        let long = "z".repeat(CELL_BYTES_MAX + 1);
        let old = tuple(b'O', &[cell("1"), cell(&long)]);
        let new = tuple(b'N', &[cell("1"), b"u".to_vec()]);
        let (slices, row) = decoded(&message(b'U', &[old, new]), 1000);
        assert_eq!(slices, []);
        let Message::Update { old, .. } = row else {
            panic!("{row:?}");
        };
        let expected = vec![Cell::Text("1".into()), Cell::Unchanged];
        assert_eq!(old, Some(OldTuple::Full(expected)));
    }

    #[test]
    fn a_long_key_stays_in_its_row_on_either_side() {
        let long = "k".repeat(CELL_BYTES_MAX + 1);
        let old = tuple(b'O', &[cell(&long), cell(&long)]);
        let new = tuple(b'N', &[cell(&long), cell(&long)]);
        let mut row = WideRow::new("1-1".into());
        let is_key = |relation: u32, column: usize| relation == 7 && column == 0;
        let message = message(b'U', &[old, new]);
        let slices = row.take(&message, is_key).expect("a row");
        assert_eq!(slices.len(), 1);
        let Ok(Message::Update { old, new, .. }) = row.finish() else {
            panic!("no update");
        };
        let key = Cell::Text(long.into());
        assert_eq!(
            old,
            Some(OldTuple::Full(vec![key.clone(), Cell::Unchanged]))
        );
        assert!(matches!(&new[..], [found, Cell::Sliced(_)] if *found == key));
    }

    #[test]
    fn what_ends_too_early_or_too_late_is_refused() {
        let whole = message(b'I', &[tuple(b'N', &[cell("1")])]);
        let mut early = WideRow::new("1-1".into());
        early
            .take(&whole[..whole.len() - 1], |_, _| false)
            .expect("a beginning");
        let truncated = DecodeError::Truncated { kind: 'I' };
        assert_eq!(early.finish(), Err(truncated));
        let mut late = WideRow::new("1-1".into());
        late.take(&[&whole[..], b"x"].concat(), |_, _| false)
            .expect("a row");
        let trailing = DecodeError::Trailing {
            kind: 'I',
            bytes: 1,
        };
        assert_eq!(late.finish(), Err(trailing));
    }
}
