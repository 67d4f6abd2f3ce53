//! Where a projector begins: at the newest checkpoint that counts, wherever the log itself begins (ADR 22).

use millrace_control::in_words;
use millrace_events::{
    Begin, CapturedTable, CheckpointSearch, CopyBegun, CopyTable, Epoch, Passed, Record, StaleMax,
    TableCopied,
};
use millrace_sessions::mysql::Session;
use millrace_topic::{Offset, TopicError, Windows};
use sqlx::Executor;

use super::catalog::Catalog;
use super::error::Error;
use super::follower::Desk;
use super::position::Position;
use super::reader::backoff;
use super::rows::Place;
use super::Service;
use crate::script::Script;

/// So often in a row the log may fail to be searched. Then it is read from its beginning, which says the same.
const SEARCH_ATTEMPTS: u32 = 10;
/// Pauses between these attempts grow up to this.
const SEARCH_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(5);

impl Service {
    /// The newest checkpoint of the log as it is now; `None` if it has none, or cannot be searched.
    pub(super) async fn newest_checkpoint(&self) -> Option<Begin> {
        for failures in 0..SEARCH_ATTEMPTS {
            match self.search().await {
                Ok(found) => return found,
                Err(TopicError::NoTopic { .. }) => return None,
                Err(error) => {
                    let (topic, error) = (&self.config.changes_topic, in_words(&error));
                    tracing::warn!(%topic, error, "the log cannot be searched for a checkpoint; trying again");
                    self.shared.log_failed(error);
                    self.log.reset().await;
                    tokio::time::sleep(backoff(failures, SEARCH_PAUSE_MAX)).await;
                }
            }
        }
        None
    }

    async fn search(&self) -> Result<Option<Begin>, TopicError> {
        let topic = &self.config.changes_topic;
        let mut windows = Windows::before(self.log.end(topic).await?);
        let mut search = CheckpointSearch::new(StaleMax::CAPTURES);
        let mut due = windows.next();
        while let Some(range) = due {
            match self.log.range(topic, range).await {
                Ok(records) => {
                    for record in records.iter().rev() {
                        // Who reads it forwards says what is wrong with it.
                        let Some(passed) = passed(record) else {
                            return Ok(None);
                        };
                        if let Some(found) = search.offer(passed) {
                            return Ok(Some(found));
                        }
                    }
                    due = windows.next();
                }
                Err(TopicError::Evicted { next, .. }) => due = windows.evicted(range, next),
                Err(error) => return Err(error),
            }
        }
        Ok(search.at_the_beginning())
    }
}

fn passed(record: &millrace_topic::Record) -> Option<Passed> {
    let bytes = record.value.len() as u64;
    let decoded = Record::decode(&record.value).ok()?;
    Passed::of(record.offset.0, bytes, decoded)
}

/// The first position and what comes with it are written together. As text: MySQL does not prepare BEGIN.
pub(super) async fn run(conn: &mut Session, statement: &str) -> Result<(), Error> {
    let done = conn.execute(statement).await;
    done.map(drop).map_err(Error::sql("its first position"))
}

/// Moves the position to where a log begins that has taken the place of its own, together with what that means for tables.
pub(super) async fn again(
    desk: &mut Desk,
    position: &Position,
    place: Place,
    incarnation: String,
) -> Result<(), Error> {
    tracing::warn!(
        %incarnation, offset = %place.offset, lsn = %place.end_lsn,
        "the log was begun again; tables and marts stay as they are until new copies take their places"
    );
    desk.begin().await?;
    let mut script = Script::on(&mut desk.conn);
    position
        .begin_again(&mut script, place, &incarnation)
        .await?;
    script.send().await?;
    desk.catalog.save(&mut desk.conn).await?;
    desk.execute("COMMIT", "a commit").await
}

/// The place of a checkpoint.
pub(super) fn place(begin: &Begin) -> Place {
    Place {
        offset: Offset(begin.offset),
        end_lsn: begin.checkpoint.lsn,
        epoch: begin.checkpoint.epoch,
    }
}

impl Catalog {
    /// The log was begun again, and nothing of an earlier one goes on.
    pub(super) fn begin_again_at(&mut self, begin: &Begin, main_schema: Option<&str>) {
        let now = begin.checkpoint.at;
        self.begin_again(now);
        for table in &begin.checkpoint.removed {
            self.remove(table, now);
        }
        self.begin_at(begin, main_schema);
    }

    /// What the log had announced before the checkpoint.
    pub(super) fn begin_at(&mut self, begin: &Begin, main_schema: Option<&str>) {
        let checkpoint = &begin.checkpoint;
        for table in &checkpoint.tables {
            let begun = begun(table, checkpoint.epoch, checkpoint.at);
            self.begin_copy(&begun, place_of_copy(table), main_schema, checkpoint.at);
            if let Some(copied) = copied(table, checkpoint.epoch, checkpoint.at) {
                self.copied(&copied);
            }
        }
    }
}

/// Right before the record that began it, which says of which epoch it is.
fn place_of_copy(table: &CapturedTable) -> Place {
    let offset = Offset::of(table.copy_offset).unwrap_or_default();
    Place {
        offset: Offset(offset.0.saturating_sub(1)),
        end_lsn: table.copy_lsn,
        epoch: Epoch::default(),
    }
}

fn begun(table: &CapturedTable, epoch: Epoch, at: chrono::DateTime<chrono::Utc>) -> CopyBegun {
    CopyBegun {
        epoch,
        copy: table.copy,
        lsn: table.copy_lsn,
        topic: table.topic.clone(),
        tables: vec![CopyTable {
            definition: table.definition.clone(),
            estimated_rows: table.estimated_rows,
            published_lately: table.published_lately,
            source: None,
        }],
        at,
    }
}

fn copied(
    table: &CapturedTable,
    epoch: Epoch,
    at: chrono::DateTime<chrono::Utc>,
) -> Option<TableCopied> {
    let copied = table.copied?;
    Some(TableCopied {
        epoch,
        copy: table.copy,
        table: table.definition.table.clone(),
        chunks: copied.chunks,
        rows: copied.rows,
        lsn: copied.lsn,
        at,
    })
}
