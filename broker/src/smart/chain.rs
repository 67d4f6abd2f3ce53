//! A chain of modules, applied batch by batch on a blocking thread.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fluvio_compression::Compression;
use fluvio_protocol::link::smartmodule::SmartModuleTransformRuntimeError;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::Encoder;
use fluvio_smartmodule::dataplane::smartmodule::{SmartModuleExtraParams, SmartModuleInput};
use fluvio_spu_schema::server::smartmodule::{SmartModuleContextData, SmartModuleKind};
use tokio_util::sync::CancellationToken;

use super::engine::{Compiled, Engine};
use super::inflate::inflate;
use super::instance::{Instance, Kind};
use super::output::{Placement, Writer};
use super::{other, GUEST_VERSION};
use crate::batch::{self, Header};
use crate::config::Limits;
use crate::log::{PartitionLog, Slice};
use crate::record::{self, Records};
use crate::request;

/// What an instance may keep while there is nothing to do. Making one takes less than a millisecond, and small
/// batches take long to grow one to this.
const RESTING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One module of a chain with its parameters and, for an aggregate, its accumulator.
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) params: SmartModuleExtraParams,
    compiled: Arc<Compiled>,
    accumulator: Vec<u8>,
    pub(super) instance: Option<Instance>,
    /// Nobody waits for the module's calls any more.
    gone: CancellationToken,
}

/// The modules of a stream or a request, ready to run.
pub(crate) struct Chain {
    engine: Arc<Engine>,
    /// Taken while a call runs; gone for good if a call panicked.
    stages: Option<Vec<Stage>>,
    /// Cancelled when a call is not waited for any more: the guest is ended and its turn given to others.
    gone: CancellationToken,
}

/// What became of a slice of a log.
pub(crate) struct Transformed {
    pub(crate) batches: Bytes,
    pub(crate) next_offset: i64,
    /// A module's own error: the records before it are in `batches`, and the stream ends here.
    pub(crate) error: Option<ErrorCode>,
}

/// What a chain made of one batch.
struct Output {
    payload: Bytes,
    error: Option<SmartModuleTransformRuntimeError>,
}

impl Chain {
    /// Starts the stages, which share `gone`.
    pub(super) async fn start(
        engine: Arc<Engine>,
        stages: Vec<Stage>,
        gone: CancellationToken,
    ) -> Result<Self, ErrorCode> {
        let mut chain = Self {
            engine,
            stages: Some(stages),
            gone,
        };
        chain
            .run(|stages, limits| stages.iter_mut().try_for_each(|stage| stage.start(limits)))
            .await?;
        Ok(chain)
    }

    /// Runs the chain over whole batches; offsets and timestamps are kept.
    pub(crate) async fn transform(&mut self, slice: Slice) -> Result<Transformed, ErrorCode> {
        self.run(move |stages, limits| transform(stages, limits, &slice))
            .await
    }

    /// Runs the chain over a producer's batches; of each what is left is numbered anew, or nothing.
    pub(crate) async fn compact(&mut self, batches: Bytes) -> Result<Bytes, ErrorCode> {
        self.run(move |stages, limits| compact(stages, limits, &batches))
            .await
    }

    /// Shows modules that ask for it the last records of the log.
    pub(crate) async fn look_back_over(&mut self, log: &PartitionLog) -> Result<(), ErrorCode> {
        let log = log.clone();
        self.run(move |stages, limits| {
            stages
                .iter_mut()
                .try_for_each(|stage| stage.look_back(log.log(), limits))
        })
        .await
    }

    /// Gives back what the instances have grown to; they are made anew for the next batch. For when there is none:
    /// a stream that has caught up would keep it for good.
    pub(crate) fn rest(&mut self) {
        self.stages.iter_mut().flatten().for_each(Stage::rest);
    }

    /// Does `work` on a blocking thread. A caller that does not wait for it ends it, and the chain.
    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Vec<Stage>, &Limits) -> Result<T, ErrorCode> + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let mut stages = self
            .stages
            .take()
            .ok_or_else(|| other("the chain has failed before"))?;
        let leaving = self.gone.clone().drop_guard();
        let turn = self
            .engine
            .running
            .clone()
            .acquire_owned()
            .await
            .map_err(other)?;
        let engine = self.engine.clone();
        let call = tokio::task::spawn_blocking(move || {
            let result = work(&mut stages, &engine.limits);
            drop(turn);
            (stages, result)
        });
        let (stages, result) = call.await.map_err(other)?;
        leaving.disarm();
        self.stages = Some(stages);
        result
    }
}

impl Stage {
    pub(super) fn new(
        name: String,
        compiled: Arc<Compiled>,
        kind: SmartModuleKind,
        params: SmartModuleExtraParams,
        gone: CancellationToken,
    ) -> Self {
        let accumulator = match kind {
            SmartModuleKind::Aggregate { accumulator }
            | SmartModuleKind::Generic(SmartModuleContextData::Aggregate { accumulator }) => {
                accumulator
            }
            _ => Vec::new(),
        };
        Self {
            name,
            params,
            compiled,
            accumulator,
            instance: None,
            gone,
        }
    }

    fn kind(&self) -> Option<Kind> {
        Kind::of(&self.compiled).map(|(kind, _)| kind)
    }

    pub(super) fn start(&mut self, limits: &Limits) -> Result<(), ErrorCode> {
        self.instance = Some(Instance::start(
            &self.compiled,
            &self.params,
            limits,
            &self.name,
            self.gone.clone(),
        )?);
        Ok(())
    }

    /// The guest code never frees its output. A module without `look_back` keeps no state that a
    /// new instance would lack; one with it runs until its memory limit.
    fn recycle(&mut self, limits: &Limits) -> Result<(), ErrorCode> {
        let full = |instance: &Instance| {
            !instance.looks_back() && instance.memory_bytes() > limits.wasm_recycle_bytes
        };
        if self.instance.as_ref().is_none_or(full) {
            self.instance = None;
            self.start(limits)?;
        }
        Ok(())
    }

    fn rest(&mut self) {
        let grown = |instance: &Instance| {
            !instance.looks_back() && instance.memory_bytes() > RESTING_BYTES_MAX
        };
        if self.instance.as_ref().is_some_and(grown) {
            self.instance = None;
        }
    }

    fn process(
        &mut self,
        payload: &[u8],
        header: &Header,
        limits: &Limits,
    ) -> Result<Output, ErrorCode> {
        self.recycle(limits)?;
        let aggregate = self.kind() == Some(Kind::Aggregate);
        let (head, tail) = input_around(payload.len(), header).map_err(other)?;
        let mut accumulator = BytesMut::new();
        if aggregate {
            accumulator.put_i32(self.accumulator.len() as i32);
            accumulator.put_slice(&self.accumulator);
        }
        let instance = self.instance.as_mut().ok_or_else(|| other("not started"))?;
        let mut raw = instance.transform(&[&head, payload, &tail, &accumulator])?;
        let records = Records::parse(&raw).map_err(other)?;
        let payload = raw.split_to(records.end);
        let (error, accumulator) = output_tail(raw, aggregate).map_err(other)?;
        if let Some(accumulator) = accumulator {
            self.accumulator = accumulator;
        }
        Ok(Output { payload, error })
    }
}

/// The input's encoding around the records, which are given to the guest as they are.
pub(super) fn input_around(
    payload_len: usize,
    header: &Header,
) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let input = SmartModuleInput::new(Vec::new(), header.base_offset, header.first_timestamp);
    let mut encoded = Vec::with_capacity(64);
    input.encode(&mut encoded, GUEST_VERSION)?;
    // base offset i64 | length i32 (here 0) of the records | what follows them
    let tail = encoded.split_off(12);
    encoded[8..].copy_from_slice(&i32::try_from(payload_len)?.to_be_bytes());
    Ok((encoded, tail))
}

type OutputTail = (Option<SmartModuleTransformRuntimeError>, Option<Vec<u8>>);

/// What follows the records: an error if there is one, and an aggregate's accumulator.
fn output_tail(tail: Bytes, aggregate: bool) -> anyhow::Result<OutputTail> {
    if !aggregate {
        return Ok((request::decode(tail, GUEST_VERSION)?, None));
    }
    let (error, accumulator): (Option<SmartModuleTransformRuntimeError>, Vec<u8>) = {
        let mut src = tail;
        let error = fluvio_protocol::Decoder::decode_from(&mut src, GUEST_VERSION)?;
        anyhow::ensure!(src.remaining() >= 4, "no accumulator");
        let len = usize::try_from(src.get_i32())?;
        anyhow::ensure!(src.remaining() >= len, "accumulator cut short");
        (error, src.copy_to_bytes(len).to_vec())
    };
    Ok((error, Some(accumulator)))
}

/// Unpacks and packs a slice again as [`Chain::transform`] does, with no module between.
pub(crate) fn repacked(slice: &Slice, limits: &Limits) -> Result<Transformed, ErrorCode> {
    transform(&mut [], limits, slice)
}

/// Numbers batches anew as [`Chain::compact`] does, with no module between.
pub(crate) fn compacted(batches: &Bytes, limits: &Limits) -> Result<Bytes, ErrorCode> {
    compact(&mut [], limits, batches)
}

fn transform(
    stages: &mut [Stage],
    limits: &Limits,
    slice: &Slice,
) -> Result<Transformed, ErrorCode> {
    let placement = match stages
        .iter()
        .any(|stage| stage.kind() == Some(Kind::ArrayMap))
    {
        true => Placement::Positional,
        false => Placement::Exact,
    };
    let mut writer = Writer::new(placement);
    for (at, header) in batch::walk(&slice.batches) {
        let output = process(
            stages,
            limits,
            &slice.batches.slice(at..at + header.bytes),
            &header,
        )?;
        writer.add(&header, &output.payload).map_err(other)?;
        if let Some(error) = output.error {
            let failed_at = error.offset.clamp(header.base_offset, header.next_offset());
            let batches = writer.finish(failed_at);
            let error = Some(ErrorCode::SmartModuleRuntimeError(Box::new(error)));
            return Ok(Transformed {
                batches,
                next_offset: failed_at,
                error,
            });
        }
        if writer.bytes() >= limits.response_bytes_max {
            return Ok(Transformed {
                batches: writer.finish(header.next_offset()),
                next_offset: header.next_offset(),
                error: None,
            });
        }
    }
    Ok(Transformed {
        batches: writer.finish(slice.next_offset),
        next_offset: slice.next_offset,
        error: None,
    })
}

/// What the modules leave of batches that have no offsets yet. An error refuses all of them.
pub(super) fn compact(
    stages: &mut [Stage],
    limits: &Limits,
    batches: &Bytes,
) -> Result<Bytes, ErrorCode> {
    let mut compacted = BytesMut::new();
    for (at, header) in batch::walk(batches) {
        let batch = batches.slice(at..at + header.bytes);
        let output = process(stages, limits, &batch, &header)?;
        if let Some(error) = output.error {
            return Err(ErrorCode::SmartModuleRuntimeError(Box::new(error)));
        }
        // Compressed batches come out a thousand times as large. Together they may not be larger than what was
        // sent, or than one batch may be.
        let max = limits.batch_bytes_max.max(batches.len());
        if output.payload.len() > limits.batch_bytes_max
            || compacted.len() + output.payload.len() > max
        {
            return Err(ErrorCode::MessageTooLarge);
        }
        let records = Records::parse(&output.payload).map_err(other)?.list;
        if !records.is_empty() {
            batch::encode(
                &mut compacted,
                0,
                records.len() as i32 - 1,
                (header.first_timestamp, header.max_timestamp),
                &record::renumbered(&records),
            );
        }
    }
    Ok(compacted.freeze())
}

fn process(
    stages: &mut [Stage],
    limits: &Limits,
    batch: &Bytes,
    header: &Header,
) -> Result<Output, ErrorCode> {
    let mut output = Output {
        payload: numbered_payload(batch, header, limits)?,
        error: None,
    };
    for stage in stages {
        output = stage.process(&output.payload, header, limits)?;
        if output.error.is_some() {
            break;
        }
    }
    Ok(output)
}

/// A batch's records, inflated, their offset deltas counting from 0: what is left of them after
/// the modules tells which records they were.
pub(super) fn numbered_payload(
    batch: &Bytes,
    header: &Header,
    limits: &Limits,
) -> Result<Bytes, ErrorCode> {
    let payload = batch.slice(header.payload_start()..header.bytes);
    let payload = match header.compression().map_err(other)? {
        Compression::None => payload,
        compression => inflate(compression, &payload, limits.inflated_batch_bytes_max)?,
    };
    let records = Records::parse(&payload).map_err(other)?;
    match records.are_numbered() {
        true => Ok(payload.slice(..records.end)),
        false => Ok(record::renumbered(&records.list).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_in_one_request_together_are_no_larger_than_a_batch() {
        let record = [&[0x80, 0x80, 0x80, 0x01, 0, 0, 0][..], &[0; (1 << 20) - 3]].concat();
        let payload = [&1i32.to_be_bytes()[..], &record].concat();
        let bomb = Compression::Gzip.compress(&payload).expect("gzip");
        let mut batch = BytesMut::new();
        batch::encode(&mut batch, 0, 0, (1, 1), &bomb);
        batch[22] = Compression::Gzip as u8;
        batch::set_last_offset_delta(&mut batch, 0);
        let limits = Limits {
            batch_bytes_max: 4 << 20,
            ..Limits::default()
        };
        let several = |count| compact(&mut [], &limits, &batch.repeat(count).into());
        assert!(several(3).is_ok_and(|compacted| compacted.len() > 3 << 20));
        assert_eq!(several(4), Err(ErrorCode::MessageTooLarge));
    }
}
