//! A replica table against its source by sums of digests, range by range, with the rows read where the sums differ.
//!
//! A range is begun with a savepoint on both servers and ended by going back to it, which gives back the locks on the
//! table. Who truncates, alters or replaces it waits for the end of a range, never for that of the verification; the next
//! range then finds that the rows of the snapshot are [`Gone`].

use std::collections::BTreeSet;
use std::time::Instant;

use millrace_sessions::mysql::{server_code, Session};
use millrace_sessions::postgres::PgSession;
use sqlx::Executor;

use super::checksum::{in_buckets, replica_sums, source_sums, Rows, Sides, Sums};
use super::error::{DEFINITION_CHANGED, NO_SUCH_TABLE};
use super::merge::merge;
use super::pair::Pair;
use super::ranges::{in_blocks, Cut, Key, Range};
use super::report::Tally;
use super::sides::{
    all_from_mysql, from_mysql, from_postgres, sums_from_mysql, sums_from_postgres,
};
use super::{mysql, postgres, Error, Pace};
use crate::replica::names::{suffixed, SHADOW};
use crate::replica::quoted;

/// Rows of a range. Both servers take some 50 ms for so many: short enough to rest behind it and to read it again,
/// and long enough that the trips between do not count.
const RANGE_ROWS: u64 = 20_000;
/// Where a table is not cut by its whole key on both sides, its sums are kept apart by so many hexadecimal digits: 4096 buckets.
const BUCKET_DIGITS: usize = 3;
/// Blocks of Postgres that are one range where a table is not cut by its key: 2 MiB, some 20,000 short rows.
const RANGE_BLOCKS: u64 = 256;
/// A lock is asked for so many times, where others in a deadlock took us along.
const PINS_MAX: usize = 5;
/// More buckets are not chosen from: then nearly all rows are read anyway.
const BUCKETS_MAX: usize = 256;

/// Going back to it gives back locks. Both servers understand it.
pub(super) const BEGIN: &str = "SAVEPOINT millrace_range";
pub(super) const END: &str = "ROLLBACK TO SAVEPOINT millrace_range";

/// Both sessions see the same commits.
pub(super) struct Both<'s> {
    pub(super) postgres: &'s mut PgSession,
    pub(super) mysql: &'s mut Session,
    /// The replica's tables, and copies beside them, that were there when the snapshot was opened.
    pub(super) existing: &'s BTreeSet<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Rows of the source.
    pub(super) rows: u64,
    /// Ranges whose sums were compared.
    pub(super) ranges: u64,
    /// Rows of the source that were read and compared one by one.
    pub(super) read: u64,
}

/// The table's rows of the snapshot are gone: it was truncated, rewritten or replaced.
#[derive(Debug)]
pub(super) struct Gone;

/// What a step gives: the rows may be gone. What was told of the table until then means nothing.
pub(super) type Step<T> = Result<Result<T, Gone>, Error>;

impl Both<'_> {
    /// Locks the table on both sides, on Postgres against TRUNCATE.
    pub(super) async fn begin(&mut self, pair: &Pair<'_>) -> Step<()> {
        self.postgres
            .execute(BEGIN)
            .await
            .map_err(postgres("beginning a range"))?;
        self.mysql
            .execute(BEGIN)
            .await
            .map_err(mysql("beginning a range"))?;
        match self.pin(pair).await? {
            true => Ok(Ok(())),
            false => self.end().await.map(|()| Err(Gone)),
        }
    }

    /// Who waits for a table may be the one that Postgres chooses to end a deadlock of others who want it, too. That is
    /// nothing to us, who hold no lock: the next attempt waits again.
    async fn pin(&mut self, pair: &Pair<'_>) -> Result<bool, Error> {
        for _ in 1..PINS_MAX {
            match pair.pin(self.postgres).await {
                Err(error) if error.is_of_a_deadlock() => self.back_in_postgres().await?,
                pinned => return pinned,
            }
        }
        pair.pin(self.postgres).await
    }

    /// Whether another table has taken the name of the replica's since the snapshot. One that was made later is refused by
    /// the server; the copy that was being filled then would be read as it was, half full. To be asked when the table was
    /// read in this range: its name is locked then.
    async fn is_replaced(&mut self, pair: &Pair<'_>) -> Result<bool, Error> {
        let copy = suffixed(pair.replica(), SHADOW);
        self.is_another(&copy).await
    }

    /// The same of a table that was not read in this range.
    pub(super) async fn is_replaced_unread(&mut self, pair: &Pair<'_>) -> Result<bool, Error> {
        Ok(self.is_another(pair.replica()).await? || self.is_replaced(pair).await?)
    }

    /// Whether a table that was there when the snapshot was opened is gone, or another one has its name.
    async fn is_another(&mut self, name: &str) -> Result<bool, Error> {
        if !self.existing.contains(name) {
            return Ok(false);
        }
        // Not information_schema: MySQL answers from it as of the snapshot, MariaDB as of now.
        let look = format!("SELECT 1 FROM {} LIMIT 1", quoted(name));
        match self.mysql.execute(look.as_str()).await {
            Ok(_) => Ok(false),
            Err(error)
                if matches!(
                    server_code(&error),
                    Some(NO_SUCH_TABLE | DEFINITION_CHANGED)
                ) =>
            {
                Ok(true)
            }
            Err(error) => Err(mysql("looking for a table of the snapshot")(error)),
        }
    }

    /// Ends the range.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        self.back_in_postgres().await?;
        let ended = self.mysql.execute(END).await;
        ended.map(|_| ()).map_err(mysql("ending a range"))
    }

    async fn back_in_postgres(&mut self) -> Result<(), Error> {
        let back = self.postgres.execute(END).await;
        back.map(|_| ()).map_err(postgres("ending a range"))
    }
}

/// Compares a table by sums.
pub(super) async fn by_sums(
    both: &mut Both<'_>,
    pair: &Pair<'_>,
    cut: &Cut<'_>,
    pace: Pace,
    tally: &mut Tally,
) -> Step<Done> {
    let digest = pair.digest();
    let comparison = Comparison {
        pair,
        cut,
        digest: &digest,
        pace,
    };
    let done = match cut.alike {
        true => comparison.by_ranges(both, tally).await,
        false => comparison.by_buckets(both, tally).await,
    };
    let done = gone_if_replaced(done)?;
    if done.is_err() {
        both.end().await?;
    }
    Ok(done)
}

/// Compares all rows one by one.
pub(super) async fn by_rows(both: &mut Both<'_>, pair: &Pair<'_>, tally: &mut Tally) -> Step<Done> {
    if let Err(gone) = both.begin(pair).await? {
        return Ok(Err(gone));
    }
    let done = match rows(both, pair, &pair.all(), tally).await {
        Ok(_) if both.is_replaced(pair).await? => Ok(Err(Gone)),
        Ok(rows) => Ok(Ok(Done {
            rows,
            ranges: 0,
            read: rows,
        })),
        Err(error) => Err(error),
    };
    let done = gone_if_replaced(done)?;
    both.end().await?;
    Ok(done)
}

/// The server says of a table that was swapped since the snapshot that its definition has changed, and of one that was
/// dropped that there is none.
fn gone_if_replaced(done: Step<Done>) -> Step<Done> {
    match done {
        Err(error) if error.is_of_a_replaced_table() || error.is_of_a_missing_table() => {
            Ok(Err(Gone))
        }
        other => other,
    }
}

struct Comparison<'a> {
    pair: &'a Pair<'a>,
    cut: &'a Cut<'a>,
    digest: &'a Sides,
    pace: Pace,
}

impl Comparison<'_> {
    /// Both servers mean the same rows by a range.
    async fn by_ranges(&self, both: &mut Both<'_>, tally: &mut Tally) -> Step<Done> {
        let mut done = Done::default();
        let mut after = None;
        loop {
            let began = Instant::now();
            if let Err(gone) = both.begin(self.pair).await? {
                return Ok(Err(gone));
            }
            let until = self.next(both.mysql, after.as_ref()).await?;
            let range = Range { after, until };
            if let Err(gone) = self.range(both, &range, &mut done, tally).await? {
                return Ok(Err(gone));
            }
            both.end().await?;
            self.pace.rest(began.elapsed()).await;
            after = range.until;
            if after.is_none() {
                return Ok(Ok(done));
            }
        }
    }

    async fn range(
        &self,
        both: &mut Both<'_>,
        range: &Range,
        done: &mut Done,
        tally: &mut Tally,
    ) -> Step<()> {
        let condition = Sides {
            source: self.cut.in_source(range),
            replica: self.cut.in_replica(range),
        };
        let digits = match self.cut.whole {
            true => 0,
            false => BUCKET_DIGITS,
        };
        let (expected, found) = tokio::try_join!(
            self.source(both.postgres, &condition.source, digits),
            self.replica(both.mysql, &condition.replica, digits),
        )?;
        if both.is_replaced(self.pair).await? {
            return Ok(Err(Gone));
        }
        done.ranges += 1;
        done.rows += expected.rows();
        done.read += self
            .descend(both, &condition, &expected.differing(&found), tally)
            .await?;
        Ok(Ok(()))
    }

    /// Reads the rows of a range that are in buckets which differ; returns how many.
    async fn descend(
        &self,
        both: &mut Both<'_>,
        range: &Sides,
        differing: &[String],
        tally: &mut Tally,
    ) -> Result<u64, Error> {
        if differing.is_empty() {
            return Ok(0);
        }
        if differing.len() > BUCKETS_MAX {
            return rows(both, self.pair, range, tally).await;
        }
        let within =
            |range: &str, digest: &str| format!("{range} AND {}", in_buckets(digest, differing));
        let condition = Sides {
            source: within(&range.source, &self.digest.source),
            replica: within(&range.replica, &self.digest.replica),
        };
        rows(both, self.pair, &condition, tally).await
    }

    /// Postgres has no index for the replica's ranges. So each side goes over its rows in its own way, Postgres block by
    /// block, and keeps their sums apart by the start of the digest. A row that differs is in two buckets, and both of
    /// them differ.
    async fn by_buckets(&self, both: &mut Both<'_>, tally: &mut Tally) -> Step<Done> {
        let (mut expected, mut found) = (Sums::default(), Sums::default());
        let (mut block, mut part) = (Some(0), Some(Range::default()));
        let mut ranges = 0;
        while block.is_some() || part.is_some() {
            let began = Instant::now();
            if let Err(gone) = both.begin(self.pair).await? {
                return Ok(Err(gone));
            }
            (block, part) = tokio::try_join!(
                self.blocks(both.postgres, block, &mut expected),
                self.part(both.mysql, part, &mut found),
            )?;
            if both.is_replaced(self.pair).await? {
                return Ok(Err(Gone));
            }
            ranges += 1;
            both.end().await?;
            self.pace.rest(began.elapsed()).await;
        }
        let rows = expected.rows();
        let differing = expected.differing(&found);
        let read = self.chosen(both, &differing, tally).await?;
        Ok(read.map(|read| Done { rows, ranges, read }))
    }

    /// Reads the rows of these buckets, of whole tables.
    async fn chosen(
        &self,
        both: &mut Both<'_>,
        differing: &[String],
        tally: &mut Tally,
    ) -> Step<u64> {
        if differing.is_empty() {
            return Ok(Ok(0));
        }
        if let Err(gone) = both.begin(self.pair).await? {
            return Ok(Err(gone));
        }
        let all = self.pair.all();
        let read = self.descend(both, &all, differing, tally).await?;
        if both.is_replaced(self.pair).await? {
            return Ok(Err(Gone));
        }
        both.end().await?;
        Ok(Ok(read))
    }

    /// Sums up the rows of the source from a block on; returns where the next ones begin, `None` behind the last.
    /// The last range is open: whatever is in the snapshot is in it.
    async fn blocks(
        &self,
        session: &mut PgSession,
        from: Option<u64>,
        sums: &mut Sums,
    ) -> Result<Option<u64>, Error> {
        let Some(from) = from else { return Ok(None) };
        let next = from + RANGE_BLOCKS;
        let next = (next < self.pair.blocks(session).await?).then_some(next);
        let range = in_blocks(from, next);
        sums.extend(&self.source(session, &range, BUCKET_DIGITS).await?);
        Ok(next)
    }

    /// Sums up a range of the replica; returns the next one, `None` behind the last.
    async fn part(
        &self,
        session: &mut Session,
        range: Option<Range>,
        sums: &mut Sums,
    ) -> Result<Option<Range>, Error> {
        let Some(Range { after, .. }) = range else {
            return Ok(None);
        };
        let until = self.next(session, after.as_ref()).await?;
        let range = Range { after, until };
        let condition = self.cut.in_replica(&range);
        sums.extend(&self.replica(session, &condition, BUCKET_DIGITS).await?);
        let next = |until| Range {
            after: Some(until),
            until: None,
        };
        Ok(range.until.map(next))
    }

    /// The last key of the next range; `None`: it reaches to the end.
    async fn next(&self, session: &mut Session, after: Option<&Key>) -> Result<Option<Key>, Error> {
        let query = self.cut.next(self.pair.replica(), after, RANGE_ROWS);
        let rows = all_from_mysql(session, &query).await?;
        // A key has no NULL.
        Ok(rows
            .into_iter()
            .next()
            .map(|row| Key(row.into_iter().flatten().collect())))
    }

    async fn source(
        &self,
        session: &mut PgSession,
        range: &str,
        bucket_digits: usize,
    ) -> Result<Sums, Error> {
        let query = source_sums(Rows {
            table: self.pair.source(),
            digest: &self.digest.source,
            range,
            bucket_digits,
        });
        sums_from_postgres(session, &query).await
    }

    async fn replica(
        &self,
        session: &mut Session,
        range: &str,
        bucket_digits: usize,
    ) -> Result<Sums, Error> {
        let table = crate::replica::quoted(self.pair.replica());
        let query = replica_sums(Rows {
            table: &table,
            digest: &self.digest.replica,
            range,
            bucket_digits,
        });
        sums_from_mysql(session, &query).await
    }
}

/// Reads the rows that meet the condition from both sides and compares them one by one; returns how many the source
/// has.
async fn rows(
    both: &mut Both<'_>,
    pair: &Pair<'_>,
    condition: &Sides,
    tally: &mut Tally,
) -> Result<u64, Error> {
    let (source, replica) = (
        pair.source_query(&condition.source),
        pair.replica_query(&condition.replica),
    );
    merge(
        pair.shape(),
        tally,
        from_postgres(both.postgres, &source, |texts| pair.source_row(texts)),
        from_mysql(both.mysql, &replica, |texts| pair.replica_row(texts)),
    )
    .await
}
