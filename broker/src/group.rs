//! Group commit: what arrives while the disk is busy shares the next fsync.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

/// Something that makes a group of items durable, then answers each of them.
pub(crate) trait Sink: Send + Sync + 'static {
    /// One thing to commit, with the way to answer it.
    type Item: Send + 'static;

    /// Commits a group in order. Never called twice at once.
    fn commit(&self, group: Vec<Self::Item>);
}

/// Hands items to a [`Sink`] in order of submission, on a blocking thread that lives only while
/// there is something to do.
pub(crate) struct Committer<S: Sink> {
    sink: Arc<S>,
    queue: Mutex<Queue<S::Item>>,
    tasks: TaskTracker,
}

struct Queue<T> {
    waiting: VecDeque<T>,
    draining: bool,
}

/// Items in one group; keeps a single write bounded.
const GROUP_ITEMS_MAX: usize = 256;

impl<S: Sink> Committer<S> {
    pub(crate) fn new(sink: Arc<S>, tasks: TaskTracker) -> Arc<Self> {
        let queue = Mutex::new(Queue {
            waiting: VecDeque::new(),
            draining: false,
        });
        Arc::new(Self { sink, queue, tasks })
    }

    pub(crate) fn sink(&self) -> &Arc<S> {
        &self.sink
    }

    /// Queues an item and returns at once. The caller bounds what waits.
    pub(crate) fn submit(self: &Arc<Self>, item: S::Item) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push_back(item);
        if !queue.draining {
            queue.draining = true;
            let this = self.clone();
            self.tasks.spawn_blocking(move || this.drain());
        }
    }

    fn drain(&self) {
        let broken = Broken(self);
        while let Some(group) = self.next_group() {
            self.sink.commit(group);
        }
        std::mem::forget(broken);
    }

    fn next_group(&self) -> Option<Vec<S::Item>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() {
            queue.draining = false;
            return None;
        }
        let count = queue.waiting.len().min(GROUP_ITEMS_MAX);
        Some(queue.waiting.drain(..count).collect())
    }
}

/// Dropped by a panic in the sink: what waits is not answered, and what comes later is not held up.
struct Broken<'a, S: Sink>(&'a Committer<S>);

impl<S: Sink> Drop for Broken<'_, S> {
    fn drop(&mut self) {
        let queue = self.0.queue.lock();
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        queue.waiting.clear();
        queue.draining = false;
    }
}
