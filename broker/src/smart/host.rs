//! What a guest can call: `copy_records`, and as much of WASI as Rust's standard library needs.
//! There is no file, no network and no environment.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure, Context, Result};
use tokio_util::sync::CancellationToken;
use wasmtime::{Caller, Engine, Extern, Linker, Memory, Module, ResourceLimiter, UpdateDeadline};

const WASI: &str = "wasi_snapshot_preview1";
const EBADF: i32 = 8;

/// A guest's surroundings.
pub(super) struct Host {
    /// What the guest handed over last.
    pub(super) output: Vec<u8>,
    pub(super) memory_bytes_max: usize,
    /// The size that was refused, if it came to that.
    pub(super) memory_refused: Option<usize>,
    /// Ticks of the engine's clock that the current call may still take.
    pub(super) ticks_left: u64,
    /// Nobody waits for the current call any more.
    gone: CancellationToken,
    random: u64,
}

impl Host {
    pub(super) fn new(memory_bytes_max: usize, gone: CancellationToken) -> Self {
        Self {
            output: Vec::new(),
            memory_bytes_max,
            memory_refused: None,
            ticks_left: 0,
            gone,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }
}

impl Host {
    /// Called at every tick while the guest runs: an error ends the call.
    pub(super) fn tick(&mut self) -> Result<UpdateDeadline> {
        self.wanted()?;
        self.ticks_left = self
            .ticks_left
            .checked_sub(1)
            .context("a call took longer than the broker allows")?;
        Ok(UpdateDeadline::Continue(1))
    }

    /// An error if nobody waits for the guest any more.
    pub(super) fn wanted(&self) -> Result<()> {
        ensure!(!self.gone.is_cancelled(), "its client has gone");
        Ok(())
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if desired > self.memory_bytes_max {
            self.memory_refused = Some(desired);
            bail!("more than {} bytes of memory", self.memory_bytes_max);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        const TABLE_ELEMENTS_MAX: usize = 1_000_000;
        Ok(desired <= maximum.unwrap_or(usize::MAX).min(TABLE_ELEMENTS_MAX))
    }
}

/// Everything that `module` imports. What is not known here ends the call that uses it.
pub(super) fn linker(engine: &Engine, module: &Module) -> Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    let copy_records = module
        .imports()
        .find(|import| import.name() == "copy_records")
        .context("it does not import copy_records")?;
    linker.func_wrap(copy_records.module(), "copy_records", take_output)?;
    linker.func_wrap(WASI, "fd_write", discard)?;
    linker.func_wrap(WASI, "fd_read", |_: i32, _: i32, _: i32, _: i32| EBADF)?;
    linker.func_wrap(WASI, "fd_close", |_: i32| EBADF)?;
    linker.func_wrap(WASI, "fd_seek", |_: i32, _: i64, _: i32, _: i32| EBADF)?;
    linker.func_wrap(WASI, "fd_fdstat_get", |_: i32, _: i32| EBADF)?;
    linker.func_wrap(WASI, "fd_prestat_get", |_: i32, _: i32| EBADF)?;
    linker.func_wrap(WASI, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| EBADF)?;
    linker.func_wrap(WASI, "environ_get", |_: i32, _: i32| 0)?;
    linker.func_wrap(WASI, "environ_sizes_get", no_entries)?;
    linker.func_wrap(WASI, "args_get", |_: i32, _: i32| 0)?;
    linker.func_wrap(WASI, "args_sizes_get", no_entries)?;
    linker.func_wrap(WASI, "clock_time_get", clock)?;
    linker.func_wrap(WASI, "random_get", random)?;
    linker.func_wrap(WASI, "sched_yield", || 0)?;
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> Result<()> {
        bail!("it exited with code {code}")
    })?;
    linker.define_unknown_imports_as_traps(module)?;
    Ok(linker)
}

fn memory(caller: &mut Caller<'_, Host>) -> Result<Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => bail!("it exports no memory"),
    }
}

/// The guest's way to return bytes.
fn take_output(mut caller: Caller<'_, Host>, ptr: i32, len: i32) -> Result<()> {
    let memory = memory(&mut caller)?;
    let (start, len) = (ptr as u32 as usize, len as u32 as usize);
    let (bytes, host) = memory.data_and_store_mut(&mut caller);
    let output = start
        .checked_add(len)
        .and_then(|end| bytes.get(start..end))
        .context("output outside of its memory")?;
    host.output.clear();
    host.output.extend_from_slice(output);
    Ok(())
}

/// Swallows what the guest prints, and says that it was written.
fn discard(
    mut caller: Caller<'_, Host>,
    _fd: i32,
    vectors: i32,
    count: i32,
    written: i32,
) -> Result<i32> {
    const VECTORS_MAX: i32 = 1024;
    let memory = memory(&mut caller)?;
    let mut total = 0u32;
    for vector in 0..count.clamp(0, VECTORS_MAX) {
        let mut len = [0; 4];
        memory.read(
            &caller,
            (vectors as u32 as usize).saturating_add(vector as usize * 8 + 4),
            &mut len,
        )?;
        total = total.saturating_add(u32::from_le_bytes(len));
    }
    memory.write(&mut caller, written as u32 as usize, &total.to_le_bytes())?;
    Ok(0)
}

fn no_entries(mut caller: Caller<'_, Host>, count: i32, bytes: i32) -> Result<i32> {
    let memory = memory(&mut caller)?;
    memory.write(&mut caller, count as u32 as usize, &[0; 4])?;
    memory.write(&mut caller, bytes as u32 as usize, &[0; 4])?;
    Ok(0)
}

fn clock(mut caller: Caller<'_, Host>, _id: i32, _precision: i64, result: i32) -> Result<i32> {
    let nanoseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos() as u64;
    let memory = memory(&mut caller)?;
    memory.write(
        &mut caller,
        result as u32 as usize,
        &nanoseconds.to_le_bytes(),
    )?;
    Ok(0)
}

/// Seeds hash maps: the same in every instance, so that a replaced instance behaves alike.
fn random(mut caller: Caller<'_, Host>, start: i32, len: i32) -> Result<i32> {
    const BYTES_MAX: u32 = 64 * 1024;
    let memory = memory(&mut caller)?;
    let mut bytes = vec![0; (len as u32).min(BYTES_MAX) as usize];
    for byte in &mut bytes {
        let state = &mut caller.data_mut().random;
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (*state >> 56) as u8;
    }
    memory.write(&mut caller, start as u32 as usize, &bytes)?;
    Ok(0)
}
