//! Retention of all partitions, looked after now and then: what goes, and for whom it stays.
//!
//! A service of millrace publishes how far it has read as the offset of a named consumer. What such a consumer has
//! not read stays, however old it is, until the partition reaches a limit. Nothing stays without somebody being told.

mod notice;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fluvio_protocol::record::ReplicaKey;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Partition};
use crate::config::Hold;
use crate::disk::{self, DataDir};
use crate::log::{Claim, Lost, Swept};
use crate::positions::{Positions, Slowest};
use notice::{Held, Notice};

/// The same of one partition is said again after this.
const REPEATED_AFTER: Duration = Duration::from_secs(3_600);

/// Looks after retention. Keeps the data directory locked while it runs.
pub(crate) struct Sweep {
    catalog: Arc<Catalog>,
    positions: Arc<Positions>,
    data: Arc<DataDir>,
    hold: Option<Hold>,
    /// When what was said of a partition.
    said: HashMap<(ReplicaKey, &'static str), Instant>,
    /// What was lost of a partition and is not said yet.
    lost: HashMap<ReplicaKey, Lost>,
}

impl Sweep {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        positions: Arc<Positions>,
        data: Arc<DataDir>,
        hold: Option<Hold>,
    ) -> Self {
        Self {
            catalog,
            positions,
            data,
            hold,
            said: HashMap::new(),
            lost: HashMap::new(),
        }
    }

    pub(crate) async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut sweep = Some(self);
        while let Some(mut this) = sweep.take() {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => return,
            }
            let swept = tokio::task::spawn_blocking(move || {
                for notice in this.once() {
                    notice.warn();
                }
                this
            });
            sweep = swept.await.ok();
        }
    }

    /// Looks at every partition once; what is to be said. Blocks.
    fn once(&mut self) -> Vec<Notice> {
        let slowest = match &self.hold {
            Some(hold) => self.positions.slowest(&hold.consumers),
            None => BTreeMap::new(),
        };
        let mut notices = Vec::new();
        for partition in self.catalog.partitions() {
            let claimant = slowest.get(&partition.replica);
            notices.extend(self.look_after(&partition, claimant));
        }
        let now = Instant::now();
        self.said
            .retain(|_, at| now.duration_since(*at) < REPEATED_AFTER);
        notices.retain(|notice| self.is_news(notice, now));
        notices
    }

    fn look_after(&mut self, partition: &Partition, claimant: Option<&Slowest>) -> Vec<Notice> {
        let bytes_max = self.hold.as_ref().map_or(0, |hold| hold.bytes_max);
        let claim = claimant.map(|claimant| Claim {
            from: claimant.offset,
            bytes_max,
        });
        let swept = match partition.log.retain(partition.retention, claim) {
            Ok(swept) => swept,
            Err(error) => {
                let replica = &partition.replica;
                tracing::warn!(%replica, %error, "retention could not remove a segment");
                return Vec::new();
            }
        };
        let Some(claimant) = claimant else {
            return Vec::new();
        };
        let held = Held {
            replica: partition.replica.clone(),
            consumer: claimant.consumer.clone(),
            offset: claimant.offset,
            bytes_max: bytes_max.max(partition.retention.bytes_max),
        };
        self.notices(partition, claimant, &held, &swept)
    }

    /// What is to be said of a partition that somebody has a claim on.
    fn notices(
        &mut self,
        partition: &Partition,
        claimant: &Slowest,
        held: &Held,
        swept: &Swept,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        if let Some(lost) = self.lost_so_far(&held.replica, swept.lost) {
            notices.push(Notice::Lost(held.clone(), lost));
        }
        if swept.held_bytes > 0 {
            notices.push(Notice::Held(held.clone(), swept.held_bytes));
            let may_grow_bytes = held.bytes_max.saturating_sub(swept.bytes);
            match disk::free_bytes(&self.data.path) {
                Ok(free_bytes) if free_bytes < may_grow_bytes => {
                    notices.push(Notice::DiskShort(held.clone(), free_bytes, may_grow_bytes));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the room on the disk is not known"),
            }
        }
        let since = SystemTime::now().duration_since(claimant.moved);
        let grew = partition.log.bounds().end > claimant.offset + 1;
        if let Some(since) = since
            .ok()
            .filter(|since| *since > partition.retention.age_max)
        {
            if grew {
                notices.push(Notice::Still(held.clone(), since));
            }
        }
        notices
    }

    /// What was lost of a partition and is not said yet, with what was lost now.
    fn lost_so_far(&mut self, replica: &ReplicaKey, lost: Option<Lost>) -> Option<Lost> {
        if let Some(lost) = lost {
            let all = self.lost.entry(replica.clone()).or_insert(lost);
            all.end = lost.end;
        }
        self.lost.get(replica).copied()
    }

    /// Whether this was not said lately; it counts as said then.
    fn is_news(&mut self, notice: &Notice, now: Instant) -> bool {
        let replica = notice.held().replica.clone();
        let key = (replica, notice.code());
        if self.said.contains_key(&key) {
            return false;
        }
        if matches!(notice, Notice::Lost(..)) {
            self.lost.remove(&key.0);
        }
        self.said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests;
