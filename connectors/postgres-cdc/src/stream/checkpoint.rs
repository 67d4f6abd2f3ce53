//! Checkpoints, written between the transactions of the stream.

use chrono::Utc;
use millrace_events::{Checkpoint, Record};

use super::Stream;
use crate::assemble::Outgoing;
use crate::{copy, Error};

impl Stream<'_> {
    /// Writes a checkpoint if one is due and can be written. A transaction whose parts are in the log has to end first: who
    /// begins at a checkpoint has no parts from before it.
    pub(super) async fn checkpoint(&mut self) -> Result<(), Error> {
        if self.assembler.is_open() || !self.checkpoints.is_due(self.appender.sent()) {
            return Ok(());
        }
        self.note().await?;
        let now = copy::now(&mut self.catalog).await?;
        self.assembler.notes.unseen.prune(&now);
        // Something that is lost now would leave a gap before the checkpoint, behind which nobody could begin.
        self.appender.settle().await?;
        let checkpoint = Checkpoint {
            source: Some(self.comparison.source().clone()),
            last: self.last(),
            ..self.checkpoints.make(&self.assembler, Utc::now())
        };
        let record = Record::Checkpoint(Box::new(checkpoint)).encode();
        let record = Outgoing {
            checkpoint: true,
            ..Outgoing::aside(record)
        };
        self.appender.append(record).await?;
        self.checkpoints.sent(self.appender.sent());
        self.assembler.define_again();
        Ok(())
    }
}
