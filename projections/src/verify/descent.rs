//! A replica table against its source by sums of digests, range by range, with the rows read where the sums differ.
//!
//! A range is begun with a savepoint on both servers and ended by going back to it, which is meant to give back the locks
//! on the table. It is not proven that they always are: who truncates or alters it may wait for the verification's end.

use std::time::Instant;

use millrace_sessions::mysql::Session;
use millrace_sessions::postgres::PgSession;
use sqlx::Executor;

use super::checksum::{in_buckets, replica_sums, source_sums, Rows, Sides, Sums};
use super::merge::merge;
use super::pair::Pair;
use super::ranges::{Cut, Key, Range};
use super::report::Tally;
use super::sides::{
    all_from_mysql, from_mysql, from_postgres, sums_from_mysql, sums_from_postgres,
};
use super::{mysql, postgres, Error, Pace};

/// Rows of a range. Both servers take some 50 ms for so many: short enough to rest behind it and to read it again,
/// and long enough that the trips between do not count.
const RANGE_ROWS: u64 = 20_000;
/// Where a table is not cut by its whole key on both sides, its sums are kept apart by so many hexadecimal digits: 4096 buckets.
const BUCKET_DIGITS: usize = 3;
/// More buckets are not chosen from: then nearly all rows are read anyway.
const BUCKETS_MAX: usize = 256;

/// Going back to it is meant to give back locks. Both servers understand it.
pub(super) const BEGIN: &str = "SAVEPOINT millrace_range";
pub(super) const END: &str = "ROLLBACK TO SAVEPOINT millrace_range";

/// Both sessions see the same commits.
pub(super) struct Both<'s> {
    pub(super) postgres: &'s mut PgSession,
    pub(super) mysql: &'s mut Session,
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

/// What a step gives: the rows may be gone.
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
        match pair.pin(self.postgres).await? {
            true => Ok(Ok(())),
            false => self.end().await.map(|()| Err(Gone)),
        }
    }

    /// Ends the range.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        self.postgres
            .execute(END)
            .await
            .map_err(postgres("ending a range"))?;
        let ended = self.mysql.execute(END).await;
        ended.map(|_| ()).map_err(mysql("ending a range"))
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
    let done = rows(both, pair, &pair.all(), tally).await.map(|rows| {
        Ok(Done {
            rows,
            ranges: 0,
            read: rows,
        })
    });
    let done = gone_if_replaced(done)?;
    both.end().await?;
    Ok(done)
}

/// The server says of a table that was swapped since the snapshot that its definition has changed.
fn gone_if_replaced(done: Step<Done>) -> Step<Done> {
    match done {
        Err(error) if error.is_of_a_replaced_table() => Ok(Err(Gone)),
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
            self.range(both, &range, &mut done, tally).await?;
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
    ) -> Result<(), Error> {
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
        done.ranges += 1;
        done.rows += expected.rows();
        done.read += self
            .descend(both, &condition, &expected.differing(&found), tally)
            .await?;
        Ok(())
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

    /// Postgres has no index for the replica's ranges. So each side goes over its rows in its own way and keeps their
    /// sums apart by the start of the digest. A row that differs is in two buckets, and both of them differ.
    async fn by_buckets(&self, both: &mut Both<'_>, tally: &mut Tally) -> Step<Done> {
        if let Err(gone) = both.begin(self.pair).await? {
            return Ok(Err(gone));
        }
        let all = self.pair.all();
        let (expected, (found, ranges)) = tokio::try_join!(
            self.source(both.postgres, &all.source, BUCKET_DIGITS),
            self.replica_in_ranges(both.mysql),
        )?;
        let done = Done {
            rows: expected.rows(),
            ranges,
            read: self
                .descend(both, &all, &expected.differing(&found), tally)
                .await?,
        };
        both.end().await?;
        Ok(Ok(done))
    }

    async fn replica_in_ranges(&self, session: &mut Session) -> Result<(Sums, u64), Error> {
        let (mut sums, mut ranges, mut after) = (Sums::default(), 0, None);
        loop {
            let began = Instant::now();
            let until = self.next(session, after.as_ref()).await?;
            let range = Range { after, until };
            let condition = self.cut.in_replica(&range);
            sums.extend(&self.replica(session, &condition, BUCKET_DIGITS).await?);
            ranges += 1;
            self.pace.rest(began.elapsed()).await;
            after = range.until;
            if after.is_none() {
                return Ok((sums, ranges));
            }
        }
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
