//! When the oldest record of each of our topics was written, by the clock of whoever wrote it.
//!
//! Only reading it tells, and a read brings up to a segment. So all topics are read beside the ticks, one after the
//! other, and a topic again only when it begins elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_topic::{Cluster, Offset, Read};
use tokio::time::{timeout, Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::status::{Time, Topic, TopicKind};

/// A topic that removes its oldest segments all the time begins elsewhere in each tick.
const ROUND_EVERY: Duration = Duration::from_secs(60);
/// For all topics; what is not known by then is asked for in the next round.
const ROUND_WITHIN: Duration = Duration::from_secs(30);

/// What was read so far.
pub(super) struct Oldest {
    endpoint: String,
    known: Arc<Mutex<HashMap<String, Known>>>,
    round: Option<AbortOnDropHandle<()>>,
    begun: Option<Instant>,
}

/// A topic that began and ended there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    start: i64,
    end: i64,
    at: Option<Time>,
}

impl Oldest {
    pub(super) fn new(endpoint: &str) -> Oldest {
        Oldest {
            endpoint: endpoint.to_owned(),
            known: Arc::default(),
            round: None,
            begun: None,
        }
    }

    /// Tells the topics what is known, and begins to read what is not.
    pub(super) fn tell(&mut self, topics: &mut [Topic]) {
        let unread = tell(&mut lock(&self.known), topics);
        let running = self
            .round
            .as_ref()
            .is_some_and(|round| !round.is_finished());
        let lately = |begun: Instant| begun.elapsed() < ROUND_EVERY;
        if unread.is_empty() || running || self.begun.is_some_and(lately) {
            return;
        }
        self.begun = Some(Instant::now());
        let round = read_all(self.endpoint.clone(), unread, self.known.clone());
        let within = async { drop(timeout(ROUND_WITHIN, round).await) };
        self.round = Some(AbortOnDropHandle::new(tokio::spawn(within)));
    }
}

/// Fills in what is known. Returns which topics have to be read: name, start and end.
fn tell(known: &mut HashMap<String, Known>, topics: &mut [Topic]) -> Vec<(String, i64, i64)> {
    let mut unread = Vec::new();
    let mut still = HashMap::new();
    for topic in topics.iter_mut() {
        let (Some(start), end) = (topic.start_offset, topic.end_offset) else {
            continue;
        };
        // It may begin later by now. One that begins earlier, or is shorter, is another one of this name.
        let known = known.remove(&topic.name);
        let known = known.filter(|known| known.start <= start && known.end <= end && start < end);
        topic.reach.oldest_at = known.and_then(|known| known.at);
        if topic.kind != TopicKind::Other && start < end && known.is_none_or(|k| k.start < start) {
            unread.push((topic.name.clone(), start, end));
        }
        if let Some(known) = known {
            still.insert(topic.name.clone(), known);
        }
    }
    *known = still;
    unread
}

async fn read_all(
    endpoint: String,
    topics: Vec<(String, i64, i64)>,
    known: Arc<Mutex<HashMap<String, Known>>>,
) {
    // A connection of its own: a server forgets a stream only with its connection.
    let cluster = Cluster::new(endpoint);
    for (topic, start, end) in topics {
        let at = match read(&cluster, &topic, start).await {
            Ok(at) => at,
            Err(error) => {
                tracing::debug!(topic, %error, "the age of the oldest record is not known");
                continue;
            }
        };
        lock(&known).insert(topic, Known { start, end, at });
    }
}

/// `None`: the topic does not know when it was written.
async fn read(
    cluster: &Cluster,
    topic: &str,
    start: i64,
) -> Result<Option<Time>, millrace_topic::TopicError> {
    let read = Read::new(topic).from(Offset::of(start)).until_now();
    let record = cluster.read(read).await?.next().await?;
    let us = record.and_then(|record| record.sent_at_ms?.checked_mul(1_000));
    Ok(us.and_then(Time::from_epoch_us))
}

fn lock(known: &Mutex<HashMap<String, Known>>) -> MutexGuard<'_, HashMap<String, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Reach;

    fn topic(kind: TopicKind, start: Option<i64>, end: i64) -> Topic {
        Topic {
            name: "t".into(),
            kind,
            partitions: 1,
            start_offset: start,
            end_offset: end,
            bytes: None,
            records_per_s: None,
            bytes_per_s: None,
            retention_s: None,
            consumers: Vec::new(),
            reach: Reach::default(),
        }
    }

    /// What is told of a topic that was read when it held 5 to 9, and whether it has to be read.
    fn told(mut topic: Topic) -> (bool, bool) {
        let known = Known {
            start: 5,
            end: 9,
            at: Some(Time::now()),
        };
        let mut known = HashMap::from([("t".to_owned(), known)]);
        let topics = std::slice::from_mut(&mut topic);
        let unread = !tell(&mut known, topics).is_empty();
        (topic.reach.oldest_at.is_some(), unread)
    }

    #[test]
    fn a_topic_is_read_again_only_when_it_begins_elsewhere() {
        use TopicKind::{Changes, Other};
        assert_eq!(told(topic(Changes, Some(5), 9)), (true, false));
        assert_eq!(told(topic(Changes, Some(5), 20)), (true, false));
        assert_eq!(told(topic(Changes, Some(6), 20)), (true, true));
        assert_eq!(told(topic(Other, Some(6), 20)), (true, false));
    }

    #[test]
    fn another_topic_of_the_name_and_an_empty_one_have_no_oldest_record() {
        use TopicKind::Changes;
        assert_eq!(told(topic(Changes, Some(4), 20)), (false, true));
        assert_eq!(told(topic(Changes, Some(5), 8)), (false, true));
        assert_eq!(told(topic(Changes, Some(9), 9)), (false, false));
        assert_eq!(told(topic(Changes, None, 20)), (false, false));
    }
}
