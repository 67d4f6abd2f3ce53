//! What can go wrong with a private server, said so that an operator knows the next step.

use std::io;
use std::path::PathBuf;

use super::discover::Version;

/// Why a private server could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable installation on this machine.
    #[error("no {oldest} or newer found on this machine ({found}); `make setup` installs one, or set {variable}")]
    NotFound {
        /// What is looked for, and the oldest version that works.
        oldest: &'static str,
        /// What was found instead, or where was looked.
        found: String,
        /// The environment variable that names an installation.
        variable: &'static str,
    },
    /// Somebody else listens on the port.
    #[error("port {port} on 127.0.0.1 is taken by another program: stop it, set {variable} to a free port, or use --free-ports \
             (ports chosen before stand in ports.json of the data directory, a copied one too; remove that file to have others chosen)")]
    PortTaken {
        /// The port.
        port: u16,
        /// The environment variable that sets it.
        variable: &'static str,
    },
    /// No free port was found.
    #[error("no free port between {from} and {to} on 127.0.0.1")]
    NoFreePort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// Another live process holds the data folder.
    #[error("{} is in use by another running millrace", dir.display())]
    InUse {
        /// The data folder.
        dir: PathBuf,
    },
    /// The data was made by a server that the one found cannot continue.
    #[error("{} holds data of {made_by}, which {found} cannot serve: install the former, or remove the folder to start anew", dir.display())]
    OtherVersion {
        /// The data folder.
        dir: PathBuf,
        /// What made it.
        made_by: String,
        /// What is here now.
        found: String,
    },
    /// A folder that should be ours is somebody else's.
    #[error("{} {problem}: refusing to use it", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A link at the place of a server's folder leads to somebody else's data.
    #[error("{} leads to {}, which belongs to another data directory; was this one copied or moved? Copy or move that folder \
             to {} and let the link lead there, or remove the link to start anew",
             link.display(), target.display(), expected.display())]
    OthersLink {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// Where a link of ours at this place leads.
        expected: PathBuf,
    },
    /// As root, no account to run the server under.
    #[error("{server} refuses to run as root, and none of the accounts {accounts} exists to run it under")]
    NoAccount {
        /// The server.
        server: &'static str,
        /// The accounts tried.
        accounts: String,
    },
    /// A helper program (initdb and the like) failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// The server ended by itself, or somebody ended it.
    #[error("{server} has ended ({status}); its log {} ends with: {tail}", log.display())]
    Ended {
        /// The server.
        server: &'static str,
        /// How, if that is known.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// The server did not answer in time.
    #[error("{server} did not answer within {seconds} s: {last}")]
    NotReady {
        /// The server.
        server: &'static str,
        /// How long was waited.
        seconds: u64,
        /// The last answer.
        last: String,
    },
    /// The server refuses our user.
    #[error("{server} in {} refuses user {user}: the name or password differs from the one this data folder was made with", dir.display())]
    Refused {
        /// The server.
        server: &'static str,
        /// The user.
        user: String,
        /// The data folder.
        dir: PathBuf,
    },
    /// The server could not be stopped.
    #[error("process {pid} ({server}) does not end, not even on SIGKILL")]
    Unstoppable {
        /// The server.
        server: &'static str,
        /// Its process.
        pid: u32,
    },
    /// A statement that sets the server up failed.
    #[error("{server} refuses a statement that sets it up")]
    Sql {
        /// The server.
        server: &'static str,
        /// The cause.
        source: sqlx::Error,
    },
    /// An option that cannot be used.
    #[error("{what} must not be empty or hold control characters")]
    BadOption {
        /// The option.
        what: &'static str,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A version that cannot be read.
    #[error("cannot tell the version from {output:?}")]
    UnknownVersion {
        /// What the server said.
        output: String,
    },
    /// An installation below the minimum.
    #[error("{} is version {found}, at least {minimum} is needed", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: Version,
        /// The oldest version that works.
        minimum: &'static str,
    },
}

/// Shorthand for `map_err`: what was tried, on which path.
pub(super) fn io<P: Into<PathBuf>>(
    action: &'static str,
    path: P,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
