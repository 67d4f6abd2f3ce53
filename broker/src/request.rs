//! Decoding what strangers send: never a panic, never more memory than the frame is long.

use std::io;

use bytes::{Buf, Bytes};
use fluvio_protocol::api::RequestHeader;
use fluvio_protocol::{Decoder, Encoder, Version};

/// A request frame, its header read and its body not yet.
pub(crate) struct Request {
    pub(crate) key: u16,
    pub(crate) version: Version,
    pub(crate) correlation: i32,
    pub(crate) body: Bytes,
}

impl Request {
    /// Reads the header of a frame.
    pub(crate) fn parse(frame: Bytes) -> io::Result<Self> {
        let mut src = Guarded(frame);
        let header = RequestHeader::decode_from(&mut src, 0)?;
        Ok(Self {
            key: header.api_key(),
            version: header.api_version(),
            correlation: header.correlation_id(),
            body: src.0,
        })
    }

    /// Decodes the whole body.
    pub(crate) fn decode<R: Decoder>(&self) -> io::Result<R> {
        R::decode_from(&mut Guarded(self.body.clone()), self.version)
    }

    /// Decodes an administrative body: the label of a kind of object, and the bytes that belong to it.
    pub(crate) fn labelled(&self) -> io::Result<(String, Bytes)> {
        let mut src = Guarded(self.body.clone());
        let label = String::decode_from(&mut src, self.version)?;
        let len = u32::decode_from(&mut src, self.version)? as usize;
        if src.remaining() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((label, src.copy_to_bytes(len)))
    }
}

/// An administrative body of any kind of object, as [`Request::labelled`] reads it.
#[derive(Debug)]
pub(crate) struct Labelled {
    label: String,
    body: Vec<u8>,
}

impl Labelled {
    pub(crate) fn new(label: &str, body: &impl Encoder, version: Version) -> io::Result<Self> {
        let mut encoded = Vec::new();
        body.encode(&mut encoded, version)?;
        Ok(Self {
            label: label.to_owned(),
            body: encoded,
        })
    }
}

impl Encoder for Labelled {
    fn write_size(&self, version: Version) -> usize {
        self.label.write_size(version) + 4 + self.body.len()
    }

    fn encode<T: bytes::BufMut>(&self, dest: &mut T, version: Version) -> io::Result<()> {
        let len = u32::try_from(self.body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.label.encode(dest, version)?;
        len.encode(dest, version)?;
        dest.put_slice(&self.body);
        Ok(())
    }
}

/// Decodes from bytes of unknown origin.
pub(crate) fn decode<R: Decoder>(bytes: Bytes, version: Version) -> io::Result<R> {
    R::decode_from(&mut Guarded(bytes), version)
}

/// Bytes that give less where more is asked for. Some of the protocol crates' decoders take a
/// length from the wire without comparing it with what is left, which panics on plain [`Bytes`].
struct Guarded(Bytes);

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.0.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.0.chunk()
    }

    fn advance(&mut self, cnt: usize) {
        self.0.advance(cnt.min(self.0.len()));
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.0.split_to(len.min(self.0.len()))
    }
}

/// The record sets of a request or response as raw bytes: nothing is decoded or copied.
#[derive(Debug, Default, Clone)]
pub(crate) struct RawSet(pub(crate) Bytes);

impl Decoder for RawSet {
    fn decode<T: Buf>(&mut self, src: &mut T, version: Version) -> io::Result<()> {
        let len = i32::decode_from(src, version)?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?;
        if src.remaining() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0 = src.copy_to_bytes(len);
        Ok(())
    }
}

impl Encoder for RawSet {
    fn write_size(&self, _version: Version) -> usize {
        4 + self.0.len()
    }

    fn encode<T: bytes::BufMut>(&self, dest: &mut T, version: Version) -> io::Result<()> {
        let len = i32::try_from(self.0.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        len.encode(dest, version)?;
        dest.put_slice(&self.0);
        Ok(())
    }
}
