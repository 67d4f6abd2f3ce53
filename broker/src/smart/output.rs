//! Putting what the modules left of each batch back into batches whose labels are right.
//!
//! A client takes a record's offset to be `base offset + position in the batch`. So wherever
//! records were dropped a new batch begins, and the one before it is stretched over the gap; a gap
//! before the first record becomes a batch without records.

use bytes::{Bytes, BytesMut};

use crate::batch::{self, Header, Malformed};
use crate::record::{self, Record, Records};

/// How records get their offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// By the offset delta that each record still carries.
    Exact,
    /// By position, because one record became several. The batch still ends where its input did.
    Positional,
}

/// Collects the output of successive batches.
pub(super) struct Writer {
    out: BytesMut,
    placement: Placement,
    /// Where the last batch starts in `out`, and its base offset.
    last: Option<(usize, i64)>,
    /// Offset that the output reaches to, dropped records included.
    covered: Option<i64>,
}

impl Writer {
    pub(super) fn new(placement: Placement) -> Self {
        Self {
            out: BytesMut::new(),
            placement,
            last: None,
            covered: None,
        }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Adds what was made of the batch with this header.
    pub(super) fn add(&mut self, header: &Header, payload: &[u8]) -> Result<(), Malformed> {
        let records = Records::parse(payload)?;
        if self.covered.is_none() {
            self.covered = Some(header.base_offset);
        }
        let as_they_are = records.are_numbered() && records.list.len() as i64 <= header.offsets();
        if self.placement == Placement::Positional
            || (as_they_are && !records.list.is_empty())
            || !in_order(&records.list, header)
        {
            self.whole(header, &payload[..records.end], records.list.len());
            return Ok(());
        }
        for run in runs(&records.list) {
            let base = header.base_offset + run[0].offset_delta;
            self.stretch_to(base);
            self.batch(header, base, run.len() as i64, &record::renumbered(run));
        }
        Ok(())
    }

    /// The output, reaching to `next_offset`.
    pub(super) fn finish(mut self, next_offset: i64) -> Bytes {
        self.stretch_to(next_offset);
        self.out.freeze()
    }

    /// All records in one batch, which is stretched later if it is followed by a gap.
    fn whole(&mut self, header: &Header, payload: &[u8], count: usize) {
        if count > 0 {
            self.stretch_to(header.base_offset);
            self.batch(
                header,
                header.base_offset,
                (count as i64).min(header.offsets()),
                payload,
            );
        }
    }

    fn batch(&mut self, header: &Header, base: i64, offsets: i64, payload: &[u8]) {
        self.last = Some((self.out.len(), base));
        batch::encode(
            &mut self.out,
            base,
            delta(offsets),
            (header.first_timestamp, header.max_timestamp),
            payload,
        );
        self.covered = Some(base + offsets);
    }

    fn stretch_to(&mut self, offset: i64) {
        let covered = self.covered.unwrap_or(offset);
        if offset <= covered {
            return;
        }
        match self.last {
            Some((start, base)) if i32::try_from(offset - base).is_ok() => {
                batch::set_last_offset_delta(&mut self.out[start..], delta(offset - base));
            }
            _ => {
                self.last = Some((self.out.len(), covered));
                batch::encode(
                    &mut self.out,
                    covered,
                    delta(offset - covered),
                    (-1, -1),
                    &[0; 4],
                );
            }
        }
        self.covered = Some(offset);
    }
}

fn delta(offsets: i64) -> i32 {
    i32::try_from(offsets - 1).unwrap_or(i32::MAX)
}

/// True if the deltas rise and lie inside the batch: then they say which records these are.
fn in_order(records: &[Record<'_>], header: &Header) -> bool {
    let rising = records
        .windows(2)
        .all(|pair| pair[0].offset_delta < pair[1].offset_delta);
    let inside = |record: &Record<'_>| (0..header.offsets()).contains(&record.offset_delta);
    rising && records.iter().all(inside)
}

/// Splits records where an offset is missing.
fn runs<'a, 'b>(records: &'b [Record<'a>]) -> impl Iterator<Item = &'b [Record<'a>]> {
    records.chunk_by(|before, after| before.offset_delta + 1 == after.offset_delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(deltas: &[i64]) -> Vec<u8> {
        let mut payload = (deltas.len() as i32).to_be_bytes().to_vec();
        for &delta in deltas {
            let empty = Record {
                attributes: 0,
                timestamp_delta: 0,
                offset_delta: -1,
                rest: &[0, 2, 65, 0],
                whole: &[],
            };
            record::put(&mut payload, &empty, delta);
        }
        payload
    }

    fn header(base_offset: i64, offsets: i32) -> Header {
        let mut bytes = BytesMut::new();
        batch::encode(&mut bytes, base_offset, offsets - 1, (7, 9), &[0; 4]);
        Header::parse(&bytes).expect("header")
    }

    /// Offsets as a client computes them, and the offset that the output reaches to.
    fn read(out: &Bytes) -> (Vec<i64>, i64) {
        let (mut offsets, mut next) = (Vec::new(), 0);
        for (at, header) in batch::walk(out) {
            Header::verify(&out[at..]).expect("checksum");
            let count = Records::parse(&out[at + header.payload_start()..])
                .expect("records")
                .list
                .len() as i64;
            offsets.extend(header.base_offset..header.base_offset + count);
            next = header.next_offset();
        }
        (offsets, next)
    }

    #[test]
    fn survivors_of_a_filter_keep_their_offsets_over_batches() {
        let mut writer = Writer::new(Placement::Exact);
        writer.add(&header(10, 5), &payload(&[3, 4])).expect("add");
        writer.add(&header(15, 5), &payload(&[])).expect("add");
        writer.add(&header(20, 5), &payload(&[0, 2])).expect("add");
        assert_eq!(read(&writer.finish(25)), (vec![13, 14, 20, 22], 25));
    }

    #[test]
    fn a_slice_of_which_nothing_is_left_still_advances() {
        let mut writer = Writer::new(Placement::Exact);
        writer.add(&header(10, 5), &payload(&[])).expect("add");
        assert_eq!(read(&writer.finish(15)), (vec![], 15));
    }

    #[test]
    fn one_record_made_of_each_keeps_the_batch_as_it_is() {
        let mut writer = Writer::new(Placement::Exact);
        writer
            .add(&header(0, 3), &payload(&[0, 1, 2]))
            .expect("add");
        assert_eq!(read(&writer.finish(3)), (vec![0, 1, 2], 3));
    }

    #[test]
    fn more_records_than_there_were_end_where_the_input_ended() {
        let mut writer = Writer::new(Placement::Positional);
        writer
            .add(&header(0, 2), &payload(&[0, 0, 0, 0]))
            .expect("add");
        writer.add(&header(2, 2), &payload(&[0])).expect("add");
        assert_eq!(read(&writer.finish(4)), (vec![0, 1, 2, 3, 2], 4));
    }
}
