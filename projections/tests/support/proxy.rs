//! A TCP proxy in front of a server, whose connections can vanish without a word.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What the client is saying when its connection vanishes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Vanish {
    /// The server never hears of it.
    Before(&'static str),
    /// The server does it, and its answer is lost.
    After(&'static str),
}

/// Passes bytes on, until it is told to swallow them. Neither side is ever told that the other is gone.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicU64,
    /// Connections up to this number are swallowed.
    silent_up_to: AtomicU64,
    /// How often clients have asked something after they had an answer.
    trips: AtomicU64,
    armed: Mutex<Option<Vanish>>,
}

impl Proxy {
    /// In front of a server on this machine.
    pub(crate) async fn start(server_port: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await;
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                pass(client, server.expect("the server"), number, shared.clone());
            }
        });
        Proxy { port, state }
    }

    /// From now on all connections that there are swallow everything. New ones work.
    pub(crate) fn silence(&self) {
        let last = self.state.connections.load(Ordering::SeqCst);
        self.state.silent_up_to.store(last, Ordering::SeqCst);
    }

    /// The next connection that says this vanishes with it, and so do all older ones.
    pub(crate) fn arm(&self, vanish: Vanish) {
        *self.state.armed.lock().expect("not poisoned") = Some(vanish);
    }

    /// Round trips so far, of all connections.
    pub(crate) fn trips(&self) -> u64 {
        self.state.trips.load(Ordering::SeqCst)
    }

    /// True as long as that has not happened.
    pub(crate) fn is_armed(&self) -> bool {
        self.state.armed.lock().expect("not poisoned").is_some()
    }
}

impl State {
    fn is_silent(&self, connection: u64) -> bool {
        connection <= self.silent_up_to.load(Ordering::SeqCst)
    }

    fn vanish(&self, connection: u64) {
        self.silent_up_to.fetch_max(connection, Ordering::SeqCst);
    }

    /// What is to be passed on of these bytes of the client: all or nothing.
    fn passes(&self, connection: u64, bytes: &[u8]) -> bool {
        if self.is_silent(connection) {
            return false;
        }
        let mut armed = self.armed.lock().expect("not poisoned");
        let says = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        let (passes, vanishes) = match *armed {
            Some(Vanish::Before(text)) if says(text) => (false, true),
            Some(Vanish::After(text)) if says(text) => (true, true),
            _ => (true, false),
        };
        if vanishes {
            *armed = None;
            self.vanish(connection);
        }
        passes
    }
}

fn pass(client: TcpStream, server: TcpStream, number: u64, state: Arc<State>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answered = Arc::new(AtomicBool::new(true));
    let (asking, has_answer) = (state.clone(), answered.clone());
    tokio::spawn(copy(
        from_client,
        to_server,
        state.clone(),
        number,
        move |bytes| {
            let is_new = has_answer.swap(false, Ordering::SeqCst);
            asking.trips.fetch_add(u64::from(is_new), Ordering::SeqCst);
            asking.passes(number, bytes)
        },
    ));
    let answering = state.clone();
    tokio::spawn(copy(from_server, to_client, state, number, move |_| {
        answered.store(true, Ordering::SeqCst);
        !answering.is_silent(number)
    }));
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: Arc<State>,
    number: u64,
    passes: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if passes(&buffer[..length]) && to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    // Of a side that has vanished, the other one hears nothing.
    if state.is_silent(number) {
        std::future::pending::<()>().await;
    }
}
