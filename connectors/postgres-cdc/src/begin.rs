//! The beginning of a log: the slot, and the record that says where it stands.

use chrono::Utc;
use millrace_events::{Baseline, Epoch};
use millrace_sessions::postgres::PgSession;

use crate::preflight::{self, Facts};
use crate::slot::{self, Slot};
use crate::source::Source;
use crate::{copy, Config, Error};

/// The first start of a log, or one after an attempt that did not get as far as its baseline.
pub(crate) struct Begin<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) facts: &'a Facts,
    pub(crate) epoch: Epoch,
}

impl Begin<'_> {
    /// Creates the slot. `left_behind`: what an earlier attempt has created; nothing was ever streamed from it.
    ///
    /// The baseline is true when every session sees what the slot will not bring.
    pub(crate) async fn run(
        &self,
        catalog: &mut PgSession,
        left_behind: Option<Slot>,
    ) -> Result<Baseline, Error> {
        if left_behind.is_some() {
            slot::drop(catalog, &self.config.slot).await?;
        }
        preflight::check_room_for_slot(catalog).await?;
        let point = slot::create(catalog, self.source, self.config).await?;
        let lsn = point.lsn;
        copy::until_point_is_seen(catalog, self.source, point, self.config).await?;
        Ok(Baseline {
            epoch: self.epoch,
            incarnation: format!("{:032x}", rand::random::<u128>()),
            lsn,
            system: self.facts.system.clone(),
            database: self.facts.database.clone(),
            at: Utc::now(),
        })
    }
}
