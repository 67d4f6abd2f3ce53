//! A topic's deduplication: one instance of a module for each partition, which all appends pass
//! through in their order before they are written.
//!
//! What the instance has seen is always what the log holds and what is being written. Where that
//! may not be so any more (an append failed), and when its memory is full, it is replaced by a new
//! one, which is shown the end of the log.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fluvio_protocol::link::ErrorCode;
use fluvio_sc_schema::topic::Deduplication;
use fluvio_smartmodule::dataplane::smartmodule::{Lookback, SmartModuleExtraParams};
use fluvio_spu_schema::server::smartmodule::{
    SmartModuleInvocation, SmartModuleInvocationWasm, SmartModuleKind,
};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::chain::{compact, Stage};
use super::engine::{Compiled, Engine};
use super::instance::Instance;
use super::other;
use crate::catalog::Catalog;
use crate::log::Log;

/// The deduplication of one partition.
pub(crate) struct Deduplicator {
    engine: Arc<Engine>,
    invocation: SmartModuleInvocation,
    /// As it was when first needed; one that replaces it counts after a restart.
    module: OnceCell<(String, Arc<Compiled>)>,
    running: Mutex<Option<Running>>,
}

/// An instance that has seen the log.
struct Running {
    stage: Stage,
    /// Where its leaked memory makes a new instance worth another look at the log.
    memory_bytes_max: usize,
}

impl Deduplicator {
    /// What a topic's settings ask for; the module may be unknown yet.
    pub(crate) fn new(engine: &Arc<Engine>, settings: &Deduplication) -> Self {
        Self {
            engine: engine.clone(),
            invocation: invocation(settings),
            module: OnceCell::new(),
            running: Mutex::default(),
        }
    }

    /// Resolves and compiles the module, unless that is done.
    pub(crate) async fn load(&self, catalog: &Catalog) -> Result<(), ErrorCode> {
        let module = || self.engine.module(catalog, &self.invocation);
        match self.module.get_or_try_init(module).await {
            Ok(_) => Ok(()),
            Err(ErrorCode::SmartModuleNotFound { .. }) => {
                Err(ErrorCode::DeduplicationSmartModuleNotLoaded)
            }
            Err(code) => Err(code),
        }
    }

    /// Starts an instance of the loaded module, to see whether one can be had.
    pub(crate) async fn check(self) -> Result<(), ErrorCode> {
        let turn = self.engine.running.clone().acquire_owned();
        let turn = turn.await.map_err(other)?;
        let started = tokio::task::spawn_blocking(move || {
            let started = self.start().map(drop);
            drop(turn);
            started
        });
        started.await.map_err(other)?
    }

    /// False if the next append starts a new instance, which reads the log.
    pub(crate) fn has_seen_the_log(&self) -> bool {
        self.running().is_some()
    }

    /// What is to be written of these batches: they must go to the end of `log` next. An error
    /// refuses all of them. Blocks; calls must not overlap.
    pub(crate) fn pass(&self, log: &Log, batches: &Bytes) -> Result<Bytes, ErrorCode> {
        let running = self.running().take();
        let turn = self.engine.running.clone().acquire_owned();
        let _turn = Handle::current().block_on(turn).map_err(other)?;
        // An instance that has seen records of a refused request must not be used again.
        let mut running = match running {
            Some(running) => running,
            None => self.start_over(log)?,
        };
        let stages = std::slice::from_mut(&mut running.stage);
        let left = compact(stages, &self.engine.limits, batches)?;
        if running.memory_bytes() <= running.memory_bytes_max {
            *self.running() = Some(running);
        }
        Ok(left)
    }

    /// Makes the next append start a new instance.
    pub(crate) fn forget(&self) {
        *self.running() = None;
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<Stage, ErrorCode> {
        let (name, compiled) = self
            .module
            .get()
            .cloned()
            .ok_or(ErrorCode::DeduplicationSmartModuleNotLoaded)?;
        let params = self.invocation.params.clone();
        // It works for the topic, which no client's leaving ends.
        let gone = CancellationToken::new();
        let mut stage = Stage::new(name, compiled, SmartModuleKind::Filter, params, gone);
        stage.start(&self.engine.limits)?;
        Ok(stage)
    }

    fn start_over(&self, log: &Log) -> Result<Running, ErrorCode> {
        let limits = &self.engine.limits;
        let mut stage = self.start()?;
        stage.look_back(log, limits)?;
        let mut running = Running {
            stage,
            memory_bytes_max: 0,
        };
        // What it keeps may be large itself; it must be replaced before it meets its limit.
        let memory = running.memory_bytes();
        running.memory_bytes_max = (2 * memory)
            .max(limits.wasm_recycle_bytes)
            .min(memory.midpoint(limits.wasm_memory_bytes_max));
        Ok(running)
    }
}

impl Running {
    fn memory_bytes(&self) -> usize {
        self.stage
            .instance
            .as_ref()
            .map_or(0, Instance::memory_bytes)
    }
}

/// The module with the parameters that a real SPU gives it: `count`, `age` in milliseconds, and
/// those of the topic.
fn invocation(settings: &Deduplication) -> SmartModuleInvocation {
    let (bounds, transform) = (&settings.bounds, &settings.filter.transform);
    let mut params = SmartModuleExtraParams::default();
    params.insert("count".to_owned(), bounds.count.to_string());
    if let Some(age) = bounds.age {
        params.insert("age".to_owned(), age.as_millis().to_string());
    }
    for (key, value) in &transform.with {
        params.insert(key.clone(), value.clone());
    }
    params.set_lookback(Some(Lookback {
        last: bounds.count,
        age: bounds.age,
    }));
    SmartModuleInvocation {
        wasm: SmartModuleInvocationWasm::Predefined(transform.uses.clone()),
        kind: SmartModuleKind::Filter,
        params,
        name: None,
    }
}
