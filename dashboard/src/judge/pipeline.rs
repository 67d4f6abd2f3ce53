//! The hops from Postgres to MySQL: what each does per second, and how long what waits there has.
//!
//! A transaction waits at one hop at a time: at the slot until the log has it; in the topic until the
//! reader has it; at the projector until it is applied, or at MySQL if MySQL is what fails.

use crate::collect::{ProjectorReading, Readings};
use crate::status::{Answer, Hop, HopName, HopUnit, Lag, Topic, TopicKind, Verdict, WalStatus};

use super::rate::Meters;

/// Where the log's waiting transactions are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsAt {
    Nowhere,
    Topic,
    Modules,
    Projector,
    Mysql,
}

/// Makes the hops of one tick.
pub(super) struct Pipeline<'a> {
    pub(super) readings: &'a Readings,
    pub(super) lag: &'a Lag,
    pub(super) wal_bytes_per_s: Option<f64>,
    pub(super) captured_per_s: Option<f64>,
    pub(super) topics: &'a Answer<Vec<Topic>>,
    pub(super) applied_per_s: Option<f64>,
    /// Verdict on the projections.
    pub(super) projections: Verdict,
}

impl Pipeline<'_> {
    pub(super) fn hops(&self, meters: &mut Meters) -> Vec<Hop> {
        let mut hops = vec![
            self.postgres(),
            self.slot(),
            self.topic(),
            self.modules(meters),
            self.projector(),
            self.mysql(meters),
        ];
        mark_slowest(&mut hops);
        hops
    }

    fn postgres(&self) -> Hop {
        let source = &self.readings.source;
        let detail = match source {
            Answer::Known(source) => format!("{}, WAL ends at {}", source.server, source.lsn),
            Answer::Unknown(reason) => reason.clone(),
        };
        Hop {
            hop: HopName::Postgres,
            label: "Postgres".into(),
            rate_per_s: self.wal_bytes_per_s,
            unit: HopUnit::Bytes,
            age_ms: source.known().map(|_| 0),
            verdict: source.verdict(),
            slowest: false,
            detail,
        }
    }

    fn slot(&self) -> Hop {
        let (verdict, detail) = self.slot_state();
        Hop {
            hop: HopName::Slot,
            label: "Slot".into(),
            rate_per_s: self.captured_per_s,
            unit: HopUnit::Transactions,
            age_ms: self.lag.inherited_ms,
            verdict,
            slowest: false,
            detail,
        }
    }

    fn slot_state(&self) -> (Verdict, String) {
        let source = match &self.readings.source {
            Answer::Known(source) => source,
            Answer::Unknown(reason) => return (Verdict::Unknown, reason.clone()),
        };
        let Some(slot) = &source.slot else {
            return (Verdict::Stopped, "capture has no slot in Postgres".into());
        };
        if slot.wal_status == Some(WalStatus::Lost) {
            let detail = format!("slot {} is lost: Postgres removed its WAL", slot.name);
            return (Verdict::Stopped, detail);
        }
        if !slot.active {
            return (Verdict::Stopped, format!("nobody reads slot {}", slot.name));
        }
        let kept = slot
            .retained_bytes
            .map_or("unknown".into(), |bytes| bytes.to_string());
        let verdict = match self.lag.inherited_ms {
            None => Verdict::Unknown,
            Some(ms) if ms > 10_000 => Verdict::Stalled,
            Some(_) => Verdict::Ok,
        };
        (
            verdict,
            format!("slot {}, {kept} bytes of WAL kept", slot.name),
        )
    }

    fn topic(&self) -> Hop {
        let changes = match self.topics {
            Answer::Known(topics) => topics
                .iter()
                .find(|topic| topic.kind == TopicKind::Changes)
                .ok_or("the topic of changes does not exist"),
            Answer::Unknown(reason) => Err(reason.as_str()),
        };
        let (verdict, detail) = match changes {
            Ok(topic) => (
                Verdict::Ok,
                format!("{} ends at offset {}", topic.name, topic.end_offset),
            ),
            Err(reason) => (Verdict::Unknown, reason.to_owned()),
        };
        Hop {
            hop: HopName::Topic,
            label: "Topic".into(),
            rate_per_s: changes.ok().and_then(|topic| topic.records_per_s),
            unit: HopUnit::Records,
            age_ms: self.age(WaitsAt::Topic),
            verdict,
            slowest: false,
            detail,
        }
    }

    fn modules(&self, meters: &mut Meters) -> Hop {
        let next = self.known_projector().and_then(|known| known.next_offset);
        let failed = self.waits_at() == WaitsAt::Modules;
        let detail = match &self.readings.smartmodules {
            Answer::Known(names) => names.join(", "),
            Answer::Unknown(reason) => reason.clone(),
        };
        Hop {
            hop: HopName::Smartmodules,
            label: "SmartModules".into(),
            rate_per_s: meters.rate("read", self.readings.moment.mono_ms, next),
            unit: HopUnit::Records,
            age_ms: self.age(WaitsAt::Modules),
            verdict: match failed {
                true => Verdict::Stalled,
                false => self.readings.smartmodules.verdict(),
            },
            slowest: false,
            detail,
        }
    }

    fn projector(&self) -> Hop {
        let detail = match &self.readings.projector {
            Answer::Unknown(reason) => reason.clone(),
            Answer::Known(projector) => match (&projector.log_error, projector.lag_records) {
                (Some(fault), _) => fault.to_string(),
                (None, Some(records)) => format!("{records} records behind"),
                (None, None) => "has not read the log yet".into(),
            },
        };
        Hop {
            hop: HopName::Projector,
            label: "Projector".into(),
            rate_per_s: self.applied_per_s,
            unit: HopUnit::Transactions,
            age_ms: self.age(WaitsAt::Projector),
            verdict: match self.known_projector() {
                None => Verdict::Unknown,
                // Whether the source is known is said at its own hop.
                Some(_) if self.projections == Verdict::Unknown => Verdict::Ok,
                Some(_) => self.projections,
            },
            slowest: false,
            detail,
        }
    }

    fn mysql(&self, meters: &mut Meters) -> Hop {
        let projector = self.known_projector();
        let detail = match (
            &self.readings.target,
            projector.and_then(|p| p.error.as_ref()),
        ) {
            (Answer::Unknown(reason), _) => reason.clone(),
            (_, Some(fault)) => fault.to_string(),
            (Answer::Known(target), None) => target.server.clone(),
        };
        let batches = projector.and_then(|known| known.batches);
        Hop {
            hop: HopName::Mysql,
            label: "MySQL".into(),
            rate_per_s: meters.rate("batches", self.readings.moment.mono_ms, batches),
            unit: HopUnit::Transactions,
            age_ms: self.mysql_age(),
            verdict: match self.waits_at() {
                WaitsAt::Mysql => self.readings.target.verdict().max(Verdict::Stalled),
                _ => self.readings.target.verdict(),
            },
            slowest: false,
            detail,
        }
    }

    /// Of a MySQL that does not answer it is not known that nothing waits.
    fn mysql_age(&self) -> Option<u64> {
        let known = self.readings.target.known().is_some();
        self.age(WaitsAt::Mysql).filter(|ms| known || *ms > 0)
    }

    fn known_projector(&self) -> Option<&ProjectorReading> {
        self.readings.projector.known()
    }

    /// Age of what waits at this hop.
    fn age(&self, hop: WaitsAt) -> Option<u64> {
        let own_ms = self.lag.own_ms?;
        Some(if self.waits_at() == hop { own_ms } else { 0 })
    }

    fn waits_at(&self) -> WaitsAt {
        if self.lag.own_ms.is_none_or(|ms| ms == 0) {
            return WaitsAt::Nowhere;
        }
        // Nobody fetches.
        let Some(projector) = self.known_projector() else {
            return WaitsAt::Topic;
        };
        let about_modules = |text: &str| text.to_ascii_lowercase().contains("smartmodule");
        if projector.error.is_some() || self.readings.target.known().is_none() {
            WaitsAt::Mysql
        } else if let Some(fault) = &projector.log_error {
            match about_modules(&fault.message) {
                true => WaitsAt::Modules,
                false => WaitsAt::Topic,
            }
        } else if projector.oldest_pending_at.is_some() || projector.lag_records == Some(0) {
            WaitsAt::Projector
        } else {
            WaitsAt::Topic
        }
    }
}

fn mark_slowest(hops: &mut [Hop]) {
    let longest = hops.iter().filter_map(|hop| hop.age_ms).max();
    let Some(longest) = longest.filter(|ms| *ms > 0) else {
        return;
    };
    if let Some(hop) = hops.iter_mut().find(|hop| hop.age_ms == Some(longest)) {
        hop.slowest = true;
    }
}
