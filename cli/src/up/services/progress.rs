//! How far the services are on their way to being live.

use std::time::{Duration, Instant};

use millrace_events::TableId;
use millrace_postgres_cdc as capture;
use millrace_projections::engine;

use super::Services;
use crate::terminal::Terminal;

const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Services {
    /// Shows the snapshot and the catching up, until it is done or a part needs a person; whether it is done. With
    /// `once` trouble is an error.
    pub(crate) async fn wait_until_live(
        &mut self,
        terminal: &mut Terminal,
        once: bool,
    ) -> anyhow::Result<bool> {
        let began = Instant::now();
        loop {
            tokio::select! {
                trouble = self.states.trouble() => match once {
                    true => return Err(trouble),
                    false => return Ok(false),
                },
                lines = self.news.next() => lines.iter().for_each(|line| terminal.step(line)),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.caught_up() {
                return Ok(true);
            }
            self.show_progress(terminal, began);
        }
    }

    /// Records read are not enough: a projector that waits for a missing record has read them all, but
    /// its position stays below what capture has in the log.
    fn caught_up(&self) -> bool {
        let (Some(capture), Some(projector)) = (self.capture.get(), self.projector.get()) else {
            return false;
        };
        let (captured, applied) = (capture.status(), projector.status());
        captured.state == capture::State::Streaming
            && applied.state == engine::State::Live
            && applied.lag_records == Some(0)
            && applied.end_lsn.is_some_and(|end| end >= captured.last_lsn)
    }

    fn show_progress(&self, terminal: &mut Terminal, began: Instant) {
        let tables = self.capture.get().map(|capture| capture.status().tables);
        if let Some((table, rows, total)) = copying(&tables.unwrap_or_default()) {
            terminal.bar(&format!("copying {table}"), rows, total, began);
            return;
        }
        let Some(status) = self.projector.get().map(|projector| projector.status()) else {
            return;
        };
        if let (engine::State::Loading, Some(loaded)) = (status.state, status.snapshot) {
            let total = loaded.rows_estimated.max(loaded.rows);
            terminal.bar("loading into MySQL", loaded.rows, total, began);
        } else if let (Some(next), Some(end)) = (status.next_offset, status.high_watermark) {
            terminal.bar("catching up", next.0, end.0, began);
        }
    }
}

/// The first table whose copy is not complete, and how many rows of all such tables are read, of how many.
fn copying(tables: &[capture::TableStatus]) -> Option<(&TableId, u64, u64)> {
    let open: Vec<&capture::TableStatus> = tables
        .iter()
        .filter(|table| table.state != capture::TableState::Captured)
        .collect();
    let running = open
        .iter()
        .find(|table| table.state == capture::TableState::Copying);
    let table = running.or(open.first())?;
    let rows = open.iter().map(|table| table.rows).sum();
    let total = open
        .iter()
        .map(|table| table.rows_estimated.max(table.rows))
        .sum();
    Some((&table.table, rows, total))
}
