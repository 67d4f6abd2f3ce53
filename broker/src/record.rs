//! Records inside a batch's payload, walked without decoding keys and values.
//!
//! A payload is a count (i32) and records: `length varint | attributes i8 | timestamp delta varint
//! | offset delta varint | key, value, headers`. Varints are zigzag.

use bytes::BufMut;

use crate::batch::Malformed;

/// More than a batch of 32 MiB holds, were it not compressed. What is inflated may say more, and each
/// takes memory here.
const RECORDS_MAX: usize = 4 * 1024 * 1024;

/// A record; `rest` is its key, value and headers, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) attributes: u8,
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i64,
    pub(crate) rest: &'a [u8],
    /// The record as it stands, length included.
    pub(crate) whole: &'a [u8],
}

/// The records of a payload; `end` is where they end in it.
pub(crate) struct Records<'a> {
    pub(crate) list: Vec<Record<'a>>,
    pub(crate) end: usize,
}

impl<'a> Records<'a> {
    /// Reads a payload, which may be followed by other bytes.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let count: [u8; 4] = payload
            .get(..4)
            .and_then(|b| b.try_into().ok())
            .ok_or(Malformed::Short)?;
        let count = usize::try_from(i32::from_be_bytes(count)).unwrap_or(0);
        if count > RECORDS_MAX {
            return Err(Malformed::Count);
        }
        // A record is five bytes at least; do not believe a count that cannot be.
        let mut list = Vec::with_capacity(count.min(payload.len() / 5));
        let mut at = 4;
        for _ in 0..count {
            let (record, next) = parse_one(payload, at)?;
            list.push(record);
            at = next;
        }
        Ok(Self { list, end: at })
    }

    /// True if the offset deltas are 0, 1, 2, …
    pub(crate) fn are_numbered(&self) -> bool {
        self.list
            .iter()
            .zip(0..)
            .all(|(record, delta)| record.offset_delta == delta)
    }
}

fn parse_one(payload: &[u8], start: usize) -> Result<(Record<'_>, usize), Malformed> {
    let mut at = start;
    let len = usize::try_from(varint(payload, &mut at)?).map_err(|_| Malformed::Header)?;
    let end = at
        .checked_add(len)
        .filter(|&end| end <= payload.len())
        .ok_or(Malformed::Short)?;
    let attributes = *payload.get(at).ok_or(Malformed::Short)?;
    at += 1;
    let timestamp_delta = varint(payload, &mut at)?;
    let offset_delta = varint(payload, &mut at)?;
    let rest = payload.get(at..end).ok_or(Malformed::Header)?;
    Ok((
        Record {
            attributes,
            timestamp_delta,
            offset_delta,
            rest,
            whole: &payload[start..end],
        },
        end,
    ))
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<i64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(Malformed::Short)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(Malformed::Header)
}

fn put_varint(dest: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        dest.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    dest.put_u8(rest as u8);
}

/// Encodes a payload of these records, numbered anew from 0.
pub(crate) fn renumbered(records: &[Record<'_>]) -> Vec<u8> {
    let bytes: usize = records.iter().map(|record| record.whole.len() + 2).sum();
    let mut payload = Vec::with_capacity(4 + bytes);
    payload.put_i32(records.len() as i32);
    for (record, delta) in records.iter().zip(0..) {
        put(&mut payload, record, delta);
    }
    payload
}

/// Appends a record with another offset delta.
pub(crate) fn put(payload: &mut Vec<u8>, record: &Record<'_>, offset_delta: i64) {
    if record.offset_delta == offset_delta {
        payload.put_slice(record.whole);
        return;
    }
    let mut head = Vec::with_capacity(24);
    head.put_u8(record.attributes);
    put_varint(&mut head, record.timestamp_delta);
    put_varint(&mut head, offset_delta);
    put_varint(payload, (head.len() + record.rest.len()) as i64);
    payload.put_slice(&head);
    payload.put_slice(record.rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_all_sizes_come_back() {
        for value in [
            0,
            1,
            -1,
            63,
            64,
            -64,
            -65,
            300,
            i64::from(i32::MAX),
            i64::MAX,
            i64::MIN,
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut at = 0;
            assert_eq!(varint(&bytes, &mut at), Ok(value));
            assert_eq!(at, bytes.len());
        }
    }
}
