//! A capture that copies tables.

use std::hash::{DefaultHasher, Hash, Hasher};

use millrace_events::{
    Baseline, BegunAgain, Chain, Chunk, CopyBegun, CopyId, CopyTable, Lsn, Record, Row, Start,
    TableCopied, TableRemoved, Value, Verdict,
};
use rand::seq::SliceRandom;
use rand::RngExt;

use super::{at, id, sliced, Source, CHANGES};

impl Source {
    /// The log begins here, with a copy of all tables.
    pub(crate) fn snapshot(&mut self, rows_per_chunk: usize) {
        self.start();
        let baseline = Record::Baseline(Baseline {
            epoch: self.epoch,
            incarnation: self.incarnation.clone(),
            lsn: self.lsn,
            system: "1".into(),
            database: "db".into(),
            at: at(),
            again: None,
        });
        self.log.append(CHANGES, baseline.encode());
        self.history.insert(self.lsn, self.state.clone());
        let tables: Vec<String> = self.schemas.iter().map(|s| s.table.name.clone()).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let copy = self.begin_copy(&tables);
        for table in tables {
            let chunks = (self.state[&id(table)].len() / rows_per_chunk + 1) as u32;
            for chunk in 1..=chunks {
                // A capture that is not sure sends again.
                for _ in 0..1 + u32::from(chunk % 3 == 0) {
                    self.chunk(copy, table, chunk, chunks);
                }
            }
            self.copied(copy, table, chunks);
        }
    }

    /// The log begins again in its topic, at a lower position.
    pub(crate) fn begin_again(&mut self) {
        let (mut chain, mut baseline) = (Chain::unanchored(), None);
        for value in self.log.values(CHANGES) {
            let record = Record::decode(&value).expect("a record");
            let verdict = chain.offer(&record);
            match (record, verdict) {
                (Record::Baseline(found), Verdict::Moved | Verdict::BegunAgain) => {
                    baseline = Some(found);
                }
                (Record::Checkpoint(found), _) if chain.position().is_none() => {
                    chain = Chain::begin_at(&found);
                    baseline = Some(found.baseline);
                }
                _ => {}
            }
        }
        self.epoch = self.epoch.max(chain.epoch());
        self.start();
        self.lsn = Lsn(self.lsn.0 / 2);
        self.incarnation = format!("{}+", self.incarnation);
        self.history.clear();
        self.history.insert(self.lsn, self.state.clone());
        let record = Record::Baseline(Baseline {
            epoch: self.epoch,
            incarnation: self.incarnation.clone(),
            lsn: self.lsn,
            system: "1".into(),
            database: "db".into(),
            at: at(),
            again: Some(BegunAgain::after(baseline.as_ref(), chain.position())),
        });
        self.log.append(CHANGES, record.encode());
    }

    /// A copy of all tables, each in one chunk.
    pub(crate) fn copy_all(&mut self) {
        let tables: Vec<String> = self.schemas.iter().map(|s| s.table.name.clone()).collect();
        for table in tables {
            let copy = self.begin_copy(&[&table]);
            self.chunk(copy, &table, 1, 1);
            self.copied(copy, &table, 1);
        }
    }

    /// A copy of tables begins.
    pub(crate) fn begin_copy(&mut self, tables: &[&str]) -> CopyId {
        self.copies += 1;
        let copy = CopyId(self.copies);
        let table = |table: &&str| CopyTable {
            definition: self.schema(table).clone(),
            estimated_rows: 1,
            published_lately: false,
            source: None,
        };
        let begun = Record::Copy(CopyBegun {
            epoch: self.epoch,
            copy,
            topic: topic(copy),
            lsn: self.lsn,
            tables: tables.iter().map(table).collect(),
            at: at(),
        });
        self.log.append(CHANGES, begun.encode());
        self.rekeyed.clear();
        let start = Record::Start(Start {
            epoch: self.epoch,
            owner: None,
            at: at(),
        });
        self.log.append(&topic(copy), start.encode());
        copy
    }

    /// Reads one of the chunks of a table, as the table is now.
    pub(crate) fn chunk(&mut self, copy: CopyId, table: &str, chunk: u32, chunks: u32) {
        for record in self.pieces(copy, table, chunk, chunks) {
            self.log.append(&topic(copy), record.encode());
        }
    }

    /// The records of a chunk: two pieces, if it has rows enough.
    pub(crate) fn pieces(&self, copy: CopyId, table: &str, chunk: u32, chunks: u32) -> Vec<Record> {
        let mine = |key: &Vec<Value>| chunk_of(key, chunks) == chunk;
        let rows = self.state[&id(table)].iter().filter(|(key, _)| mine(key));
        let rows: Vec<Row> = rows.map(|(_, values)| self.row(table, values)).collect();
        let half = rows.len().div_ceil(2).max(1);
        let mut pieces: Vec<Vec<Row>> = rows.chunks(half).map(<[Row]>::to_vec).collect();
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let last = pieces.len() as u32 - 1;
        let piece =
            |(piece, rows)| self.piece(copy, table, (chunk, piece), piece == last, false, rows);
        (0..).zip(pieces).map(piece).collect()
    }

    fn piece(
        &self,
        copy: CopyId,
        table: &str,
        (chunk, piece): (u32, u32),
        last: bool,
        again: bool,
        mut rows: Vec<Row>,
    ) -> Record {
        let (of, prefix) = (id(table), copy.value_prefix());
        let slices = rows
            .iter_mut()
            .flat_map(|row| sliced(&of, &prefix, row))
            .collect();
        let next = u64::from(self.xid.0);
        Record::Chunk(Chunk {
            epoch: self.epoch,
            copy,
            table: of,
            chunk,
            piece,
            last,
            again,
            visible: format!("{next}:{next}:").parse().expect("a snapshot"),
            lsn: self.lsn,
            schema: self.schema(table).id,
            slices,
            rows,
        })
    }

    /// All chunks of a table were read: those keys are read again that were changed by updates which did not send all.
    pub(crate) fn copied(&mut self, copy: CopyId, table: &str, chunks: u32) {
        let keys = self.rekeyed.iter().filter(|(of, _)| *of == id(table));
        let rows: Vec<Row> = keys
            .filter_map(|(of, key)| self.state[of].get(key))
            .map(|values| self.row(table, values))
            .collect();
        let mut all = chunks;
        if !rows.is_empty() {
            all += 1;
            let again = self.piece(copy, table, (all, 0), true, true, rows);
            self.log.append(&topic(copy), again.encode());
        }
        let copied = Record::Copied(TableCopied {
            epoch: self.epoch,
            copy,
            table: id(table),
            chunks: all,
            rows: 0,
            lsn: self.lsn,
            at: at(),
        });
        self.log.append(CHANGES, copied.encode());
    }

    /// A copy of a table whose chunks come in any order, one more than once, between random transactions.
    pub(crate) fn copy_under_traffic(&mut self, table: &str) -> CopyId {
        const CHUNKS: u32 = 6;
        let copy = self.begin_copy(&[table]);
        let mut order: Vec<u32> = (1..=CHUNKS).chain(1..=CHUNKS).collect();
        order.shuffle(&mut self.rng);
        for chunk in order {
            self.random_transaction();
            if self.rng.random_range(0..4) == 0 {
                // A reading that is given up.
                let pieces = self.pieces(copy, table, chunk, CHUNKS);
                if let [first, _, ..] = pieces.as_slice() {
                    self.log.append(&topic(copy), first.encode());
                    self.random_transaction();
                }
            }
            self.chunk(copy, table, chunk, CHUNKS);
        }
        self.random_transaction();
        self.copied(copy, table, CHUNKS);
        self.random_transaction();
        copy
    }

    /// A table is captured no longer.
    pub(crate) fn remove_table(&mut self, table: &str) {
        let removed = Record::Removed(TableRemoved {
            epoch: self.epoch,
            table: id(table),
            at: at(),
        });
        self.log.append(CHANGES, removed.encode());
    }
}

fn topic(copy: CopyId) -> String {
    format!("world-snapshot-{}", copy.0)
}

fn chunk_of(key: &[Value], chunks: u32) -> u32 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() % u64::from(chunks)) as u32 + 1
}
