//! Sessions that take replication commands.
//!
//! Framing and authentication come from `pgwire-replication`. Its client is not used: it reads every message whole,
//! those of other applications too, and waits for a vanished server without end.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use millrace_events::Lsn;
use pgwire_replication::auth::ScramClient;
use pgwire_replication::protocol::framing::{
    write_copy_data, write_password_message, write_query, write_startup_message,
};
use pgwire_replication::protocol::{
    encode_standby_status_update, parse_auth_request, unix_to_pg_timestamp, ErrorFields,
};
use pgwire_replication::PgWireError;
use tokio::io::{split, AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub use super::frames::{Event, Oversized, Wanted};
use super::frames::{Frame, Frames};
use super::{settings, Server, Work, CONNECT_TIME_MAX};

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;
/// What a commit begins with in the stream of pgoutput.
const COMMIT: u8 = b'C';
/// Bytes that the answer to a command may have: they are short.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How often the server is asked for a sign of life while it streams.
const PING_PERIOD: Duration = Duration::from_secs(10);
/// A stream that is silent for so long, although it was asked, most likely has nobody at its other end.
pub const STREAM_SILENCE_MIN: Duration = Duration::from_secs(60);
/// Or its server is decoding a long transaction of which nothing is published. It tells nothing meanwhile and begins
/// anew with each session, so each attempt waits twice as long as the one before, up to this.
pub const STREAM_SILENCE_MAX: Duration = Duration::from_secs(30 * 60);
/// How long telling the server something may take.
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);

/// A replication session failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The connection broke, or could not be made.
    #[error("the connection")]
    Io(#[source] io::Error),
    /// Nothing came.
    #[error("the server has not answered for {seconds} s")]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// The started stream brought nothing, not even the sign of life that was asked for.
    #[error("the stream has been silent for {seconds} s; the next attempt waits longer")]
    StreamSilent {
        /// How long.
        seconds: u64,
    },
    /// The server has ended the stream.
    #[error("the server has ended the stream")]
    Ended,
    /// The server refuses.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Server {
        /// Its code.
        sqlstate: String,
        /// Its words, in its language.
        message: String,
    },
    /// Authentication failed, or wants what is not supported.
    #[error("authentication: {0}")]
    Auth(String),
    /// The server does not keep to the protocol.
    #[error("{0}")]
    Protocol(String),
    /// A message is larger than it may be.
    #[error("{} of {bytes} bytes is larger than the {limit} that one may have", described(*.what))]
    TooLarge {
        /// What it was.
        what: Oversized,
        /// Its size.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
}

impl ReplicationError {
    /// Whether the server has lost track of which table a file belonged to. PostgreSQL up to 15 can, for a transaction that
    /// began before a slot was made and truncated or rewrote a table; it meets that transaction again with each attempt. The
    /// words are never translated: they are meant for the server's developers.
    #[must_use]
    pub fn is_unmapped_file(&self) -> bool {
        let ReplicationError::Server { sqlstate, message } = self else {
            return false;
        };
        sqlstate == "XX000" && message.contains("could not map filen")
    }

    /// Postgres makes no text, and no message, of more than 1 GB.
    pub fn is_unsendable_row(&self) -> bool {
        let ReplicationError::Server { sqlstate, message } = self else {
            return false;
        };
        let no_text = sqlstate == "XX000" && message.contains("invalid memory alloc request size");
        // `program_limit_exceeded`: a message that cannot grow any more.
        no_text || sqlstate == "54000"
    }
}

fn described(what: Oversized) -> String {
    match what {
        Oversized::Message => "our own logical message".into(),
        Oversized::Other(kind) => format!("a message of kind {kind:?}"),
        Oversized::Answer => "an answer".into(),
    }
}

impl ReplicationError {
    /// How long the next stream may be silent before its first commit, if this one, which might be silent for
    /// `silence_max`, has ended so.
    #[must_use]
    pub fn next_silence_max(&self, silence_max: Duration) -> Duration {
        match self {
            ReplicationError::StreamSilent { seconds } => {
                (Duration::from_secs(*seconds) * 2).clamp(STREAM_SILENCE_MIN, STREAM_SILENCE_MAX)
            }
            _ => silence_max,
        }
    }

    /// From the fields of an error message.
    pub(super) fn server(payload: &[u8]) -> Self {
        let fields = ErrorFields::parse(payload);
        ReplicationError::Server {
            sqlstate: fields.code.unwrap_or_default(),
            message: fields.message.unwrap_or_default(),
        }
    }
}

impl From<PgWireError> for ReplicationError {
    fn from(error: PgWireError) -> Self {
        match error {
            PgWireError::Io(error) => ReplicationError::Io(io::Error::new(error.kind(), error)),
            PgWireError::Auth(text) => ReplicationError::Auth(text),
            other => ReplicationError::Protocol(other.to_string()),
        }
    }
}

/// A row of the answer to a command, as text.
pub type Answer = Vec<Option<String>>;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}
type Reading = ReadHalf<Box<dyn Socket>>;
type Writing = WriteHalf<Box<dyn Socket>>;

/// A session that waits for commands.
pub struct Replication {
    frames: Frames<Reading>,
    out: Writing,
}

impl Replication {
    pub(super) async fn connect(
        server: &Server,
        application: &str,
    ) -> Result<Replication, ReplicationError> {
        let connecting = async {
            let socket = open(server).await.map_err(ReplicationError::Io)?;
            let (reading, out) = split(socket);
            let frames = Frames::new(reading, CONNECT_TIME_MAX);
            let mut session = Replication { frames, out };
            session.startup(server, application).await?;
            session.authenticate(server).await?;
            let pinning = settings::pinning(Work::Copy);
            session.command(&pinning, CONNECT_TIME_MAX).await?;
            Ok(session)
        };
        match timeout(CONNECT_TIME_MAX, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ReplicationError::Silent {
                seconds: CONNECT_TIME_MAX.as_secs(),
            }),
        }
    }

    /// Runs one command, which may be silent for `silence_max`, and returns its rows.
    pub async fn command(
        &mut self,
        command: &str,
        silence_max: Duration,
    ) -> Result<Vec<Answer>, ReplicationError> {
        self.frames.set_silence_max(silence_max);
        write_query(&mut self.out, command).await?;
        let (mut rows, mut refusal) = (Vec::new(), None);
        loop {
            let Frame { tag, payload } = self.frames.next(ANSWER_BYTES_MAX).await?;
            match tag {
                b'D' => rows.push(answer(&payload)?),
                b'E' => refusal = Some(ReplicationError::server(&payload)),
                b'Z' => return refusal.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Starts the stream of a slot at `position`. The session ends with it.
    pub async fn start(
        mut self,
        slot: &str,
        publication: &str,
        position: Lsn,
        wanted: Wanted,
    ) -> Result<(Incoming, Feedback), ReplicationError> {
        let command = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL {position} \
             (proto_version '1', publication_names '\"{publication}\"', messages 'true')"
        );
        self.frames.set_silence_max(wanted.silence_max);
        write_query(&mut self.out, &command).await?;
        loop {
            let Frame { tag, payload } = self.frames.next(ANSWER_BYTES_MAX).await?;
            match tag {
                b'W' => break,
                b'E' => return Err(ReplicationError::server(&payload)),
                _ => {}
            }
        }
        let frames = self.frames;
        let out = self.out;
        Ok((Incoming { frames, wanted }, Feedback { out }))
    }

    async fn startup(
        &mut self,
        server: &Server,
        application: &str,
    ) -> Result<(), ReplicationError> {
        let parameters = [
            ("user", server.user()),
            ("database", server.database()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", application),
        ];
        Ok(write_startup_message(&mut self.out, PROTOCOL, &parameters).await?)
    }

    async fn authenticate(&mut self, server: &Server) -> Result<(), ReplicationError> {
        loop {
            let Frame { tag, payload } = self.frames.next(ANSWER_BYTES_MAX).await?;
            match tag {
                b'R' => self.prove(server, &payload).await?,
                b'E' => return Err(ReplicationError::server(&payload)),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Answers one request of the server to show who we are.
    async fn prove(&mut self, server: &Server, request: &[u8]) -> Result<(), ReplicationError> {
        match parse_auth_request(request)? {
            (0, _) => Ok(()),
            (3, _) => {
                let password = [server.password.as_bytes(), b"\0"].concat();
                Ok(write_password_message(&mut self.out, &password).await?)
            }
            (10, mechanisms) => self.scram(server, mechanisms).await,
            (5, _) => Err(ReplicationError::Auth(
                "the server asks for an MD5 password; SET password_encryption = 'scram-sha-256' and \
                 set the role's password again"
                    .into(),
            )),
            (method, _) => Err(ReplicationError::Auth(format!(
                "the server asks for method {method}, which is not supported; use scram-sha-256"
            ))),
        }
    }

    async fn scram(&mut self, server: &Server, mechanisms: &[u8]) -> Result<(), ReplicationError> {
        const MECHANISM: &[u8] = b"SCRAM-SHA-256";
        if !mechanisms.split(|&byte| byte == 0).any(|m| m == MECHANISM) {
            return Err(ReplicationError::Auth(
                "the server does not offer SCRAM-SHA-256".into(),
            ));
        }
        let client = ScramClient::new(server.user());
        let first = client.client_first.as_bytes();
        let length = (first.len() as u32).to_be_bytes();
        let initial = [MECHANISM, b"\0", &length, first].concat();
        write_password_message(&mut self.out, &initial).await?;
        let challenge = self.sasl(11).await?;
        let (proof, message, salted) = client.client_final(&server.password, &challenge)?;
        write_password_message(&mut self.out, proof.as_bytes()).await?;
        let signature = self.sasl(12).await?;
        Ok(ScramClient::verify_server_final(
            &signature, &salted, &message,
        )?)
    }

    /// The next step of the server's side of SCRAM.
    async fn sasl(&mut self, step: i32) -> Result<String, ReplicationError> {
        let Frame { tag, payload } = self.frames.next(ANSWER_BYTES_MAX).await?;
        match tag {
            b'R' => match parse_auth_request(&payload)? {
                (found, data) if found == step => Ok(String::from_utf8_lossy(data).into_owned()),
                (found, _) => Err(ReplicationError::Auth(format!(
                    "step {found} of SCRAM came instead of {step}"
                ))),
            },
            b'E' => Err(ReplicationError::server(&payload)),
            _ => Err(ReplicationError::Protocol(
                "authentication was interrupted".into(),
            )),
        }
    }
}

/// The reading side of a started stream.
pub struct Incoming {
    frames: Frames<Reading>,
    wanted: Wanted,
}

impl Incoming {
    /// What comes next. Not cancel-safe: after a read that was given up the stream is of no use.
    pub async fn next(&mut self) -> Result<Event, ReplicationError> {
        let event = self.frames.event(&self.wanted).await;
        let event = event.map_err(|error| match error {
            ReplicationError::Silent { seconds } => ReplicationError::StreamSilent { seconds },
            error => error,
        })?;
        if matches!(&event, Event::Data(message) if message.first() == Some(&COMMIT)) {
            self.frames.set_silence_max(STREAM_SILENCE_MIN);
        }
        Ok(event)
    }
}

/// The writing side of a started stream.
pub struct Feedback {
    out: Writing,
}

impl Feedback {
    /// How often [`Feedback::send`] has to ask for a reply, so that silence means something.
    pub const PING_PERIOD: Duration = PING_PERIOD;

    /// Tells the server that everything before `durable` is safe.
    pub async fn send(&mut self, durable: Lsn, ask_reply: bool) -> Result<(), ReplicationError> {
        let now = unix_to_pg_timestamp(Utc::now().timestamp_micros());
        let durable = pgwire_replication::Lsn(durable.0);
        let status = encode_standby_status_update(durable, now, ask_reply);
        match timeout(WRITE_TIME_MAX, write_copy_data(&mut self.out, &status)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(ReplicationError::Silent {
                seconds: WRITE_TIME_MAX.as_secs(),
            }),
        }
    }
}

async fn open(server: &Server) -> io::Result<Box<dyn Socket>> {
    let (place, port) = (server.place(), server.options.get_port());
    if place.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{port}", place.trim_end_matches('/'));
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let socket = TcpStream::connect((place.as_str(), port)).await?;
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}

/// The cells of a row: a count, then length and text of each.
fn answer(payload: &Bytes) -> Result<Answer, ReplicationError> {
    let malformed = || ReplicationError::Protocol("a malformed row".into());
    let (count, mut rest) = payload.split_at_checked(2).ok_or_else(malformed)?;
    let count = count.try_into().map(u16::from_be_bytes);
    let mut cells = Vec::new();
    for _ in 0..count.map_err(|_| malformed())? {
        let (length, behind) = rest.split_at_checked(4).ok_or_else(malformed)?;
        rest = behind;
        let length = length.try_into().map(i32::from_be_bytes);
        let Ok(length) = usize::try_from(length.map_err(|_| malformed())?) else {
            cells.push(None);
            continue;
        };
        let (cell, behind) = rest.split_at_checked(length).ok_or_else(malformed)?;
        rest = behind;
        cells.push(Some(String::from_utf8_lossy(cell).into_owned()));
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn each_silent_stream_gives_the_next_one_twice_as_long() {
        let mut silence_max = STREAM_SILENCE_MIN;
        let mut minutes = Vec::new();
        for _ in 0..7 {
            minutes.push(silence_max.as_secs() / 60);
            // What comes between, a refused login for example, says nothing of the stream.
            silence_max = ReplicationError::Ended.next_silence_max(silence_max);
            let seconds = silence_max.as_secs();
            let silent = ReplicationError::StreamSilent { seconds };
            silence_max = silent.next_silence_max(silence_max);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 16, 30, 30]);
        // After a commit a stream is silent for the shortest time only, and the growth begins anew.
        let silent = ReplicationError::StreamSilent { seconds: 60 };
        assert_eq!(silent.next_silence_max(silence_max).as_secs(), 120);
    }

    #[tokio::test]
    async fn a_commit_ends_the_special_patience_with_a_stream() {
        let (reading, mut server) = tokio::io::duplex(1024);
        let reading: Box<dyn Socket> = Box::new(reading);
        let silence_max = Duration::from_millis(50);
        let mut incoming = Incoming {
            frames: Frames::new(split(reading).0, silence_max),
            wanted: Wanted {
                message_prefix: "millrace".into(),
                message_bytes_max: 1024,
                silence_max,
            },
        };
        let silent = incoming.next().await.expect_err("silence");
        assert!(
            matches!(silent, ReplicationError::StreamSilent { .. }),
            "{silent}"
        );
        for message in [b'B', COMMIT] {
            let content = [&b"w"[..], &[0; 24], &[message]].concat();
            let length = (content.len() as u32 + 4).to_be_bytes();
            let frame = [&b"d"[..], &length, &content].concat();
            server.write_all(&frame).await.expect("sent");
            let event = incoming.next().await.expect("an event");
            assert_eq!(event, Event::Data(Bytes::copy_from_slice(&[message])));
        }
        let later = timeout(silence_max * 3, incoming.next()).await;
        later.expect_err("a stream with a commit may be silent for a minute");
    }

    #[test]
    fn a_row_is_read_and_a_cut_one_refused() {
        let row = Bytes::from_static(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff");
        let cells = answer(&row).expect("a row");
        assert_eq!(cells, [Some("ab".to_owned()), None]);
        assert!(answer(&row.slice(..row.len() - 2)).is_err());
    }

    #[test]
    fn a_slot_that_lost_track_of_a_file_is_told_from_other_internal_errors() {
        let server = |sqlstate: &str, message: &str| ReplicationError::Server {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
        };
        for (sqlstate, message, unmapped) in [
            (
                "XX000",
                "could not map filenode \"base/18241/21098\" to relation OID",
                true,
            ),
            (
                "XX000",
                "could not map filenumber \"base/5/16402\" to relation OID",
                true,
            ),
            ("XX000", "cache lookup failed for relation 16402", false),
            (
                "58P01",
                "could not map filenode \"base/18241/21098\" to relation OID",
                false,
            ),
        ] {
            assert_eq!(
                server(sqlstate, message).is_unmapped_file(),
                unmapped,
                "{message}"
            );
        }
        assert!(!ReplicationError::Ended.is_unmapped_file());
    }

    #[test]
    fn rows_that_postgres_cannot_send_are_told_from_other_failures() {
        let server = |sqlstate: &str, message: &str| ReplicationError::Server {
            sqlstate: sqlstate.into(),
            message: message.into(),
        };
        let size = "invalid memory alloc request size 1200000003";
        assert!(server("XX000", size).is_unsendable_row());
        assert!(server("54000", "out of memory").is_unsendable_row());
        assert!(!server("53200", "out of memory").is_unsendable_row());
        assert!(!server("XX000", "could not map filenode").is_unsendable_row());
    }
}
