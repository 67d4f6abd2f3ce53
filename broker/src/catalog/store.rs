//! The catalog on disk: `catalog/<kind>/<name>`, one sealed object per file, in the protocol's own
//! encoding, which keeps every field exactly.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fluvio_protocol::{Decoder, Encoder, Version};

use crate::disk::{self, DataDir};
use crate::request;

/// Version of the protocol's encoding in new files; each file names its own.
const ENCODING: Version = 19;

pub(super) struct Store {
    pub(super) data: Arc<DataDir>,
}

impl Store {
    pub(super) fn open(data: Arc<DataDir>) -> io::Result<Self> {
        let store = Self { data };
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

    /// All objects of a kind, by name.
    pub(super) fn load<T: Decoder>(&self, kind: &str) -> io::Result<Vec<(String, T)>> {
        let mut objects = Vec::new();
        for entry in fs::read_dir(self.dir(kind))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.strip_suffix(".object") {
                Some(name) => objects.push((name.to_owned(), decode_file(&entry.path())?)),
                // What an interrupted replacement left behind.
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(objects)
    }

    /// Durably creates or replaces an object.
    pub(super) fn put<T: Encoder>(&self, kind: &str, name: &str, object: &T) -> io::Result<()> {
        let mut body = Vec::new();
        object.encode(&mut body, ENCODING)?;
        disk::replace(
            &self.file(kind, name),
            &disk::seal(ENCODING, &body),
            self.data.sync,
        )
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

fn decode_file<T: Decoder>(path: &std::path::Path) -> io::Result<T> {
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged", path.display()),
        )
    };
    let mut file = disk::read(path)?.ok_or_else(damaged)?;
    let (version, body) = disk::unseal(&mut file).ok_or_else(damaged)?;
    request::decode(body, version)
}
