//! One client's connection to the controller or the data plane of a broker that lives through many.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluvio_sc_schema::topic::TopicSpec;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{open_data, place, spu_spec, Parts};
use crate::config::{Config, Limits, Storage};
use crate::net::Socket;

/// After so many connections a new broker, so that what they have left behind stays small.
const CONNECTIONS_MAX: u32 = 2000;
/// Long for the limits below; more is a hang.
const PATIENCE: Duration = Duration::from_secs(20);
/// Frames and answers on their way.
const PIPE_BYTES: usize = 1 << 16;

/// Name of the threads that do what blocks.
pub const THREAD: &str = "fuzzed";

static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// Sends requests on a connection of its own, reads all answers, and waits until the broker has
/// nothing left to do for it. The first byte picks the listener; requests follow, each behind a u16
/// that says how long it is (or ends with the data).
pub fn request(data: &[u8]) {
    let Some((&listener, requests)) = data.split_first() else {
        return;
    };
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    // Out of its place while it is used: a broker that panicked is not used again.
    let mut current = world.take().unwrap_or_else(World::new);
    current.connect(listener % 2 == 0, frames(requests));
    if current.connections < CONNECTIONS_MAX {
        *world = Some(current);
    }
}

fn frames(mut requests: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while let Some((len, rest)) = requests.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (request, rest) = rest.split_at(len);
        frames.extend_from_slice(&(len as u32).to_be_bytes());
        frames.extend_from_slice(request);
        requests = rest;
    }
    frames
}

/// A broker without listeners that has one topic, `t`.
struct World {
    runtime: Runtime,
    parts: Option<Parts>,
    limits: Limits,
    dir: PathBuf,
    connections: u32,
}

#[allow(clippy::expect_used, reason = "what is not under test must not fail")]
impl World {
    fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_name(THREAD)
            .enable_all()
            .build()
            .expect("runtime");
        let limits = Limits {
            frame_bytes_max: 1 << 20,
            inflight_bytes_max: 1 << 20,
            outgoing_bytes_max: 1 << 20,
            response_bytes_max: 1 << 18,
            partitions_per_topic_max: 3,
            wasm_bytes_max: 1 << 16,
            wasm_memory_bytes_max: 1 << 22,
            wasm_call_time_max: Duration::from_millis(100),
            inflated_batch_bytes_max: 1 << 20,
            ..Limits::default()
        };
        let config = Config::on_loopback(Storage::Temporary);
        let (dir, sync) = place(&config.storage);
        let spu = spu_spec(&config, config.spu_bind);
        let parts = {
            let _inside = runtime.enter();
            open_data(&dir, sync, spu, &limits, &TaskTracker::new()).expect("opens")
        };
        let topic = TopicSpec::new_computed(1, 1, None);
        let created = parts.catalog.create_topic("t", topic, false);
        assert!(created.is_ok(), "the topic is created");
        World {
            runtime,
            parts: Some(parts),
            limits,
            dir,
            connections: 0,
        }
    }

    fn connect(&mut self, controller: bool, frames: Vec<u8>) {
        self.connections += 1;
        let (Some(parts), tasks) = (&self.parts, TaskTracker::new()) else {
            return;
        };
        let (sc, spu) = parts.services(&self.limits, &tasks);
        let stop = CancellationToken::new();
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (read, write) = tokio::io::split(theirs);
        let socket = Socket::new(read, write);
        tasks.close();
        let both = async {
            let client = tokio::spawn(converse(ours, frames));
            // An error ends the connection, as it should.
            let _ = match controller {
                true => sc.serve(socket, stop.clone()).await,
                false => spu.serve(socket, stop.clone()).await,
            };
            let _ = client.await;
            tasks.wait().await;
        };
        let ended = async { tokio::time::timeout(PATIENCE, both).await };
        assert!(self.runtime.block_on(ended).is_ok(), "it hangs");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let inside = self.runtime.enter();
        self.parts = None;
        drop(inside);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Sends, says that there is no more, and reads until the broker closes.
async fn converse(stream: DuplexStream, frames: Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        let _ = write.write_all(&frames).await;
        let _ = write.shutdown().await;
    };
    let mut sink = tokio::io::sink();
    let (_, _) = tokio::join!(send, tokio::io::copy(&mut read, &mut sink));
}
