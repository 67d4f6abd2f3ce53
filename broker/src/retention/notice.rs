//! What somebody has to be told about records that are kept, or were not kept, for a consumer.

use std::fmt;
use std::time::Duration;

use fluvio_protocol::record::ReplicaKey;

use crate::log::Lost;

/// A partition and the consumer that it is kept for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) replica: ReplicaKey,
    pub(super) consumer: String,
    /// Of the last record that the consumer is done with.
    pub(super) offset: i64,
    /// Bytes beyond which nothing is kept for it.
    pub(super) bytes_max: u64,
}

/// One thing to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// So many bytes are there only for the consumer.
    Held(Held, u64),
    /// The limit was passed: these records went, which the consumer still needs.
    Lost(Held, Lost),
    /// The consumer's offset has not moved for so long, and the topic has grown.
    Still(Held, Duration),
    /// The disk has room for so many bytes, and the partition may grow by more.
    DiskShort(Held, u64, u64),
}

impl Notice {
    pub(super) fn held(&self) -> &Held {
        match self {
            Self::Held(held, _) | Self::Lost(held, _) => held,
            Self::Still(held, _) | Self::DiskShort(held, ..) => held,
        }
    }

    /// Names the section of `docs/errors/broker.md`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Held(..) => "broker-records-held",
            Self::Lost(..) => "broker-held-records-removed",
            Self::Still(..) => "broker-consumer-still",
            Self::DiskShort(..) => "broker-disk-short",
        }
    }

    pub(super) fn warn(&self) {
        let Held {
            replica, consumer, ..
        } = self.held();
        let offset = self.held().offset;
        tracing::warn!(topic = %replica.topic, partition = replica.partition, consumer, offset, "{self}");
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held {
            replica,
            consumer,
            offset,
            bytes_max,
        } = self.held();
        let (code, topic) = (self.code(), &replica.topic);
        write!(f, "{code}: ")?;
        match self {
            Self::Held(_, bytes) => write!(
                f,
                "topic {topic} keeps {bytes} bytes beyond its retention for consumer {consumer}, which is at offset \
                 {offset}; from {bytes_max} bytes on the oldest records go all the same"
            ),
            Self::Lost(_, Lost { first, end }) => write!(
                f,
                "topic {topic} was larger than {bytes_max} bytes: offsets {first} to {} are removed, which consumer \
                 {consumer} at offset {offset} still needs",
                end - 1
            ),
            Self::Still(_, since) => write!(
                f,
                "consumer {consumer} has been at offset {offset} of topic {topic} for {} days while the topic grew, \
                 and what it has not read is kept; start it, or, if it is gone for good: millrace consumers delete \
                 {consumer} {topic}",
                since.as_secs() / 86_400
            ),
            Self::DiskShort(_, free, may_grow) => write!(
                f,
                "the disk has {free} bytes left, and topic {topic} may grow by {may_grow} for consumer {consumer}, \
                 which is at offset {offset}; start the consumer, make room, or lower the limit"
            ),
        }
    }
}
