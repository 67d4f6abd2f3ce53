//! Why capture stops, or starts over.

mod outlook;

use chrono::{DateTime, Utc};
use millrace_events::{Lsn, TableId};
use millrace_sessions::postgres::replication::ReplicationError;
use millrace_topic::Offset;

use crate::resolve::Unsuitable;

/// The way back from whatever voids the log.
pub(crate) const BEGIN_AGAIN: &str =
    "`millrace tables begin-again` makes another slot and copies all tables again, while MySQL keeps what it has";

/// Why a session ended. What time can heal, or a person elsewhere, is tried again with a growing delay
/// ([`Error::is_transient`]); for the others a person has to decide.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(String),

    /// Postgres is too old.
    #[error("PostgreSQL {found} is too old: capture needs 14 or newer")]
    PostgresVersion {
        /// `server_version`.
        found: String,
    },
    /// Not the primary.
    #[error("this Postgres is a standby: capture waits until it is promoted; if it will not be, point capture at the primary")]
    Standby,
    /// Logical decoding is off.
    #[error(
        "wal_level is {found:?}: set wal_level = logical in postgresql.conf and restart Postgres"
    )]
    WalLevel {
        /// `wal_level`.
        found: String,
    },
    /// Text of this database is not convertible to UTF-8.
    #[error("the database's encoding is {found}: its text cannot be read as UTF-8; create the database with encoding UTF8")]
    Encoding {
        /// `server_encoding`.
        found: String,
    },
    /// The user may not replicate.
    #[error("user {user:?} may not replicate: ALTER ROLE \"{user}\" REPLICATION")]
    Privilege {
        /// Role name.
        user: String,
    },
    /// Selected tables cannot be captured.
    #[error("not all selected tables can be captured: {}", listed(.0))]
    Unsuitable(Vec<Unsuitable>),
    /// No table is selected.
    #[error("{selection} selects none of the tables of this database: create them, or select those that are there")]
    NothingSelected {
        /// The patterns.
        selection: String,
    },
    /// No slot is free.
    #[error("all {max} replication slots are in use: raise max_replication_slots and max_wal_senders, or drop a slot (SELECT slot_name, active FROM pg_replication_slots)")]
    NoFreeSlot {
        /// `max_replication_slots`.
        max: i64,
    },
    /// The publication is somebody else's, or was changed.
    #[error("publication {publication:?} {difference}: {remedy}")]
    PublicationDiffers {
        /// Its name.
        publication: String,
        /// How it differs.
        difference: String,
        /// What to do.
        remedy: String,
    },
    /// There is no publication, or there was none at a position that the stream has to pass.
    #[error("publication {publication:?} was dropped: Postgres has not sent what was committed since, and putting it back does not change that; {}", BEGIN_AGAIN)]
    PublicationGone {
        /// Its name.
        publication: String,
    },
    /// The database does not have what the log tells of it.
    #[error("this database does not have the last transaction of the log as the log has it (xid {xid}, committed at {commit_lsn} on {at}): it was restored from an older copy, or a standby took over that did not have everything; {}", BEGIN_AGAIN)]
    HistoryDiffers {
        /// Number of the transaction.
        xid: u32,
        /// Where it commits.
        commit_lsn: Lsn,
        /// When it was committed.
        at: DateTime<Utc>,
    },
    /// The user may not create the publication.
    #[error("publication {publication:?} cannot be created: {reason}; let the owner of the tables run: {statement}")]
    PublicationDenied {
        /// Its name.
        publication: String,
        /// What Postgres said.
        reason: String,
        /// The statement.
        statement: String,
    },
    /// A slot of that name belongs to something else.
    #[error("slot {slot:?} {difference}: use another name for capture's slot")]
    SlotForeign {
        /// Its name.
        slot: String,
        /// How it differs.
        difference: String,
    },
    /// A slot exists, but the log that it belongs to does not.
    #[error("slot {slot:?} exists, but topic {topic:?} is empty: the log was lost, or the slot is another capture's. If the log is lost, {}", BEGIN_AGAIN)]
    SlotWithoutLog {
        /// Its name.
        slot: String,
        /// Topic of the change log.
        topic: String,
    },
    /// The log exists, but its slot is gone.
    #[error("slot {slot:?} is gone, but the log continues at {position}: commits since then may be lost; {}", BEGIN_AGAIN)]
    SlotMissing {
        /// Its name.
        slot: String,
        /// Where the log ends.
        position: Lsn,
    },
    /// Postgres has removed WAL that the slot needs.
    #[error("slot {slot:?} is lost (wal_status = {wal_status}): Postgres removed WAL that the log has not seen. Raise max_slot_wal_keep_size; {}", BEGIN_AGAIN)]
    SlotLost {
        /// Its name.
        slot: String,
        /// `pg_replication_slots.wal_status`.
        wal_status: String,
    },
    /// The slot has moved beyond the end of the log.
    #[error("slot {slot:?} stands at {confirmed}, but the log ends at {position}: the log lost records; {}", BEGIN_AGAIN)]
    LogLostRecords {
        /// Its name.
        slot: String,
        /// `confirmed_flush_lsn`.
        confirmed: Lsn,
        /// Where the log ends.
        position: Lsn,
    },
    /// Postgres has been set back to an earlier state.
    #[error("the log ends at {position}, but Postgres' WAL only reaches {current}: the database was restored from a backup; {}", BEGIN_AGAIN)]
    LogAhead {
        /// Where the log ends.
        position: Lsn,
        /// `pg_current_wal_flush_lsn`.
        current: Lsn,
    },
    /// The log's beginning has been removed by retention.
    #[error("topic {topic:?} begins at offset {first}: its snapshot mark is gone (retention). Give topics a longer retention; {}", BEGIN_AGAIN)]
    LogTrimmed {
        /// Topic of the change log.
        topic: String,
        /// Its first offset.
        first: Offset,
    },
    /// Records that nobody has read yet have been removed by retention.
    #[error("topic {topic:?} begins at offset {first}, but capture has read it up to {wanted} only: the log lost records (retention). Give topics a longer retention; {}", BEGIN_AGAIN)]
    LogEvicted {
        /// Topic of the change log.
        topic: String,
        /// The next offset to read.
        wanted: Offset,
        /// Its first offset.
        first: Offset,
    },
    /// The topic ends before what was read of it.
    #[error("topic {topic:?} ends before offset {wanted}, up to which it was read; it is looked at again")]
    LogBeyond {
        /// Topic of the change log.
        topic: String,
        /// The next offset to read.
        wanted: Offset,
    },
    /// The topic ends earlier than it did.
    #[error("topic {topic:?} has become shorter: offset {offset} was given to a new record, although a record at {last} had been acknowledged; the log is read again")]
    LogShrank {
        /// Topic of the change log.
        topic: String,
        /// Where the new record stands.
        offset: Offset,
        /// Where the last one stood.
        last: Offset,
    },
    /// The topic holds something else.
    #[error("topic {topic:?} holds a record at offset {offset} that is not of the change log ({reason}): give capture a topic of its own")]
    LogForeign {
        /// Topic of the change log.
        topic: String,
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// The log belongs to another database.
    #[error("the log was taken from {expected}, but this is {found}: point capture at the right database; if this one has taken its place, {}", BEGIN_AGAIN)]
    OtherDatabase {
        /// As the snapshot mark says.
        expected: String,
        /// As the server says.
        found: String,
    },
    /// A topic cannot hold a log.
    #[error("topic {topic:?} {difference}: give capture another topic, or delete this one if nothing else uses it")]
    TopicShape {
        /// Its name.
        topic: String,
        /// What is wrong.
        difference: String,
    },
    /// A row does not fit into a record.
    #[error("a row of {table} in {place} takes {bytes} bytes without what could leave it, more than the {limit} that a record may have: make its key or its numbers shorter at the source, or leave the table out of the selection and start over with a new snapshot")]
    RowTooLarge {
        /// Its name.
        table: TableId,
        /// The snapshot, or the transaction.
        place: String,
        /// Its size in the record.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A table was changed in a way that cannot be captured.
    #[error("table {table} {reason}: {remedy}")]
    TableChanged {
        /// Its name.
        table: TableId,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A value cannot be put into a record.
    #[error("column {column} of {table}: {reason}")]
    Value {
        /// Its name.
        table: TableId,
        /// Column name.
        column: String,
        /// What is wrong; never the value.
        reason: String,
    },
    /// The stream contradicts the protocol.
    #[error("the replication stream contradicts itself: {0}")]
    Protocol(String),

    /// Another capture is at work.
    #[error("another capture holds the lock of slot {slot:?} ({holder}); waiting for it to end")]
    Locked {
        /// Name of the slot.
        slot: String,
        /// Who holds it, as far as Postgres shows.
        holder: String,
    },
    /// A walsender holds the slot and does not go.
    #[error("slot {slot:?} is still held by Postgres pid {pid} after it was terminated")]
    SlotBusy {
        /// Name of the slot.
        slot: String,
        /// `active_pid`.
        pid: i32,
    },
    /// Creating the slot waits for an older transaction.
    #[error("creating slot {slot:?} waits for a transaction older than it, of Postgres pid {blocker}: end that transaction, or SELECT pg_terminate_backend of it")]
    SlotBlocked {
        /// Name of the slot.
        slot: String,
        /// Who is waited for, with what is known of it.
        blocker: String,
    },
    /// Commits from before the slot's consistent point stay invisible.
    #[error("transactions that committed before slot {slot:?} was created have not become visible within {seconds} s: a synchronous standby does not answer; bring it back, or take it out of synchronous_standby_names")]
    CommitsNotVisible {
        /// Name of the slot.
        slot: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A table was redefined, or dropped, while it was copied.
    #[error("{table} was redefined while it was copied; its copy begins again")]
    TableRedefined {
        /// Its name.
        table: TableId,
    },
    /// More keys of a table were changed than can be read again.
    #[error("too many keys of {table} were changed while it was copied; its copy begins again")]
    CopyOutrun {
        /// Its name.
        table: TableId,
    },
    /// An acknowledgement did not come.
    #[error("topic {topic:?} has not acknowledged a record for {seconds} s")]
    Unacknowledged {
        /// Topic.
        topic: String,
        /// How long.
        seconds: u64,
    },
    /// A later start of capture is in the log.
    #[error("a later start of capture ({found}) has taken over from this one ({own})")]
    Superseded {
        /// Epoch of this start.
        own: u64,
        /// Epoch of the other.
        found: u64,
    },
    /// Another start has the same number, and stands in the log before this one.
    #[error("another capture has started at the same moment as number {epoch}; this one starts over with a higher number")]
    EpochTaken {
        /// The number.
        epoch: u64,
    },
    /// Postgres cannot decode what comes next.
    #[error("Postgres cannot decode what slot {slot:?} has to bring next; as long as no table is copied, another slot is made. Otherwise update Postgres, or {}", BEGIN_AGAIN)]
    SlotUnreadable {
        /// Name of the slot.
        slot: String,
        /// What Postgres said.
        #[source]
        source: ReplicationError,
    },
    /// Postgres cannot send what comes next.
    #[error("Postgres cannot send the row that slot {slot:?} has to bring next: its values take more than 1 GB as text, and nobody can follow the log past it. Make them smaller or leave the table out of the selection; then {}", BEGIN_AGAIN)]
    RowUnsendable {
        /// Name of the slot.
        slot: String,
        /// What Postgres said.
        #[source]
        source: ReplicationError,
    },
    /// Retention has removed the beginning of a copy that is not complete.
    #[error("topic {topic:?} begins at offset {first}: retention has removed the beginning of the copy, which is begun again; let copies be larger (MILLRACE_RETENTION_HARD_SIZE)")]
    CopyTrimmed {
        /// Topic of the copy.
        topic: String,
        /// Its first offset.
        first: Offset,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// Postgres, over an ordinary connection.
    #[error("Postgres")]
    Postgres(#[from] sqlx::Error),
    /// Postgres, over the replication connection.
    #[error("Postgres replication")]
    Replication(#[from] ReplicationError),
    /// Fluvio.
    #[error("Fluvio: {0}")]
    Fluvio(String),
}

fn listed(all: &[Unsuitable]) -> String {
    let texts: Vec<_> = all.iter().map(Unsuitable::to_string).collect();
    texts.join("; ")
}
