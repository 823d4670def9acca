//! Socket activation (sd_listen_fds(3)): the service manager listens, and hands us the socket as a
//! descriptor with a number that the environment tells. Takes it over in place of `--listen`; never
//! takes over what is no listening TCP socket.
//!
//! To own a descriptor of which only the number is known is unsafe in Rust, and no code of ours is. Of
//! the two ways around, the system itself is asked (`pidfd_getfd(2)` on our own process, Linux 5.6),
//! which gives a checked duplicate. The other one is a crate (`listenfd`) that says `unsafe` for us: one
//! more to trust, for a few lines. It would do on older systems; there the program binds its port itself,
//! as it does everywhere when nothing is handed to it.
//!
//! The descriptor with the number stays open, for nobody owns it. It comes to nobody else, as the
//! variables do not: no process is ever started.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::process;

use mio::net::TcpListener;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::log::{Record, message};

use super::listener::adopt;

/// The number of the first descriptor that is handed over (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// Nobody hands over more.
const COUNT_MAX: usize = 1024;
/// The name of the one for `--listen`, where there are several (`FileDescriptorName=`).
const NAME: &str = "listen";

/// What was handed over.
#[derive(Debug)]
pub struct HandedOver {
    /// Where challenges are answered.
    pub listener: TcpListener,
    /// What an operator should know of it.
    pub remark: Record,
}

/// What is handed over cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivationError {
    /// `LISTEN_FDS` is no number, or a very large one.
    Count(String),
    /// It is something else than a listening TCP socket.
    Kind {
        /// Its number.
        descriptor: RawFd,
        /// What it is.
        what: &'static str,
    },
    /// The system does not give it to us; its words.
    Refused {
        /// Its number.
        descriptor: RawFd,
        /// The system's words.
        detail: String,
    },
}

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Variables {
    fds: Option<OsString>,
    pid: Option<OsString>,
    names: Option<OsString>,
}

/// The one that is meant for us.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    descriptor: RawFd,
    name: String,
    /// How many others there are.
    others: usize,
}

/// The socket that was handed to this process, if one was.
///
/// # Errors
/// It cannot be used: nothing is bound in its place, for somebody relies on it.
pub fn handed_over() -> Result<Option<HandedOver>, ActivationError> {
    let variables = Variables {
        fds: env::var_os("LISTEN_FDS"),
        pid: env::var_os("LISTEN_PID"),
        names: env::var_os("LISTEN_FDNAMES"),
    };
    let Some(Choice { descriptor, name, others }) = choose(&variables)? else { return Ok(None) };
    let listener = take(descriptor)?;
    let remark = match others {
        0 => Record::info("main", message::SOCKET_TAKEN),
        _ => Record::warn("main", message::SOCKET_UNUSED),
    };
    let remark = remark.with("descriptor", descriptor).with("name", name);
    Ok(Some(HandedOver { listener, remark }))
}

/// The one that is named `listen`, else the first.
fn choose(variables: &Variables) -> Result<Option<Choice>, ActivationError> {
    let text = |value: &Option<OsString>| {
        value.as_deref().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let fds = text(&variables.fds);
    // Somebody else's variables, or none.
    if fds.is_empty() || text(&variables.pid) != process::id().to_string() {
        return Ok(None);
    }
    let count = fds.parse::<usize>().ok().filter(|count| *count <= COUNT_MAX);
    let count = count.ok_or(ActivationError::Count(fds))?;
    let names = text(&variables.names);
    let names: Vec<&str> = names.split(':').take(count).collect();
    let index = names.iter().position(|name| *name == NAME).unwrap_or(0);
    let name = names.get(index).copied().unwrap_or_default().to_string();
    let descriptor = FIRST + RawFd::try_from(index).unwrap_or(0);
    Ok((count > 0).then(|| Choice { descriptor, name, others: count - 1 }))
}

fn take(descriptor: RawFd) -> Result<TcpListener, ActivationError> {
    let refused =
        |error: io::Error| ActivationError::Refused { descriptor, detail: error.to_string() };
    let socket = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|process| pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()))
        .map_err(|errno| refused(errno.into()))?;
    match oddity(&socket).map_err(|errno| refused(errno.into()))? {
        Some(what) => Err(ActivationError::Kind { descriptor, what }),
        None => adopt(socket).map_err(refused),
    }
}

/// What it is, when it is no listening TCP socket.
fn oddity(socket: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    let domain = match sockopt::socket_domain(socket) {
        Err(Errno::NOTSOCK) => return Ok(Some("no socket")),
        domain => domain?,
    };
    let is_tcp = matches!(domain, AddressFamily::INET | AddressFamily::INET6)
        && sockopt::socket_type(socket)? == SocketType::STREAM;
    if !is_tcp {
        return Ok(Some("a socket, but not of TCP"));
    }
    // A connection, as of a unit with Accept=yes, does not listen.
    Ok((!sockopt::socket_acceptconn(socket)?).then_some("a TCP socket that does not listen"))
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActivationError::Count(fds) => {
                write!(f, "LISTEN_FDS {fds:?}: it is no count of sockets")
            }
            ActivationError::Kind { descriptor, what } => write!(
                f,
                "descriptor {descriptor} of LISTEN_FDS is {what}; hand a listening one over, as \
                 ListenStream=8000 with Accept=no does"
            ),
            ActivationError::Refused { descriptor, detail } => write!(
                f,
                "descriptor {descriptor} of LISTEN_FDS cannot be taken over: {detail}; that takes \
                 Linux 5.6, and pidfd_getfd in the unit's SystemCallFilter"
            ),
        }
    }
}

impl std::error::Error for ActivationError {}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener as StdListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn chosen(fds: &str, pid: Option<u32>, names: &str) -> Result<Option<(RawFd, usize)>, String> {
        let pid = pid.map(|pid| pid.to_string().into());
        let variables = Variables { fds: Some(fds.into()), pid, names: Some(names.into()) };
        let chosen = choose(&variables).map_err(|error| error.to_string())?;
        Ok(chosen.map(|choice| (choice.descriptor, choice.others)))
    }

    #[test]
    fn the_named_one_or_the_first() {
        let own = Some(process::id());
        assert_eq!(chosen("1", own, ""), Ok(Some((3, 0))));
        assert_eq!(chosen("1", own, "marathon-acme.socket"), Ok(Some((3, 0))));
        assert_eq!(chosen("3", own, "admin:listen:other"), Ok(Some((4, 2))));
        assert_eq!(chosen("2", own, "a:b:listen"), Ok(Some((3, 1))), "only two are there");
        assert_eq!(chosen("0", own, ""), Ok(None));
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        assert_eq!(choose(&Variables::default()), Ok(None));
        assert_eq!(chosen("1", None, ""), Ok(None));
        assert_eq!(chosen("1", Some(1), ""), Ok(None));
        assert_eq!(chosen("many", Some(1), ""), Ok(None));
        for odd in ["many", "-1", "1025", "99999999999999999999999"] {
            let error = chosen(odd, Some(process::id()), "").expect_err(odd);
            assert!(error.starts_with(&format!("LISTEN_FDS \"{odd}\": ")), "{error}");
        }
    }

    #[test]
    fn a_listening_socket_is_taken_over() {
        let there = StdListener::bind("127.0.0.1:0").unwrap();
        let address = there.local_addr().unwrap();
        let taken = take(there.as_raw_fd()).unwrap();
        drop(there);
        assert_eq!(taken.local_addr().unwrap(), address);
        let _peer = TcpStream::connect(address).unwrap();
        let (accepted, _) = loop {
            match taken.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => break accepted.unwrap(),
            }
        };
        assert!(accepted.nodelay().unwrap(), "as those of our own listener are");
    }

    #[test]
    fn anything_else_is_named() {
        let listening = StdListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        let cases: [(&dyn AsRawFd, &str); 4] = [
            (&connected, "is a TCP socket that does not listen; hand"),
            (&unix, "is a socket, but not of TCP; hand"),
            (&udp, "is a socket, but not of TCP; hand"),
            (&file, "is no socket; hand"),
        ];
        for (there, words) in cases {
            let error = take(there.as_raw_fd()).expect_err("it does not listen").to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
        let error = take(RawFd::MAX).expect_err("nothing is there").to_string();
        assert!(error.contains("cannot be taken over: Bad file descriptor"), "{error}");
    }
}
