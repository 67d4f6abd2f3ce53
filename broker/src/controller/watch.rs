//! Metadata watches: each starts with everything there is, then gets what changed.
//!
//! A watch remembers what it has told its client. So a slow client costs no queue: whatever
//! happened meanwhile is one message, computed when there is room for it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use std::time::Duration;

use fluvio_protocol::{Decoder, Encoder, Version};
use fluvio_sc_schema::message::Message;
use fluvio_sc_schema::objects::{
    Metadata, MetadataUpdate, ObjectApiWatchResponse, WatchRequest, WatchResponse,
};
use fluvio_sc_schema::partition::PartitionSpec;
use fluvio_sc_schema::smartmodule::SmartModuleSpec;
use fluvio_sc_schema::spu::SpuSpec;
use fluvio_sc_schema::tableformat::TableFormatSpec;
use fluvio_sc_schema::topic::TopicSpec;
use fluvio_sc_schema::{AdminSpec, TryEncodableFrom};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::Connection;
use crate::catalog::{Catalog, Listed};
use crate::net::{Frame, Outbox};
use crate::request::{self, Labelled, Request};

/// Watches of one connection; a client opens six, an administrator a few more.
const WATCHES_MAX: usize = 256;
/// How long a change waits for other clients to be told before its author is answered.
const TELL_OTHERS_MAX: Duration = Duration::from_millis(200);

/// A client applies what it is told in a task of its own; this head start lets it be done, mostly,
/// before the author of the change, once answered, makes it look.
const APPLY_HEAD_START: Duration = Duration::from_millis(20);

/// All connections that watch, so that the author of a change can be answered after they are told.
#[derive(Default)]
pub(crate) struct Watching {
    connections: StdMutex<Vec<Weak<Watches>>>,
    told: Arc<Notify>,
}

impl Watching {
    pub(super) fn register(&self, outbox: Outbox, catalog: Arc<Catalog>) -> Arc<Watches> {
        let watches = Arc::new(Watches {
            catalog,
            outbox,
            open: Mutex::new(Vec::new()),
            told_epoch: AtomicI64::new(i64::MAX),
            told: self.told.clone(),
        });
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(&watches));
        watches
    }

    /// Waits until every connection has the change of this epoch queued, or for a moment at most:
    /// a client that does not read must not hold up another.
    pub(super) async fn all_told(&self, epoch: i64) {
        let all = async {
            loop {
                let told = self.told.notified();
                if self
                    .connections()
                    .iter()
                    .all(|watches| watches.told_epoch.load(Ordering::Acquire) >= epoch)
                {
                    return;
                }
                told.await;
            }
        };
        let _ = tokio::time::timeout(TELL_OTHERS_MAX, all).await;
        tokio::time::sleep(APPLY_HEAD_START).await;
    }

    fn connections(&self) -> Vec<Arc<Watches>> {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The watches of one connection.
pub(super) struct Watches {
    catalog: Arc<Catalog>,
    outbox: Outbox,
    open: Mutex<Vec<Box<dyn Watch>>>,
    /// Newest epoch that all watches have been told; the maximum while there are none.
    told_epoch: AtomicI64,
    told: Arc<Notify>,
}

impl Watches {
    /// Tells every change until the connection ends.
    pub(super) async fn push_changes(self: Arc<Self>, gone: CancellationToken) {
        let mut epoch = self.catalog.follow();
        loop {
            tokio::select! {
                () = gone.cancelled() => break,
                changed = epoch.changed() => if changed.is_err() { break },
            }
            epoch.mark_unchanged();
            tokio::select! {
                () = gone.cancelled() => break,
                result = self.flush() => if result.is_err() { break },
            }
        }
        self.told_epoch.store(i64::MAX, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Queues what each watch has not been told yet.
    pub(super) async fn flush(&self) -> io::Result<()> {
        let mut open = self.open.lock().await;
        let mut told_epoch = i64::MAX;
        for watch in open.iter_mut() {
            told_epoch = told_epoch.min(self.tell(watch.as_mut()).await?);
        }
        self.told_epoch.store(told_epoch, Ordering::Release);
        self.told.notify_waiters();
        Ok(())
    }

    /// Reserves room first, so that what is told is what holds when it is queued.
    async fn tell(&self, watch: &mut dyn Watch) -> io::Result<i64> {
        let room = self
            .outbox
            .reserve()
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let (epoch, frame) = watch.news(&self.catalog)?;
        if let Some(frame) = frame {
            room.send(frame);
        }
        Ok(epoch)
    }

    async fn add(&self, mut watch: Box<dyn Watch>) -> io::Result<()> {
        let mut open = self.open.lock().await;
        if open.len() >= WATCHES_MAX {
            return Err(io::Error::other("too many watches on one connection"));
        }
        let epoch = self.tell(watch.as_mut()).await?;
        open.push(watch);
        self.told_epoch.fetch_min(epoch, Ordering::AcqRel);
        Ok(())
    }
}

/// One watch of some kind of object.
trait Watch: Send {
    /// What the client has not been told, if anything, and the epoch that it is told up to.
    fn news(&mut self, catalog: &Catalog) -> io::Result<(i64, Option<Frame>)>;
}

struct KindWatch<S> {
    correlation: i32,
    version: Version,
    summary: bool,
    /// Name and epoch of everything the client knows; `None` before the first message.
    told: Option<HashMap<String, i64>>,
    /// Objects told last, to name them when they are deleted.
    last: HashMap<String, S>,
}

impl<S> Watch for KindWatch<S>
where
    S: AdminSpec + Listed<Object = Metadata<S>> + Send,
    S::Status: Encoder + Decoder + std::fmt::Debug + Default,
{
    fn news(&mut self, catalog: &Catalog) -> io::Result<(i64, Option<Frame>)> {
        let (epoch, objects) = catalog.list::<S>();
        let epochs: HashMap<String, i64> = objects
            .iter()
            .map(|(epoch, object)| (object.name.clone(), *epoch))
            .collect();
        let update = match self.told.take() {
            None => Some(MetadataUpdate::with_all(
                epoch,
                self.shown(objects.into_iter()),
            )),
            Some(told) => {
                let news = objects
                    .into_iter()
                    .filter(|(epoch, object)| told.get(&object.name) != Some(epoch));
                let mut changes: Vec<_> =
                    self.shown(news).into_iter().map(Message::update).collect();
                changes.extend(
                    told.keys()
                        .filter(|name| !epochs.contains_key(*name))
                        .map(|name| self.deleted(name)),
                );
                (!changes.is_empty()).then(|| MetadataUpdate::with_changes(epoch, changes))
            }
        };
        self.last.retain(|name, _| epochs.contains_key(name));
        self.told = Some(epochs);
        let frame = update.map(|update| self.frame(update)).transpose()?;
        Ok((epoch, frame))
    }
}

impl<S> KindWatch<S>
where
    S: AdminSpec + Listed<Object = Metadata<S>>,
    S::Status: Encoder + Decoder + std::fmt::Debug + Default,
{
    fn shown(&mut self, objects: impl Iterator<Item = (i64, Metadata<S>)>) -> Vec<Metadata<S>> {
        let shown = |(_, object): (i64, Metadata<S>)| {
            if self.summary {
                object.summary()
            } else {
                object
            }
        };
        let shown: Vec<_> = objects.map(shown).collect();
        for object in &shown {
            self.last.insert(object.name.clone(), object.spec.clone());
        }
        shown
    }

    fn deleted(&self, name: &str) -> Message<Metadata<S>> {
        let spec = self.last.get(name).cloned().unwrap_or_default();
        Message::delete(Metadata {
            name: name.to_owned(),
            spec,
            status: S::Status::default(),
        })
    }

    fn frame(&self, update: MetadataUpdate<S>) -> io::Result<Frame> {
        let response =
            ObjectApiWatchResponse::try_encode_from(WatchResponse::new(update), self.version)
                .map_err(io::Error::other)?;
        Frame::response(self.correlation, self.version, &response)
    }
}

impl Connection {
    /// Opens a watch; its first message is queued before this returns.
    pub(super) async fn watch(&self, request: &Request) -> io::Result<()> {
        let (label, _) = request.labelled()?;
        let watch: Box<dyn Watch> = match label.as_str() {
            "Topic" => open::<TopicSpec>(request)?,
            "Partition" => open::<PartitionSpec>(request)?,
            "SPU" => open::<SpuSpec>(request)?,
            "SmartModule" => open::<SmartModuleSpec>(request)?,
            "TableFormat" => open::<TableFormatSpec>(request)?,
            // There are none, and there never will be.
            other => return self.send(nothing_watched(request, other)?).await,
        };
        self.watches.add(watch).await
    }

    /// Before the author of a change is answered: tells this connection, then waits for the others.
    pub(super) async fn told(&self, epoch: i64) -> io::Result<()> {
        self.watches.flush().await?;
        self.controller.watching.all_told(epoch).await;
        Ok(())
    }
}

/// The first message of a watch of any kind of object that there is none of.
#[derive(Debug, Default, Encoder)]
struct NothingWatched {
    epoch: i64,
    changes: i32,
    all: i32,
}

fn nothing_watched(request: &Request, label: &str) -> io::Result<Frame> {
    let update = Labelled::new(label, &NothingWatched::default(), request.version)?;
    Frame::response(request.correlation, request.version, &update)
}

fn open<S>(request: &Request) -> io::Result<Box<dyn Watch>>
where
    S: AdminSpec + Listed<Object = Metadata<S>> + Send + 'static,
    S::Status: Encoder + Decoder + std::fmt::Debug + Default,
{
    let (_, body) = request.labelled()?;
    let asked: WatchRequest<S> = request::decode(body, request.version)?;
    let (correlation, version) = (request.correlation, request.version);
    Ok(Box::new(KindWatch::<S> {
        correlation,
        version,
        summary: asked.summary,
        told: None,
        last: HashMap::new(),
    }))
}
