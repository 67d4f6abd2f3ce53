//! The module that a topic's deduplication names.

use fluvio_sc_schema::errors::ErrorCode;
use fluvio_sc_schema::smartmodule::SmartModulePackageKey;
use fluvio_sc_schema::topic::TopicSpec;

use super::{Catalog, Refusal};
use crate::smart::Deduplicator;

impl Catalog {
    /// What appends to a partition of such a topic pass through, if its settings ask for it.
    pub(super) fn deduplicator(&self, spec: &TopicSpec) -> Option<Deduplicator> {
        let settings = spec.get_deduplication()?;
        Some(Deduplicator::new(&self.engine, settings))
    }

    /// Refuses partitions of such a topic beyond the limit of all.
    pub(super) fn admit_deduplicating(&self, spec: &TopicSpec, more: u32) -> Result<(), Refusal> {
        if spec.get_deduplication().is_none() {
            return Ok(());
        }
        let state = self.read();
        let topics = state.topics.values().map(|entry| &entry.value);
        let present: usize = topics
            .filter(|topic| topic.spec.get_deduplication().is_some())
            .map(|topic| topic.logs.len())
            .sum();
        let max = self.limits.deduplicating_partitions_max;
        if present + more as usize <= max as usize {
            return Ok(());
        }
        let message = format!(
            "{present} partitions deduplicate already, and this broker lets {max} do so; use a cluster for more"
        );
        Err(Refusal::new(ErrorCode::TopicInvalidConfiguration, message))
    }

    /// Refuses a topic whose deduplication names a module that is unknown or cannot run.
    pub(crate) async fn check_deduplication(&self, spec: &TopicSpec) -> Result<(), Refusal> {
        let (Some(settings), Some(deduplicator)) =
            (spec.get_deduplication(), self.deduplicator(spec))
        else {
            return Ok(());
        };
        let uses = settings.filter.transform.uses.as_str();
        if let Err(error) = SmartModulePackageKey::from_qualified_name(uses) {
            let error = error.to_string();
            let code = ErrorCode::DeduplicationSmartModuleNameInvalid(error.clone());
            return Err(Refusal::new(code, error));
        }
        let unusable = |code| refusal(code, uses);
        deduplicator.load(self).await.map_err(unusable)?;
        deduplicator.check().await.map_err(unusable)
    }
}

/// With the hint that a real controller gives.
fn refusal(code: ErrorCode, module: &str) -> Refusal {
    let message = match code {
        ErrorCode::DeduplicationSmartModuleNotLoaded => {
            format!("{code}\nHint: try `fluvio hub sm download {module}` and repeat this operation")
        }
        _ => code.to_string(),
    };
    Refusal::new(code, message)
}
