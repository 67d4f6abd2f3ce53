//! Decompressing what strangers compressed: never more than the limit comes out.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::GzDecoder;
use fluvio_compression::Compression;
use fluvio_protocol::link::ErrorCode;

/// The payload of a batch, decompressed.
pub(super) fn inflate(
    compression: Compression,
    payload: &[u8],
    bytes_max: usize,
) -> Result<Bytes, ErrorCode> {
    let inflated = match compression {
        Compression::None => return Ok(Bytes::copy_from_slice(payload)),
        Compression::Gzip => read(GzDecoder::new(payload), bytes_max),
        Compression::Snappy => read(snap::read::FrameDecoder::new(payload), bytes_max),
        Compression::Lz4 => read(lz4_flex::frame::FrameDecoder::new(payload), bytes_max),
        Compression::Zstd => {
            zstd::Decoder::new(payload).and_then(|decoder| read(decoder, bytes_max))
        }
    };
    let inflated = inflated.map_err(|_| ErrorCode::CompressionError)?;
    match inflated.len() > bytes_max {
        true => Err(ErrorCode::MessageTooLarge),
        false => Ok(inflated.into()),
    }
}

/// Reads to the end, or one byte more than allowed.
fn read(decoder: impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut inflated = Vec::new();
    decoder
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut inflated)?;
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_of_any_kind_is_refused_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        for compression in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bomb = compression.compress(&zeros).expect("compressed");
            assert_eq!(
                inflate(compression, &bomb, 1 << 20),
                Ok(Bytes::from(zeros.clone()))
            );
            assert_eq!(
                inflate(compression, &bomb, (1 << 20) - 1),
                Err(ErrorCode::MessageTooLarge)
            );
            assert_eq!(
                inflate(compression, b"nonsense", 1 << 20),
                Err(ErrorCode::CompressionError)
            );
        }
    }
}
