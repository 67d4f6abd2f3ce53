//! Whether what a server sends is what was asked for: every record, once, in order. Pure.

use crate::{Offset, TopicError};

/// A record as it stands in a topic, or as a SmartModule makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub offset: Offset,
    /// When it was sent, in ms since 1970, as far as the topic knows: a real server forgets it behind a SmartModule.
    pub sent_at_ms: Option<i64>,
    /// What it was sent under.
    pub key: Option<Vec<u8>>,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// Records that were appended, and are sent, together.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// The offset of the last record that it says to have.
    pub(crate) last: Option<Offset>,
    /// What it has.
    pub(crate) records: Vec<Record>,
}

/// What is expected of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The records of a topic: batches are whole, offsets rise by one.
    Raw,
    /// One record for each of the topic's: offsets rise by one. How many a batch says to have means nothing.
    OneToOne,
    /// Whatever a SmartModule makes. Its offsets are labels only.
    Anything,
}

/// Follows the offsets of one stream.
#[derive(Debug)]
pub(crate) struct Sequence {
    topic: String,
    expected: Expected,
    /// Unknown before the first record of a reading from the beginning.
    wanted: Option<Offset>,
}

impl Sequence {
    pub(crate) fn new(topic: String, expected: Expected, wanted: Option<Offset>) -> Sequence {
        Sequence {
            topic,
            expected,
            wanted,
        }
    }

    /// The offset of the next record, if it is known.
    pub(crate) fn wanted(&self) -> Option<Offset> {
        self.wanted
    }

    /// The records of a batch that are new, and what is wrong behind them. A batch may begin before what is wanted.
    pub(crate) fn take(&mut self, batch: Batch) -> (Vec<Record>, Option<TopicError>) {
        let mut fresh = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            let wanted = *self.wanted.get_or_insert(record.offset);
            if record.offset < wanted {
                continue;
            }
            if record.offset > wanted && self.expected != Expected::Anything {
                let gap = TopicError::Gap {
                    topic: self.topic.clone(),
                    wanted,
                    found: record.offset,
                };
                return (fresh, Some(gap));
            }
            // Several records of one label are all wanted.
            if self.expected != Expected::Anything {
                self.wanted = Some(record.offset.next());
            }
            fresh.push(record);
        }
        (fresh, self.missing(batch.last))
    }

    fn missing(&self, last: Option<Offset>) -> Option<TopicError> {
        let (Expected::Raw, Some(wanted)) = (self.expected, self.wanted) else {
            return None;
        };
        last.filter(|last| *last >= wanted)
            .map(|_| TopicError::Cut {
                topic: self.topic.clone(),
                wanted,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(offsets: std::ops::RangeInclusive<u64>, present: usize) -> Batch {
        let record = |offset| Record {
            offset: Offset(offset),
            sent_at_ms: None,
            key: None,
            value: Vec::new(),
        };
        Batch {
            last: Some(Offset(*offsets.end())),
            records: offsets.map(record).take(present).collect(),
        }
    }

    fn offsets(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.offset.0).collect()
    }

    fn sequence(expected: Expected, wanted: Option<u64>) -> Sequence {
        Sequence::new("t".to_owned(), expected, wanted.map(Offset))
    }

    #[test]
    fn a_batch_that_begins_before_what_is_wanted_gives_only_what_is_new() {
        let mut raw = sequence(Expected::Raw, Some(7));
        let (records, error) = raw.take(batch(5..=8, 4));
        assert_eq!(offsets(&records), [7, 8]);
        assert!(error.is_none());
        let (records, error) = raw.take(batch(5..=8, 4));
        assert_eq!(offsets(&records), [0; 0], "it came already");
        assert!(error.is_none());
    }

    #[test]
    fn a_cut_batch_gives_what_it_has_and_says_what_is_missing() {
        let mut raw = sequence(Expected::Raw, None);
        let (records, error) = raw.take(batch(3..=9, 4));
        assert_eq!(offsets(&records), [3, 4, 5, 6]);
        let cut = error.expect("three records are missing").to_string();
        assert_eq!(
            cut,
            "a batch of topic t was cut short: offset 7 did not come"
        );
        assert_eq!(raw.wanted(), Some(Offset(7)), "where to resume");
    }

    #[test]
    fn an_empty_batch_that_says_to_have_records_was_cut() {
        let mut raw = sequence(Expected::Raw, Some(3));
        let (_, error) = raw.take(batch(3..=9, 0));
        assert!(matches!(error, Some(TopicError::Cut { .. })));
    }

    #[test]
    fn a_stream_that_went_on_elsewhere_is_told_with_both_offsets() {
        for expected in [Expected::Raw, Expected::OneToOne] {
            let mut sequence = sequence(expected, Some(3));
            let (records, error) = sequence.take(batch(5..=6, 2));
            assert!(records.is_empty());
            let Some(TopicError::Gap { wanted, found, .. }) = error else {
                panic!("{error:?}");
            };
            assert_eq!((wanted, found), (Offset(3), Offset(5)));
        }
    }

    /// A real server says of a module's batch what its input had.
    #[test]
    fn what_a_batch_of_a_module_says_to_have_is_not_believed() {
        let mut made = sequence(Expected::OneToOne, Some(3));
        let (records, error) = made.take(batch(3..=9, 4));
        assert_eq!(offsets(&records), [3, 4, 5, 6]);
        assert!(error.is_none());
        let (_, error) = made.take(batch(10..=11, 2));
        assert!(
            matches!(error, Some(TopicError::Gap { .. })),
            "now it shows"
        );
    }

    #[test]
    fn a_module_that_makes_anything_may_use_labels_as_it_likes() {
        let mut made = sequence(Expected::Anything, Some(3));
        let (records, _) = made.take(batch(1..=4, 4));
        assert_eq!(
            offsets(&records),
            [3, 4],
            "what stands before is not wanted"
        );
        let (records, error) = made.take(batch(3..=9, 7));
        assert_eq!(records.len(), 7);
        assert!(error.is_none());
    }
}
