//! The history on disk: one JSON file, written whole and put in place by a rename.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::History;

/// Number of this form of the file.
const VERSION: u32 = 1;
/// A longer file is not ours.
const BYTES_MAX: u64 = 32 << 20;
const NAME: &str = "history.json";

/// What outlives the program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Saved {
    version: u32,
    pub(crate) history: History,
}

/// Where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("of version {0}, this program writes {VERSION}")]
    Version(u32),
    #[error("its points are not in order")]
    Unsound,
}

impl Store {
    pub(crate) fn new(state_dir: &Path) -> Store {
        Store {
            path: state_dir.join(NAME),
        }
    }

    /// What was saved. A file that cannot be used is named in a warning and set aside, and the
    /// history begins anew.
    pub(crate) fn load(&self) -> Saved {
        match self.read() {
            Ok(saved) => saved,
            Err(Damage::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Saved::default()
            }
            Err(damage) => {
                let aside = self.path.with_extension("json.damaged");
                let kept = std::fs::rename(&self.path, &aside);
                tracing::warn!(
                    file = %self.path.display(),
                    set_aside = kept.is_ok().then(|| aside.display().to_string()),
                    error = %damage,
                    "the history cannot be used and begins anew"
                );
                Saved::default()
            }
        }
    }

    fn read(&self) -> Result<Saved, Damage> {
        let file = std::fs::File::open(&self.path)?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(Damage::TooLong);
        }
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let Head { version } = serde_json::from_slice(&bytes)?;
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let saved: Saved = serde_json::from_slice(&bytes)?;
        match saved.history.is_sound() {
            true => Ok(saved),
            false => Err(Damage::Unsound),
        }
    }

    /// Replaces the file: a reader, or a restart after a crash, finds the old one or the new one.
    pub(crate) fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let partial = self.path.with_extension("json.partial");
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        std::fs::rename(&partial, &self.path)
    }
}

/// The file's content.
pub(crate) fn encode(history: &History) -> Vec<u8> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        version: u32,
        history: &'a History,
    }
    let saved = Borrowed {
        version: VERSION,
        history,
    };
    // All keys are strings, so there is no error to report.
    serde_json::to_vec(&saved).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("new"));
        let mut history = History::default();
        history.add_sample("replica", 10_000, Some(7), Some(1.5));
        store.write(&encode(&history)).unwrap();
        assert_eq!(store.load().history, history);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_history_begins_anew() {
        let out_of_order = r#"{"version":1,"verify":null,"history":{"replica":[[[2,null,0,0],[1,null,0,0]],[],[]]}}"#;
        let newer = r#"{"version":2}"#;
        for damaged in ["", "{", "[1]", newer, out_of_order] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::new(folder.path());
            store.write(damaged.as_bytes()).unwrap();
            assert_eq!(store.load().history, History::default(), "{damaged}");
            let aside = folder.path().join("history.json.damaged");
            assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
            assert!(!folder.path().join("history.json").exists());
        }
    }
}
