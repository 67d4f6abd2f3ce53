//! Compiled modules, and chains made of them.

use std::collections::HashMap;
use std::io::Read;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::bufread::GzDecoder;
use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::server::smartmodule::{SmartModuleInvocation, SmartModuleInvocationWasm};
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use wasmtime::Module;

use super::chain::{Chain, Stage};
use super::host::{self, Host};
use crate::catalog::Catalog;
use crate::config::Limits;

/// Compiled modules kept; beyond it, those that no stream uses are dropped.
const COMPILED_MAX: usize = 64;
/// Compilations at once. Each has threads of its own, so that a slow one does not hold up the others.
const COMPILING_MAX: usize = 8;
/// Modules that are being compiled or wait for it; more are refused. They go on without their askers, so
/// nothing else bounds what a client that asks and leaves can start.
const UNFINISHED_MAX: usize = 64;
/// How often running guests look at the clock.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// A module ready to be instantiated.
pub(super) struct Compiled {
    pub(super) module: Module,
    pub(super) linker: wasmtime::Linker<Host>,
}

/// SHA-256 of a module as it was sent.
type Content = [u8; 32];

/// What became of a compilation, for everybody who waits for it.
type Slot = Arc<OnceCell<Result<Arc<Compiled>, String>>>;

/// Compiles modules, once per content, and makes chains of them.
pub(crate) struct Engine {
    wasm: wasmtime::Engine,
    compiled: Mutex<HashMap<Content, Slot>>,
    compiling: Semaphore,
    /// Begun so far.
    compilations: AtomicU64,
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
        Ok(Arc::new(Self {
            wasm,
            compiled: Mutex::default(),
            compiling: Semaphore::new(COMPILING_MAX),
            compilations: AtomicU64::new(0),
            running: Arc::new(Semaphore::new(processors())),
            limits: limits.clone(),
        }))
    }

    /// Resolves, compiles and initialises the modules of a stream or a request.
    pub(crate) async fn chain(
        self: &Arc<Self>,
        catalog: &Catalog,
        invocations: Vec<SmartModuleInvocation>,
    ) -> Result<Chain, ErrorCode> {
        let gone = CancellationToken::new();
        let mut stages = Vec::with_capacity(invocations.len());
        for invocation in invocations {
            let (name, compiled) = self.module(catalog, &invocation).await?;
            stages.push(Stage::new(
                name,
                compiled,
                invocation.kind,
                invocation.params,
                gone.clone(),
            ));
        }
        Chain::start(self.clone(), stages, gone).await
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

    /// The module of this content. It is compiled once, for all who ask: in a task of its own, which goes
    /// on if they leave, and whose result is kept for those who come later.
    async fn compiled(
        self: &Arc<Self>,
        gzipped: Vec<u8>,
        name: &str,
    ) -> Result<Arc<Compiled>, ErrorCode> {
        let invalid =
            |error: String| ErrorCode::SmartModuleChainInitError(format!("{name}: {error}"));
        let content = Sha256::digest(&gzipped).into();
        let slot = self.slot(content).map_err(invalid)?;
        let compilation = tokio::spawn(self.clone().compile_in(slot, content, gzipped));
        let compiled = compilation.await.map_err(|error| error.to_string());
        compiled.and_then(|compiled| compiled).map_err(invalid)
    }

    /// Compiles, or waits for the one who does. A failure is told to all who wait and then forgotten.
    async fn compile_in(
        self: Arc<Self>,
        slot: Slot,
        content: Content,
        gzipped: Vec<u8>,
    ) -> Result<Arc<Compiled>, String> {
        let compile = || async {
            let _turn = self.compiling.acquire().await.map_err(text)?;
            let engine = self.clone();
            let compiled = tokio::task::spawn_blocking(move || engine.compile(&gzipped)).await;
            compiled.map_err(text)?.map(Arc::new).map_err(text)
        };
        let compiled = slot.get_or_init(compile).await.clone();
        if compiled.is_err() {
            let mut slots = self.slots();
            if slots
                .get(&content)
                .is_some_and(|kept| Arc::ptr_eq(kept, &slot))
            {
                slots.remove(&content);
            }
        }
        compiled
    }

    fn slot(&self, content: Content) -> Result<Slot, String> {
        let mut compiled = self.slots();
        if let Some(slot) = compiled.get(&content) {
            return Ok(slot.clone());
        }
        let unfinished = compiled.values().filter(|slot| slot.get().is_none());
        if unfinished.count() >= UNFINISHED_MAX {
            return Err(format!(
                "{UNFINISHED_MAX} SmartModules are being compiled already; try again later"
            ));
        }
        if compiled.len() >= COMPILED_MAX {
            compiled.retain(|_, slot| in_use(slot));
        }
        Ok(compiled.entry(content).or_default().clone())
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Content, Slot>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, gzipped: &[u8]) -> anyhow::Result<Compiled> {
        let (begun, number) = (Instant::now(), self.compilations.fetch_add(1, Relaxed) + 1);
        let wasm = gunzip(gzipped, self.limits.wasm_bytes_max)?;
        // In the pool that all share, a small module would wait behind every function of a large one.
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(processors())
            .thread_name(|_| "wasm-compiler".to_owned())
            .build()?;
        let module = threads.install(|| Module::new(&self.wasm, &wasm))?;
        let linker = host::linker(&self.wasm, &module)?;
        let ms = begun.elapsed().as_millis() as u64;
        tracing::debug!(number, bytes = wasm.len(), ms, "compiled a SmartModule");
        Ok(Compiled { module, linker })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

/// What is being compiled or used stays.
fn in_use(slot: &Slot) -> bool {
    let compiled = slot.get().and_then(|compiled| compiled.as_ref().ok());
    compiled.is_some_and(|module| Arc::strong_count(module) > 1) || Arc::strong_count(slot) > 1
}

fn text(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::BytesMut;
    use flate2::write::GzEncoder;
    use fluvio_spu_schema::server::smartmodule::{SmartModuleContextData, SmartModuleKind};

    use super::*;
    use crate::batch;
    use crate::log::Slice;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn gzip(wat: &str) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(wat.as_bytes()).expect("gzip");
        gzip.finish().expect("gzip")
    }

    fn module(functions: &str, map: &str) -> Vec<u8> {
        gzip(&format!(
            r#"(module
              (import "env" "copy_records" (func (param i32 i32)))
              (memory (export "memory") 2)
              (func (export "alloc") (param i32) (result i32) (i32.const 1024))
              (func (export "map") (param i32 i32 i32) (result i32) {map})
              {functions})"#
        ))
    }

    fn small(number: u32) -> Vec<u8> {
        module("", &format!("(i32.const {number})"))
    }

    /// Seconds of work for the compiler.
    fn slow() -> Vec<u8> {
        let step = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 3)) (i32.popcnt (local.get 0))))";
        let function = format!(
            "(func (param i32) (result i32) {} (local.get 0))",
            step.repeat(500)
        );
        module(&function.repeat(1000), "(i32.const 0)")
    }

    fn engine(call_time_max: Duration) -> Arc<Engine> {
        let limits = Limits {
            wasm_call_time_max: call_time_max,
            ..Limits::default()
        };
        Engine::new(&limits).expect("engine")
    }

    /// A client that asks for a module.
    fn ask(
        engine: &Arc<Engine>,
        gzipped: Vec<u8>,
    ) -> tokio::task::JoinHandle<Result<Arc<Compiled>, ErrorCode>> {
        let engine = engine.clone();
        tokio::spawn(async move { engine.compiled(gzipped, "asked").await })
    }

    async fn begun(engine: &Engine, count: u64) {
        let begun = async {
            while engine.compilations.load(Relaxed) < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("begun");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_compilation_goes_on_without_its_asker_and_is_shared() {
        let engine = engine(Duration::from_secs(30));
        let first = ask(&engine, slow());
        begun(&engine, 1).await;
        first.abort();
        assert!(first.await.is_err(), "it gave up");
        let others = [ask(&engine, slow()), ask(&engine, slow())];
        for other in others {
            other.await.expect("asked").map(drop).expect("compiled");
        }
        ask(&engine, slow())
            .await
            .expect("asked")
            .map(drop)
            .expect("kept");
        assert_eq!(engine.compilations.load(Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_compilation_holds_up_no_other() {
        let engine = engine(Duration::from_secs(30));
        let all = Instant::now();
        let slow = ask(&engine, slow());
        begun(&engine, 1).await;
        let (mut number, mut longest) = (0, Duration::ZERO);
        while !slow.is_finished() {
            let one = Instant::now();
            let compiled = ask(&engine, small(number)).await.expect("asked");
            compiled.map(drop).expect("compiled");
            longest = longest.max(one.elapsed());
            number += 1;
        }
        slow.await.expect("asked").map(drop).expect("compiled");
        assert!(
            longest < all.elapsed() / 2,
            "{longest:?} for a small one of {number}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failed_compilation_is_told_to_all_and_not_kept() {
        let engine = engine(Duration::from_secs(30));
        let broken = || gzip("(module (func (export \"map\") (result i32)))");
        let asked = [ask(&engine, broken()), ask(&engine, broken())];
        for asked in asked {
            let refused = asked.await.expect("asked").map(drop);
            assert!(
                matches!(refused, Err(ErrorCode::SmartModuleChainInitError(_))),
                "{refused:?}"
            );
        }
        assert!(engine.slots().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_whose_client_has_gone_gives_its_turn_to_others() {
        let engine = engine(Duration::from_secs(3600));
        let turns = engine.running.available_permits();
        let endless = module("", "(loop (br 0)) (unreachable)");
        let compiled = engine.compiled(endless, "endless").await.expect("compiled");
        let gone = CancellationToken::new();
        let kind = SmartModuleKind::Generic(SmartModuleContextData::None);
        let stage = Stage::new(
            "endless".into(),
            compiled,
            kind,
            Default::default(),
            gone.clone(),
        );
        let chain = Chain::start(engine.clone(), vec![stage], gone).await;
        let mut chain = chain.expect("started");
        let mut batches = BytesMut::new();
        batch::encode(&mut batches, 0, 0, (1, 1), &0i32.to_be_bytes());
        let slice = Slice {
            batches: batches.freeze(),
            next_offset: 1,
        };
        let stream = tokio::spawn(async move { chain.transform(slice).await.map(drop) });
        let taken = async {
            while engine.running.available_permits() == turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, taken)
            .await
            .expect("it runs");
        stream.abort();
        let all = engine.running.acquire_many(turns as u32);
        let all = tokio::time::timeout(PATIENCE, all).await.expect("in time");
        drop(all.expect("turns"));
    }
}
