//! The records that the rows of one chunk become.

use millrace_events::{Chunk, ChunkWriter, CopyId, Epoch, Row, Slice, TableSchema};
use millrace_topic::RECORD_BYTES_MAX;

use super::pieces::Pieces;
use crate::{cut, Error};

/// A chunk that is being read: it is sent piece by piece.
pub(crate) struct Output<'a> {
    writer: ChunkWriter,
    pieces: &'a Pieces,
    /// A piece is sent at this size.
    piece_bytes: usize,
    copy: CopyId,
    epoch: Epoch,
}

impl<'a> Output<'a> {
    pub(crate) fn new(chunk: Chunk, pieces: &'a Pieces, piece_bytes: usize) -> Self {
        let (copy, epoch) = (chunk.copy, chunk.epoch);
        Output {
            writer: ChunkWriter::new(chunk),
            pieces,
            piece_bytes,
            copy,
            epoch,
        }
    }

    /// A name for a value that comes in slices.
    pub(super) fn name(&self) -> String {
        self.pieces.name(self.copy, self.epoch)
    }

    /// A row, before which texts leave it if it may not fit into a record.
    pub(super) async fn push(
        &mut self,
        definition: &TableSchema,
        mut row: Row,
    ) -> Result<(), Error> {
        // What stands in the piece already is below the size at which it is cut.
        let limit = RECORD_BYTES_MAX - self.piece_bytes;
        let name = || self.name();
        let texts = cut::fit((None, Some(&mut row)), definition, limit, name);
        for text in texts {
            for slice in text.slices(definition) {
                self.push_slice(&slice).await?;
            }
        }
        let before = self.writer.size();
        self.writer.push(&row);
        let bytes = self.writer.size() - before;
        if bytes > limit {
            return Err(Error::RowTooLarge {
                table: definition.table.clone(),
                place: "the snapshot".into(),
                bytes,
                limit,
            });
        }
        self.cut_if_full().await
    }

    /// A slice stands before its row: in a piece that has no rows yet.
    pub(super) async fn push_slice(&mut self, slice: &Slice) -> Result<(), Error> {
        if self.writer.has_rows() {
            self.pieces.send(self.writer.cut()).await?;
        }
        self.writer.push_slice(slice);
        self.cut_if_full().await
    }

    async fn cut_if_full(&mut self) -> Result<(), Error> {
        match self.writer.size() >= self.piece_bytes {
            true => self.pieces.send(self.writer.cut()).await,
            false => Ok(()),
        }
    }

    /// Sends what is left: the chunk is complete.
    pub(crate) async fn finish(self) -> Result<(), Error> {
        self.pieces.send(self.writer.finish()).await
    }
}
