//! From records to batches: whole transactions are folded, unfinished ones are kept apart. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use millrace_events::{
    Baseline, Chain, Lsn, PartVerdict, Progress, Record, Slice, TableId, TableSchema,
    TransactionPart, Verdict,
};
use millrace_topic::Offset;

use super::contained::Contained;
use super::error::Error;
use super::fold::{Batch, Key};
use super::position::Advance;
use super::rows::Place;
use crate::replica::Table;

/// A table to which the log is applied.
pub(crate) struct Followed {
    /// What the table was made from.
    pub(crate) definition: TableSchema,
    /// Its form in MySQL, under the name that is written to.
    pub(crate) table: Table,
    /// What it has already, while it catches up.
    pub(crate) contained: Option<Contained>,
}

/// The tables to which the log is applied. Changes of others are not looked at.
pub(crate) type Tables = BTreeMap<TableId, Followed>;

impl Followed {
    /// True if nothing of a transaction is to be applied to it.
    fn has(&self, part: &TransactionPart) -> bool {
        self.contained.as_ref().is_some_and(|it| it.has(part))
    }
}

/// What a record did.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// A transaction that was being applied in parts is void: roll back.
    pub(crate) voided: bool,
    /// The transaction that is applied in parts is complete with this one.
    pub(crate) finished: bool,
    /// The record builds upon something that is missing.
    pub(crate) gap: bool,
    /// It says something of tables, which counts.
    pub(crate) announced: Option<Record>,
    /// The log begins again with it.
    pub(crate) begun_again: Option<Baseline>,
}

/// Collects what one MySQL transaction will apply.
pub(crate) struct Assembler {
    chain: Chain,
    tables: Tables,
    /// Commit time of the last transaction.
    source_at: Option<DateTime<Utc>>,
    /// Parts of a transaction that is not whole yet.
    pending: Vec<TransactionPart>,
    pending_bytes: usize,
    /// Parts go straight into `batch`, which is applied without commit.
    in_parts: bool,
    /// Net effect of what is to be applied.
    pub(crate) batch: Batch,
    /// JSON bytes folded into `batch`.
    pub(crate) bytes: usize,
    /// Where the position moves with it; `None` if it does not.
    pub(crate) advance: Option<Advance>,
    /// Transactions in `batch`.
    pub(crate) transactions: u64,
    /// Tables that cannot be followed any further, and why. They are followed no longer.
    pub(crate) lost: Vec<(TableId, Error)>,
    /// Tables with changes that are not followed.
    pub(crate) others: BTreeSet<TableId>,
}

impl Assembler {
    /// Continues at a place in the log.
    pub(crate) fn new(place: Place, source_at: Option<DateTime<Utc>>, tables: Tables) -> Assembler {
        Assembler {
            chain: Chain::resume(place.end_lsn, place.epoch),
            tables,
            source_at,
            pending: Vec::new(),
            pending_bytes: 0,
            in_parts: false,
            batch: Batch::default(),
            bytes: 0,
            advance: None,
            transactions: 0,
            lost: Vec::new(),
            others: BTreeSet::new(),
        }
    }

    /// The tables that are followed.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Follows a table from here on.
    pub(crate) fn follow(&mut self, id: TableId, table: Followed) {
        self.tables.insert(id, table);
    }

    /// Follows a table no longer; what is not applied of it is dropped.
    pub(crate) fn leave(&mut self, table: &TableId) {
        self.tables.remove(table);
        self.batch.tables.remove(table);
    }

    /// Where the log stands, what is not applied yet included.
    pub(crate) fn lsn(&self) -> Lsn {
        self.chain.position().unwrap_or(Lsn::ZERO)
    }

    /// True while a transaction is applied in parts.
    pub(crate) fn in_parts(&self) -> bool {
        self.in_parts
    }

    /// Bytes of an unfinished transaction that are kept in memory.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// True while parts of an unfinished transaction are known.
    pub(crate) fn has_pending(&self) -> bool {
        self.chain.has_pending()
    }

    /// The commit LSN of the transaction that this record would add to, if it counts.
    pub(crate) fn commit_lsn_of(&self, record: &Record) -> Option<Lsn> {
        let Record::Transaction(part) = record else {
            return None;
        };
        match self.chain.clone().offer(record) {
            Verdict::Part(PartVerdict::Accepted { .. }) => Some(part.commit_lsn),
            _ => None,
        }
    }

    /// Takes the next record of the log.
    pub(crate) fn offer(&mut self, offset: Offset, record: Record, bytes: usize) -> Step {
        let verdict = self.chain.offer(&record);
        let mut step = Step::default();
        if !self.chain.has_pending() || starts_over(&verdict) {
            let counts = matches!(
                verdict,
                Verdict::Part(PartVerdict::Accepted { first: false, .. })
            );
            if !counts {
                step.voided = self.void();
            }
        }
        match (verdict, record) {
            (Verdict::Part(PartVerdict::Accepted { complete, .. }), Record::Transaction(part)) => {
                step.finished = self.in_parts && complete;
                self.accept(offset, part, bytes, complete);
            }
            (Verdict::Moved, Record::Progress(progress)) => self.progress(offset, &progress),
            (Verdict::Announced, record) => step.announced = Some(record),
            (Verdict::BegunAgain, Record::Baseline(baseline)) => step.begun_again = Some(baseline),
            (Verdict::Hole { expected, found }, _)
            | (Verdict::Part(PartVerdict::Hole { expected, found }), _) => {
                tracing::warn!(%offset, %expected, %found, "a record is missing before this one; waiting for its re-send");
                step.gap = true;
            }
            (Verdict::Part(PartVerdict::MissingParts { expected, found }), _) => {
                tracing::warn!(%offset, expected, found, "parts are missing before this one; waiting for their re-send");
                step.gap = true;
            }
            _ => {}
        }
        step
    }

    /// From here on the unfinished transaction is applied in parts. What is complete was taken before.
    pub(crate) fn go_in_parts(&mut self) {
        self.in_parts = true;
        for part in std::mem::take(&mut self.pending) {
            self.fold(part);
        }
        self.bytes += std::mem::take(&mut self.pending_bytes);
    }

    /// The batch was applied: begin the next.
    pub(crate) fn clear(&mut self) {
        self.batch = Batch::default();
        self.bytes = 0;
    }

    /// The batch was committed: begin the next.
    pub(crate) fn committed(&mut self) {
        self.clear();
        self.advance = None;
        self.others.clear();
        self.transactions = 0;
        self.in_parts = false;
    }

    /// Drops what is kept of an unfinished transaction; true if some of it may have been applied.
    fn void(&mut self) -> bool {
        self.pending.clear();
        self.pending_bytes = 0;
        let applied = std::mem::take(&mut self.in_parts);
        if applied {
            self.clear();
        }
        applied
    }

    fn accept(&mut self, offset: Offset, part: TransactionPart, bytes: usize, complete: bool) {
        self.check_definitions(&part);
        let at = part.at;
        if self.in_parts {
            self.bytes += bytes;
            self.fold(part);
        } else {
            self.pending_bytes += bytes;
            self.pending.push(part);
        }
        if complete {
            for part in std::mem::take(&mut self.pending) {
                self.fold(part);
            }
            self.bytes += std::mem::take(&mut self.pending_bytes);
            self.transactions += 1;
            self.source_at = Some(at);
            self.advance_to(offset);
        }
    }

    fn progress(&mut self, offset: Offset, progress: &Progress) {
        debug_assert_eq!(self.chain.position(), Some(progress.end_lsn));
        self.advance_to(offset);
    }

    /// The epoch is that of this record, not of later ones: a reader that resumes here must judge
    /// what follows as this one does.
    fn advance_to(&mut self, offset: Offset) {
        self.advance = Some(Advance {
            place: Place {
                offset,
                end_lsn: self.lsn(),
                epoch: self.chain.epoch(),
            },
            source_at: self.source_at,
        });
    }

    fn fold(&mut self, part: TransactionPart) {
        let lsn = part.commit_lsn;
        let spared = self.spared(&part);
        let contained: BTreeSet<TableId> = (self.tables.iter())
            .filter(|(_, followed)| followed.has(&part))
            .map(|(id, _)| id.clone())
            .collect();
        let is_wanted = |slice: &Slice| {
            self.tables.contains_key(&slice.table) && !contained.contains(&slice.table)
        };
        let slices = part.slices.into_iter().filter(is_wanted);
        self.batch.slices.extend(slices);
        for change in part.changes {
            let Some(followed) = self.tables.get(&change.table) else {
                self.others.insert(change.table);
                continue;
            };
            if contained.contains(&change.table) {
                continue;
            }
            let none = BTreeSet::new();
            let spared = spared.get(&change.table).unwrap_or(&none);
            if let Err(error) = self.batch.fold(change, &followed.table, spared) {
                self.lose(error.table.clone(), Error::fold(lsn)(error));
            }
        }
    }

    /// By table, the keys at which a transaction is contained already.
    fn spared(&self, part: &TransactionPart) -> BTreeMap<TableId, BTreeSet<Key>> {
        let of = |(id, followed): (&TableId, &Followed)| {
            let spared = followed.contained.as_ref()?.spared(part);
            (!spared.is_empty()).then(|| (id.clone(), spared))
        };
        self.tables.iter().filter_map(of).collect()
    }

    fn check_definitions(&mut self, part: &TransactionPart) {
        for schema in &part.schemas {
            let differs = |followed: &Followed| {
                !followed.has(part) && !followed.definition.same_shape(schema)
            };
            if self.tables.get(&schema.table).is_some_and(differs) {
                let error = Error::SchemaChanged {
                    table: schema.table.clone(),
                    lsn: part.commit_lsn,
                };
                self.lose(schema.table.clone(), error);
            }
        }
    }

    fn lose(&mut self, table: TableId, error: Error) {
        self.leave(&table);
        self.lost.push((table, error));
    }
}

fn starts_over(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Part(PartVerdict::Accepted { first: true, .. })
    )
}
