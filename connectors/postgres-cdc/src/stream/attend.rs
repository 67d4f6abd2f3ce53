//! What copies ask for, attended to between the messages of the stream.

use chrono::Utc;
use millrace_events::{Record, Verdict};

use super::Stream;
use crate::copy::{self, Announced, Announcement, Asked};
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
            Asked::Announce(..) | Asked::Expect(..) if !self.comparison.is_proven() => {
                self.waiting.push(asked);
            }
            Asked::Announce(..) if self.assembler.is_open() => self.waiting.push(asked),
            Asked::Moved(_, behind, _) if self.assembler.taken() < behind => {
                self.waiting.push(asked)
            }
            Asked::Announce(what, answer) => {
                let announced = self.announce(what).await?;
                let _ = answer.send(announced);
            }
            Asked::Moved(table, _, answer) => {
                let _ = answer.send(self.assembler.notes.moved.keys(&table));
            }
            Asked::Expect(tables, answer) => {
                self.relations.expect(tables.iter().cloned());
                let _ = answer.send(self.renew(&tables).await?);
            }
            Asked::Unseen(answer) => {
                let _ = answer.send(self.assembler.notes.unseen.clone());
            }
        }
        Ok(())
    }

    async fn announce(&mut self, what: Announcement) -> Result<Announced, Error> {
        let record = self.assembler.announce(what, Utc::now());
        match &record {
            Record::Copy(begun) => {
                let tables = begun
                    .tables
                    .iter()
                    .map(|table| table.definition.table.clone());
                self.relations.expect(tables);
            }
            Record::Removed(removed) => {
                self.relations.remove(removed.table.clone());
                self.removed(&removed.table).await?;
            }
            _ => {}
        }
        let offset = self.appender.append_and_wait(record.encode()).await?;
        let copies = &mut self.checkpoints.copies;
        copies.offer(offset.to_i64(), &record, Verdict::Announced);
        self.say_what_is_needed();
        Ok(Announced {
            record,
            offset: offset.0 as i64,
        })
    }
}
