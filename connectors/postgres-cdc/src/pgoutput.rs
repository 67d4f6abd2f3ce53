//! The messages of Postgres' `pgoutput` plugin, protocol version 1 (manual: "Logical Replication
//! Message Formats"). Pure: bytes in, messages out; cell contents are slices of the input.

use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use millrace_events::{Lsn, Sliced, Xid};

use crate::wide::Slice;

/// Microseconds between 1970-01-01 and 2000-01-01, where Postgres counts from.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins; everything up to [`Message::Commit`] belongs to it.
    Begin(Begin),
    /// The transaction is complete.
    Commit(Commit),
    /// The transaction came from elsewhere.
    Origin {
        /// Name of the origin.
        name: String,
    },
    /// Definition of a table, before the first row that uses it and after each change.
    Relation(Relation),
    /// Definition of a type that is not built in.
    Type {
        /// `pg_type.oid`.
        oid: u32,
        /// Schema of the type.
        namespace: String,
        /// Name of the type.
        name: String,
    },
    /// Not a message of its own: a part of the next row, which is too large to be held.
    Slice(Slice),
    /// A row came.
    Insert {
        /// Table, as in [`Relation::oid`].
        relation: u32,
        /// Whole row.
        new: Tuple,
    },
    /// A row changed.
    Update {
        /// Table, as in [`Relation::oid`].
        relation: u32,
        /// The row before, if the replica identity gives it.
        old: Option<OldTuple>,
        /// The row after.
        new: Tuple,
    },
    /// A row went.
    Delete {
        /// Table, as in [`Relation::oid`].
        relation: u32,
        /// What is known of the row.
        old: OldTuple,
    },
    /// Tables were emptied.
    Truncate {
        /// Tables, as in [`Relation::oid`].
        relations: Vec<u32>,
    },
    /// `pg_logical_emit_message`.
    Logical {
        /// Part of a transaction, and delivered only if that commits.
        transactional: bool,
        /// Position of the message.
        lsn: Lsn,
        /// Whose message it is.
        prefix: String,
        /// Its content.
        content: Bytes,
    },
}

/// Begin of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// Commit time.
    pub at: DateTime<Utc>,
    /// Transaction number.
    pub xid: Xid,
}

/// End of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Start of the commit record; equals that of the [`Begin`].
    pub commit_lsn: Lsn,
    /// End of the commit record.
    pub end_lsn: Lsn,
}

/// Definition of a table as of the transaction that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema of the table.
    pub namespace: String,
    /// Name of the table.
    pub name: String,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub identity: char,
    /// Columns in order, without dropped and generated ones.
    pub columns: Vec<RelationColumn>,
}

/// A column in a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Part of the replica identity (with `FULL` every column is).
    pub identity: bool,
    /// Column name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`.
    pub type_mod: i32,
}

/// The row before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// Only the columns of the replica identity are meant; the others stand as NULL, which says
    /// nothing about them.
    Key(Tuple),
    /// The whole row (`REPLICA IDENTITY FULL`).
    Full(Tuple),
}

/// The cells of a row by position in [`Relation::columns`].
pub type Tuple = Vec<Cell>;

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// An unchanged TOAST value, which is not sent.
    Unchanged,
    /// Text output of the type, in UTF-8.
    Text(Bytes),
    /// The same text, where it came in slices before the row.
    Sliced(Sliced),
    /// Binary output of the type; only sent on request.
    Binary(Bytes),
}

/// The bytes are no message of protocol version 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends too early.
    #[error("a pgoutput message of kind {kind:?} ends too early")]
    Truncated {
        /// First byte of the message.
        kind: char,
    },
    /// The message is longer than its content.
    #[error("a pgoutput message of kind {kind:?} has {bytes} bytes too many")]
    Trailing {
        /// First byte of the message.
        kind: char,
        /// How many.
        bytes: usize,
    },
    /// A byte that should name a kind names none.
    #[error("unknown {what} {found:?} in a pgoutput message")]
    Unknown {
        /// What the byte should have named.
        what: &'static str,
        /// The byte.
        found: char,
    },
    /// A name is not UTF-8.
    #[error("a name in a pgoutput message is not UTF-8")]
    NotUtf8,
    /// A time beyond what can be represented.
    #[error("a time in a pgoutput message is out of range")]
    Time,
}

/// Decodes one message.
pub fn decode(mut bytes: Bytes) -> Result<Message, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Truncated { kind: ' ' });
    }
    let kind = char::from(bytes.get_u8());
    let mut reader = Reader { bytes, kind };
    let message = match kind {
        'B' => Message::Begin(reader.begin()?),
        'C' => Message::Commit(reader.commit()?),
        'O' => reader.origin()?,
        'R' => Message::Relation(reader.relation()?),
        'Y' => reader.type_definition()?,
        'I' => reader.insert()?,
        'U' => reader.update()?,
        'D' => reader.delete()?,
        'T' => reader.truncate()?,
        'M' => reader.logical()?,
        found => {
            let what = "kind of message";
            return Err(DecodeError::Unknown { what, found });
        }
    };
    reader.end(message)
}

/// A time as Postgres sends it.
pub fn timestamp(postgres_micros: i64) -> Result<DateTime<Utc>, DecodeError> {
    postgres_micros
        .checked_add(POSTGRES_EPOCH_MICROS)
        .and_then(DateTime::from_timestamp_micros)
        .ok_or(DecodeError::Time)
}

struct Reader {
    bytes: Bytes,
    kind: char,
}

impl Reader {
    fn begin(&mut self) -> Result<Begin, DecodeError> {
        Ok(Begin {
            commit_lsn: self.lsn()?,
            at: timestamp(self.i64()?)?,
            xid: Xid(self.u32()?),
        })
    }

    fn commit(&mut self) -> Result<Commit, DecodeError> {
        let _flags = self.u8()?;
        let commit = Commit {
            commit_lsn: self.lsn()?,
            end_lsn: self.lsn()?,
        };
        let _at = self.i64()?;
        Ok(commit)
    }

    fn origin(&mut self) -> Result<Message, DecodeError> {
        let _lsn = self.lsn()?;
        let name = self.string()?;
        Ok(Message::Origin { name })
    }

    fn relation(&mut self) -> Result<Relation, DecodeError> {
        let oid = self.u32()?;
        let namespace = self.string()?;
        let name = self.string()?;
        let identity = char::from(self.u8()?);
        let count = self.u16()?;
        let columns = (0..count).map(|_| self.relation_column());
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Relation {
            oid,
            // The empty name is pg_catalog (manual, "Relation").
            namespace: if namespace.is_empty() {
                "pg_catalog".into()
            } else {
                namespace
            },
            name,
            identity,
            columns,
        })
    }

    fn relation_column(&mut self) -> Result<RelationColumn, DecodeError> {
        Ok(RelationColumn {
            identity: self.u8()? & 1 == 1,
            name: self.string()?,
            type_oid: self.u32()?,
            type_mod: self.u32()? as i32,
        })
    }

    fn type_definition(&mut self) -> Result<Message, DecodeError> {
        Ok(Message::Type {
            oid: self.u32()?,
            namespace: self.string()?,
            name: self.string()?,
        })
    }

    fn insert(&mut self) -> Result<Message, DecodeError> {
        let relation = self.u32()?;
        self.expect_new()?;
        let new = self.tuple()?;
        Ok(Message::Insert { relation, new })
    }

    fn update(&mut self) -> Result<Message, DecodeError> {
        let relation = self.u32()?;
        let old = match self.bytes.first() {
            Some(b'K' | b'O') => Some(self.old_tuple()?),
            _ => None,
        };
        self.expect_new()?;
        let new = self.tuple()?;
        Ok(Message::Update { relation, old, new })
    }

    fn delete(&mut self) -> Result<Message, DecodeError> {
        Ok(Message::Delete {
            relation: self.u32()?,
            old: self.old_tuple()?,
        })
    }

    fn truncate(&mut self) -> Result<Message, DecodeError> {
        let count = self.u32()?;
        let _options = self.u8()?;
        let relations = (0..count).map(|_| self.u32());
        let relations = relations.collect::<Result<_, _>>()?;
        Ok(Message::Truncate { relations })
    }

    fn logical(&mut self) -> Result<Message, DecodeError> {
        let transactional = self.u8()? & 1 == 1;
        let lsn = self.lsn()?;
        let prefix = self.string()?;
        let length = self.u32()? as usize;
        Ok(Message::Logical {
            transactional,
            lsn,
            prefix,
            content: self.take(length)?,
        })
    }

    fn old_tuple(&mut self) -> Result<OldTuple, DecodeError> {
        match self.u8()? {
            b'K' => Ok(OldTuple::Key(self.tuple()?)),
            b'O' => Ok(OldTuple::Full(self.tuple()?)),
            found => Err(DecodeError::Unknown {
                what: "kind of old row",
                found: char::from(found),
            }),
        }
    }

    fn expect_new(&mut self) -> Result<(), DecodeError> {
        match self.u8()? {
            b'N' => Ok(()),
            found => Err(DecodeError::Unknown {
                what: "kind of new row",
                found: char::from(found),
            }),
        }
    }

    fn tuple(&mut self) -> Result<Tuple, DecodeError> {
        let count = self.u16()?;
        let mut cells = Vec::with_capacity(usize::from(count).min(self.bytes.len()));
        for _ in 0..count {
            cells.push(self.cell()?);
        }
        Ok(cells)
    }

    fn cell(&mut self) -> Result<Cell, DecodeError> {
        match self.u8()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => self.sized().map(Cell::Text),
            b'b' => self.sized().map(Cell::Binary),
            found => Err(DecodeError::Unknown {
                what: "kind of cell",
                found: char::from(found),
            }),
        }
    }

    fn sized(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn string(&mut self) -> Result<String, DecodeError> {
        let end = self.bytes.iter().position(|&byte| byte == 0);
        let end = end.ok_or(DecodeError::Truncated { kind: self.kind })?;
        let name = self.take(end)?;
        self.u8()?;
        String::from_utf8(name.into()).map_err(|_| DecodeError::NotUtf8)
    }

    fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.need(8)?;
        Ok(Lsn(self.bytes.get_u64()))
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.bytes.get_i64())
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.bytes.get_u32())
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.need(2)?;
        Ok(self.bytes.get_u16())
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    fn need(&self, length: usize) -> Result<(), DecodeError> {
        if self.bytes.len() < length {
            return Err(DecodeError::Truncated { kind: self.kind });
        }
        Ok(())
    }

    fn end(self, message: Message) -> Result<Message, DecodeError> {
        match self.bytes.len() {
            0 => Ok(message),
            bytes => Err(DecodeError::Trailing {
                kind: self.kind,
                bytes,
            }),
        }
    }
}

#[cfg(test)]
#[path = "pgoutput_tests.rs"]
mod tests;
