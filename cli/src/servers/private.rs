//! A private server of any kind: started or adopted, watched, stopped.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::Error;
use super::home::{remove_file, Home};
use super::patience::{Patience, Wait};
use super::ports;
use super::process::{self, Launch, ServerProcess, StopPlan};

const ATTEMPT: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What one kind of server has of its own.
pub trait Kind: fmt::Debug + Send + Sync + Sized + 'static {
    /// What a server of this kind shall be like.
    type Options: Clone + fmt::Debug + Send + Sync + 'static;
    /// The installation that it runs from.
    type Installation: fmt::Debug + Send + Sync;

    /// What messages call it.
    const SERVER: &'static str;
    /// The setting of its port.
    const PORT_VARIABLE: &'static str;
    /// For root: under whom it runs, the first account that there is.
    const ACCOUNTS: &'static [&'static str];
    /// How it is asked to end. Together with the three seconds of the services this must fit the ten that Ctrl-C may take.
    const STOP: StopPlan;
    /// How it is made to end.
    const STOP_HARD: StopPlan;
    /// A file among its data that says where the server of a copied folder works; it is removed from the copy.
    const LOCK_FILE: &'static str;

    /// What the options of every kind say.
    fn basics(options: &Self::Options) -> Basics<'_>;

    /// Fails if a name or a password can be none.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    fn check(options: &Self::Options) -> Result<(), Error>;

    /// The installation that can serve the data which are there.
    ///
    /// # Errors
    /// If there is none.
    fn find(home: &Home, options: &Self::Options) -> Result<Self::Installation, Error>;

    /// Makes the data, in a folder that becomes them by a rename: after a kill they are simply made again.
    fn initialise(
        home: &Home,
        installation: &Self::Installation,
        options: &Self::Options,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The program and its arguments, which say everything, so that no file of the machine's matters.
    fn command(
        home: &Home,
        installation: &Self::Installation,
        options: &Self::Options,
    ) -> (PathBuf, Vec<String>);

    /// Writes what the server reads while it starts; the file is removed when it answers.
    ///
    /// # Errors
    /// If it cannot be written.
    fn secret(
        home: &Home,
        installation: &Self::Installation,
        options: &Self::Options,
    ) -> Result<Option<PathBuf>, Error>;

    /// The process that the server's own pid file names.
    fn noted_pid(home: &Home) -> Option<u32>;

    /// Asks whoever answers on the port, as our user, where its data are.
    fn data_directory(
        options: &Self::Options,
    ) -> impl Future<Output = Result<String, sqlx::Error>> + Send;

    /// It does not let our user in.
    fn is_refusal(error: &sqlx::Error) -> bool;

    /// It starts up, or recovers from a crash.
    fn is_starting(error: &sqlx::Error) -> bool;

    /// Makes what is missing in a server that answers.
    fn complete(options: &Self::Options) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What the options of every kind of server say.
#[derive(Debug)]
pub struct Basics<'a> {
    /// Its own folder; made if it is not there.
    pub data_dir: &'a Path,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Who logs in.
    pub user: &'a str,
}

/// A running private server. Dropping it stops it hard; see [`stop`](Self::stop).
#[derive(Debug)]
pub struct Private<K: Kind> {
    options: K::Options,
    installation: K::Installation,
    process: ServerProcess,
    adopted: bool,
    keep: bool,
    /// Holds the lock.
    home: Home,
}

impl<K: Kind> Private<K> {
    /// Starts it, or adopts the one that a killed process left behind. When this returns, it has everything that its
    /// options name and accepts connections.
    ///
    /// # Errors
    /// See [`Error`]; a port taken by somebody else is [`Error::PortTaken`].
    pub async fn start(options: K::Options) -> Result<Self, Error> {
        K::check(&options)?;
        let basics = K::basics(&options);
        let home = Home::open(basics.data_dir, K::SERVER, K::ACCOUNTS)?;
        let installation = K::find(&home, &options)?;
        K::initialise(&home, &installation, &options).await?;
        let (program, arguments) = K::command(&home, &installation, &options);
        let launch = Launch {
            server: K::SERVER,
            program: &program,
            arguments: &arguments,
            environment: &[],
        };
        if let Some(process) = adopt::<K>(&home, &launch, &options).await? {
            return Ok(Self::of(options, installation, process, home).adopted());
        }
        ports::check_free(basics.port, K::PORT_VARIABLE)?;
        let secret = K::secret(&home, &installation, &options)?;
        let process = ServerProcess::start(&home, &launch)?;
        let mut server = Self::of(options, installation, process, home);
        let ready = server.answers().await;
        secret.iter().try_for_each(|file| remove_file(file))?;
        ready?;
        K::complete(&server.options).await?;
        Ok(server)
    }

    fn of(
        options: K::Options,
        installation: K::Installation,
        process: ServerProcess,
        home: Home,
    ) -> Self {
        Self {
            options,
            installation,
            process,
            adopted: false,
            keep: false,
            home,
        }
    }

    fn adopted(mut self) -> Self {
        self.adopted = true;
        self
    }

    async fn answers(&mut self) -> Result<(), Error> {
        answers::<K>(
            &mut self.process,
            &self.home,
            &self.options,
            Patience::START,
        )
        .await
    }

    /// Its options, as given.
    #[must_use]
    pub fn options(&self) -> &K::Options {
        &self.options
    }

    /// The installation that it runs from.
    #[must_use]
    pub fn installation(&self) -> &K::Installation {
        &self.installation
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it was left behind by a killed process and found again.
    #[must_use]
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// [`Error::Ended`] with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), Error> {
        self.process.check_alive()
    }

    /// Stops it cleanly: open sessions are ended, within 7 s in the worst case.
    ///
    /// # Errors
    /// [`Error::Unstoppable`] when it outlives every signal.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.process.stop(K::STOP).await
    }

    /// Waits until it has ended by itself, and says how.
    pub async fn ended(&mut self) -> Error {
        self.process.ended().await
    }

    /// Stops what a killed process left running on this folder, if anything.
    ///
    /// # Errors
    /// [`Error::InUse`] while a live millrace holds the folder, [`Error::Unstoppable`].
    pub async fn stop_orphan(data_dir: &Path) -> Result<(), Error> {
        let Some(home) = Home::existing(data_dir)? else {
            return Ok(());
        };
        match orphan::<K>(&home)? {
            Some(mut process) => process.stop(K::STOP).await,
            None => Ok(()),
        }
    }

    /// Forgets the server and leaves it running, as a `kill -9` of this process would; the next start finds it.
    pub fn abandon(mut self) {
        self.keep = true;
    }
}

impl<K: Kind> Drop for Private<K> {
    fn drop(&mut self) {
        if !self.keep {
            self.process.stop_hard(K::STOP_HARD);
        }
    }
}

/// The orphan of a killed parent if it runs as we would run it and answers; otherwise it is stopped.
async fn adopt<K: Kind>(
    home: &Home,
    launch: &Launch<'_>,
    options: &K::Options,
) -> Result<Option<ServerProcess>, Error> {
    let Some(mut process) = orphan::<K>(home)? else {
        return Ok(None);
    };
    let (server, pid) = (K::SERVER, process.pid());
    if process.was_started_as(launch) {
        let ready = answers::<K>(&mut process, home, options, Patience::ADOPT).await;
        if ready.is_ok() && K::complete(options).await.is_ok() {
            tracing::info!(
                server,
                pid,
                "adopted the server that an earlier run left behind"
            );
            return Ok(Some(process));
        }
    }
    tracing::info!(
        server,
        pid,
        "stopping the server that an earlier run left behind"
    );
    process.stop(K::STOP).await?;
    Ok(None)
}

/// A server that a killed process left running on this folder. What a copied folder says of the original's is
/// forgotten.
fn orphan<K: Kind>(home: &Home) -> Result<Option<ServerProcess>, Error> {
    let unnoted = || ServerProcess::unnoted(home, K::SERVER, K::noted_pid(home)?);
    let found = ServerProcess::orphan(home, K::SERVER)?.or_else(unnoted);
    if found.is_none() {
        process::forget_copied(home, &home.data().join(K::LOCK_FILE))?;
    }
    Ok(found)
}

/// Waits until our own server, not another one on that port, accepts our user.
async fn answers<K: Kind>(
    process: &mut ServerProcess,
    home: &Home,
    options: &K::Options,
    patience: Patience,
) -> Result<(), Error> {
    let mut wait = Wait::begin(K::SERVER, patience);
    loop {
        process.check_alive()?;
        let (last, is_starting) = match timeout(ATTEMPT, K::data_directory(options)).await {
            Ok(Ok(dir)) if Path::new(&dir) == home.data() => return Ok(()),
            Ok(Ok(dir)) => (format!("another server answers, with data in {dir}"), false),
            Ok(Err(error)) if K::is_refusal(&error) => {
                return Err(Error::Refused {
                    server: K::SERVER,
                    user: K::basics(options).user.to_owned(),
                    dir: home.dir.clone(),
                })
            }
            Ok(Err(error)) => (error.to_string(), K::is_starting(&error)),
            Err(_) => ("no answer to a connection".into(), false),
        };
        wait.go_on(last, is_starting)?;
        sleep(RETRY_AFTER).await;
    }
}
