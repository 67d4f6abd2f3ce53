//! The layout of a batch of records, on the wire and on disk alike.
//!
//! ```text
//!  0 base offset i64 | 8 length i32 of all that follows | 12 leader epoch i32 | 16 magic i8 = 2
//! 17 crc u32 (CRC-32C of all bytes after it) | 21 attributes i16 (bits 0-2 compression, 0x10 schema id)
//! 23 last offset delta i32 | 27 first timestamp i64 | 35 max timestamp i64 | 43 producer id i64
//! 51 producer epoch i16 | 53 first sequence i32 | 57 [schema id u32] | payload
//! ```
//! The base offset lies before the CRC, so the broker sets it without touching the rest.

use bytes::{BufMut, BytesMut};
use fluvio_compression::Compression;

/// Bytes before the payload (a schema id follows them if the attributes say so).
pub(crate) const HEADER_BYTES: usize = 57;
pub(crate) const PREAMBLE_BYTES: usize = 12;
const CRC_START: usize = 17;
const CRC_COVERS_FROM: usize = 21;
const SCHEMA_FLAG: i16 = 0x10;
pub(crate) const MAGIC: u8 = 2;

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("batch is cut short")]
    Short,
    #[error("batch header is invalid")]
    Header,
    #[error("batch checksum does not match")]
    Checksum,
    #[error("batch is empty or its record count does not match")]
    Count,
    #[error("batch uses an unknown compression")]
    Compression,
    #[error("batch does not begin where the one before it ends")]
    Offset,
}

/// The fields of a batch header that the broker looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// Whole batch, header included.
    pub(crate) bytes: usize,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) first_timestamp: i64,
    pub(crate) max_timestamp: i64,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes
        .get(at..at + N)
        .and_then(|b| b.try_into().ok())
        .ok_or(Malformed::Short)
}

impl Header {
    /// Reads the header at the start of `bytes`; the payload need not be there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::Short);
        }
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)?),
            bytes: batch_bytes(i32::from_be_bytes(array(bytes, 8)?))?,
            crc: u32::from_be_bytes(array(bytes, CRC_START)?),
            attributes: i16::from_be_bytes(array(bytes, CRC_COVERS_FROM)?),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)?),
            first_timestamp: i64::from_be_bytes(array(bytes, 27)?),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)?),
        };
        let sane = bytes[16] == MAGIC && header.last_offset_delta >= 0 && header.base_offset >= 0;
        if !sane || header.bytes < header.payload_start() {
            return Err(Malformed::Header);
        }
        Ok(header)
    }

    /// Parses the batch at the start of `bytes` and checks its checksum.
    pub(crate) fn verify(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse(bytes)?;
        let covered = bytes
            .get(CRC_COVERS_FROM..header.bytes)
            .ok_or(Malformed::Short)?;
        if crc32c::crc32c(covered) != header.crc {
            return Err(Malformed::Checksum);
        }
        Ok(header)
    }

    /// As [`Header::verify`], of the batch that must begin at `offset`.
    pub(crate) fn verify_at(bytes: &[u8], offset: i64) -> Result<Self, Malformed> {
        Self::verify(bytes)?.at(offset)
    }

    /// This header, if its batch begins at `offset`: that is not under the checksum.
    pub(crate) fn at(self, offset: i64) -> Result<Self, Malformed> {
        match self.base_offset == offset {
            true => Ok(self),
            false => Err(Malformed::Offset),
        }
    }

    /// Offset after the last one of this batch.
    pub(crate) fn next_offset(&self) -> i64 {
        self.base_offset + self.offsets()
    }

    /// How many offsets this batch takes.
    pub(crate) fn offsets(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }

    pub(crate) fn payload_start(&self) -> usize {
        HEADER_BYTES
            + if self.attributes & SCHEMA_FLAG != 0 {
                4
            } else {
                0
            }
    }

    pub(crate) fn compression(&self) -> Result<Compression, Malformed> {
        Compression::try_from((self.attributes & 0x07) as i8).map_err(|_| Malformed::Compression)
    }
}

fn batch_bytes(batch_len: i32) -> Result<usize, Malformed> {
    let len = usize::try_from(batch_len).map_err(|_| Malformed::Header)?;
    if len + PREAMBLE_BYTES < HEADER_BYTES {
        return Err(Malformed::Header);
    }
    Ok(len + PREAMBLE_BYTES)
}

/// Checks everything a producer could get wrong about the batch at the start of `bytes`. The record
/// count of a compressed batch is taken on trust: inflating it here would cost more than it tells.
pub(crate) fn admit(bytes: &[u8]) -> Result<Header, Malformed> {
    let header = Header::verify(bytes)?;
    let payload = bytes
        .get(header.payload_start()..header.bytes)
        .ok_or(Malformed::Short)?;
    if header.compression()? == Compression::None {
        let count = i32::from_be_bytes(array(payload, 0).map_err(|_| Malformed::Count)?);
        if i64::from(count) != header.offsets() {
            return Err(Malformed::Count);
        }
    }
    Ok(header)
}

/// Sets the base offset of the batch at the start of `batch`.
pub(crate) fn set_base_offset(batch: &mut [u8], offset: i64) {
    batch[..8].copy_from_slice(&offset.to_be_bytes());
}

/// Sets how far the offsets of an encoded batch reach, and its checksum anew.
pub(crate) fn set_last_offset_delta(batch: &mut [u8], delta: i32) {
    batch[23..27].copy_from_slice(&delta.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_START..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// Appends an uncompressed batch with this payload (an i32 count, then the records).
pub(crate) fn encode(
    dest: &mut BytesMut,
    base_offset: i64,
    last_offset_delta: i32,
    timestamps: (i64, i64),
    payload: &[u8],
) {
    let start = dest.len();
    dest.reserve(HEADER_BYTES + payload.len());
    dest.put_i64(base_offset);
    dest.put_i32((HEADER_BYTES - PREAMBLE_BYTES + payload.len()) as i32);
    dest.put_i32(-1);
    dest.put_u8(MAGIC);
    dest.put_u32(0);
    dest.put_i16(0);
    dest.put_i32(last_offset_delta);
    dest.put_i64(timestamps.0);
    dest.put_i64(timestamps.1);
    dest.put_i64(-1);
    dest.put_i16(-1);
    dest.put_i32(-1);
    dest.put_slice(payload);
    set_last_offset_delta(&mut dest[start..], last_offset_delta);
}

/// Walks the batches in `bytes`; ends at the first that is not whole.
pub(crate) fn walk(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = Header::parse(bytes.get(at..)?).ok()?;
        let start = at;
        at += header.bytes;
        (at <= bytes.len()).then_some((start, header))
    })
}
