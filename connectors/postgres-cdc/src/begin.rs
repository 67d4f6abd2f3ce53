//! The slot of a log that begins, that is begun again, or that lost its slot before any table was copied, and the record that
//! says where it stands.

use chrono::Utc;
use millrace_events::{Baseline, BegunAgain, Epoch, Lsn, Progress, Record};
use millrace_sessions::postgres::PgSession;

use crate::log_state::LogState;
use crate::preflight::{self, Facts};
use crate::slot::{self, Slot};
use crate::source::Source;
use crate::{copy, Config, Error};

/// A start that makes a slot: the first one of a log, one after an attempt that did not get as far as its baseline, or one
/// that makes another slot.
pub(crate) struct Begin<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) facts: &'a Facts,
    pub(crate) epoch: Epoch,
    /// A person has asked for it: the log that there is cannot go on.
    pub(crate) again: bool,
}

impl Begin<'_> {
    /// Creates the slot. `left_behind`: what an earlier attempt has created; nothing of it is in the log that counts. Returns
    /// what the log has to be told: where it begins, or, if it has begun, that it goes on behind a gap.
    ///
    /// It is true when every session sees what the slot will not bring.
    pub(crate) async fn run(
        &self,
        catalog: &mut PgSession,
        left_behind: Option<Slot>,
        log: &LogState,
    ) -> Result<Record, Error> {
        if left_behind.is_some() {
            slot::drop(catalog, &self.config.slot).await?;
        }
        preflight::check_room_for_slot(catalog).await?;
        let point = slot::create(catalog, self.source, self.config).await?;
        let lsn = point.lsn;
        copy::until_point_is_seen(catalog, self.source, point, self.config).await?;
        let prev = log.chain.position();
        Ok(match (self.again, prev) {
            (true, _) => {
                let again = BegunAgain::after(log.baseline.as_ref(), prev);
                Record::Baseline(self.baseline(lsn, Some(again)))
            }
            (false, None) => Record::Baseline(self.baseline(lsn, None)),
            (false, Some(prev)) => Record::Progress(self.gap(prev, lsn)),
        })
    }

    fn baseline(&self, lsn: Lsn, again: Option<BegunAgain>) -> Baseline {
        Baseline {
            epoch: self.epoch,
            incarnation: format!("{:032x}", rand::random::<u128>()),
            lsn,
            system: self.facts.system.clone(),
            database: self.facts.database.clone(),
            at: Utc::now(),
            again,
        }
    }

    /// What was committed in between is in no table of the log: none is copied, and every copy that there will be contains it.
    fn gap(&self, prev: Lsn, end_lsn: Lsn) -> Progress {
        tracing::warn!(
            from = %prev, to = %end_lsn,
            "another slot was made; no table was copied yet, and all copies begin again behind it"
        );
        Progress {
            epoch: self.epoch,
            prev,
            end_lsn,
            gap: true,
            at: Utc::now(),
        }
    }
}
