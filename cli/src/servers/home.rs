//! Where a server's data lives, and whose it is.
//!
//! A plain user's servers run as that user, with their data exactly where it was asked for. Servers refuse to run
//! as root, so for root they run as another account, which must be able to walk to the data. Where the way is
//! closed (a clone below `/root`, a home or a temporary folder of mode 0700), the data lives in
//! `/var/tmp/millrace-<hash of the wanted place>`, and a symbolic link at the wanted place leads there. A link that
//! leads anywhere else is not ours: in a copied data directory it would lead to the data of the original.

use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::{chown, symlink, DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{io, Error};

const FRESH: &str = "data.new-";
const OPEN_TO_ALL: &str = "/var/tmp";

/// The account a server runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A server's folder, locked by this process for as long as the value lives.
#[derive(Debug)]
pub struct Home {
    /// The real folder, links resolved, owned by the account.
    pub(super) dir: PathBuf,
    /// `None`: run as ourselves.
    pub(super) account: Option<Account>,
    _lock: File,
}

impl Home {
    /// Finds or makes the folder at `wanted` and locks it. For root, a server's data stays with the account that
    /// owns it; new data goes to the first of `accounts` that exists.
    pub(super) fn open(
        wanted: &Path,
        server: &'static str,
        accounts: &[&str],
    ) -> Result<Self, Error> {
        let parent = parent(wanted)?;
        fs::create_dir_all(&parent).map_err(io("create", &parent))?;
        let wanted = fs::canonicalize(&parent)
            .map_err(io("open", &parent))?
            .join(file_name(wanted)?);
        let account = if is_root()? {
            Some(account_for(&wanted, server, accounts)?)
        } else {
            None
        };
        let dir = settle(&wanted, account)?;
        let lock = lock(&dir)?;
        Ok(Self {
            dir,
            account,
            _lock: lock,
        })
    }

    /// The folder at `wanted` if it is there, locked.
    pub(super) fn existing(wanted: &Path) -> Result<Option<Self>, Error> {
        let Ok(metadata) = fs::metadata(wanted) else {
            return Ok(None);
        };
        let account = is_root()?.then(|| Account {
            uid: metadata.uid(),
            gid: metadata.gid(),
        });
        let dir = match fs::read_link(wanted) {
            Ok(target) => own_target(wanted, target)?,
            Err(_) => fs::canonicalize(wanted).map_err(io("open", wanted))?,
        };
        let lock = lock(&dir)?;
        Ok(Some(Self {
            dir,
            account,
            _lock: lock,
        }))
    }

    /// Where the server keeps its data.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A folder inside, owned by the account, closed to others. One that is there stays as it is.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.dir.join(name);
        make_private(&dir, self.account)?;
        Ok(dir)
    }

    /// An empty folder to make data in before it is renamed. Its name is new each time: the `initdb` of a killed
    /// run may still be writing to the last one, which is removed as far as that lets us.
    pub(super) fn fresh_folder(&self) -> Result<PathBuf, Error> {
        for entry in fs::read_dir(&self.dir)
            .map_err(io("read", &self.dir))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(FRESH) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        self.folder(&format!("{FRESH}{:016x}", rand::random::<u64>()))
    }

    /// Writes a file that only the account may read.
    pub(super) fn secret(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.dir.join(name);
        remove_file(&path)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("create", &path))?;
        file.write_all(text.as_bytes())
            .map_err(io("write", &path))?;
        give(&path, self.account)?;
        Ok(path)
    }
}

/// Removes a file that need not be there.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder that need not be there, with all that is in it.
pub(super) fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a server's data folder, also where it lives behind a link of ours. The server must be stopped.
///
/// # Errors
/// [`Error::InUse`] while a live process holds it, [`Error::OthersLink`] for a link that is not ours,
/// [`Error::Io`] when something cannot be removed.
pub fn remove(data_dir: &Path) -> Result<(), Error> {
    if fs::symlink_metadata(data_dir).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    let Ok(target) = fs::read_link(data_dir) else {
        let _lock = lock(data_dir)?;
        return remove_dir(data_dir);
    };
    let real = own_target(data_dir, target)?;
    if real.exists() {
        let _lock = lock(&real)?;
        remove_dir(&real)?;
    }
    remove_file(data_dir)?;
    if let Some(base) = real.parent() {
        // Other servers of the same data folder may still live beside it.
        let _ = fs::remove_dir(base);
    }
    Ok(())
}

/// Whether this is a link that [`Home::open`] made at this place.
pub fn is_own_link(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| own_target(path, target).is_ok())
}

/// `target`, if that is where our link at `wanted` leads.
fn own_target(wanted: &Path, target: PathBuf) -> Result<PathBuf, Error> {
    let parent = parent(wanted)?;
    let place = fs::canonicalize(&parent)
        .map_err(io("open", &parent))?
        .join(file_name(wanted)?);
    let expected = base_elsewhere(&place).join(file_name(wanted)?);
    match target == expected {
        true => Ok(target),
        false => Err(Error::OthersLink {
            link: wanted.into(),
            target,
            expected,
        }),
    }
}

/// A folder for one test, removed on drop, whose way is open to every account.
#[derive(Debug)]
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// A new, empty folder whose name begins with `millrace-<name>-`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made.
    pub fn new(name: &str) -> Result<Self, Error> {
        let dir =
            Path::new(OPEN_TO_ALL).join(format!("millrace-{name}-{:016x}", rand::random::<u64>()));
        DirBuilder::new()
            .mode(0o711)
            .create(&dir)
            .map_err(io("create", &dir))?;
        Ok(Self(dir))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn parent(path: &Path) -> Result<PathBuf, Error> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        Some(parent) => Ok(parent.to_path_buf()),
        None => Err(Error::BadOption {
            what: "data folder",
        }),
    }
}

fn file_name(path: &Path) -> Result<&Path, Error> {
    path.file_name().map(Path::new).ok_or(Error::BadOption {
        what: "data folder",
    })
}

/// Makes the folder where it is wanted, or behind a link where the account cannot walk there.
fn settle(wanted: &Path, account: Option<Account>) -> Result<PathBuf, Error> {
    let real = match fs::read_link(wanted) {
        Ok(target) => own_target(wanted, target)?,
        Err(_) if wanted.exists() || way_is_open(wanted, account)? => wanted.to_path_buf(),
        Err(_) => {
            let target = elsewhere(wanted)?;
            symlink(&target, wanted).map_err(io("link", wanted))?;
            target
        }
    };
    make_private(&real, account)?;
    if !way_is_open(&real, account)? {
        return Err(Error::Foreign {
            dir: real,
            problem: "cannot be reached by the account that owns it",
        });
    }
    Ok(real)
}

/// A folder below `/var/tmp`, where anyone may have made one of that name before: only root's own is used.
fn elsewhere(wanted: &Path) -> Result<PathBuf, Error> {
    let base = base_elsewhere(wanted);
    match DirBuilder::new().mode(0o711).create(&base) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(io("create", &base)(error))
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(&base).map_err(io("open", &base))?;
    if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(Error::Foreign {
            dir: base,
            problem: "is not a folder of root's own",
        });
    }
    Ok(base.join(file_name(wanted)?))
}

fn base_elsewhere(wanted: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    wanted.parent().hash(&mut hasher);
    Path::new(OPEN_TO_ALL).join(format!("millrace-{:016x}", hasher.finish()))
}

/// Whether every folder above `path` lets the account pass.
fn way_is_open(path: &Path, account: Option<Account>) -> Result<bool, Error> {
    let Some(account) = account else {
        return Ok(true);
    };
    for folder in path.ancestors().skip(1) {
        let metadata = fs::metadata(folder).map_err(io("open", folder))?;
        if !may_pass(&metadata, account) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn may_pass(folder: &Metadata, account: Account) -> bool {
    let bit = if folder.uid() == account.uid {
        0o100
    } else if folder.gid() == account.gid {
        0o010
    } else {
        0o001
    };
    folder.mode() & bit != 0
}

fn make_private(dir: &Path, account: Option<Account>) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => give(dir, account),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => take_over(dir, account),
        Err(error) => Err(io("create", dir)(error)),
    }
}

/// A folder that root made beforehand is handed to the account; anybody else's stays as it is.
fn take_over(dir: &Path, account: Option<Account>) -> Result<(), Error> {
    match fs::metadata(dir).map_err(io("open", dir))?.uid() {
        0 => give(dir, account),
        _ => Ok(()),
    }
}

fn give(path: &Path, account: Option<Account>) -> Result<(), Error> {
    match account {
        Some(account) => chown(path, Some(account.uid), Some(account.gid))
            .map_err(io("change the owner of", path)),
        None => Ok(()),
    }
}

/// The lock belongs to the open file: it ends with the process, however that ends.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.into() }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

fn account_for(wanted: &Path, server: &'static str, accounts: &[&str]) -> Result<Account, Error> {
    if let Ok(metadata) = fs::metadata(wanted) {
        if metadata.uid() != 0 {
            return Ok(Account {
                uid: metadata.uid(),
                gid: metadata.gid(),
            });
        }
    }
    for name in accounts {
        if let (Some(uid), Some(gid)) = (id(&["-u", name])?, id(&["-g", name])?) {
            return Ok(Account { uid, gid });
        }
    }
    Err(Error::NoAccount {
        server,
        accounts: accounts.join(", "),
    })
}

fn is_root() -> Result<bool, Error> {
    Ok(id(&["-u"])? == Some(0))
}

/// `None` if there is no such account.
fn id(arguments: &[&str]) -> Result<Option<u32>, Error> {
    let output = Command::new("id")
        .args(arguments)
        .output()
        .map_err(io("run", "id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    #[test]
    fn a_folder_is_locked_once_and_free_after_drop() {
        let scratch = ScratchDir::new("home").expect("scratch");
        let wanted = scratch.path().join("server");
        let first = Home::open(&wanted, "test", &["nobody"]).expect("first");
        assert!(matches!(
            Home::open(&wanted, "test", &["nobody"]),
            Err(Error::InUse { .. })
        ));
        assert!(matches!(remove(&wanted), Err(Error::InUse { .. })));
        drop(first);
        Home::open(&wanted, "test", &["nobody"]).expect("again");
    }

    #[test]
    fn a_closed_way_leads_elsewhere_for_root_only() {
        let scratch = ScratchDir::new("home").expect("scratch");
        let closed = scratch.path().join("closed");
        fs::create_dir(&closed).expect("mkdir");
        mode(&closed, 0o700);
        let wanted = closed.join("server");
        let home = Home::open(&wanted, "test", &["nobody"]).expect("open");
        assert_eq!(wanted.is_symlink(), is_root().expect("id"));
        let real = home.dir.clone();
        drop(home);
        let again = Home::open(&wanted, "test", &["nobody"]).expect("again");
        assert_eq!(again.dir, real);
        drop(again);
        remove(&wanted).expect("remove");
        assert!(!real.exists() && !wanted.is_symlink());
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_neither_used_nor_followed() {
        let scratch = ScratchDir::new("home").expect("scratch");
        let (real, link) = (scratch.path().join("real"), scratch.path().join("server"));
        fs::create_dir(&real).expect("mkdir");
        symlink(&real, &link).expect("link");
        let opened = Home::open(&link, "test", &["nobody"]);
        assert!(
            matches!(opened, Err(Error::OthersLink { .. })),
            "{opened:?}"
        );
        let existing = Home::existing(&link);
        assert!(
            matches!(existing, Err(Error::OthersLink { .. })),
            "{existing:?}"
        );
        assert!(matches!(remove(&link), Err(Error::OthersLink { .. })));
        assert!(real.exists() && !is_own_link(&link));
    }

    #[test]
    fn the_bits_that_matter_are_owner_group_or_others() {
        let scratch = ScratchDir::new("home").expect("scratch");
        let dir = scratch.path().join("dir");
        fs::create_dir(&dir).expect("mkdir");
        let passes = |bits, uid_differs: bool, gid_differs: bool| {
            mode(&dir, bits);
            let metadata = fs::metadata(&dir).expect("metadata");
            let account = Account {
                uid: metadata.uid() + u32::from(uid_differs),
                gid: metadata.gid() + u32::from(gid_differs),
            };
            may_pass(&metadata, account)
        };
        assert!(passes(0o700, false, true) && !passes(0o077, false, false));
        assert!(passes(0o010, true, false) && !passes(0o701, true, false));
        assert!(passes(0o001, true, true) && !passes(0o770, true, true));
    }
}
