//! Compiled modules, and chains made of them.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flate2::bufread::GzDecoder;
use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::server::smartmodule::{SmartModuleInvocation, SmartModuleInvocationWasm};
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::Module;

use super::chain::{Chain, Stage};
use super::host::{self, Host};
use crate::catalog::Catalog;
use crate::config::Limits;

/// Compiled modules kept; beyond it, those that no stream uses are dropped.
const COMPILED_MAX: usize = 64;
/// How often running guests look at the clock.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// A module ready to be instantiated.
pub(super) struct Compiled {
    pub(super) module: Module,
    pub(super) linker: wasmtime::Linker<Host>,
}

type Slot = Arc<OnceCell<Arc<Compiled>>>;

/// Compiles modules, once per content, and makes chains of them.
pub(crate) struct Engine {
    wasm: wasmtime::Engine,
    compiled: Mutex<HashMap<[u8; 32], Slot>>,
    /// Guests that run at once: as many as there are processors.
    pub(super) running: Arc<Semaphore>,
    pub(super) limits: Limits,
}

impl Engine {
    /// An engine with nothing compiled.
    pub(crate) fn new(limits: &Limits) -> anyhow::Result<Arc<Self>> {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let wasm = wasmtime::Engine::new(&config)?;
        tick(&wasm)?;
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Ok(Arc::new(Self {
            wasm,
            compiled: Mutex::default(),
            running: Arc::new(Semaphore::new(processors)),
            limits: limits.clone(),
        }))
    }

    /// Resolves, compiles and initialises the modules of a stream or a request.
    pub(crate) async fn chain(
        self: &Arc<Self>,
        catalog: &Catalog,
        invocations: Vec<SmartModuleInvocation>,
    ) -> Result<Chain, ErrorCode> {
        let mut stages = Vec::with_capacity(invocations.len());
        for invocation in invocations {
            let (name, compiled) = self.module(catalog, &invocation).await?;
            stages.push(Stage::new(
                name,
                compiled,
                invocation.kind,
                invocation.params,
            ));
        }
        Chain::start(self.clone(), stages).await
    }

    /// Resolves and compiles one module.
    pub(super) async fn module(
        self: &Arc<Self>,
        catalog: &Catalog,
        invocation: &SmartModuleInvocation,
    ) -> Result<(String, Arc<Compiled>), ErrorCode> {
        let (name, wasm) = resolve(catalog, invocation)?;
        let compiled = self.compiled(wasm, &name).await?;
        Ok((name, compiled))
    }

    async fn compiled(
        self: &Arc<Self>,
        gzipped: Vec<u8>,
        name: &str,
    ) -> Result<Arc<Compiled>, ErrorCode> {
        let content = Sha256::digest(&gzipped).into();
        let slot = self.slot(content);
        let invalid =
            |error: String| ErrorCode::SmartModuleChainInitError(format!("{name}: {error}"));
        let compile = || async {
            let engine = self.clone();
            let compiled = tokio::task::spawn_blocking(move || engine.compile(&gzipped)).await;
            compiled
                .map_err(|error| invalid(error.to_string()))?
                .map(Arc::new)
                .map_err(|error| invalid(format!("{error:#}")))
        };
        let compiled = slot.get_or_try_init(compile).await.cloned();
        if compiled.is_err() {
            self.slots().remove(&content);
        }
        compiled
    }

    fn slot(&self, content: [u8; 32]) -> Slot {
        let mut compiled = self.slots();
        if compiled.len() >= COMPILED_MAX && !compiled.contains_key(&content) {
            // What is being compiled or used stays.
            compiled.retain(|_, slot| {
                let used = slot
                    .get()
                    .is_some_and(|module| Arc::strong_count(module) > 1);
                used || Arc::strong_count(slot) > 1
            });
        }
        compiled.entry(content).or_default().clone()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<[u8; 32], Slot>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, gzipped: &[u8]) -> anyhow::Result<Compiled> {
        let wasm = gunzip(gzipped, self.limits.wasm_bytes_max)?;
        let module = Module::new(&self.wasm, wasm)?;
        let linker = host::linker(&self.wasm, &module)?;
        Ok(Compiled { module, linker })
    }
}

/// Advances the engine's clock until it is dropped.
fn tick(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let run = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("wasm-clock".to_owned())
        .spawn(run)
        .map(|_| ())
}

fn resolve(
    catalog: &Catalog,
    invocation: &SmartModuleInvocation,
) -> Result<(String, Vec<u8>), ErrorCode> {
    match &invocation.wasm {
        SmartModuleInvocationWasm::Predefined(name) => {
            let spec = catalog
                .smart_module(name)
                .ok_or_else(|| ErrorCode::SmartModuleNotFound { name: name.clone() })?;
            Ok((name.clone(), spec.wasm.payload.to_vec()))
        }
        SmartModuleInvocationWasm::AdHoc(gzipped) => {
            let name = invocation
                .name
                .clone()
                .unwrap_or_else(|| "ad-hoc".to_owned());
            Ok((name, gzipped.clone()))
        }
    }
}

fn gunzip(gzipped: &[u8], bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut wasm = Vec::new();
    GzDecoder::new(gzipped)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut wasm)?;
    anyhow::ensure!(
        wasm.len() <= bytes_max,
        "inflated it is larger than {bytes_max} bytes"
    );
    Ok(wasm)
}
