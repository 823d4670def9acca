//! The interface between the daemon, which decides, and the loop, which acts: [`Input`] is what
//! happened, [`Output`] is what to do. Data only; neither side's workings show here.
//!
//! The rules of the state-machine interface:
//! - Outputs are carried out in their order, before anything else is told to the daemon: what is
//!   stored before a byte is sent is on the disk when the byte leaves.
//! - Every [`Output::Store`], [`Output::Load`], [`Output::Connect`] and [`Output::Secure`] is answered
//!   by exactly one input of its kind, unless the connection is closed by us first.
//! - After [`Output::Close`] no input of that connection follows.
//! - An accepted connection goes on until [`Output::Close`] or [`Input::Closed`], whichever comes first.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::certs_scan::Look;
use crate::domain::Domain;
use crate::keys::Keys;
use crate::log::Record;
use crate::secret::{Secret, SecretBytes};
use crate::time::{Instant, Now};
use crate::url::Host;

/// The machine keeps no more accepted connections than this at once.
pub const ACCEPTED_MAX: usize = 512;

/// Whoever sits above the interface: the daemon, or a test's own machine.
pub trait Machine {
    /// Takes in what happened. Never blocks, never panics on a peer's bytes.
    fn handle_input(&mut self, now: Now, input: Input<'_>, keys: &mut dyn Keys);

    /// The next thing to do. Called until it says [`Output::Wait`] or [`Output::Exit`].
    fn poll_output(&mut self) -> Output;
}

/// Names a connection for as long as the process lives: a number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// Numbered by the loop: a peer came to our listener.
    Accepted(u64),
    /// Numbered by the daemon: we went to a peer.
    Dialed(u64),
}

/// Names a UDP socket that the daemon opened by sending on it; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// Names a [`Change`], so that its outcome finds who asked for it; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The process started: always the first input, once the listener is bound (to this address).
    Started {
        /// Where challenges are answered; the port is the real one. Nowhere: `0.0.0.0:0`.
        listening: SocketAddr,
    },
    /// The instant of the last [`Output::Wait`] has come. It may come early or twice.
    Timeout,
    /// A peer connected to one of the listeners.
    Accepted(ConnId, SocketAddr, ListenerKind),
    /// There are no descriptors for more connections of the listener: those that matter least have to
    /// go. The text says what ran out. It may come again and again.
    Exhausted(String),
    /// A connection that the daemon asked for stands, TLS handshake included; or TLS does now, on one
    /// that stood before.
    Connected(ConnId),
    /// A connection of [`Trust::Unjudged`] stands: the peer's own certificate as DER, whose private key
    /// it has.
    Presented(ConnId, Vec<u8>),
    /// Plaintext of a peer, at least one byte, split anywhere. Between [`Output::Secure`] and its
    /// [`Input::Connected`] it is what came before TLS began, in the clear.
    Received(ConnId, &'a [u8]),
    /// A peer that came to us says no more. It may still hear, and what it has asked is still answered:
    /// the connection is the daemon's to close.
    Finished(ConnId),
    /// A connection ended, or could not be made; nothing more comes from it.
    Closed(ConnId, CloseReason),
    /// A UDP datagram came.
    Datagram(SocketId, SocketAddr, &'a [u8]),
    /// A UDP socket could not be opened or sent on, or its receiver refused a datagram (ECONNREFUSED). The
    /// daemon closes it.
    SocketFailed(SocketId, CloseReason),
    /// A [`Change`] was carried out, or not at all.
    Stored(WriteId, Result<(), StoreError>),
    /// What a [`Load`] found.
    Loaded(Loaded),
    /// What the process uses, for this connection.
    Measured(ConnId, Usage),
    /// The operating system or the operator asks for something.
    Signal(Signal),
}

/// Which listener a peer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenerKind {
    /// `--listen`: anybody.
    Public,
    /// `--admin-listen`: the operator.
    Admin,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Opens a TCP connection, and TLS on it when asked.
    Connect {
        /// The new connection's name.
        conn: ConnId,
        /// One address; the daemon tries the next one itself.
        to: SocketAddr,
        /// TLS, with the name that the peer's certificate must bear.
        tls: Option<Tls>,
    },
    /// Starts TLS on an open connection that is in the clear so far, as through a proxy's tunnel.
    Secure {
        /// A connection of ours that stands, on which all that was sent was also answered.
        conn: ConnId,
        /// With the name that the certificate of whoever is at its far end must bear.
        tls: Tls,
    },
    /// Sends plaintext; the loop keeps what the socket does not take at once.
    Send {
        /// An open connection.
        conn: ConnId,
        /// What to send, at least one byte.
        bytes: SecretBytes,
    },
    /// Ends a connection once everything sent has left, or after a grace period of the loop.
    Close {
        /// No input of it follows.
        conn: ConnId,
        /// The peer has announced that it says nothing more. Of any other it is waited a while for the
        /// end: what it says on a connection that is gone would destroy what was sent to it last.
        peer_is_done: bool,
    },
    /// Sends a UDP datagram; the first one of a socket opens it, on a port of chance. All of a socket
    /// have one receiver, and nobody else is heard on it.
    Datagram {
        /// The socket's name.
        socket: SocketId,
        /// The receiver.
        to: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Closes a UDP socket.
    CloseSocket {
        /// No input of it follows.
        socket: SocketId,
    },
    /// Changes the storage; answered by [`Input::Stored`].
    Store {
        /// Names the change in the answer.
        write: WriteId,
        /// The change.
        change: Change,
    },
    /// Reads; answered by [`Input::Loaded`].
    Load(Load),
    /// Measures what the process uses, for a connection that asked for it; answered by
    /// [`Input::Measured`].
    Measure(ConnId),
    /// Writes a line to the log.
    Log(Record),
    /// Tells the service manager how it stands, in one short line; said when it has changed.
    Status(String),
    /// Shows to whoever sits at a terminal how far it is with many orders, in one short line; said when
    /// it has changed, and empty once they are done.
    Progress(String),
    /// Writes a text to standard output, as it is, and waits until it is written: what somebody asked
    /// for who waits for it. Where it cannot be written the process ends with status 1. Not a daemon's.
    Say(String),
    /// Everything is done: the loop flushes and the process ends with this status.
    Exit(u8),
    /// Always the last of an iteration: nothing more to do until something happens, or until this
    /// instant at the latest.
    Wait(Option<Instant>),
}

/// How a connection is secured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    /// The name or address that the certificate must be for; sent as SNI when it is a name.
    pub server: Host,
    /// Whose issuers count.
    pub trust: Trust,
}

/// Which certificate authorities a TLS peer is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// `--acme-ca`, or `SSL_CERT_FILE`, or the built-in roots.
    Acme,
    /// `--marathon-ca`, or `SSL_CERT_FILE`, or the built-in roots.
    Marathon,
    /// The built-in roots.
    WebPki,
    /// Nobody's: whose certificate the peer has is all that is wanted to know, or does not matter; nothing
    /// secret is said to it. With TLS [`Input::Presented`] takes the place of [`Input::Connected`].
    Unjudged,
}

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer finished in order (FIN; with TLS, `close_notify` came first).
    Finished,
    /// The peer's bytes ended without `close_notify`: what came may be cut short.
    Truncated,
    /// The peer reset the connection, or the network lost it.
    Reset,
    /// Nobody listens there.
    Refused,
    /// There is no way to that address, or the system has no such address family.
    Unreachable,
    /// The TLS handshake or a TLS record failed; the text is the TLS library's.
    Tls(String),
    /// This system ran out of something (file descriptors, ports); the text is the system's.
    Local(String),
}

/// What the outside wants of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: end in order.
    Stop,
    /// SIGHUP: sync now, look through `certs/` now, read token files again.
    Reload,
}

/// One atomic change of the storage directory: after a crash it is there wholly or not at all.
#[derive(Debug)]
pub enum Change {
    /// Writes `client.key` with mode 0600; fails with [`StoreErrorKind::Exists`] where there is one.
    AccountKey(Secret),
    /// Writes `default.pem`, unless there is one.
    Fallback(Secret),
    /// Writes `certs/NAME.pem`.
    Certificate(Domain, Secret),
    /// Moves `certs/NAME.pem` into `archive/`, under a name that is not taken yet.
    Archive(Domain),
    /// Writes a file of its own into `archive/`, with mode 0600 and under a name that is not taken yet:
    /// what may not become `certs/NAME.pem`, behind comments that say why.
    Reject {
        /// Whose file it was to be.
        name: Domain,
        /// The file.
        pem: Secret,
        /// Why, in words.
        reason: String,
    },
    /// Writes `state.json`.
    State(Vec<u8>),
    /// Moves `state.json` into `archive/`, likewise.
    ArchiveState,
    /// Replaces a file in `archive/`, with mode 0600.
    ReplaceArchived {
        /// Its name there, as [`Loaded::Archive`] had it.
        file: String,
        /// What it holds from now on.
        pem: Secret,
    },
    /// Writes `challenges/TOKEN`; the token is checked to be base64url.
    Publish {
        /// RFC 8555 section 8.1.
        token: String,
        /// What any instance answers for it.
        key_authorization: String,
    },
    /// Removes `challenges/TOKEN`; done already is done.
    Withdraw {
        /// RFC 8555 section 8.1.
        token: String,
    },
    /// Shows in `lock` that this instance lives, by another line than before. It need not survive a
    /// crash, which frees the lock anyway.
    Heartbeat,
    /// Puts a new `lock`, held by this instance, in the place of the one whose line is this; fails with
    /// [`StoreErrorKind::Locked`] when it has another line by now. [`Load::Storage`] tells afterwards
    /// who has it, as two instances may do this at once.
    TakeOver {
        /// As [`StoreError::detail`] had it.
        holder: String,
    },
    /// Gives `lock` up, with no line in it, when it is held; done already is done.
    Release,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Takes the lock, or shows that it is still held, as a [`Change::Heartbeat`] does; makes the
    /// directories, removes left-over temporary files, lists what there is.
    Storage,
    /// `certs/NAME.pem`.
    Certificate(Domain),
    /// `challenges/TOKEN`, for a connection that asked for it. Needs no lock.
    Challenge(ConnId, String),
    /// The names of the files in `challenges/`, as they are when it is read. Needs no lock.
    Challenges,
    /// Looks through `certs/`, where files of these names are not ours for all their names. Needs no lock.
    Guard(Vec<Domain>),
    /// The names in `archive/` that follow this one in order, or the first ones. Needs no lock.
    Archive {
        /// A name there, which need not exist any more.
        after: Option<String>,
    },
    /// A file in `archive/`, by its name there. Needs no lock.
    Archived(String),
    /// The file of `--marathon-token`. Needs no lock.
    Token(PathBuf),
    /// `/etc/resolv.conf` and `/etc/hosts`.
    NameService,
}

/// What was read.
#[derive(Debug)]
pub enum Loaded {
    /// Answers [`Load::Storage`].
    Storage(Result<Inventory, StoreError>),
    /// Answers [`Load::Certificate`] with the whole file.
    Certificate(Domain, Result<Secret, StoreError>),
    /// Answers [`Load::Challenge`]; `None` where there is no such file.
    Challenge(ConnId, String, Option<String>),
    /// Answers [`Load::Challenges`]; none where they cannot be read.
    Challenges(Vec<String>),
    /// Answers [`Load::Guard`].
    Guard(Result<Look, StoreError>),
    /// Answers [`Load::Archive`]: names in order, a limited number of them; empty where none follows.
    Archive(Result<Vec<String>, StoreError>),
    /// Answers [`Load::Archived`] with the whole file.
    Archived(String, Result<Secret, StoreError>),
    /// Answers [`Load::Token`] with the whole file.
    Token(Result<Secret, StoreError>),
    /// Answers [`Load::NameService`]; a missing file is empty. Names of interfaces (`%eth0`) are replaced by
    /// their numbers, and the variables of the resolver are appended as lines (resolv.conf(5)).
    NameService {
        /// `/etc/resolv.conf`.
        resolv_conf: Vec<u8>,
        /// `/etc/hosts`.
        hosts: Vec<u8>,
    },
}

/// What the process uses of its machine. What the system does not tell is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Time on a processor since the start.
    pub processor_time: Option<Duration>,
    /// Open file descriptors.
    pub descriptors: Option<u64>,
}

/// What the storage directory holds at the start.
#[derive(Debug, Default)]
pub struct Inventory {
    /// `client.key`, as it stands.
    pub account_key: Option<Secret>,
    /// Whether `default.pem` is there.
    pub has_fallback: bool,
    /// `state.json`, as it stands; of one that is too long, more than is ever written.
    pub state: Option<Vec<u8>>,
    /// The names of `certs/NAME.pem` that are domains, in order.
    pub certificates: Vec<Domain>,
    /// The tokens of `challenges/`, left by an instance that ended.
    pub challenges: Vec<String>,
    /// Whether the lock is a lease, kept by beats. Not where no other instance can be, in a simulation.
    pub leased: bool,
    /// What its file system does not offer.
    pub missing: MissingFeatures,
}

/// What the file system of the storage does not offer, as was found when it was used. The storage works
/// without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissingFeatures {
    /// Modes of files (FAT, CIFS): others may read what is secret.
    pub modes: bool,
    /// flock(2): the lease in `lock` alone tells instances apart.
    pub locks: bool,
    /// fsync(2) of files: a power failure may take the latest changes back.
    pub flushes: bool,
}

/// The storage could not be read or changed. It is tried again; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What is wrong, for the program.
    pub kind: StoreErrorKind,
    /// The path, relative to the storage directory where it lies in it.
    pub path: String,
    /// The operation and the system's own words, for the operator.
    pub detail: String,
}

/// What is wrong with the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Another instance holds `lock`; the detail is the line that it wrote there, empty when it wrote
    /// none.
    Locked,
    /// Nobody holds `lock` as far as this machine knows, but the line there, which is the detail, was
    /// written on another one, or before this one was restarted.
    Leased,
    /// `lock` is not this instance's (any more): another one has taken it over.
    Lost,
    /// `lock` was just written on a file system without locks. The next [`Load::Storage`] shows whether
    /// another instance wrote it at the same moment.
    Unsettled,
    /// The file is there already and is never overwritten.
    Exists,
    /// There is no such file or directory.
    Missing,
    /// One of our directories is gone, or `lock` while it was held: the volume may have been unmounted.
    Gone,
    /// Something else stands where a directory belongs.
    NotADirectory,
    /// A link, a directory, a FIFO or a device stands where a regular file belongs. It was not opened.
    NotAFile,
    /// No permission for one of our directories.
    NotWritable,
    /// A read-only file system (EROFS).
    ReadOnly,
    /// No space, or over quota.
    Full,
    /// The file is larger than the limit for its kind, or its name is not one that we make.
    Malformed,
    /// The disk or the file server fails (EIO and its like).
    Io,
    /// The file server no longer knows what is open here (ESTALE). It is opened again.
    Stale,
    /// No more files can be opened, or no memory is left (EMFILE, ENFILE, ENOMEM).
    Limit,
    /// The directories are on different volumes, so that no file can be moved between them (EXDEV).
    Split,
    /// Any other refusal: it is about this file, and others can be changed.
    File,
}

impl StoreErrorKind {
    /// Whether the storage as a whole cannot be written: it is full, over quota or read-only, our
    /// directories are another user's, gone, on different volumes or no directories any more, the disk or
    /// its server fails, or a limit is reached. Every other error is about one file.
    pub fn is_storage_failure(self) -> bool {
        use StoreErrorKind::{Full, Gone, Io, Limit, NotADirectory, NotWritable};
        use StoreErrorKind::{ReadOnly, Split, Stale};
        matches!(
            self,
            NotADirectory | NotWritable | ReadOnly | Full | Io | Stale | Limit | Split | Gone
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.detail)
    }
}

impl std::error::Error for StoreError {}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Finished => f.write_str("the peer closed the connection"),
            CloseReason::Truncated => f.write_str("the TLS stream was cut short"),
            CloseReason::Reset => f.write_str("the connection was reset"),
            CloseReason::Refused => f.write_str("the connection was refused"),
            CloseReason::Unreachable => f.write_str("the address cannot be reached"),
            CloseReason::Tls(detail) => write!(f, "TLS: {detail}"),
            CloseReason::Local(detail) => write!(f, "this system: {detail}"),
        }
    }
}
