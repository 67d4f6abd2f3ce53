//! Building the parts of a transaction, and the pieces of a chunk, while their rows stream in.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{Change, Chunk, Epoch, Lsn, Record, Row, TableSchema, Xid};

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
    changes: Vec<u8>,
}

impl PartWriter {
    /// Starts a transaction at part 0.
    pub fn new(header: PartHeader) -> Self {
        PartWriter {
            header,
            part: 0,
            schemas: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Announces a table definition in the current part. Call it before the first row that uses it.
    pub fn define(&mut self, schema: TableSchema) {
        self.schemas.push(schema);
    }

    /// Appends a change to the current part.
    pub fn push(&mut self, change: &Change) {
        if !self.changes.is_empty() {
            self.changes.push(b',');
        }
        // Writing into a Vec does not fail and the keys are strings.
        let _ = serde_json::to_writer(&mut self.changes, change);
    }

    /// Bytes of changes in the current part; cut it with [`PartWriter::cut`] beyond your limit.
    pub fn size(&self) -> usize {
        self.changes.len()
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
        let mut out = Vec::with_capacity(self.changes.len() + 320);
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
    rows: Vec<u8>,
}

impl ChunkWriter {
    /// Starts the chunk that `chunk` describes at piece 0; its rows are left out.
    pub fn new(chunk: Chunk) -> Self {
        ChunkWriter {
            chunk: Chunk {
                piece: 0,
                last: false,
                rows: Vec::new(),
                ..chunk
            },
            rows: Vec::new(),
        }
    }

    /// Appends a row to the current piece.
    pub fn push(&mut self, row: &Row) {
        if !self.rows.is_empty() {
            self.rows.push(b',');
        }
        // Writing into a Vec does not fail and the keys are strings.
        let _ = serde_json::to_writer(&mut self.rows, row);
    }

    /// Bytes of rows in the current piece; cut it with [`ChunkWriter::cut`] beyond your limit.
    pub fn size(&self) -> usize {
        self.rows.len()
    }

    /// Closes the current piece and starts the next; returns the value of the closed one.
    pub fn cut(&mut self) -> Vec<u8> {
        let value = self.render();
        self.chunk.piece += 1;
        self.rows.clear();
        value
    }

    /// Closes the chunk; returns the value of its last piece.
    pub fn finish(mut self) -> Vec<u8> {
        self.chunk.last = true;
        self.render()
    }

    /// The record without its rows ends in `"rows":[]}`; the rows go in between.
    fn render(&self) -> Vec<u8> {
        let mut out = Record::Chunk(self.chunk.clone()).encode();
        let end = out.split_off(out.len().saturating_sub(2));
        out.reserve(self.rows.len() + end.len());
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(&end);
        out
    }
}
