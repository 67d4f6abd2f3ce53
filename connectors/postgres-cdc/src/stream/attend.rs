//! What copies ask for, attended to between the messages of the stream.

use chrono::Utc;
use millrace_events::{Record, Verdict};

use super::Stream;
use crate::copy::{self, Announcement, Asked};
use crate::Error;

impl Stream<'_> {
    /// Attends to what can be answered now.
    pub(super) async fn attend(&mut self) -> Result<(), Error> {
        if self.assembler.notes.unseen.is_long() {
            let now = copy::now(&mut self.catalog).await?;
            self.assembler.notes.unseen.prune(&now);
        }
        for asked in std::mem::take(&mut self.waiting) {
            self.attend_to(asked).await?;
        }
        Ok(())
    }

    /// An answer that nobody waits for any more is dropped.
    async fn attend_to(&mut self, asked: Asked) -> Result<(), Error> {
        match asked {
            // What is said of tables takes away the transaction by which the database is known again.
            Asked::Announce(..) if !self.comparison.is_proven() => {
                self.waiting.push(asked);
            }
            Asked::Announce(..) if self.assembler.is_open() => self.waiting.push(asked),
            Asked::Moved(_, behind, _) if self.assembler.taken() < behind => {
                self.waiting.push(asked)
            }
            Asked::Announce(what, answer) => {
                self.announce(what).await?;
                let _ = answer.send(());
            }
            Asked::Moved(table, _, answer) => {
                let _ = answer.send(self.assembler.notes.moved.keys(&table));
            }
            Asked::Unseen(answer) => {
                let _ = answer.send(self.assembler.notes.unseen.clone());
            }
        }
        Ok(())
    }

    /// One record says all of it: whoever is killed in between has said nothing.
    async fn announce(&mut self, what: Announcement) -> Result<(), Error> {
        // What the log is to be told of other tables must not say anything of these.
        self.note().await?;
        let mut record = self.assembler.announce(what, Utc::now());
        match &mut record {
            Record::Copy(begun) => self.renew(&mut begun.tables).await?,
            Record::Removed(removed) => self.removed(&removed.table),
            _ => {}
        }
        let offset = self.appender.append_and_wait(record.encode()).await?;
        let copies = &mut self.checkpoints.copies;
        copies.offer(offset.to_i64(), &record, Verdict::Announced);
        match &record {
            Record::Copy(begun) => {
                let tables = begun.tables.iter();
                self.relations
                    .expect(tables.map(|table| table.definition.table.clone()));
                self.tables_changed().await?;
            }
            Record::Removed(removed) => {
                self.relations.remove(removed.table.clone());
                self.tables_changed().await?;
            }
            _ => {}
        }
        self.say_what_is_needed();
        // Told from here, so that all know what the log says, whether somebody still waits for the answer or not.
        self.reporter.captured(&self.checkpoints.copies);
        self.copies.send_replace(self.checkpoints.copies.clone());
        Ok(())
    }
}
