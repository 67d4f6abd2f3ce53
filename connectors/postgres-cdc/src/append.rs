//! What capture notes about the records that it appends.

use millrace_events::Lsn;
use millrace_topic::{AppendLimits, Cluster, Entry, Offset, Tally, TopicError};

use crate::assemble::Outgoing;
use crate::Config;

/// Appends to the log.
pub(crate) type Appender = millrace_topic::Appender<Acknowledged>;

/// What has been acknowledged, without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Transactions among the records.
    pub(crate) transactions: u64,
    /// The log is durable up to here.
    pub(crate) lsn: Lsn,
    /// Where the last checkpoint of this session stands.
    pub(crate) checkpoint: Option<Offset>,
}

/// What a record means once it is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    lsn: Option<Lsn>,
    transaction: bool,
    checkpoint: bool,
}

impl Tally for Acknowledged {
    type Note = Ends;

    fn acknowledged(&mut self, ends: Ends, offset: Offset) {
        self.transactions += u64::from(ends.transaction);
        self.lsn = ends.lsn.unwrap_or(self.lsn);
        if ends.checkpoint {
            self.checkpoint = Some(offset);
        }
    }
}

impl From<Outgoing> for Entry<Ends> {
    fn from(record: Outgoing) -> Self {
        Entry {
            key: None,
            value: record.value,
            note: Ends {
                lsn: record.ends,
                transaction: record.transaction,
                checkpoint: record.checkpoint,
            },
        }
    }
}

/// How much may be in flight to a topic of capture's.
pub(crate) fn limits(config: &Config) -> AppendLimits {
    AppendLimits {
        in_flight_bytes_max: config.in_flight_bytes_max,
        in_flight_records_max: config.in_flight_records_max,
        linger: config.linger,
        acknowledge_timeout: config.acknowledge_timeout,
    }
}

/// Something that appends to the log.
pub(crate) async fn open(
    cluster: &Cluster,
    config: &Config,
    topic: &str,
) -> Result<Appender, TopicError> {
    cluster.appender(topic, limits(config)).await
}
