//! The catalog on disk: `catalog/<kind>/<name>`, one sealed object per file, in the protocol's own
//! encoding, which keeps every field exactly.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fluvio_protocol::{Decoder, Encoder, Version};
use fluvio_types::defaults::CONSUMER_STORAGE_TOPIC;

use crate::disk::{self, DataDir};
use crate::request;

/// Version of the protocol's encoding in new files; each file names its own.
const ENCODING: Version = 19;

/// Names the section of `docs/errors/broker.md`.
const CODE: &str = "broker-object-damaged";

pub(super) struct Store {
    pub(super) data: Arc<DataDir>,
    /// Objects that cannot be read. Their names are taken until somebody has looked at their files.
    damaged: Mutex<Vec<PathBuf>>,
}

impl Store {
    pub(super) fn open(data: Arc<DataDir>) -> io::Result<Self> {
        let store = Self {
            data,
            damaged: Mutex::default(),
        };
        for kind in ["topics", "smartmodules", "tableformats"] {
            fs::create_dir_all(store.dir(kind))?;
        }
        fs::create_dir_all(store.data.path.join("topics"))?;
        disk::sync_dir(&store.data.path.join("catalog"), store.data.sync)?;
        disk::sync_dir(&store.data.path, store.data.sync)?;
        Ok(store)
    }

    fn dir(&self, kind: &str) -> PathBuf {
        self.data.path.join("catalog").join(kind)
    }

    /// All objects of a kind, by name. A damaged one is left out, and said.
    pub(super) fn load<T: Decoder>(&self, kind: &str) -> io::Result<Vec<(String, T)>> {
        let mut objects = Vec::new();
        for entry in fs::read_dir(self.dir(kind))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(name) = name.strip_suffix(".object") else {
                // What an interrupted replacement left behind.
                fs::remove_file(&path)?;
                continue;
            };
            match decode(disk::read(&path)?.unwrap_or_default()) {
                Some(object) => objects.push((name.to_owned(), object)),
                None => self.note_damaged(path.clone()),
            }
        }
        Ok(objects)
    }

    fn note_damaged(&self, path: PathBuf) {
        tracing::error!("{}", describe(&path));
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.push(path);
    }

    /// Durably creates or replaces an object; not in the place of a damaged one.
    pub(super) fn put<T: Encoder>(&self, kind: &str, name: &str, object: &T) -> io::Result<()> {
        let file = self.file(kind, name);
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        // The topic of the consumer offsets says nothing that is not known anyway.
        if name != CONSUMER_STORAGE_TOPIC && damaged.contains(&file) {
            return Err(io::Error::other(describe(&file)));
        }
        drop(damaged);
        let mut body = Vec::new();
        object.encode(&mut body, ENCODING)?;
        disk::replace(&file, &disk::seal(ENCODING, &body), self.data.sync)
    }

    /// Durably removes an object.
    pub(super) fn remove(&self, kind: &str, name: &str) -> io::Result<()> {
        let file = self.file(kind, name);
        fs::remove_file(&file)?;
        disk::sync_parent(&file, self.data.sync)
    }

    fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.dir(kind).join(format!("{name}.object"))
    }
}

/// What a file of one object holds, if it is whole.
fn decode<T: Decoder>(mut file: Bytes) -> Option<T> {
    let (version, body) = disk::unseal(&mut file)?;
    request::decode(body, version)
        .ok()
        .filter(|_| file.is_empty())
}

fn describe(path: &Path) -> String {
    format!(
        "{CODE}: {} is damaged, and what it describes is not there; nothing was changed. See {CODE} in \
         docs/errors/broker.md",
        path.display()
    )
}
