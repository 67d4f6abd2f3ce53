//! One instance of a module: memory in, memory out.

use anyhow::{ensure, Context, Result};
use bytes::Bytes;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::Encoder;
use fluvio_smartmodule::dataplane::smartmodule::{
    SmartModuleExtraParams, SmartModuleInitErrorStatus, SmartModuleInitInput,
    SmartModuleInitOutput, SmartModuleTransformErrorStatus,
};
use tokio_util::sync::CancellationToken;
use wasmtime::{Memory, Store, TypedFunc};

use super::engine::{Compiled, TICK};
use super::host::Host;
use super::{other, GUEST_VERSION};
use crate::config::Limits;
use crate::request;

/// What a module does with a batch, told by the function that it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Filter,
    Map,
    FilterMap,
    ArrayMap,
    Aggregate,
}

impl Kind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Filter, "filter"),
        (Self::Map, "map"),
        (Self::FilterMap, "filter_map"),
        (Self::ArrayMap, "array_map"),
        (Self::Aggregate, "aggregate"),
    ];

    /// What a compiled module is; the first export in the order of the published engine counts.
    pub(super) fn of(compiled: &Compiled) -> Option<(Self, &'static str)> {
        Self::ALL
            .into_iter()
            .find(|(_, export)| compiled.module.get_export(export).is_some())
    }
}

/// Input pointer, its length, version of the interface; negative results are errors.
type Entry = TypedFunc<(i32, i32, i32), i32>;

/// An instance with its memory. Not shared: one call at a time.
pub(super) struct Instance {
    store: Store<Host>,
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
    transform: Entry,
    init: Option<Entry>,
    look_back: Option<Entry>,
    ticks_max: u64,
}

impl Instance {
    /// Instantiates a module and calls its `init`, if it has one, with the parameters.
    pub(super) fn start(
        compiled: &Compiled,
        params: &SmartModuleExtraParams,
        limits: &Limits,
        name: &str,
        gone: CancellationToken,
    ) -> Result<Self, ErrorCode> {
        let Some((_, export)) = Kind::of(compiled) else {
            let error =
                "it exports none of filter, map, filter_map, array_map, aggregate".to_owned();
            return Err(ErrorCode::SmartModuleInvalid {
                error,
                name: Some(name.to_owned()),
            });
        };
        let mut store = Store::new(
            compiled.module.engine(),
            Host::new(limits.wasm_memory_bytes_max, gone),
        );
        store.limiter(|host| host);
        store.epoch_deadline_callback(|mut store| store.data_mut().tick());
        let ticks_max = (limits.wasm_call_time_max.as_millis() / TICK.as_millis()).max(1) as u64;
        begin_call(&mut store, ticks_max);
        let mut instance = match Self::instantiate(compiled, store, export, ticks_max) {
            Ok(instance) => instance,
            Err(error) => {
                return Err(ErrorCode::SmartModuleChainInitError(format!(
                    "{name}: {error:#}"
                )))
            }
        };
        instance.init(params, name)?;
        Ok(instance)
    }

    fn instantiate(
        compiled: &Compiled,
        mut store: Store<Host>,
        export: &str,
        ticks_max: u64,
    ) -> Result<Self> {
        let instance = compiled.linker.instantiate(&mut store, &compiled.module)?;
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
            initialize.call(&mut store, ())?;
        }
        let memory = instance
            .get_memory(&mut store, "memory")
            .context("it exports no memory")?;
        let alloc = instance.get_typed_func(&mut store, "alloc")?;
        let transform = instance.get_typed_func(&mut store, export)?;
        let init = instance.get_typed_func(&mut store, "init").ok();
        let look_back = instance.get_typed_func(&mut store, "look_back").ok();
        Ok(Self {
            store,
            memory,
            alloc,
            transform,
            init,
            look_back,
            ticks_max,
        })
    }

    fn init(&mut self, params: &SmartModuleExtraParams, name: &str) -> Result<(), ErrorCode> {
        let Some(init) = self.init.clone() else {
            return Ok(());
        };
        let failed = |error: anyhow::Error| {
            ErrorCode::SmartModuleChainInitError(format!("{name}: {error:#}"))
        };
        let mut input = Vec::new();
        let asked = SmartModuleInitInput {
            params: params.clone(),
        };
        asked
            .encode(&mut input, GUEST_VERSION)
            .map_err(|error| failed(error.into()))?;
        let (status, output) = self.call(&init, &[&input]).map_err(failed)?;
        match status {
            0.. => Ok(()),
            status if status == SmartModuleInitErrorStatus::InitError as i32 => {
                let output: SmartModuleInitOutput =
                    request::decode(output, GUEST_VERSION).map_err(other)?;
                Err(ErrorCode::SmartModuleInitError(output.error))
            }
            status => Err(failed(anyhow::anyhow!("init returned {status}"))),
        }
    }

    /// Runs the module over encoded input.
    pub(super) fn transform(&mut self, input: &[&[u8]]) -> Result<Bytes, ErrorCode> {
        let entry = self.transform.clone();
        match self.call(&entry, input) {
            Ok((0.., output)) => Ok(output),
            Ok((status, _)) => Err(other(
                SmartModuleTransformErrorStatus::try_from(status).unwrap_or_default(),
            )),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Shows the module records from before the stream; it may have no use for them.
    pub(super) fn look_back(&mut self, input: &[&[u8]]) -> Result<(i32, Bytes), ErrorCode> {
        match self.look_back.clone() {
            Some(entry) => self
                .call(&entry, input)
                .map_err(|error| self.failure(&error)),
            None => Ok((0, Bytes::new())),
        }
    }

    /// True if the module keeps state that `look_back` builds up.
    pub(super) fn looks_back(&self) -> bool {
        self.look_back.is_some()
    }

    /// Bytes of linear memory, which only ever grows.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    fn failure(&self, error: &anyhow::Error) -> ErrorCode {
        let host = self.store.data();
        match host.memory_refused {
            Some(requested) => ErrorCode::SmartModuleMemoryLimitExceeded {
                requested: requested as u64,
                max: host.memory_bytes_max as u64,
            },
            None => other(error),
        }
    }

    fn call(&mut self, entry: &Entry, input: &[&[u8]]) -> Result<(i32, Bytes)> {
        let len: usize = input.iter().map(|part| part.len()).sum();
        let guest_len = i32::try_from(len).context("input of 2 GiB")?;
        self.store.data().wanted()?;
        begin_call(&mut self.store, self.ticks_max);
        let ptr = self.alloc.call(&mut self.store, guest_len)?;
        let mut at = ptr as u32 as usize;
        ensure!(
            at.checked_add(len)
                .is_some_and(|end| end <= self.memory.data_size(&self.store)),
            "alloc returned a place outside of its memory"
        );
        for part in input {
            self.memory.write(&mut self.store, at, part)?;
            at += part.len();
        }
        self.store.data_mut().output.clear();
        let status = entry.call(&mut self.store, (ptr, guest_len, i32::from(GUEST_VERSION)))?;
        Ok((
            status,
            Bytes::from(std::mem::take(&mut self.store.data_mut().output)),
        ))
    }
}

/// Gives the next call its time, counted in ticks of the engine's clock.
fn begin_call(store: &mut Store<Host>, ticks_max: u64) {
    store.data_mut().ticks_left = ticks_max;
    store.set_epoch_deadline(1);
}
