//! Building the parts of a transaction, and the pieces of a chunk, while their rows stream in.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::{Change, Chunk, Epoch, Lsn, Record, Row, Slice, TableSchema, Xid};

/// What is known of a transaction when its first row arrives (pgoutput's Begin message).
#[derive(Clone, Copy, Debug)]
pub struct PartHeader {
    /// Number of this start of capture.
    pub epoch: Epoch,
    /// `end_lsn` of the predecessor.
    pub prev: Lsn,
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// Transaction number.
    pub xid: Xid,
    /// Commit time.
    pub at: DateTime<Utc>,
}

/// Builds the record values of one transaction, part by part.
///
/// Holds one part at a time: memory is bounded by the part size plus the largest row.
pub struct PartWriter {
    header: PartHeader,
    part: u32,
    schemas: Vec<TableSchema>,
    slices: Vec<u8>,
    changes: Vec<u8>,
}

impl PartWriter {
    /// Starts a transaction at part 0.
    pub fn new(header: PartHeader) -> Self {
        PartWriter {
            header,
            part: 0,
            schemas: Vec::new(),
            slices: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Announces a table definition in the current part. Call it before the first row that uses it.
    pub fn define(&mut self, schema: TableSchema) {
        self.schemas.push(schema);
    }

    /// Appends a change to the current part.
    pub fn push(&mut self, change: &Change) {
        push(&mut self.changes, change);
    }

    /// Appends a slice of a value of the next change. A part that has changes is to be cut before.
    pub fn push_slice(&mut self, slice: &Slice) {
        debug_assert!(!self.has_changes(), "a reader takes slices first");
        push(&mut self.slices, slice);
    }

    /// The current part has changes.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Bytes of changes and slices in the current part; cut it with [`PartWriter::cut`] beyond your limit.
    pub fn size(&self) -> usize {
        self.slices.len() + self.changes.len()
    }

    /// The predecessor, commit and time this transaction was started with.
    pub fn header(&self) -> &PartHeader {
        &self.header
    }

    /// Closes the current part and starts the next; returns the value of the closed one.
    pub fn cut(&mut self) -> Vec<u8> {
        let value = self.render(None);
        self.part += 1;
        self.schemas.clear();
        self.slices.clear();
        self.changes.clear();
        value
    }

    /// Closes the transaction; returns the value of its last part.
    pub fn finish(self, end_lsn: Lsn) -> Vec<u8> {
        self.render(Some(end_lsn))
    }

    fn render(&self, end_lsn: Option<Lsn>) -> Vec<u8> {
        use std::io::Write;
        let PartHeader {
            epoch,
            prev,
            commit_lsn,
            xid,
            at,
        } = &self.header;
        let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut out = Vec::with_capacity(self.size() + 320);
        // Writing into a Vec does not fail.
        let _ = write!(
            out,
            r#"{{"kind":"transaction","epoch":{epoch},"commit_lsn":"{commit_lsn}""#
        );
        if let Some(end_lsn) = end_lsn {
            let _ = write!(out, r#","end_lsn":"{end_lsn}""#);
        }
        let (part, last, xid) = (self.part, end_lsn.is_some(), xid.0);
        let _ = write!(
            out,
            r#","prev":"{prev}","xid":{xid},"at":"{at}","part":{part},"last":{last}"#
        );
        if !self.schemas.is_empty() {
            out.extend_from_slice(br#","schemas":"#);
            let _ = serde_json::to_writer(&mut out, &self.schemas);
        }
        if !self.slices.is_empty() {
            out.extend_from_slice(br#","slices":["#);
            out.extend_from_slice(&self.slices);
            out.push(b']');
        }
        out.extend_from_slice(br#","changes":["#);
        out.extend_from_slice(&self.changes);
        out.extend_from_slice(b"]}");
        out
    }
}

/// Builds the record values of one chunk, piece by piece. Holds one piece at a time.
pub struct ChunkWriter {
    /// What all pieces share; without rows.
    chunk: Chunk,
    slices: Vec<u8>,
    rows: Vec<u8>,
}

/// What a chunk without rows ends with.
const NO_ROWS: &[u8] = br#""rows":[]}"#;

impl ChunkWriter {
    /// Starts the chunk that `chunk` describes at piece 0; its rows are left out.
    pub fn new(chunk: Chunk) -> Self {
        ChunkWriter {
            chunk: Chunk {
                piece: 0,
                last: false,
                slices: Vec::new(),
                rows: Vec::new(),
                ..chunk
            },
            slices: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Appends a row to the current piece.
    pub fn push(&mut self, row: &Row) {
        push(&mut self.rows, row);
    }

    /// Appends a slice of a value of the next row. A piece that has rows is to be cut before.
    pub fn push_slice(&mut self, slice: &Slice) {
        debug_assert!(!self.has_rows(), "a reader takes slices first");
        push(&mut self.slices, slice);
    }

    /// The current piece has rows.
    pub fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Bytes of rows and slices in the current piece; cut it with [`ChunkWriter::cut`] beyond your limit.
    pub fn size(&self) -> usize {
        self.slices.len() + self.rows.len()
    }

    /// Closes the current piece and starts the next; returns the value of the closed one.
    pub fn cut(&mut self) -> Vec<u8> {
        let value = self.render();
        self.chunk.piece += 1;
        self.slices.clear();
        self.rows.clear();
        value
    }

    /// Closes the chunk; returns the value of its last piece.
    pub fn finish(mut self) -> Vec<u8> {
        self.chunk.last = true;
        self.render()
    }

    /// What is in the piece takes the place of [`NO_ROWS`].
    fn render(&self) -> Vec<u8> {
        let mut out = Record::Chunk(self.chunk.clone()).encode();
        debug_assert!(out.ends_with(NO_ROWS), "rows are its last member");
        out.truncate(out.len().saturating_sub(NO_ROWS.len()));
        out.reserve(self.size() + 32);
        if !self.slices.is_empty() {
            out.extend_from_slice(br#""slices":["#);
            out.extend_from_slice(&self.slices);
            out.extend_from_slice(b"],");
        }
        out.extend_from_slice(br#""rows":["#);
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(b"]}");
        out
    }
}

/// Appends an element to the inside of a JSON array.
fn push(array: &mut Vec<u8>, element: &impl Serialize) {
    if !array.is_empty() {
        array.push(b',');
    }
    // Writing into a Vec does not fail and the keys are strings.
    let _ = serde_json::to_writer(array, element);
}
