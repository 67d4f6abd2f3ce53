//! Reading a topic from its end towards its beginning.
//!
//! A server only streams forwards, and nobody knows how large records are before they are read. So a topic is read in
//! windows, each before the last one and larger than it, up to a limit. No record is read twice.

use crate::{Cluster, Offset, Read, Record, TopicError};

/// Records of the first window.
const WINDOW_MIN: u64 = 256;
/// And of no later one more: they are held in memory.
const WINDOW_MAX: u64 = 8_192;

/// The windows of a topic, from its end to its beginning. Pure.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The topic is known to have nothing before this.
    first: Offset,
    end: Offset,
    records: u64,
}

impl Windows {
    /// Of the records before `end`.
    #[must_use]
    pub fn before(end: Offset) -> Windows {
        Windows {
            first: Offset::default(),
            end,
            records: WINDOW_MIN,
        }
    }

    /// Retention removed what stands before `next`, which was found out with this window, the last one then. Returns what is
    /// left of it.
    pub fn evicted(
        &mut self,
        (begin, end): (Offset, Offset),
        next: Offset,
    ) -> Option<(Offset, Offset)> {
        // Never the same again, whatever a server says.
        self.first = self.first.max(next).max(begin.next());
        (self.first < end).then_some((self.first, end))
    }
}

/// Each as its first offset, and the one behind its last.
impl Iterator for Windows {
    type Item = (Offset, Offset);

    fn next(&mut self) -> Option<(Offset, Offset)> {
        if self.end <= self.first {
            return None;
        }
        let begin = Offset(self.end.0.saturating_sub(self.records)).max(self.first);
        let window = (begin, self.end);
        self.end = begin;
        self.records = (self.records * 4).min(WINDOW_MAX);
        Some(window)
    }
}

/// A topic being read towards its beginning.
pub struct Backwards {
    cluster: Cluster,
    topic: String,
    windows: Windows,
    /// How many records were read.
    records: u64,
}

impl Cluster {
    /// The records from the first of these offsets on, up to before the second, as they stand there.
    ///
    /// # Errors
    /// If one of them does not come.
    pub async fn range(
        &self,
        topic: &str,
        (begin, end): (Offset, Offset),
    ) -> Result<Vec<Record>, TopicError> {
        let last = Offset(end.0.saturating_sub(1));
        let read = Read::new(topic).from(begin).up_to(last);
        let mut reading = self.read(read).await?;
        let mut records = Vec::new();
        while let Some(record) = reading.next().await? {
            records.push(record);
        }
        Ok(records)
    }

    /// Reads a topic from the record before `end` towards its beginning. These records must be there, as far as retention has
    /// left them.
    #[must_use]
    pub fn backwards(&self, topic: &str, end: Offset) -> Backwards {
        Backwards {
            cluster: self.clone(),
            topic: topic.to_owned(),
            windows: Windows::before(end),
            records: 0,
        }
    }
}

impl Backwards {
    /// The records before those that were given, newest first; `None` where the topic begins.
    ///
    /// # Errors
    /// If they do not come. What was given before is good.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, TopicError> {
        let mut due = self.windows.next();
        while let Some(range) = due {
            match self.cluster.range(&self.topic, range).await {
                Ok(mut window) => {
                    self.records += window.len() as u64;
                    window.reverse();
                    return Ok(Some(window));
                }
                Err(TopicError::Evicted { next, .. }) => due = self.windows.evicted(range, next),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether retention has removed records that were asked for: the server has said so.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.windows.first > Offset::default()
    }

    /// How many records were read so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_meet_and_end_where_the_topic_begins() {
        let end = Offset(20_000);
        let windows: Vec<_> = Windows::before(end).collect();
        assert_eq!(windows[0], (Offset(19_744), end));
        assert_eq!(windows[1], (Offset(18_720), Offset(19_744)));
        assert!(
            windows.windows(2).all(|pair| pair[1].1 == pair[0].0),
            "{windows:?}"
        );
        assert!(windows
            .iter()
            .all(|(begin, end)| end.0 - begin.0 <= WINDOW_MAX));
        assert_eq!(windows.last().map(|window| window.0), Some(Offset(0)));
        assert_eq!(Windows::before(Offset(0)).next(), None);
    }

    #[test]
    fn what_retention_removed_is_not_asked_for() {
        let mut windows = Windows::before(Offset(1_000));
        let last = windows.next().expect("a window");
        assert_eq!(last, (Offset(744), Offset(1_000)));
        let left = windows.evicted(last, Offset(900));
        assert_eq!(left, Some((Offset(900), Offset(1_000))));
        assert_eq!(windows.next(), None);
        assert_eq!(windows.evicted(last, Offset(1_000)), None, "all of it");
    }
}
