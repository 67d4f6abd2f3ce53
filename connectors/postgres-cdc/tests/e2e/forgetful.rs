//! A data plane that behaves like a real SPU after a restart: until the controller has told it what it leads, it
//! answers a question for offsets with `PartitionNotLeader`, 0 and 0, which the client takes for an empty topic.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const PRODUCE: u16 = 0;
const FETCH_OFFSETS: u16 = 1002;
const PARTITION_NOT_LEADER: u16 = 3001;

/// What the server knows of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Memory {
    /// Everything.
    Whole,
    /// It takes records, and does not know that there are older ones.
    NoOffsets,
    /// Nothing: it takes no records either.
    None,
}

/// Stands between clients and the data plane of a broker.
pub struct Forgetful {
    memory: Arc<AtomicU8>,
    connections: Arc<Mutex<CancellationToken>>,
}

impl Forgetful {
    /// Listens at `front`; `back` is the broker.
    pub async fn start(front: SocketAddr, back: SocketAddr) -> Forgetful {
        let listener = TcpListener::bind(front).await.unwrap();
        let forgetful = Forgetful {
            memory: Arc::new(AtomicU8::new(Memory::Whole as u8)),
            connections: Arc::default(),
        };
        let (memory, connections) = (forgetful.memory.clone(), forgetful.connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(back).await else {
                    continue;
                };
                let stop = connections.lock().unwrap().clone();
                let memory = memory.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = relay(client, server, memory) => {}
                    }
                });
            }
        });
        forgetful
    }

    /// As a restart: all connections end, and the server knows what `memory` says.
    pub fn restart(&self, memory: Memory) {
        self.memory.store(memory as u8, Ordering::SeqCst);
        std::mem::take(&mut *self.connections.lock().unwrap()).cancel();
    }

    /// The controller has told it everything.
    pub fn remember(&self) {
        self.memory.store(Memory::Whole as u8, Ordering::SeqCst);
    }
}

async fn relay(client: TcpStream, server: TcpStream, memory: Arc<AtomicU8>) -> Option<()> {
    let asked = Mutex::new(HashSet::new());
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        end = requests(client_in, server_out, &asked, &memory) => end,
        end = responses(server_in, client_out, &asked, &memory) => end,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Mutex<HashSet<i32>>,
    memory: &AtomicU8,
) -> Option<()> {
    loop {
        let frame = frame(&mut from).await?;
        let key = u16::from_be_bytes(frame[0..2].try_into().unwrap());
        let correlation = i32::from_be_bytes(frame[4..8].try_into().unwrap());
        if key == FETCH_OFFSETS {
            asked.lock().unwrap().insert(correlation);
        }
        if key == PRODUCE && memory.load(Ordering::SeqCst) == Memory::None as u8 {
            return None;
        }
        send(&mut to, &frame).await?;
    }
}

async fn responses(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Mutex<HashSet<i32>>,
    memory: &AtomicU8,
) -> Option<()> {
    loop {
        let mut frame = frame(&mut from).await?;
        let correlation = i32::from_be_bytes(frame[0..4].try_into().unwrap());
        let forgets = memory.load(Ordering::SeqCst) != Memory::Whole as u8;
        if asked.lock().unwrap().remove(&correlation) && forgets {
            forget(&mut frame);
        }
        send(&mut to, &frame).await?;
    }
}

/// The answer ends with one partition: code, number, first and last offset.
fn forget(frame: &mut [u8]) {
    let code = frame.len() - 22;
    frame[code..code + 2].copy_from_slice(&PARTITION_NOT_LEADER.to_be_bytes());
    frame[code + 6..].fill(0);
}

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_i32().await.ok()?;
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> Option<()> {
    to.write_i32(frame.len() as i32).await.ok()?;
    to.write_all(frame).await.ok()
}
